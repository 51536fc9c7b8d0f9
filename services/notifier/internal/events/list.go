package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// How a page is read.
const (
	fetchAtOnce = 200
	// clockSkew is how far the clocks of replicas and NATS servers may be apart.
	clockSkew = time.Minute
	// readerIdle is when the server drops a reader whose replica has died.
	readerIdle = 30 * time.Second
)

// Query says which events.
type Query struct {
	SourceID string    // empty: all
	Since    time.Time // by when they happened; zero: all
	After    uint64    // sequence of the last event seen
	Limit    int
}

// List returns events in the order in which they were told, and the sequence
// of the last one looked at where there may be more.
func (s *Store) List(ctx context.Context, q Query) (page []*notifierv1.Event, last uint64, err error) {
	const doing = "listing events"
	cfg := jetstream.ConsumerConfig{
		AckPolicy:         jetstream.AckNonePolicy,
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		FilterSubject:     subjectRoot + ">",
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: readerIdle,
	}
	if q.SourceID != "" {
		cfg.FilterSubject = subjectRoot + sourceToken(q.SourceID) + ".*"
	}
	switch from := q.Since.Add(-clockSkew); {
	case q.After > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, q.After+1
	case !q.Since.IsZero():
		// Nothing is told before it happens (Server sees to that), so what
		// happened since then was told since then.
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	}
	reader, err := s.stream.CreateConsumer(ctx, cfg)
	if err != nil {
		return nil, 0, unavailable(doing, err)
	}
	defer func() {
		// On a context of its own: the caller's may have ended. What cannot be
		// deleted goes after readerIdle.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.stream.DeleteConsumer(ctx, reader.CachedInfo().Name)
	}()
	for pending := reader.CachedInfo().NumPending; pending > 0; {
		batch, err := reader.Fetch(int(min(pending, fetchAtOnce)), jetstream.FetchContext(ctx))
		if err != nil {
			return nil, 0, unavailable(doing, err)
		}
		got := false
		for m := range batch.Messages() {
			got = true
			if len(page) == q.Limit {
				continue // the channel has to be read to its end
			}
			meta, err := m.Metadata()
			if err != nil {
				return nil, 0, fmt.Errorf("%s: %w", doing, err)
			}
			e, err := decode(m.Data(), meta.Sequence.Stream)
			if err != nil {
				return nil, 0, err
			}
			last, pending = meta.Sequence.Stream, meta.NumPending
			if e.GetOccurredAt().AsTime().Before(q.Since) {
				continue
			}
			page = append(page, e)
		}
		if err := batch.Error(); err != nil {
			return nil, 0, unavailable(doing, err)
		}
		if !got {
			return nil, 0, unavailable(doing, errors.New("the stream was read to less than its end"))
		}
		if len(page) == q.Limit {
			if pending == 0 {
				return page, 0, nil
			}
			return page, last, nil
		}
	}
	return page, 0, nil
}
