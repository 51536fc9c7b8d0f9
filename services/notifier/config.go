package notifier

import (
	"errors"
	"fmt"
	"net"

	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	"github.com/weir-das/weir/services/notifier/internal/deliver"
)

// Config is everything that notifier can be told.
type Config struct {
	RPC      rpc.ServerConfig `koanf:"rpc"`
	TLS      rpc.TLS          `koanf:"tls"`
	Obs      obs.Config       `koanf:"obs"`
	Journal  journal.Config   `koanf:"journal" help:"the NATS servers that keep the events, and how many replicas their stream has"`
	MaxBytes int64            `koanf:"max_bytes" default:"268435456" help:"how large the stream of events may grow; a full one refuses events"`
	// Sinks are where events go, beside being kept.
	Sinks []deliver.Config `koanf:"sinks" help:"where events are delivered; docs/events.md describes each type"`

	// Listener is used instead of rpc.listen where it is set.
	Listener net.Listener `koanf:"-"`
}

// defaultMaxBytes holds about half a million events.
const (
	defaultMaxBytes = 256 << 20
	minMaxBytes     = 1 << 20
)

// Validate reports everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	part := func(name string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	part("rpc", c.RPC.Validate())
	part("tls", c.TLS.Validate())
	part("obs", c.Obs.Validate())
	part("journal", c.Journal.Validate())
	if c.RPC.Listen == "" && c.Listener == nil {
		part("rpc", errors.New("listen: empty, want host:port"))
	}
	part("sinks", deliver.ValidateAll(c.Sinks))
	if c.MaxBytes != 0 && c.MaxBytes < minMaxBytes {
		part("max_bytes", fmt.Errorf("%d, want at least %d, or nothing for the default", c.MaxBytes, minMaxBytes))
	}
	return errors.Join(errs...)
}
