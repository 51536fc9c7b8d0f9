// Package relay moves sealed records from the journal to Kinesis.
//
// One idea: the journal lends a record and gets it back or hears that Kinesis has
// it; nothing is remembered in between. Every Kinesis stream has a lane of its
// own, with a bound on what it may hold, so a stream that is throttled, missing
// or refused keeps its records in the journal and delays nobody else's. All
// replicas share one consumer; killing any of them costs a second delivery, which
// is legal.
//
// Order is not kept: epoch and number, inside the record, are the order.
//
// Before: pkg/journal, filled by services/crypto. Next: internal/kinesis.
package relay

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/semaphore"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/services/publisher/internal/kinesis"
)

// Limits of what one replica holds in memory. Bytes are of record data.
type Limits struct {
	Bytes     int64         // of all lanes
	LaneBytes int64         // of one lane; one record more may be
	Workers   int           // PutRecords calls at a time, per lane
	Linger    time.Duration // how long a batch waits to fill
}

const (
	// fetchBytes is what one request to the journal asks for, fetchWait how long it
	// stays open, and fetchers how many there are, so that one is always open.
	fetchBytes = 4 << 20
	fetchWait  = time.Second
	fetchers   = 2
	// holdEvery is how often the journal hears of records still held. Three of
	// these fit into what it waits.
	holdEvery = journal.AckWait / 3
	// stateEvery is how often the journal is asked what waits.
	stateEvery = 5 * time.Second
)

// Putter puts records into a Kinesis stream; see kinesis.Client.Put.
type Putter interface {
	Put(ctx context.Context, stream string, records []kinesis.Record) ([]error, error)
}

// Relay is the relay of one replica.
type Relay struct {
	journal *journal.Journal
	kinesis Putter
	limits  Limits
	log     *slog.Logger
	tel     *obs.Telemetry
	hop     *obs.Hop
	// What is taken and neither accepted nor held is one of these.
	returned, lost metric.Int64Counter

	budget  *semaphore.Weighted // bytes
	failing atomic.Int64        // bytes held by failing lanes
	workers sync.WaitGroup

	stranded uint64 // in the journal, at the last look; look's own

	// mu guards what follows.
	mu    sync.Mutex
	lanes map[string]*lane
	held  map[*loan]struct{}
	state journal.State // as the journal said last
}

// loan is a record on loan from the journal.
type loan struct {
	*journal.Delivery
	taken time.Time
	bytes int64 // of the budget
}

func (l *loan) size() int64 { return l.bytes }

// New returns a relay. Run it.
func New(j *journal.Journal, k Putter, limits Limits, log *slog.Logger, tel *obs.Telemetry) (*Relay, error) {
	counter := func(name, help string) (metric.Int64Counter, error) {
		c, err := tel.Meter.Int64Counter("weir.publisher."+name, metric.WithDescription(help))
		if err != nil {
			return nil, fmt.Errorf("making a metric: %w", err)
		}
		return c, nil
	}
	returned, err := counter("returned", "Records given back to the journal, to be delivered again later.")
	if err != nil {
		return nil, err
	}
	lost, err := counter("lost", "Records that Kinesis will never take, given up. Stays 0; alert on it.")
	if err != nil {
		return nil, err
	}
	r := &Relay{
		journal: j, kinesis: k, limits: limits, log: log, tel: tel,
		hop: obs.NewHop(tel, "publisher"), returned: returned, lost: lost,
		budget: semaphore.NewWeighted(max(limits.Bytes, fetchers*fetchBytes)),
		lanes:  make(map[string]*lane),
		held:   make(map[*loan]struct{}),
	}
	r.hop.Oldest(func() time.Time {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.state.Oldest
	})
	lost.Add(context.Background(), 0) // visible before the first one
	returned.Add(context.Background(), 0)
	return r, r.observe()
}

// Run relays until ctx ends. It then finishes what is being put, gives the rest
// back to the journal and returns.
func (r *Relay) Run(ctx context.Context) {
	var parts sync.WaitGroup
	for range fetchers {
		parts.Go(func() { r.fetch(ctx) })
	}
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	var watch sync.WaitGroup
	watch.Go(func() { every(watching, holdEvery, func(context.Context) { r.hold() }) })
	watch.Go(func() { every(watching, stateEvery, r.look) })
	parts.Wait()
	r.workers.Wait()
	stopWatching()
	watch.Wait()
}

// every calls f now and then every so often until ctx ends.
func every(ctx context.Context, period time.Duration, f func(context.Context)) {
	t := time.NewTicker(period)
	defer t.Stop()
	for {
		f(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// fetch takes records from the journal as long as there is room for them. The
// room is taken before the record, so that what lies in memory is bounded.
func (r *Relay) fetch(ctx context.Context) {
	retry := backoff.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	var consumer *journal.Consumer
	said := ""
	for ctx.Err() == nil {
		err := func() (err error) {
			if consumer == nil {
				if consumer, err = r.journal.Consumer(ctx); err != nil {
					return err
				}
			}
			if r.budget.Acquire(ctx, fetchBytes) != nil {
				return nil
			}
			left := int64(fetchBytes)
			err = consumer.Fetch(ctx, fetchBytes, fetchWait, func(d *journal.Delivery) {
				// The journal counts headers too: it sends less than it was asked for. If
				// it does not, the account must be right all the same.
				bytes := min(int64(len(d.Data)), left)
				left -= bytes
				r.dispatch(ctx, &loan{Delivery: d, taken: time.Now(), bytes: bytes})
			})
			r.budget.Release(left)
			return err
		}()
		switch {
		case ctx.Err() != nil:
		case err == nil:
			retry.Reset()
			if said != "" {
				r.log.Info("the journal answers again")
				said = ""
			}
		default:
			if fault.Is(err, fault.Conflict) {
				consumer = nil
			}
			if said != err.Error() {
				said = err.Error()
				r.log.Warn("cannot take records from the journal", obs.KeyErr, err)
			}
			_ = retry.Wait(ctx)
		}
	}
}

// dispatch gives a record to its lane, or back to the journal.
func (r *Relay) dispatch(ctx context.Context, l *loan) {
	r.hop.In(1)
	r.mu.Lock()
	r.held[l] = struct{}{}
	r.mu.Unlock()
	switch {
	case l.KinesisStream == "" || l.PartitionKey == "" || len(l.Data) == 0:
		// Nobody but crypto may write the journal, and crypto fills these in.
		r.giveUp(l, fault.As(fault.Invalid, fmt.Errorf("message %d of the journal is no sealed record", l.Sequence)))
	case ctx.Err() != nil:
		r.giveBack(l, 0)
	default:
		for !r.lane(ctx, l.KinesisStream).offer(l) { // again if it has just closed
		}
	}
}

// lane finds or makes the lane of a stream.
func (r *Relay) lane(ctx context.Context, stream string) *lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	ln := r.lanes[stream]
	if ln == nil {
		ln = newLane(ctx, r, stream)
		r.lanes[stream] = ln
	}
	return ln
}
