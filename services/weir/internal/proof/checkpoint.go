package proof

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Checkpoint is a signed statement that the chain of an epoch stood at Hash
// after number N. It travels in heartbeats.
type Checkpoint struct {
	Epoch     uint64
	N         uint64
	Hash      Hash
	At        string // as it was signed
	Instance  string
	Algorithm string
	KeyID     string
	Signature []byte
}

func parseCheckpoint(raw []byte) (*Checkpoint, error) {
	f, err := object(raw)
	if err != nil {
		return nil, err
	}
	var c Checkpoint
	var hash string
	if err := errors.Join(
		f.need("epoch", &c.Epoch), f.need("n", &c.N), f.need("hash", &hash), f.need("at", &c.At),
		f.need("instance", &c.Instance), f.need("alg", &c.Algorithm), f.need("key", &c.KeyID), f.need("sig", &c.Signature),
	); err != nil {
		return nil, err
	}
	if c.N > maxNumber || strings.Contains(c.At, "\n") {
		return nil, errors.New("no number, or no time")
	}
	return &c, c.Hash.parse(hash)
}

// text is what was signed. Nothing in it can hold a line feed: the cluster and
// the instance were compared with what is known before.
func (c *Checkpoint) text(cluster string) []byte {
	return fmt.Appendf(nil, "weir checkpoint v1\n%s\n%s\n%d\n%d\n%s\n%s\n", cluster, c.Instance, c.Epoch, c.N, c.Hash, c.At)
}

// Key is a public key that checkpoints are signed with.
type Key struct{ public crypto.PublicKey }

// ParseKey reads a public key, PEM or DER: Ed25519, or ECDSA on P-256.
func ParseKey(data []byte) (*Key, error) {
	if block, _ := pem.Decode(data); block != nil {
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("the PEM block is a %s, want a PUBLIC KEY", block.Type)
		}
		data = block.Bytes
	}
	key, err := x509.ParsePKIXPublicKey(data)
	if err != nil {
		return nil, errors.New("no public key: want PEM or DER of an Ed25519 or ECDSA P-256 key (SubjectPublicKeyInfo)")
	}
	switch k := key.(type) {
	case ed25519.PublicKey:
		return &Key{k}, nil
	case *ecdsa.PublicKey:
		if k.Curve.Params().Name == "P-256" {
			return &Key{k}, nil
		}
	}
	return nil, fmt.Errorf("a public key of type %T: want Ed25519, or ECDSA on P-256", key)
}

// verify says whether the key made the signature.
func (k *Key) verify(c *Checkpoint, cluster string) bool {
	text := c.text(cluster)
	switch public := k.public.(type) {
	case ed25519.PublicKey:
		return c.Algorithm == "Ed25519" && ed25519.Verify(public, text, c.Signature)
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(text)
		return c.Algorithm == "ECDSA_SHA_256" && ecdsa.VerifyASN1(public, digest[:], c.Signature)
	}
	return false
}

// signedAt is when a checkpoint was signed, or zero.
func (c *Checkpoint) signedAt() time.Time {
	t, err := time.Parse(timeLayout, c.At)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// MarshalJSON implements json.Marshaler, for the report.
func (h Hash) MarshalJSON() ([]byte, error) { return json.Marshal(h.String()) }
