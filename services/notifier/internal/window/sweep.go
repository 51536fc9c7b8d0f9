package window

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Sweep tells what a replica that died had written and not told, and forgets
// what closed long ago. Several replicas may sweep at once.
//
// The newest window of each instance stays, however old: by it a capture knows
// how much of the ring's count has been told.
func (s *Store) Sweep(ctx context.Context) error {
	docs, err := s.all(ctx)
	if err != nil {
		return err
	}
	newest := make(map[string]string)
	for _, d := range docs {
		newest[d.window.GetInstanceId()] = d.window.GetId()
	}
	var errs []error
	for _, d := range docs {
		if err := s.tellAll(ctx, d); err != nil {
			errs = append(errs, err)
			continue
		}
		id := d.window.GetId()
		if d.ClosedAt.IsZero() || s.now().Sub(d.ClosedAt) < Retention || newest[d.window.GetInstanceId()] == id {
			continue
		}
		err := s.kv.Purge(ctx, id, jetstream.LastRevision(d.revision))
		if err != nil && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			errs = append(errs, unavailable("forgetting window "+id, err))
		}
	}
	return errors.Join(errs...)
}

// Run sweeps at once and then every so often, until ctx ends. What stands in its
// way is told to failed.
func (s *Store) Run(ctx context.Context, every time.Duration, failed func(error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
