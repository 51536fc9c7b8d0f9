package journal

import (
	"context"
	"time"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
)

const (
	// openWait is how long a NATS that is up may take to have JetStream ready. After
	// that something is wrong that waiting does not mend.
	openWait = time.Minute
	// attemptWait bounds one try: a cluster that has no leader yet answers not at
	// all, and has one a few seconds later.
	attemptWait = 5 * time.Second
)

// WhenReady has open open what JetStream keeps, again and again while it fails as
// NotReady, for a minute at most. It returns the last error.
func (c *Conn) WhenReady(ctx context.Context, open func(context.Context) error) error {
	limit, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	wait := backoff.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	for {
		attempt, stop := context.WithTimeout(limit, attemptWait)
		err := open(attempt)
		stop()
		if !fault.Is(err, fault.NotReady) || wait.Wait(limit) != nil {
			return err
		}
		c.log.Warn("JetStream is not ready", obs.KeyErr, err)
	}
}
