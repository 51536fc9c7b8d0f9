package certs_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/rpc"
)

const day = 24 * time.Hour

func ensure(t *testing.T, dir string) {
	t.Helper()
	if err := certs.Ensure(dir); err != nil {
		t.Fatalf("Ensure = %v", err)
	}
}

func readCert(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	return files
}

func TestEnsureMakesWhatEveryServiceNeeds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "certs")
	ensure(t, dir)
	roots := x509.NewCertPool()
	ca := readCert(t, filepath.Join(dir, "ca.pem"))
	roots.AddCert(ca)
	if left := time.Until(ca.NotAfter); left < 3650*day-time.Hour || left > 3654*day {
		t.Errorf("CA is valid for %v, want 10 years", left)
	}
	for _, name := range rpc.Names() {
		files := certs.TLS(dir, name)
		if err := files.Validate(); err != nil {
			t.Errorf("TLS(%s).Validate = %v", name, err)
		}
		cert := readCert(t, files.CertFile)
		for _, host := range []string{name, strings.TrimSuffix(name, ".weir"), "localhost", "127.0.0.1"} {
			for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
				if _, err := cert.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
					t.Errorf("%s as %s, use %v: %v", name, host, use, err)
				}
			}
		}
		if cert.Subject.CommonName != name || cert.DNSNames[0] != name {
			t.Errorf("%s: CN %q, first SAN %q", name, cert.Subject.CommonName, cert.DNSNames[0])
		}
		if left := time.Until(cert.NotAfter); left < 729*day || left > 732*day {
			t.Errorf("%s is valid for %v, want 2 years", name, left)
		}
	}
	for name := range contents(t, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".key") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, info.Mode().Perm())
		}
		if strings.HasPrefix(name, ".new") {
			t.Errorf("%s was left behind", name)
		}
	}
	if certs.TLS(dir, "crypto") != certs.TLS(dir, "crypto.weir") {
		t.Error("TLS(crypto) != TLS(crypto.weir)")
	}
}

func TestEnsureChangesNothingThatIsGood(t *testing.T) {
	dir := t.TempDir()
	ensure(t, dir)
	before := contents(t, dir)
	ensure(t, dir)
	for name, data := range contents(t, dir) {
		if before[name] != data {
			t.Errorf("%s changed", name)
		}
	}
}

func TestEnsureRepairsLeaves(t *testing.T) {
	dir := t.TempDir()
	ensure(t, dir)
	crypto, capture, control := certs.TLS(dir, "crypto"), certs.TLS(dir, "capture"), certs.TLS(dir, "control")
	for _, err := range []error{
		os.Remove(crypto.KeyFile),
		os.WriteFile(capture.CertFile, []byte("half"), 0o644),
		os.Rename(certs.TLS(dir, "probe").KeyFile, control.KeyFile), // another's key
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ensure(t, dir)
	for _, name := range rpc.Names() {
		if err := certs.TLS(dir, name).Validate(); err != nil {
			t.Errorf("%s after repair: %v", name, err)
		}
	}
}

func TestEnsureNeverReplacesABrokenCA(t *testing.T) {
	tests := map[string]func(dir string) error{
		"certificate gone":    func(dir string) error { return os.Remove(filepath.Join(dir, "ca.pem")) },
		"key gone":            func(dir string) error { return os.Remove(filepath.Join(dir, "ca.key")) },
		"certificate is junk": func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("x"), 0o644) },
		"key is empty":        func(dir string) error { return os.Truncate(filepath.Join(dir, "ca.key"), 0) },
		"key of another": func(dir string) error {
			return os.Rename(filepath.Join(dir, "crypto.key"), filepath.Join(dir, "ca.key"))
		},
		"no CA": func(dir string) error {
			return os.Rename(filepath.Join(dir, "crypto.key"), filepath.Join(dir, "ca.key"))
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ensure(t, dir)
			if err := damage(dir); err != nil {
				t.Fatal(err)
			}
			if name == "no CA" {
				if err := os.Rename(filepath.Join(dir, "crypto.pem"), filepath.Join(dir, "ca.pem")); err != nil {
					t.Fatal(err)
				}
			}
			before := contents(t, dir)
			err := certs.Ensure(dir)
			if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "restore") {
				t.Fatalf("Ensure = %v, want an error that names the directory and the way out", err)
			}
			for file, data := range contents(t, dir) {
				if before[file] != data {
					t.Errorf("%s was changed", file)
				}
			}
		})
	}
}

// Renewal runs on the bubble's clock, which starts in 2000 and jumps.
func TestEnsureRenews(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ensure(t, dir)
		leaf, ca := certs.TLS(dir, "crypto").CertFile, filepath.Join(dir, "ca.pem")
		first, firstCA := readCert(t, leaf), readCert(t, ca)

		time.Sleep(time.Until(first.NotAfter) - 31*day)
		ensure(t, dir)
		if !readCert(t, leaf).Equal(first) {
			t.Error("renewed 31 days before the end, want it kept")
		}
		time.Sleep(2 * day)
		ensure(t, dir)
		if second := readCert(t, leaf); second.Equal(first) || time.Until(second.NotAfter) < 729*day {
			t.Errorf("29 days before the end: valid until %v, want two more years", second.NotAfter)
		}

		time.Sleep(time.Until(firstCA.NotAfter) - 40*day)
		ensure(t, dir)
		lastLeaf := readCert(t, leaf)
		time.Sleep(11 * day)
		ensure(t, dir)
		ca2 := readCert(t, ca)
		if ca2.Equal(firstCA) || time.Until(ca2.NotAfter) < 3649*day {
			t.Errorf("CA valid until %v, want ten more years", ca2.NotAfter)
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca2)
		if _, err := lastLeaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "crypto.weir"}); err != nil {
			t.Errorf("a certificate signed before the CA was renewed: %v", err)
		}
	})
}

func TestEnsureAtTheSameTime(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := certs.Ensure(dir); err != nil {
				t.Errorf("Ensure = %v", err)
			}
		})
	}
	wg.Wait()
	for _, name := range rpc.Names() {
		if err := certs.TLS(dir, name).Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
