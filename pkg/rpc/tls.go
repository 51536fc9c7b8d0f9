package rpc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/weir-das/weir/pkg/obs"
)

// TLS names the files of one service's identity, all PEM.
type TLS struct {
	CertFile string `koanf:"cert_file" help:"PEM certificate of this service (and intermediates)"`
	KeyFile  string `koanf:"key_file" help:"PEM private key of this service"`
	CAFile   string `koanf:"ca_file" help:"PEM certificates of the authorities that peers are checked against"`
}

// Validate reports every problem at once: names that are missing, files that are, and a pair that does not fit.
func (t TLS) Validate() error {
	var errs []error
	for _, f := range t.files() {
		if f.name == "" {
			errs = append(errs, fmt.Errorf("%s: empty, want the path of %s", f.key, f.what))
		} else if _, err := os.Stat(f.name); err != nil {
			errs = append(errs, f.explain(err))
		}
	}
	if len(errs) == 0 {
		_, err := t.load()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ServerConfig returns a configuration that demands a certificate of every client and follows the files as they change.
func (t TLS) ServerConfig(log *slog.Logger) (*tls.Config, error) {
	w, err := watch(t, log)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Here, and again for each connection: a configuration without either is refused by some callers.
		ClientAuth:     tls.RequireAndVerifyClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &w.now().cert, nil },
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			id := w.now()
			return &tls.Config{
				MinVersion:   tls.VersionTLS13,
				ClientAuth:   tls.RequireAndVerifyClientCert,
				ClientCAs:    id.roots,
				Certificates: []tls.Certificate{id.cert},
				// A resumed session would not be checked against the authorities of today.
				SessionTicketsDisabled: true,
			}, nil
		},
	}, nil
}

// ClientConfig returns a configuration that presents our certificate, accepts only a server whose certificate is valid
// for serverName, and follows the files as they change.
func (t TLS) ClientConfig(serverName string, log *slog.Logger) (*tls.Config, error) {
	if serverName == "" {
		return nil, errors.New("tls: no server name to check the peer's certificate against")
	}
	w, err := watch(t, log)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: serverName,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &w.now().cert, nil
		},
		// tls.Config has no callback for the roots of a client. The check it would make is therefore switched off and
		// made in VerifyConnection, with the roots of this moment; that runs for every handshake, resumed ones too.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return errors.New("tls: the server sent no certificate")
			}
			opts := x509.VerifyOptions{DNSName: serverName, Roots: w.now().roots, Intermediates: x509.NewCertPool()}
			for _, c := range cs.PeerCertificates[1:] {
				opts.Intermediates.AddCert(c)
			}
			_, err := cs.PeerCertificates[0].Verify(opts)
			return err
		},
	}, nil
}

// file is one of the three, with what to say when it is not there.
type file struct{ key, name, what string }

func (t TLS) files() [3]file {
	return [3]file{
		{"cert_file", t.CertFile, "this service's PEM certificate"},
		{"key_file", t.KeyFile, "this service's PEM private key"},
		{"ca_file", t.CAFile, "the PEM certificate of your CA"},
	}
}

func (f file) explain(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %s does not exist: put %s there, or set %s to where it is", f.key, f.name, f.what, f.key)
	}
	return fmt.Errorf("%s: %w", f.key, err)
}

// identity is what the files held at one moment. It is never changed.
type identity struct {
	cert  tls.Certificate
	roots *x509.CertPool
}

func (t TLS) load() (*identity, error) {
	var pem [3][]byte
	for i, f := range t.files() {
		var err error
		if pem[i], err = os.ReadFile(f.name); err != nil {
			return nil, f.explain(err)
		}
	}
	cert, err := tls.X509KeyPair(pem[0], pem[1])
	if err != nil {
		return nil, fmt.Errorf("cert_file %s with key_file %s: %w", t.CertFile, t.KeyFile, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem[2]) {
		return nil, fmt.Errorf("ca_file: %s holds no PEM certificate", t.CAFile)
	}
	return &identity{cert: cert, roots: roots}, nil
}

// stamp tells whether a file is still the one that was read.
type stamp struct {
	modified time.Time
	size     int64
}

// watcher follows the files without a goroutine: it looks at them whenever somebody shakes hands.
type watcher struct {
	files TLS
	log   *slog.Logger

	// mu guards what follows. Never held across a network call.
	mu     sync.Mutex
	stamps [3]stamp
	id     *identity
}

func watch(t TLS, log *slog.Logger) (*watcher, error) {
	w := &watcher{files: t, log: log, stamps: t.stamps()}
	var err error
	w.id, err = t.load()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return w, nil
}

// stamps describes the files as they are; one that cannot be looked at has the zero stamp.
func (t TLS) stamps() (s [3]stamp) {
	for i, f := range t.files() {
		if info, err := os.Stat(f.name); err == nil {
			s[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return s
}

// now returns the identity in the files. While they hold none (a renewal writes three files, one after the other), the
// last good one stays in use, and the log says so once for each state of the files.
func (w *watcher) now() *identity {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Looked at before reading: a write in between makes the next handshake read again.
	stamps := w.files.stamps()
	if stamps == w.stamps {
		return w.id
	}
	w.stamps = stamps
	id, err := w.files.load()
	if err != nil {
		w.log.Warn("certificate files changed but cannot be used, keeping the old ones", obs.KeyErr, err)
		return w.id
	}
	w.log.Info("certificate files changed, using the new ones", "cert_file", w.files.CertFile)
	w.id = id
	return id
}
