package relay

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/services/publisher/internal/kinesis"
)

const (
	// idleAfter is when a worker without work ends, and a lane without workers.
	idleAfter = 15 * time.Second
	// calmAfter is for how long nothing may fail before trouble is over, so that a
	// stream at its limit is one line in the log and not two a second.
	calmAfter = 10 * time.Second
)

// lane is the way of one Kinesis stream's records.
type lane struct {
	relay  *Relay
	stream string
	ctx    context.Context // of the relay's Run: its end means give everything back

	// mu guards what follows. Never held across a call of Kinesis or the journal.
	mu      sync.Mutex
	queue   []*loan // failed ones first
	queued  int64   // bytes in queue
	held    int64   // bytes in queue and with workers
	workers int
	closed  bool
	wake    chan struct{} // has room for one: something was queued

	failing   bool // the last call had a failure in it
	stuck     bool // the last call had no success in it
	trouble   trouble
	taken     time.Time // when Kinesis took a record last
	notBefore time.Time // no PutRecords before
	// A shard that is throttled takes records again within a second; an endpoint
	// that takes none may be away for long.
	stuckRetry, partialRetry backoff.Backoff
}

// trouble is what was wrong with a lane last; the zero value is nothing.
type trouble struct {
	text string
	kind fault.Kind
	at   time.Time
}

func newLane(ctx context.Context, r *Relay, stream string) *lane {
	return &lane{
		relay: r, stream: stream, ctx: ctx, wake: make(chan struct{}, 1),
		stuckRetry:   backoff.Backoff{Min: 100 * time.Millisecond, Max: 10 * time.Second},
		partialRetry: backoff.Backoff{Min: 100 * time.Millisecond, Max: time.Second},
	}
}

// offer takes a record into the lane, or gives it back to the journal when the
// lane holds what it may. It is false when the lane has closed.
func (ln *lane) offer(l *loan) bool {
	ln.mu.Lock()
	if ln.closed {
		ln.mu.Unlock()
		return false
	}
	if ln.held > 0 && ln.held+l.size() > ln.limit() {
		ln.mu.Unlock()
		ln.relay.giveBack(l, after(l.Deliveries))
		return true
	}
	ln.queue = append(ln.queue, l)
	ln.queued += l.size()
	ln.hold(l.size())
	if ln.workers == 0 || ln.workers < ln.relay.limits.Workers && !ln.failing && ln.full() {
		ln.workers++
		ln.relay.workers.Go(ln.work)
	}
	ln.mu.Unlock()
	ln.signal()
	return true
}

// limit is what the lane may hold. One that gets nothing through keeps a batch
// to try with, and so does any failing one when memory is short.
func (ln *lane) limit() int64 {
	if ln.stuck || ln.failing && ln.relay.crowded() {
		return min(kinesis.MaxBytes, ln.relay.limits.LaneBytes)
	}
	return ln.relay.limits.LaneBytes
}

// crowded says that failing lanes hold half of the memory there is. The other
// half is for those that are well.
func (r *Relay) crowded() bool { return r.failing.Load() > r.limits.Bytes/2 }

// hold changes what the lane holds, and what all failing lanes do.
func (ln *lane) hold(n int64) {
	ln.held += n
	if ln.failing {
		ln.relay.failing.Add(n)
	}
}

// setFailing notes how the last call went.
func (ln *lane) setFailing(failing, stuck bool) {
	switch {
	case failing && !ln.failing:
		ln.relay.failing.Add(ln.held)
	case !failing && ln.failing:
		ln.relay.failing.Add(-ln.held)
	}
	ln.failing, ln.stuck = failing, stuck
}

func (ln *lane) full() bool {
	return len(ln.queue) >= kinesis.MaxRecords || ln.queued >= kinesis.MaxBytes
}

func (ln *lane) signal() {
	select {
	case ln.wake <- struct{}{}:
	default:
	}
}

// after is how long the journal keeps a record that was given back: longer each
// time, so that a backlog nobody takes is not carried to and fro all the time.
func after(deliveries uint64) time.Duration {
	d := min(2*time.Second<<min(deliveries, 8), 5*time.Minute)
	return d/2 + rand.N(d/2)
}

// work puts batches until there is nothing to do for a while.
func (ln *lane) work() {
	for {
		batch := ln.gather()
		switch {
		case batch == nil && ln.retire():
			return
		case batch == nil:
		case ln.ctx.Err() != nil:
			ln.giveBack(batch, false)
		default:
			ln.put(batch)
		}
	}
}

// retire ends a worker unless records have come meanwhile; with the last worker
// the lane closes.
func (ln *lane) retire() bool {
	r := ln.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if len(ln.queue) > 0 {
		return false
	}
	ln.workers--
	if ln.workers == 0 {
		ln.closed = true
		ln.setFailing(false, false)
		delete(r.lanes, ln.stream)
	}
	return true
}

// gather waits for records and takes a batch from the queue: as soon as it is
// full, or when its first record has waited long enough. It is nil when there has
// been nothing for long, or the relay stops.
func (ln *lane) gather() []*loan {
	idle := time.NewTimer(idleAfter)
	defer idle.Stop() // it may fire beside a queue that waits for a pause: retire sees that
	var linger <-chan time.Time
	for ripe := false; ; {
		ln.mu.Lock()
		stopping := ln.ctx.Err() != nil
		pause := time.Until(ln.notBefore)
		if len(ln.queue) > 0 && (stopping || pause <= 0 && (ripe || ln.full())) {
			batch := ln.cut()
			if len(ln.queue) > 0 {
				ln.signal() // for the next worker
			}
			ln.mu.Unlock()
			return batch
		}
		if len(ln.queue) == 0 && stopping {
			ln.mu.Unlock()
			return nil
		}
		var wait <-chan time.Time
		switch {
		case len(ln.queue) == 0:
		case pause > 0:
			wait = time.After(pause)
			ripe = true // what waits for this has waited long enough
		case linger == nil:
			linger = time.After(ln.relay.limits.Linger)
			wait = linger
		default:
			wait = linger
		}
		ln.mu.Unlock()
		select {
		case <-wait:
			ripe = true
		case <-ln.wake:
		case <-ln.ctx.Done():
		case <-idle.C:
			return nil
		}
	}
}

// cut takes up to one batch from the queue.
func (ln *lane) cut() []*loan {
	n, bytes := 0, int64(0)
	for n < len(ln.queue) && n < kinesis.MaxRecords {
		size := int64(entry(ln.queue[n]).Size())
		if n > 0 && bytes+size > kinesis.MaxBytes {
			break
		}
		bytes += size
		n++
	}
	batch := slices.Clone(ln.queue[:n])
	for _, l := range batch {
		ln.queued -= l.size()
	}
	ln.queue = slices.Delete(ln.queue, 0, n)
	return batch
}
