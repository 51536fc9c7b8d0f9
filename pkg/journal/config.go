package journal

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/weir-das/weir/pkg/rpc"
)

// DefaultMaxBytes is the journal's size limit where none is configured: 8 GiB.
const DefaultMaxBytes = 8 << 30

// Config says where the journal is and how large it may grow.
type Config struct {
	// URL of the NATS servers, separated by commas: tls://host:4222. Plain
	// nats:// is refused but for loopback.
	URL string `koanf:"url" help:"NATS servers, separated by commas: tls://host:4222"`
	// TLS is the service's certificate; NATS knows the service by its name.
	TLS rpc.TLS `koanf:"tls"`
	// Replicas of the stream: 1 where there is one server, 3 in a cluster. 0
	// means 1, or what an existing stream has.
	Replicas int `koanf:"replicas" help:"copies of what is stored: 1 on one server, 3 in a cluster; 0: 1, or what there is"`
	// MaxBytes limits the stream. 0 means DefaultMaxBytes, or what an existing
	// stream has. An existing stream is raised to it, and never cut down.
	MaxBytes int64 `koanf:"max_bytes" help:"limit in bytes; 0: 8 GiB, or what there is; an existing one is raised to it, never cut down"`
}

// minMaxBytes is the smallest useful limit: a few records of the largest size.
const minMaxBytes = 4 << 20

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	servers, secure := c.servers()
	if c.URL == "" {
		errs = append(errs, errors.New("url: empty, want tls://host:port"))
	}
	for _, s := range servers {
		if err := checkURL(s); err != nil {
			errs = append(errs, err)
		}
	}
	if secure {
		if err := c.TLS.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("tls: %w", err))
		}
	}
	if c.Replicas < 0 || c.Replicas > 5 || (c.Replicas > 0 && c.Replicas%2 == 0) {
		errs = append(errs, fmt.Errorf("replicas: %d, want 1, 3 or 5", c.Replicas))
	}
	if c.MaxBytes != 0 && c.MaxBytes < minMaxBytes {
		errs = append(errs, fmt.Errorf("max_bytes: %d, want at least %d", c.MaxBytes, minMaxBytes))
	}
	return errors.Join(errs...)
}

// servers splits URL, and says whether any of them wants TLS.
func (c Config) servers() (list []string, secure bool) {
	if c.URL == "" {
		return nil, false
	}
	for s := range strings.SplitSeq(c.URL, ",") {
		s = strings.TrimSpace(s)
		list = append(list, s)
		secure = secure || strings.HasPrefix(s, "tls://")
	}
	return list, secure
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("url: %w", err)
	case u.User != nil:
		return errors.New("url: user and password in it; services are known by their certificates")
	case u.Hostname() == "":
		return fmt.Errorf("url: %q names no host", s)
	case u.Scheme == "tls":
		return nil
	case u.Scheme != "nats":
		return fmt.Errorf("url: scheme %q, want tls", u.Scheme)
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("url: %q is not encrypted, want tls://", s)
	}
	return nil
}
