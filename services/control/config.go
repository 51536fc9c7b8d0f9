package control

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
)

// Config is everything that control can be told.
type Config struct {
	RPC     rpc.ServerConfig `koanf:"rpc"`
	TLS     rpc.TLS          `koanf:"tls"`
	Obs     obs.Config       `koanf:"obs"`
	Journal journal.Config   `koanf:"journal" help:"the NATS servers that keep the registry, and how many replicas its buckets have"`

	Publisher string `koanf:"publisher" help:"host:port of the publisher"`
	Crypto    string `koanf:"crypto" help:"host:port of crypto"`
	Notifier  string `koanf:"notifier" help:"host:port of the notifier"`

	LiveFor      time.Duration `koanf:"live_for" default:"10s" help:"how long after its last report a capture counts as alive"`
	InstanceWait time.Duration `koanf:"instance_wait" default:"30s" help:"how long a start waits for captures that lag, and a stop for captures that lag or are gone"`
	SilentAfter  time.Duration `koanf:"silent_after" default:"4s" help:"how long a capture, which reports every second, may say nothing before that is told as an interruption of the audit"`
	LeaseTTL     time.Duration `koanf:"lease_ttl" default:"10s" help:"how long after a replica's death another takes over its work"`
	Poll         time.Duration `koanf:"poll" default:"250ms" help:"how often a stream on its way is looked at, at first"`

	// Listener is used instead of rpc.listen where it is set.
	Listener net.Listener `koanf:"-"`
}

// What zero durations mean.
const (
	defaultLiveFor      = 10 * time.Second
	defaultInstanceWait = 30 * time.Second
	defaultSilentAfter  = 4 * time.Second
	defaultLeaseTTL     = 10 * time.Second
	defaultPoll         = 250 * time.Millisecond
)

// minLeaseTTL leaves a renewal, which is tried every quarter, time to be answered.
const minLeaseTTL = time.Second

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
	for _, peer := range []struct{ name, addr string }{
		{"publisher", c.Publisher}, {"crypto", c.Crypto}, {"notifier", c.Notifier},
	} {
		if _, _, err := net.SplitHostPort(peer.addr); err != nil {
			part(peer.name, fmt.Errorf("%q, want host:port", peer.addr))
		}
	}
	for _, d := range []struct {
		name string
		is   time.Duration
		min  time.Duration
	}{
		{"live_for", c.LiveFor, time.Second},
		{"instance_wait", c.InstanceWait, time.Second},
		{"silent_after", c.SilentAfter, 2 * time.Second},
		{"lease_ttl", c.LeaseTTL, minLeaseTTL},
		{"poll", c.Poll, 10 * time.Millisecond},
	} {
		if d.is != 0 && d.is < d.min {
			part(d.name, fmt.Errorf("%v, want at least %v, or nothing for the default", d.is, d.min))
		}
	}
	return errors.Join(errs...)
}

// withDefaults returns c with its zero values replaced.
func (c Config) withDefaults() Config {
	for _, d := range []struct {
		is       *time.Duration
		fallback time.Duration
	}{
		{&c.LiveFor, defaultLiveFor},
		{&c.InstanceWait, defaultInstanceWait},
		{&c.SilentAfter, defaultSilentAfter},
		{&c.LeaseTTL, defaultLeaseTTL},
		{&c.Poll, defaultPoll},
	} {
		if *d.is == 0 {
			*d.is = d.fallback
		}
	}
	return c
}
