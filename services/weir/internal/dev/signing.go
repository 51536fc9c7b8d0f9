package dev

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// ensureSigning makes the key that crypto signs checkpoints with, at the first
// start, and its public half, by which `weir verify` knows the signatures.
func (m *mesh) ensureSigning() error {
	m.file.SigningPublicKeyFile = m.dir.signingKey()
	if _, err := os.Stat(m.dir.signingKey()); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("signing key: %w", err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("making a signing key: %w", err)
	}
	for _, f := range []struct { // the public one last: it says that both are there
		name, kind string
		encode     func() ([]byte, error)
	}{
		{m.dir.signing(), "PRIVATE KEY", func() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(private) }},
		{m.dir.signingKey(), "PUBLIC KEY", func() ([]byte, error) { return x509.MarshalPKIXPublicKey(public) }},
	} {
		der, err := f.encode()
		if err != nil {
			return fmt.Errorf("making a signing key: %w", err)
		}
		if err := os.WriteFile(f.name, pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: der}), 0o600); err != nil {
			return fmt.Errorf("writing a signing key: %w", err)
		}
	}
	return nil
}
