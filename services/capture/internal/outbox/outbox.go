// Package outbox carries closed records to crypto and brings back what the
// journal has on disk.
//
// It keeps a few streams open, spread over crypto's replicas, and gives each
// record to whichever stream has room. Each stream has its turn of a few seconds
// and is opened again, so that replicas that come get a share. A stream that breaks gives its records
// back, and another takes them; a record that waits too long is sent a second
// time over another stream, for the replica that has it may be stuck. So a
// record can be journalled twice, and is then the same to the byte.
//
// It does not bound how many records it holds: its caller's window does.
//
// Before: internal/pipeline, which closes records and owns them, and
// internal/spool, which hands on the sealed ones that it kept.
// Next: services/crypto/internal/seal, at the other end of the stream.
package outbox

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-das/weir/pkg/obs"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
)

const (
	// queueLength is more records than any caller's window holds, twice: each
	// can be queued once by its caller and once by a hedge.
	queueLength = 128
	// perStream bounds what one stream has on its way, so that a stuck replica
	// does not take the whole window with it.
	perStream = 8
	// A record whose acknowledgement takes hedgeTimes as long as usual is sent
	// over another stream as well: its replica may be slow, and sessions may wait.
	// A path that is down is not to be flooded: after that it is sent again only
	// every hedgeAfter.
	hedgeTimes = 3
	hedgeLeast = 50 * time.Millisecond
	hedgeAfter = 2 * time.Second
	// turn is how long a stream lasts at most, and half of it at least. A stream
	// is tied to a replica, so this is how soon one that is new gets its share
	// once its address is known. It is shorter than the grace that a replica
	// gives to connections which are to move, so that none is cut with records on
	// its way.
	turn = 8 * time.Second
)

// Record is one record on its way. The caller must not change it between Send
// and its Result, nor use its bytes for anything else afterwards: a hedge may
// still be reading them.
type Record struct {
	Plaintext    []byte // the DAS record, in clear; or else
	Sealed       []byte // sealed to the spool key that SpoolKeyID names
	SpoolKeyID   string
	MessageID    string // what the journal knows duplicates by; may be empty
	PartitionKey string
	Traceparent  string
}

// Result says what became of a record.
type Result struct {
	Record *Record
	// Refused is why the record can never be sealed. Empty when the record is
	// on the journal's disk.
	Refused string
}

// Outbox sends records. Make it with New, then Run it.
type Outbox struct {
	crypto  cryptov1.CryptoServiceClient
	open    *cryptov1.SealOpen
	streams int
	turn    time.Duration // turn and hedgeAfter, but for tests
	hedging time.Duration
	notify  func()
	log     *slog.Logger
	queue   chan *Record
	results chan Result

	// mu guards waiting, every record without a result, and usual, how long an
	// acknowledgement takes, of late.
	mu      sync.Mutex
	waiting map[*Record]wait
	usual   time.Duration

	// health turns many streams' troubles into one line a change of state.
	health health
}

// wait is how long a record has been without its result.
type wait struct {
	since  time.Time // it was last given to a stream; zero while it is queued for the first time
	hedged bool
}

// New returns an outbox whose records belong to what open names. notify is called
// after each result: whoever waits for it may wait elsewhere than at Results.
func New(crypto cryptov1.CryptoServiceClient, open *cryptov1.SealOpen, streams int, notify func(), log *slog.Logger) *Outbox {
	return &Outbox{
		crypto:  crypto,
		open:    open,
		streams: streams,
		turn:    turn,
		hedging: hedgeAfter,
		notify:  notify,
		log:     log,
		queue:   make(chan *Record, queueLength),
		results: make(chan Result, queueLength),
		waiting: make(map[*Record]wait),
		health:  health{log: log},
	}
}

// Results delivers one result for every record sent, in no order. Whoever
// sends must also receive.
func (o *Outbox) Results() <-chan Result { return o.results }

// Healthy reports whether the last thing that a stream did went well.
func (o *Outbox) Healthy() bool { return o.health.ok() }

// Trouble says why nothing gets through now; it is empty where something did last.
func (o *Outbox) Trouble() string { return o.health.trouble() }

// Send takes a record. It does not block: for one that finds the queue full of
// what is sent again, or was recalled, hedging finds room.
func (o *Outbox) Send(r *Record) {
	o.mu.Lock()
	o.waiting[r] = wait{}
	o.mu.Unlock()
	select {
	case o.queue <- r:
	default:
		o.mu.Lock()
		o.waiting[r] = wait{since: time.Now()}
		o.mu.Unlock()
	}
}

// Recall takes records back: what is not with a stream yet is not sent, and none
// of them has a result any more, unless that is among the results already.
func (o *Outbox) Recall(records ...*Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range records {
		delete(o.waiting, r)
	}
	// Whatever else is queued goes to the end of the queue: order is no promise here.
	for range len(o.queue) {
		select {
		case r := <-o.queue:
			if _, ok := o.waiting[r]; !ok {
				continue
			}
			select {
			case o.queue <- r:
			default: // a hedge took the room
				o.waiting[r] = wait{since: time.Now()}
			}
		default:
		}
	}
}

// Run keeps the streams open until ctx ends. What has no result then is the
// caller's to send again.
func (o *Outbox) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for range o.streams {
		g.Go(func() error { return o.keepStream(ctx) })
	}
	g.Go(func() error { return o.hedge(ctx) })
	return g.Wait()
}

// hedge queues again what has been with a stream for too long.
func (o *Outbox) hedge(ctx context.Context) error {
	tick := time.NewTicker(min(o.hedging/4, hedgeLeast/2))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			for _, r := range o.stale(now) {
				o.log.Debug("record waits, sending it over another stream too", obs.KeyStream, o.open.GetKinesisStream())
				o.requeue(r)
			}
		}
	}
}

// stale returns the records that have been with a stream for too long at now.
func (o *Outbox) stale(now time.Time) []*Record {
	o.mu.Lock()
	defer o.mu.Unlock()
	var late []*Record
	first := min(max(hedgeTimes*o.usual, hedgeLeast), o.hedging)
	for r, w := range o.waiting {
		limit := o.hedging
		if !w.hedged && o.usual > 0 {
			limit = first
		}
		if !w.since.IsZero() && now.Sub(w.since) > limit {
			o.waiting[r] = wait{since: now, hedged: true}
			late = append(late, r)
		}
	}
	return late
}

// requeue gives a record to another stream, if there is room to queue it: if
// there is none, it is queued already, or the next round of hedging sees it.
func (o *Outbox) requeue(r *Record) {
	select {
	case o.queue <- r:
	default:
	}
}

// take marks r as given to a stream. It returns false if r has its result.
func (o *Outbox) take(r *Record) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	w, ok := o.waiting[r]
	if !ok {
		return false
	}
	o.waiting[r] = wait{since: time.Now(), hedged: w.hedged}
	return true
}

// finish delivers the result of r, once: a hedged record has two answers.
func (o *Outbox) finish(ctx context.Context, r *Record, refused string) {
	o.mu.Lock()
	w, first := o.waiting[r]
	delete(o.waiting, r)
	if first && !w.hedged && !w.since.IsZero() {
		// A sixteenth of each keeps the last few dozen in mind.
		o.usual += (max(time.Since(w.since), 1) - o.usual) / 16
		o.usual = max(o.usual, 1)
	}
	o.mu.Unlock()
	if !first {
		return
	}
	select {
	case o.results <- Result{Record: r, Refused: refused}:
		o.notify()
	case <-ctx.Done():
	}
}
