package publisher

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
)

// Config is everything that the publisher can be told.
type Config struct {
	RPC     rpc.ServerConfig `koanf:"rpc"`
	TLS     rpc.TLS          `koanf:"tls"`
	Obs     obs.Config       `koanf:"obs"`
	Journal journal.Config   `koanf:"journal" help:"the NATS servers that keep the journal; tls as above if empty"`

	KinesisEndpoint string `koanf:"kinesis_endpoint" help:"URL of Kinesis; empty: AWS_ENDPOINT_URL_KINESIS, or AWS itself"`
	Region          string `koanf:"region" help:"AWS region of the Kinesis streams; empty: the AWS SDK's default chain"`

	// Notifier is told of Kinesis streams that were gone.
	Notifier string `koanf:"notifier" help:"host:port of the notifier; empty: only the log says that a Kinesis stream was gone"`

	MemoryBytes int64         `koanf:"memory_bytes" default:"67108864" help:"bytes of records held in memory, of all streams"`
	StreamBytes int64         `koanf:"stream_bytes" default:"16777216" help:"bytes of records held in memory, of one stream"`
	Workers     int           `koanf:"workers" default:"4" help:"PutRecords calls at a time, per stream"`
	Linger      time.Duration `koanf:"linger" default:"20ms" help:"how long a batch waits to fill"`

	// Listener is used instead of rpc.listen where it is set.
	Listener net.Listener `koanf:"-"`
}

// What zero values mean.
const (
	defaultMemoryBytes = 64 << 20
	defaultStreamBytes = 16 << 20
	defaultWorkers     = 4
	defaultLinger      = 20 * time.Millisecond
)

const (
	minMemoryBytes = 16 << 20
	minStreamBytes = 1 << 20
	maxWorkers     = 64
	maxLinger      = time.Second
)

// Validate reports everything that is wrong.
func (c Config) Validate() error {
	c = c.withDefaults()
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
	if c.MemoryBytes < minMemoryBytes {
		part("memory_bytes", fmt.Errorf("%d, want %d or more", c.MemoryBytes, minMemoryBytes))
	}
	if c.StreamBytes < minStreamBytes || c.StreamBytes > c.MemoryBytes {
		part("stream_bytes", fmt.Errorf("%d, want %d to %d (memory_bytes)", c.StreamBytes, minStreamBytes, c.MemoryBytes))
	}
	if c.Workers < 1 || c.Workers > maxWorkers {
		part("workers", fmt.Errorf("%d, want 1 to %d", c.Workers, maxWorkers))
	}
	if c.Linger < 0 || c.Linger > maxLinger {
		part("linger", fmt.Errorf("%v, want up to %v", c.Linger, maxLinger))
	}
	return errors.Join(errs...)
}

// withDefaults returns c with its zero values replaced.
func (c Config) withDefaults() Config {
	if c.Journal.TLS == (rpc.TLS{}) {
		c.Journal.TLS = c.TLS
	}
	if c.MemoryBytes == 0 {
		c.MemoryBytes = defaultMemoryBytes
	}
	if c.StreamBytes == 0 {
		c.StreamBytes = min(defaultStreamBytes, c.MemoryBytes)
	}
	if c.Workers == 0 {
		c.Workers = defaultWorkers
	}
	if c.Linger == 0 {
		c.Linger = defaultLinger
	}
	return c
}
