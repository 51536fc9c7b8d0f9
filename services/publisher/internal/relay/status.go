package relay

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/obs"
)

// observe publishes what the journal said last about itself.
func (r *Relay) observe() error {
	gauge := func(name, help string, of func(journal.State) int64) error {
		_, err := r.tel.Meter.Int64ObservableGauge("weir.journal."+name, metric.WithDescription(help),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				r.mu.Lock()
				defer r.mu.Unlock()
				o.Observe(of(r.state))
				return nil
			}))
		if err != nil {
			return fmt.Errorf("making a metric: %w", err)
		}
		return nil
	}
	if err := gauge("waiting", "Records in the journal.", func(s journal.State) int64 { return int64(s.Records) }); err != nil {
		return err
	}
	if err := gauge("bytes", "Bytes in the journal.", func(s journal.State) int64 { return int64(s.Bytes) }); err != nil {
		return err
	}
	return gauge("max_bytes", "The journal's limit.", func(s journal.State) int64 { return s.MaxBytes })
}

// look asks the journal what waits in it, and has records delivered again that
// are stranded there at two looks.
func (r *Relay) look(ctx context.Context) {
	st, err := r.journal.State(ctx, "")
	if err != nil {
		return // fetch says so
	}
	r.mu.Lock()
	r.state = st
	r.mu.Unlock()
	stranded, err := r.journal.Stranded(ctx)
	if err != nil {
		return
	}
	before := r.stranded
	r.stranded = stranded
	if stranded == 0 || stranded != before {
		return
	}
	if err := r.journal.Redeliver(ctx, stranded); err != nil {
		r.log.Warn("records are stranded in the journal", obs.KeySeq, stranded, obs.KeyErr, err)
		return
	}
	r.stranded = 0
	r.log.Info("records were stranded in the journal and are delivered again", obs.KeySeq, stranded)
}

// Status is what a replica says about itself.
type Status struct {
	Taken, Accepted uint64
	LastError       string // of Kinesis, not over yet
}

// Status reports on this replica; of one cluster's stream when stream is given.
func (r *Relay) Status(stream string) Status {
	in, out := r.hop.Counts()
	s := Status{Taken: uint64(in), Accepted: uint64(out)}
	r.mu.Lock()
	defer r.mu.Unlock()
	var latest time.Time
	for name, ln := range r.lanes {
		if stream != "" && stream != name {
			continue
		}
		if text, at := ln.lastError(); text != "" && at.After(latest) {
			s.LastError, latest = text, at
		}
	}
	return s
}
