package certs

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// readPair reads a certificate and its key and checks that they belong together. The error names the file at fault.
func readPair(certFile, keyFile string) (pair, error) {
	certDER, err := readPEM(certFile, "CERTIFICATE")
	if err != nil {
		return pair{}, err
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return pair{}, fmt.Errorf("%s: %w", certFile, err)
	}
	keyDER, err := readPEM(keyFile, "PRIVATE KEY")
	if err != nil {
		return pair{}, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return pair{}, fmt.Errorf("%s: %w", keyFile, err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return pair{}, fmt.Errorf("%s: a %T cannot sign", keyFile, parsed)
	}
	if public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(key.Public()) {
		return pair{}, fmt.Errorf("%s is not the key of %s", keyFile, certFile)
	}
	return pair{cert, key}, nil
}

// readPEM returns the first block in the file, which must be of kind.
func readPEM(name, kind string) ([]byte, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s holds no PEM %s", name, kind)
	}
	return block.Bytes, nil
}

// writePair writes the key, then the certificate: whoever is killed in between leaves a pair that readPair refuses.
func writePair(p pair, certFile, keyFile string) error {
	keyDER, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return err
	}
	if err := writePEM(keyFile, "PRIVATE KEY", keyDER, 0o600); err != nil {
		return err
	}
	return writePEM(certFile, "CERTIFICATE", p.cert.Raw, 0o644)
}

// writePEM replaces the file in one step, so that no reader sees half of it. CreateTemp makes it readable by us alone;
// a key is never anything else, not for a moment.
func writePEM(name, kind string, der []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

func missing(name string) bool {
	_, err := os.Lstat(name)
	return errors.Is(err, fs.ErrNotExist)
}
