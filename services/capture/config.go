package capture

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	"github.com/weir-das/weir/services/capture/internal/pgauditlog"
)

// Config is what a capture is told when it starts. What it is told while it
// runs, whether to record and for which stream, comes from control.
type Config struct {
	RPC rpc.ServerConfig `koanf:"rpc"`
	TLS rpc.TLS          `koanf:"tls"`
	Obs obs.Config       `koanf:"obs"`

	// RingFile is the engine's weir.ring_file.
	RingFile string `koanf:"ring_file" help:"the file that the engine module maps, its weir.ring_file" default:"/dev/shm/weir.ring"`
	// PgauditLog has capture follow a server's log and make the ring itself, for
	// a server that cannot have the engine module.
	PgauditLog pgauditlog.Config `koanf:"pgaudit_log"`
	// ClusterID and InstanceID are the names under which control knows the server.
	ClusterID  string `koanf:"cluster_id" help:"the cluster, as control knows it"`
	InstanceID string `koanf:"instance_id" help:"the instance, as control knows it"`

	Control  string `koanf:"control" help:"host:port of control"`
	Crypto   string `koanf:"crypto" help:"host:port of crypto; a name with several addresses spreads over them"`
	Notifier string `koanf:"notifier" help:"host:port of the notifier"`

	// SealStreams is how many streams to crypto are open at once: at least one
	// a replica, or a replica is left out.
	SealStreams int `koanf:"seal_streams" help:"streams to crypto; at least one a replica" default:"4"`
	// ServerHost and ServiceName fill Aurora's serverHost and serviceName.
	ServerHost  string `koanf:"server_host" help:"serverHost of events over a local socket; this host's name where empty"`
	ServiceName string `koanf:"service_name" help:"serviceName of every event" default:"PostgreSQL"`
	// Drain bounds how long a stop waits for what was read to be acknowledged.
	Drain time.Duration `koanf:"drain" help:"how long a stop may take to deliver what was read" default:"10s"`

	// Spool takes what the ring has no room for while the path is down.
	Spool Spool `koanf:"spool"`

	// Listener is used instead of rpc.listen where it is set.
	Listener net.Listener `koanf:"-"`
}

// Spool is where sealed records wait for the path to come back.
type Spool struct {
	Dir      string `koanf:"dir" help:"directory of the encrypted spool, of this capture alone; empty: none"`
	MaxBytes int64  `koanf:"max_bytes" help:"the most that it may take of the disk" default:"1073741824"`
}

// Defaults for what a configuration leaves out.
const (
	defaultRingFile    = "/dev/shm/weir.ring"
	defaultSealStreams = 4
	defaultServiceName = "PostgreSQL"
	defaultDrain       = 10 * time.Second
	defaultSpoolBytes  = 1 << 30
	// minSpoolBytes is a record or two.
	minSpoolBytes  = 1 << 20
	maxSealStreams = 64
)

// withDefaults fills what was left out.
func (c Config) withDefaults() Config {
	if c.RingFile == "" {
		c.RingFile = defaultRingFile
	}
	if c.SealStreams == 0 {
		c.SealStreams = defaultSealStreams
	}
	if c.ServiceName == "" {
		c.ServiceName = defaultServiceName
	}
	c.PgauditLog = c.PgauditLog.WithDefaults()
	if c.Drain == 0 {
		c.Drain = defaultDrain
	}
	if c.Spool.MaxBytes == 0 {
		c.Spool.MaxBytes = defaultSpoolBytes
	}
	return c
}

// Validate reports everything that is wrong at once.
func (c Config) Validate() error {
	var errs []error
	if c.Listener == nil {
		errs = append(errs, c.RPC.Validate())
	}
	errs = append(errs, c.TLS.Validate(), c.PgauditLog.Validate())
	for _, required := range []struct{ key, value, what string }{
		{"cluster_id", c.ClusterID, "name the cluster, as in `weir cluster create`"},
		{"instance_id", c.InstanceID, "name the instance, as in `weir instance add`"},
		{"control", c.Control, "give control's host:port"},
		{"crypto", c.Crypto, "give crypto's host:port"},
		{"notifier", c.Notifier, "give the notifier's host:port"},
	} {
		if required.value == "" {
			errs = append(errs, fmt.Errorf("%s: empty: %s", required.key, required.what))
		}
	}
	if c.SealStreams < 0 || c.SealStreams > maxSealStreams {
		errs = append(errs, fmt.Errorf("seal_streams: %d, want 1 to %d", c.SealStreams, maxSealStreams))
	}
	if c.Drain < 0 {
		errs = append(errs, fmt.Errorf("drain: %v, want a positive time", c.Drain))
	}
	if c.Spool.MaxBytes != 0 && c.Spool.MaxBytes < minSpoolBytes {
		errs = append(errs, fmt.Errorf("spool.max_bytes: %d, want %d or more", c.Spool.MaxBytes, minSpoolBytes))
	}
	return errors.Join(errs...)
}
