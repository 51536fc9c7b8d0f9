package crypto

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
)

// Config is everything that crypto can be told.
type Config struct {
	RPC     rpc.ServerConfig `koanf:"rpc"`
	TLS     rpc.TLS          `koanf:"tls"`
	Obs     obs.Config       `koanf:"obs"`
	Journal journal.Config   `koanf:"journal" help:"the NATS servers that keep the journal; tls as above if empty"`

	KMSEndpoint string `koanf:"kms_endpoint" help:"URL of KMS; empty: AWS_ENDPOINT_URL_KMS, or AWS itself"`
	Region      string `koanf:"region" help:"AWS region of the KMS keys; empty: the AWS SDK's default chain"`

	KeyMaxAge   time.Duration `koanf:"key_max_age" default:"1h" help:"age at which a new data key is asked for"`
	KeyHardAge  time.Duration `koanf:"key_hard_age" default:"24h" help:"how long a data key stays in use while KMS does not answer"`
	KeyMaxBytes int64         `koanf:"key_max_bytes" help:"bytes in clear after which a new data key is asked for, whatever its age; 0: no limit"`

	SigningKeyFile string `koanf:"signing_key_file" help:"Ed25519 key (PEM) that signs where the chain stands; empty: nothing is signed"`
	SigningKMSKey  string `koanf:"signing_kms_key" help:"the same, with a KMS key: ECC_NIST_P256, SIGN_VERIFY"`

	SpoolKeyFile string `koanf:"spool_key_file" help:"X25519 keys (PEM) to the first of which captures seal what they keep on disk while the path is down; empty: they cannot"`

	GzipLevel   int   `koanf:"gzip_level" default:"6" help:"1 (fast) to 9 (small)"`
	WindowBytes int64 `koanf:"window_bytes" default:"16777216" help:"bytes in clear that one stream may have on the way; one record more may be"`

	// Listener is used instead of rpc.listen where it is set.
	Listener net.Listener `koanf:"-"`
}

// What zero values mean.
const (
	defaultKeyMaxAge  = time.Hour
	defaultKeyHardAge = 24 * time.Hour
	// Level 6 makes a pgbench record 11.7 times smaller at 0.27 ms of a core for
	// 97 KB, level 1 9.0 times at 0.10 ms (BenchmarkSeal). The bytes are paid for
	// several times, by the journal's disks, the network, Kinesis and every
	// consumer; the core once.
	defaultGzipLevel   = 6
	defaultWindowBytes = 16 << 20
)

const (
	// maxKeyHardAge bounds what a data key that leaked opens.
	maxKeyHardAge  = 7 * 24 * time.Hour
	minWindowBytes = 1 << 20
	maxWindowBytes = 1 << 30
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
	if c.KeyMaxAge < time.Second {
		part("key_max_age", fmt.Errorf("%v, want 1s or more", c.KeyMaxAge))
	}
	if c.KeyHardAge < c.KeyMaxAge || c.KeyHardAge > maxKeyHardAge {
		part("key_hard_age", fmt.Errorf("%v, want %v (key_max_age) to %v", c.KeyHardAge, c.KeyMaxAge, maxKeyHardAge))
	}
	if c.KeyMaxBytes < 0 {
		part("key_max_bytes", fmt.Errorf("%d, want 0 or more", c.KeyMaxBytes))
	}
	if c.SigningKeyFile != "" && c.SigningKMSKey != "" {
		part("signing_key_file", errors.New("set, and signing_kms_key too: want one of them"))
	}
	if c.GzipLevel < 1 || c.GzipLevel > 9 {
		part("gzip_level", fmt.Errorf("%d, want 1 to 9", c.GzipLevel))
	}
	if c.WindowBytes < minWindowBytes || c.WindowBytes > maxWindowBytes {
		part("window_bytes", fmt.Errorf("%d, want %d to %d", c.WindowBytes, minWindowBytes, maxWindowBytes))
	}
	return errors.Join(errs...)
}

// withDefaults returns c with its zero values replaced.
func (c Config) withDefaults() Config {
	if c.Journal.TLS == (rpc.TLS{}) {
		c.Journal.TLS = c.TLS
	}
	if c.KeyMaxAge == 0 {
		c.KeyMaxAge = defaultKeyMaxAge
	}
	if c.KeyHardAge == 0 {
		c.KeyHardAge = max(defaultKeyHardAge, c.KeyMaxAge)
	}
	if c.GzipLevel == 0 {
		c.GzipLevel = defaultGzipLevel
	}
	if c.WindowBytes == 0 {
		c.WindowBytes = defaultWindowBytes
	}
	return c
}
