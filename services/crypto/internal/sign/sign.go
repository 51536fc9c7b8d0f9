// Package sign signs where the chain of an epoch stands, so that nobody can
// write its past anew: who reads a stream holds the data key and could, but has
// no key to sign with.
//
// The key is Ed25519 in a file, or an asymmetric key in KMS, which never leaves it.
// A signature says that this crypto was told so by a capture with a certificate
// at that time; it does not say that capture told the truth.
//
// Before: services/capture, which asks. Next: it puts the answer into a heartbeat.
package sign

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// Signature is a signature, and what is needed to check it.
type Signature struct {
	Bytes     []byte
	Algorithm string // as records name it
	KeyID     string
}

// Signer signs. Its errors are marked.
type Signer interface {
	Sign(ctx context.Context, text []byte) (Signature, error)
}

// The algorithms, as records name them.
const (
	ed25519Name = "Ed25519"
	ecdsaName   = "ECDSA_SHA_256"
)

// File signs with the key of a file. It does not print.
type File struct {
	key ed25519.PrivateKey
	id  string
}

// OpenFile reads an Ed25519 key: PEM of PKCS #8, as openssl genpkey makes it.
func OpenFile(name string) (*File, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading the signing key: %w", err)
	}
	defer clear(text)
	const want = "want PEM of an Ed25519 key, such as `openssl genpkey -algorithm ed25519` makes"
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("signing key %s: no private key: %s", name, want)
	}
	defer clear(block.Bytes)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: no private key: %s", name, want)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("signing key %s: a key of type %T: %s", name, parsed, want)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", name, err)
	}
	sum := sha256.Sum256(public)
	return &File{key: key, id: "sha256:" + hex.EncodeToString(sum[:])}, nil
}

// Sign implements Signer.
func (f *File) Sign(_ context.Context, text []byte) (Signature, error) {
	return Signature{Bytes: ed25519.Sign(f.key, text), Algorithm: ed25519Name, KeyID: f.id}, nil
}

// String keeps the key out of logs.
func (f *File) String() string { return "signing key " + f.id }

// GoString is String.
func (f *File) GoString() string { return f.String() }

// None is the signer where none is configured: it signs nothing.
type None struct{}

// Sign implements Signer.
func (None) Sign(context.Context, []byte) (Signature, error) { return Signature{}, nil }

var errShort = errors.New("KMS sent no signature")
