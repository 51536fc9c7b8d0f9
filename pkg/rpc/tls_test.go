package rpc_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/rpc"
)

func otherCA(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := certs.Ensure(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestStrangersStayOutside(t *testing.T) {
	w := start(t, &echo{unary: parrot, stream: idle})
	theirs := otherCA(t)
	mixed := certs.TLS(theirs, "capture") // a stranger's certificate, trusting our CA
	mixed.CAFile = filepath.Join(w.dir, "ca.pem")
	for name, conn := range map[string]struct {
		files      rpc.TLS
		serverName string
	}{
		"we do not know the client":      {mixed, "crypto.weir"},
		"the client does not know us":    {certs.TLS(theirs, "capture"), "crypto.weir"},
		"the client wants somebody else": {certs.TLS(w.dir, "capture"), "publisher.weir"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := do(ctx, w.dial(conn.files, conn.serverName), nil)
		cancel()
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v, want Unavailable", name, err)
		}
	}
}

// handshake speaks TLS to a server with cfg and returns what the client gets to know.
func handshake(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	done := make(chan struct{})
	defer func() { <-done }()
	go func() {
		defer close(done)
		conn, err := lis.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if s := tls.Server(conn, server); s.Handshake() == nil {
			_, _ = io.WriteString(s, "ok")
		}
	}()
	conn, err := tls.Dial("tcp", lis.Addr().String(), client)
	if err != nil {
		return err
	}
	defer conn.Close()
	// In TLS 1.3 a client hears of a refusal of its certificate only when it reads.
	_, err = io.ReadFull(conn, make([]byte, 2))
	return err
}

func TestHandshakes(t *testing.T) {
	dir := otherCA(t)
	log := slog.New(slog.DiscardHandler)
	server, err := certs.TLS(dir, "crypto").ServerConfig(log)
	if err != nil {
		t.Fatal(err)
	}
	good := func() *tls.Config {
		c, err := certs.TLS(dir, "capture").ClientConfig("crypto.weir", log)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if err := handshake(t, server, good()); err != nil {
		t.Errorf("mutual TLS 1.3 = %v", err)
	}
	old := good()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if err := handshake(t, server, old); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
	anonymous := good()
	anonymous.GetClientCertificate = nil
	if err := handshake(t, server, anonymous); err == nil {
		t.Error("a client without a certificate was accepted")
	}
	if _, err := certs.TLS(dir, "capture").ClientConfig("", log); err == nil {
		t.Error("ClientConfig without a server name = nil, want an error: nothing would be checked")
	}
	oldServer := server.Clone()
	oldServer.GetConfigForClient, oldServer.MinVersion, oldServer.MaxVersion = nil, tls.VersionTLS12, tls.VersionTLS12
	oldServer.ClientAuth = tls.NoClientCert
	if err := handshake(t, oldServer, good()); err == nil {
		t.Error("our client accepted TLS 1.2")
	}
}

func copyFiles(t *testing.T, from, to string, names ...string) {
	t.Helper()
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		// A file system may stamp two writes alike; a renewal in real life is not microseconds old.
		future := time.Now().Add(time.Hour)
		if err := os.Chtimes(filepath.Join(to, name), future, future); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	dir, next := otherCA(t), otherCA(t)
	var log logBuffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	server, err := certs.TLS(dir, "crypto").ServerConfig(logger)
	if err != nil {
		t.Fatal(err)
	}
	client, err := certs.TLS(dir, "capture").ClientConfig("crypto.weir", logger)
	if err != nil {
		t.Fatal(err)
	}
	if err := handshake(t, server, client); err != nil {
		t.Fatalf("before: %v", err)
	}

	// A renewal that has got half way: certificate and key do not fit, and the old pair goes on.
	copyFiles(t, next, dir, "crypto.pem")
	for range 3 {
		if err := handshake(t, server, client); err != nil {
			t.Fatalf("half way: %v", err)
		}
	}
	if n := strings.Count(log.String(), "cannot be used"); n != 1 {
		t.Errorf("log = %s\nwant one warning for one state of the files", log.String())
	}

	// The rest arrives: the server speaks for the new CA, which both sides now read.
	copyFiles(t, next, dir, "crypto.key", "ca.pem")
	if err := handshake(t, server, client); err == nil {
		t.Error("a client with a certificate of the old CA was accepted by the new one")
	}
	copyFiles(t, next, dir, "capture.pem", "capture.key")
	if err := handshake(t, server, client); err != nil {
		t.Errorf("after: %v", err)
	}
	if !strings.Contains(log.String(), "using the new ones") {
		t.Errorf("log = %s\nwant it to say that the new files are in use", log.String())
	}
}

// The check that replaces the standard library's must refuse what that one refuses.
func TestClientChecksTheWholeChain(t *testing.T) {
	dir := otherCA(t)
	client, err := certs.TLS(dir, "capture").ClientConfig("crypto.weir", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	root, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	// issue has root sign a certificate for crypto.weir, changed by change.
	issue := func(change func(*x509.Certificate)) *x509.Certificate {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), DNSNames: []string{"crypto.weir"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
		change(template)
		der, err := x509.CreateCertificate(rand.Reader, template, root.Leaf, root.Leaf.PublicKey, root.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	for name, tt := range map[string]struct {
		chain []*x509.Certificate
		good  bool
	}{
		"good":           {[]*x509.Certificate{issue(func(*x509.Certificate) {})}, true},
		"nothing":        {nil, false},
		"other name":     {[]*x509.Certificate{issue(func(c *x509.Certificate) { c.DNSNames = []string{"capture.weir"} })}, false},
		"expired":        {[]*x509.Certificate{issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}, false},
		"not yet":        {[]*x509.Certificate{issue(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })}, false},
		"only a client":  {[]*x509.Certificate{issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })}, false},
		"self-made root": {[]*x509.Certificate{readLeaf(t, otherCA(t), "crypto")}, false},
	} {
		if err := client.VerifyConnection(tls.ConnectionState{PeerCertificates: tt.chain}); (err == nil) != tt.good {
			t.Errorf("%s: VerifyConnection = %v, want good: %v", name, err, tt.good)
		}
	}
}

func readLeaf(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	files := certs.TLS(dir, name)
	pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func TestMistakesAreExplained(t *testing.T) {
	dir := otherCA(t)
	good := certs.TLS(dir, "crypto")
	junk := filepath.Join(dir, "junk")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := good.Validate(); err != nil {
		t.Fatalf("Validate = %v", err)
	}
	missing := filepath.Join(dir, "missing.pem")
	for name, tt := range map[string]struct {
		files rpc.TLS
		want  []string
	}{
		"nothing set": {rpc.TLS{}, []string{"cert_file: empty", "key_file: empty", "ca_file: empty"}},
		"missing":     {rpc.TLS{CertFile: missing, KeyFile: good.KeyFile, CAFile: good.CAFile}, []string{missing + " does not exist", "put this service's PEM certificate there", "set cert_file"}},
		"all missing": {rpc.TLS{CertFile: missing, KeyFile: missing + ".key", CAFile: missing + ".ca"}, []string{"cert_file: " + missing, "key_file: " + missing, "ca_file: " + missing}},
		"wrong pair":  {rpc.TLS{CertFile: good.CertFile, KeyFile: certs.TLS(dir, "capture").KeyFile, CAFile: good.CAFile}, []string{good.CertFile, "capture.key"}},
		"CA is junk":  {rpc.TLS{CertFile: good.CertFile, KeyFile: good.KeyFile, CAFile: junk}, []string{"ca_file: " + junk, "no PEM certificate"}},
		"a directory": {rpc.TLS{CertFile: dir, KeyFile: good.KeyFile, CAFile: good.CAFile}, []string{"cert_file", dir}},
	} {
		_, serverErr := tt.files.ServerConfig(slog.New(slog.DiscardHandler))
		if serverErr == nil {
			t.Errorf("%s: ServerConfig = nil, want an error", name)
		}
		got := fmt.Sprint(tt.files.Validate())
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: Validate = %s\nwant %q", name, got, want)
			}
		}
	}
}
