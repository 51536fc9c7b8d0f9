// Package spoolkey seals records for the time that they lie in capture's spool,
// on the database's own host, and opens them again in crypto.
//
// It is HPKE (RFC 9180) with X25519, HKDF-SHA256 and AES-256-GCM, each record
// with a key agreement of its own: whoever sealed one keeps nothing by which to
// open it, and no nonce can be used twice, however a writer dies. A record is
// bound to what it belongs to (Binding). So one that is moved elsewhere, or
// presented with the KMS key of somebody else, does not open.
//
// Who can write to the spool can still put in a record of his own, as who holds
// capture's certificate can: HPKE's base mode does not say who sealed.
//
// Before: services/capture/internal/spool, which seals. Next: services/crypto,
// which opens.
package spoolkey

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// Overhead is by how many bytes a sealed record is longer than in clear.
const Overhead = 32 + 16

// ErrOpen says that a sealed record does not open: it is damaged, or is not what
// its binding says. There is no more to be said of it.
var ErrOpen = errors.New("the spooled record does not open")

// ErrUnknown says that there is no private key for a record.
var ErrUnknown = errors.New("no such spool key")

// Binding is what a sealed record belongs to. It opens with no other.
type Binding struct {
	Cluster, Instance, KMSKey, KinesisStream, Version, MessageID string
}

// info is the binding as HPKE takes it: the purpose, then each field behind its length.
func (b Binding) info() []byte {
	info := []byte("weir spool v1\n")
	for _, s := range []string{b.Cluster, b.Instance, b.KMSKey, b.KinesisStream, b.Version, b.MessageID} {
		info = append(binary.BigEndian.AppendUint32(info, uint32(len(s))), s...)
	}
	return info
}

func suite() (hpke.KDF, hpke.AEAD) { return hpke.HKDFSHA256(), hpke.AES256GCM() }

// Public is a key to seal to.
type Public struct {
	key hpke.PublicKey
	raw []byte
	id  string
}

// ParsePublic reads the 32 bytes of an X25519 public key.
func ParsePublic(raw []byte) (*Public, error) {
	key, err := ecdh.X25519().NewPublicKey(raw)
	if err != nil {
		return nil, fmt.Errorf("spool key: %w", err)
	}
	return newPublic(key)
}

func newPublic(key *ecdh.PublicKey) (*Public, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("spool key: %w", err)
	}
	sum := sha256.Sum256(der)
	public, err := hpke.NewDHKEMPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("spool key: %w", err)
	}
	return &Public{key: public, raw: key.Bytes(), id: "sha256:" + hex.EncodeToString(sum[:])}, nil
}

// Bytes is what ParsePublic reads.
func (p *Public) Bytes() []byte { return p.raw }

// ID names the key.
func (p *Public) ID() string { return p.id }

// Seal seals a record in clear for b.
func (p *Public) Seal(b Binding, plaintext []byte) ([]byte, error) {
	kdf, aead := suite()
	sealed, err := hpke.Seal(p.key, kdf, aead, b.info(), plaintext)
	if err != nil {
		return nil, fmt.Errorf("sealing for the spool: %w", err)
	}
	return sealed, nil
}

// Ring is the private keys, the newest first. It does not print.
type Ring struct {
	public *Public
	keys   map[string]hpke.PrivateKey
}

// CreateFile makes a key and writes it to a file of its own, as openssl genpkey
// does. It replaces none: what was sealed to a key that is gone never opens.
func CreateFile(name string) error {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("making a spool key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("making a spool key: %w", err)
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("writing a spool key: %w", err)
	}
	if err := errors.Join(pem.Encode(file, &pem.Block{Type: "PRIVATE KEY", Bytes: der}), file.Close()); err != nil {
		return fmt.Errorf("writing a spool key: %w", err)
	}
	return nil
}

// OpenFile reads X25519 keys: PEM of PKCS #8, one block a key, as openssl
// genpkey makes them. The first is the one to seal to; the others open what was
// sealed before the keys were changed.
func OpenFile(name string) (*Ring, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading the spool keys: %w", err)
	}
	defer clear(text)
	r, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("spool keys %s: %w: want PEM of X25519 keys, such as `openssl genpkey -algorithm x25519` makes", name, err)
	}
	return r, nil
}

func parse(text []byte) (*Ring, error) {
	r := &Ring{keys: make(map[string]hpke.PrivateKey)}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		clear(block.Bytes)
		if err != nil {
			return nil, errors.New("no private key")
		}
		key, ok := parsed.(*ecdh.PrivateKey)
		if !ok || key.Curve() != ecdh.X25519() {
			return nil, fmt.Errorf("a key of type %T", parsed)
		}
		private, err := hpke.NewDHKEMPrivateKey(key)
		if err != nil {
			return nil, err
		}
		public, err := newPublic(key.PublicKey())
		if err != nil {
			return nil, err
		}
		if r.public == nil {
			r.public = public
		}
		r.keys[public.id] = private
	}
	if r.public == nil {
		return nil, errors.New("no private key")
	}
	return r, nil
}

// Public is the key to seal to from now on.
func (r *Ring) Public() *Public { return r.public }

// Open opens what was sealed for b to the key of that id. Its errors match
// ErrUnknown, or ErrOpen.
func (r *Ring) Open(id string, b Binding, sealed []byte) ([]byte, error) {
	key := r.keys[id]
	if key == nil {
		return nil, fmt.Errorf("%w: %.80q", ErrUnknown, id)
	}
	kdf, aead := suite()
	plaintext, err := hpke.Open(key, kdf, aead, b.info(), sealed)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}

// String keeps the keys out of logs.
func (r *Ring) String() string { return "spool key " + r.public.id }

// GoString is String.
func (r *Ring) GoString() string { return r.String() }
