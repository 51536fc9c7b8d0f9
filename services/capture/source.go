package capture

import (
	"context"
	"fmt"

	"github.com/weir-das/weir/pkg/obs"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/capture/internal/pgauditlog"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// follower writes the ring where no engine does; the zero one does nothing.
type follower struct {
	*pgauditlog.Follower
}

// follow opens the log that is to be followed, and with it the ring.
func (s *station) follow() (follower, error) {
	if !s.cfg.PgauditLog.On() {
		return follower{}, nil
	}
	f, err := pgauditlog.Open(s.cfg.PgauditLog, s.cfg.RingFile, s.teller, s.log)
	if err != nil {
		return follower{}, fmt.Errorf("following the log: %w", err)
	}
	s.log.Info("following a log instead of the engine module", "pattern", s.cfg.PgauditLog.Pattern, "source", pgauditlog.Weakness)
	return follower{f}, nil
}

// run follows until ctx ends.
func (f follower) run(ctx context.Context) error {
	if f.Follower == nil {
		<-ctx.Done()
		return nil
	}
	if err := f.Run(ctx); err != nil {
		return fmt.Errorf("following the log: %w", err)
	}
	return nil
}

func (f follower) close() error {
	if f.Follower == nil {
		return nil
	}
	return f.Close()
}

// source names the weakness of where events come from; empty for the engine module.
func (s *station) source() string {
	if s.cfg.PgauditLog.On() {
		return pgauditlog.Weakness
	}
	return ""
}

// policy is what the writer of the ring is told. A log cannot make a session
// wait. Control refuses synchronous mode where it knows of such a source; where
// the source changed since, the stream goes on as what it is.
func (s *station) policy(desired *controlv1.Desired) ring.Policy {
	p := policyOf(desired)
	if p.Mode == ring.ModeSync && s.source() != "" {
		s.log.Error("synchronous mode is wanted, and no session can be made to wait for a log: recording asynchronously", "source", s.source(),
			obs.KeyInstance, s.cfg.InstanceID)
		p.Mode = ring.ModeAsync
	}
	return p
}
