// Package certs is a certificate authority for development: one directory with a CA and a certificate for every part of
// Weir, made when they are missing and renewed before they expire.
//
// It serves `weir dev`, docker compose and tests. The CA's key lies beside what it signs, so nothing outside the machine
// should trust it; production brings certificates of its own and needs nothing from here.
//
// Before: the command line, which asks for a directory. Next: pkg/rpc, which reads the files.
package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/weir-das/weir/pkg/rpc"
)

const (
	caYears   = 10
	leafYears = 2
	// renewBefore is how long before its end a certificate is replaced.
	renewBefore = 30 * 24 * time.Hour
	// backdate allows for clocks that are behind ours, as in a virtual machine that has just woken.
	backdate = time.Hour
)

// TLS returns the files that Ensure makes in dir for name, which may be given with or without ".weir".
func TLS(dir, name string) rpc.TLS {
	name = strings.TrimSuffix(name, ".weir")
	return rpc.TLS{
		CertFile: filepath.Join(dir, name+".pem"),
		KeyFile:  filepath.Join(dir, name+".key"),
		CAFile:   filepath.Join(dir, "ca.pem"),
	}
}

// Ensure makes dir hold ca.pem, ca.key and a valid <name>.pem and <name>.key for every name in rpc.Names, without its
// ".weir". What is there and good for another 30 days stays as it is. A CA that cannot be used is an error and is never
// replaced, for that would turn everything it has signed into strangers; certificates of services are made anew. A CA near
// its end is renewed with its key, so that what it signed stays valid. Processes may call Ensure at the same time.
func Ensure(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, ".lock"))
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	defer unlock()

	ca, err := ensureCA(dir)
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	for _, name := range rpc.Names() {
		if err := ensureLeaf(dir, name, ca); err != nil {
			return fmt.Errorf("certs: %s: %w", name, err)
		}
	}
	return nil
}

// pair is a certificate with its key.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func ensureCA(dir string) (pair, error) {
	certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	ca, err := readPair(certFile, keyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist) && missing(certFile) && missing(keyFile):
		if ca.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return pair{}, err
		}
	case err != nil:
		return pair{}, brokenCA(dir, err)
	case !ca.cert.IsCA:
		return pair{}, brokenCA(dir, fmt.Errorf("%s is no CA certificate", certFile))
	case time.Until(ca.cert.NotAfter) > renewBefore:
		return ca, nil
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Weir development CA"},
		NotAfter:              time.Now().AddDate(caYears, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it signs services, not other authorities
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if ca.cert != nil {
		// A renewal must carry the same name, or what the old certificate signed is orphaned.
		template.Subject = pkix.Name{}
		template.RawSubject = ca.cert.RawSubject
	}
	ca.cert, err = sign(template, ca.key.Public(), pair{template, ca.key})
	if err != nil {
		return pair{}, err
	}
	return ca, writePair(ca, certFile, keyFile)
}

func brokenCA(dir string, err error) error {
	return fmt.Errorf("the CA in %s cannot be used: %w; restore ca.pem and ca.key, or move both away to start with a new CA", dir, err)
}

func ensureLeaf(dir, name string, ca pair) error {
	files := TLS(dir, name)
	if old, err := readPair(files.CertFile, files.KeyFile); err == nil && usable(old.cert, name, ca.cert) {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert, err := sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		NotAfter:    time.Now().AddDate(leafYears, 0, 0),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{name, strings.TrimSuffix(name, ".weir"), "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}, key.Public(), ca)
	if err != nil {
		return err
	}
	return writePair(pair{cert, key}, files.CertFile, files.KeyFile)
}

// usable reports whether cert was signed by ca for name and has more than renewBefore to live.
func usable(cert *x509.Certificate, name string, ca *x509.Certificate) bool {
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	_, err := cert.Verify(x509.VerifyOptions{
		DNSName: name, Roots: roots, CurrentTime: time.Now().Add(renewBefore),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err == nil
}

// sign completes template with what every certificate of ours has, and has issuer sign it for key.
func sign(template *x509.Certificate, key crypto.PublicKey, issuer pair) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-backdate)
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, key, issuer.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// lock takes an exclusive lock on the file name, waiting for it; the kernel gives it back should we die.
func lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", name, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}
