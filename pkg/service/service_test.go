package service_test

import (
	"errors"
	"time"

	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
)

// config has one of everything that the services have in theirs.
type config struct {
	RPC     rpc.ServerConfig `koanf:"rpc"`
	TLS     rpc.TLS          `koanf:"tls"`
	Obs     obs.Config       `koanf:"obs"`
	Region  string           `koanf:"region" default:"eu-central-1" help:"AWS region"`
	Batch   int              `koanf:"batch_size" default:"500"`
	Rate    float64          `koanf:"rate"`
	Sync    bool             `koanf:"sync"`
	Wait    time.Duration    `koanf:"wait" default:"2s"`
	Tags    []string         `koanf:"tags"`
	Targets []target         `koanf:"targets"`
	Hook    func()           `koanf:"-"`
}

type target struct {
	URL   string        `koanf:"url"`
	Every time.Duration `koanf:"every"`
}

func (c config) Validate() error {
	var errs []error
	if c.Batch < 1 {
		errs = append(errs, errors.New("batch_size: want 1 or more"))
	}
	if c.Region == "" {
		errs = append(errs, errors.New("region: empty"))
	}
	return errors.Join(errs...)
}
