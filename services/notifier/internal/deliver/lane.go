package deliver

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/obs"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/notifier/internal/events"
)

const (
	// minRetry and maxRetry bound the pause after a try that failed, which doubles.
	minRetry = time.Second
	maxRetry = 5 * time.Minute
	// maxDirect bounds what waits in memory for a sink while NATS is away.
	maxDirect = 1000
	// maxRemembered bounds what is remembered of direct deliveries.
	maxRemembered = 4 * maxDirect
	fetchWait     = 5 * time.Second
)

// lane is the way to one sink.
type lane struct {
	cfg     Config
	sink    Sink
	js      jetstream.JetStream
	letters *events.DeadLetters
	now     func() time.Time
	log     *slog.Logger
	began   time.Time // when its place in the stream was made sure of; zero before

	// mu guards what was delivered, or is to be, from memory.
	mu        sync.Mutex
	known     map[string]bool // keys; true once delivered
	order     []string        // the keys, oldest first
	direct    chan *notifierv1.Event
	complains bool // the log knows that the sink does not take events; belongs to mu
}

func newLane(c Config, sink Sink, js jetstream.JetStream, letters *events.DeadLetters, now func() time.Time, log *slog.Logger) *lane {
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, defaultMaxAttempts)
	c.GiveUpAfter = cmp.Or(c.GiveUpAfter, defaultGiveUpAfter)
	return &lane{
		cfg: c, sink: sink, js: js, letters: letters, now: now, log: log.With("sink", c.Name),
		known: make(map[string]bool), direct: make(chan *notifierv1.Event, maxDirect),
	}
}

// consumer is the sink's place in the stream. It is made before anybody can tell
// an event: a sink that is new gets what is new, and nothing is in between.
//
// A place that was there and is gone, with NATS's data, is made again for all that
// was told since this process began: what came before the place was there again
// must be delivered too. Some of it may be delivered twice.
func (l *lane) consumer(ctx context.Context) (jetstream.Consumer, error) {
	cfg := jetstream.ConsumerConfig{
		Durable:       "deliver-" + strings.ToLower(l.cfg.Name),
		Description:   "Weir: events on their way to " + l.cfg.Name,
		AckPolicy:     jetstream.AckExplicitPolicy,
		DeliverPolicy: jetstream.DeliverNewPolicy,
		AckWait:       2*l.cfg.Timeout + 10*time.Second, // longer than any try, so that no other replica tries beside us
		MaxAckPending: maxDirect,
	}
	switch have, err := l.js.Consumer(ctx, events.StreamName, cfg.Durable); {
	case err == nil: // where a place began cannot be changed
		cfg.DeliverPolicy, cfg.OptStartTime = have.CachedInfo().Config.DeliverPolicy, have.CachedInfo().Config.OptStartTime
	case !errors.Is(err, jetstream.ErrConsumerNotFound):
		return nil, err // it may be there, or may have been: a new place would be the wrong one
	case !l.began.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &l.began
	}
	consumer, err := l.js.CreateOrUpdateConsumer(ctx, events.StreamName, cfg)
	if err == nil && l.began.IsZero() {
		l.began = time.Now()
	}
	return consumer, err
}

// consume delivers what the stream has, until ctx ends.
func (l *lane) consume(ctx context.Context) {
	wait := backoff.Backoff{Min: 200 * time.Millisecond, Max: 5 * time.Second}
	for ctx.Err() == nil {
		err := l.consumeOnce(ctx, wait.Reset)
		if ctx.Err() != nil {
			return
		}
		l.log.Debug("the stream of events cannot be read; trying again", obs.KeyErr, err)
		_ = wait.Wait(ctx)
	}
}

func (l *lane) consumeOnce(ctx context.Context, ready func()) error {
	consumer, err := l.consumer(ctx)
	if err != nil {
		return err
	}
	ready()
	for ctx.Err() == nil {
		// One at a time: what waits behind it may go to another replica.
		if err := l.fetch(ctx, consumer); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// fetch waits a while for an event, and handles it.
func (l *lane) fetch(ctx context.Context, consumer jetstream.Consumer) error {
	wait, cancel := context.WithTimeout(ctx, fetchWait)
	defer cancel()
	batch, err := consumer.Fetch(1, jetstream.FetchContext(wait))
	if err != nil {
		return err
	}
	for m := range batch.Messages() {
		l.handle(ctx, m)
	}
	if err := batch.Error(); err != nil && wait.Err() == nil {
		return err
	}
	return nil
}

// handle delivers one event, has it delivered again later, or gives it up.
func (l *lane) handle(ctx context.Context, m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		return
	}
	e, err := events.Decode(m.Data(), meta.Sequence.Stream)
	if err != nil { // it will not be better tomorrow
		l.log.Error("an event cannot be read and is delivered to nobody", obs.KeyErr, err)
		l.answer(m.Term())
		return
	}
	if !l.cfg.wants(e) || l.delivered(e.GetIdempotencyKey()) {
		l.answer(m.Ack())
		return
	}
	if err = l.try(ctx, e); err == nil {
		l.answer(m.DoubleAck(ctx))
		return
	}
	if ctx.Err() != nil {
		l.answer(m.Nak()) // at once, by another replica
		return
	}
	attempts := meta.NumDelivered
	if attempts < uint64(l.cfg.MaxAttempts) && l.now().Sub(meta.Timestamp) < l.cfg.GiveUpAfter {
		l.answer(m.NakWithDelay(pause(attempts)))
		return
	}
	letter := &notifierv1.DeadLetter{
		Sink: l.cfg.Name, Event: e, Attempts: uint32(attempts), LastError: short(err.Error()), GivenUpAt: timestamppb.New(l.now()),
	}
	if keepErr := l.letters.Keep(ctx, letter); keepErr != nil {
		l.answer(m.NakWithDelay(pause(attempts))) // not given up before that is written down
		return
	}
	l.log.Error("an event could not be delivered and is given up: see weir events dead-letters",
		"event", e.GetEventId(), "source", e.GetSourceId(), "attempts", attempts, obs.KeyErr, err)
	l.answer(m.Term())
}

// answer is best effort: an event whose answer is lost comes again.
func (l *lane) answer(err error) {
	if err != nil {
		l.log.Debug("an answer to the stream was lost", obs.KeyErr, err)
	}
}

// try tries once, and tells the log when the sink begins or ends to refuse.
func (l *lane) try(ctx context.Context, e *notifierv1.Event) error {
	limit, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	err := l.sink.Deliver(limit, e)
	if err != nil && ctx.Err() != nil {
		return err
	}
	l.mu.Lock()
	changed := l.complains != (err != nil)
	l.complains = err != nil
	l.mu.Unlock()
	switch {
	case changed && err != nil:
		l.log.Warn("the sink does not take events; they are tried again", obs.KeyErr, err)
	case changed:
		l.log.Info("the sink takes events again")
	}
	return err
}

// pause is how long an event waits after so many tries.
func pause(attempts uint64) time.Duration {
	return min(minRetry<<min(attempts-1, 20), maxRetry)
}

// take puts an event on the way that could not be recorded.
func (l *lane) take(e *notifierv1.Event) bool {
	if !l.cfg.wants(e) {
		return true // nothing to do is done
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := e.GetIdempotencyKey()
	if _, known := l.known[key]; known {
		return true
	}
	select {
	case l.direct <- e:
	default:
		return false
	}
	l.known[key] = false
	if l.order = append(l.order, key); len(l.order) > maxRemembered {
		delete(l.known, l.order[0])
		l.order = l.order[1:]
	}
	return true
}

// delivered says whether the sink has had the event from memory.
func (l *lane) delivered(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known[key]
}

// deliverDirectly delivers what was taken, in order, until ctx ends. An event that
// the stream has by now is delivered from there.
func (l *lane) deliverDirectly(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-l.direct:
			for attempts := uint64(1); !l.delivered(e.GetIdempotencyKey()); attempts++ {
				if err := l.try(ctx, e); err == nil {
					l.mu.Lock()
					if _, known := l.known[e.GetIdempotencyKey()]; known {
						l.known[e.GetIdempotencyKey()] = true
					}
					l.mu.Unlock()
					break
				}
				if attempts >= uint64(l.cfg.MaxAttempts) {
					l.log.Error("an event that is not recorded could not be delivered", "event", e.GetEventId(), "source", e.GetSourceId())
					break
				}
				select {
				case <-ctx.Done():
					return
				case <-time.After(min(pause(attempts), 10*time.Second)):
				}
			}
		}
	}
}

// short bounds an error's text.
func short(s string) string {
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "") + "…"
	}
	return s
}
