package events

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// clockSkew is how far the clocks of replicas and NATS servers may be apart.
const clockSkew = time.Minute

// Query says which events.
type Query struct {
	SourceID string    // empty: all
	Since    time.Time // by when they happened; zero: all
	After    uint64    // sequence of the last event seen
	Limit    int
}

// subject is the subjects of the events that q asks for.
func (q Query) subject() string {
	if q.SourceID == "" {
		return subjectRoot + ">"
	}
	return subjectRoot + sourceToken(q.SourceID) + ".*"
}

// List returns events in the order in which they were told, and the sequence
// of the last one looked at where there may be more.
func (s *Store) List(ctx context.Context, q Query) (page []*notifierv1.Event, last uint64, err error) {
	cfg := jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy, FilterSubject: q.subject()}
	switch from := q.Since.Add(-clockSkew); {
	case q.After > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, q.After+1
	case !q.Since.IsZero():
		// Nothing is told before it happens (the server sees to that), so what
		// happened since then was told since then.
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	}
	last, err = readPage(ctx, s.stream, cfg, q.Limit, "listing events", func(data []byte, sequence uint64) (bool, error) {
		e, err := Decode(data, sequence)
		if err != nil || e.GetOccurredAt().AsTime().Before(q.Since) {
			return false, err
		}
		page = append(page, e)
		return true, nil
	})
	if err != nil {
		return nil, 0, err
	}
	return page, last, nil
}

// Watch gives each the events that q asks for, oldest first, and then whatever
// is kept, as it is, until ctx ends or each fails. With neither Since nor After
// it begins now. It calls each with no event once it is set up.
func (s *Store) Watch(ctx context.Context, q Query, each func(e *notifierv1.Event, sequence uint64) error) error {
	const doing = "watching events"
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{q.subject()}, DeliverPolicy: jetstream.DeliverNewPolicy}
	switch from := q.Since.Add(-clockSkew); {
	case q.After > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, q.After+1
	case !q.Since.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	}
	reader, err := s.stream.OrderedConsumer(ctx, cfg)
	if err != nil {
		return unavailable(doing, err)
	}
	messages, err := reader.Messages()
	if err != nil {
		return unavailable(doing, err)
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	if err := each(nil, q.After); err != nil {
		return err
	}
	for {
		m, err := messages.Next()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, jetstream.ErrNoHeartbeat):
			continue // NATS is away; the reader is made anew when it is back
		case err != nil:
			return unavailable(doing, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return unavailable(doing, err)
		}
		e, err := Decode(m.Data(), meta.Sequence.Stream)
		if err != nil {
			return err
		}
		if e.GetOccurredAt().AsTime().Before(q.Since) {
			continue
		}
		if err := each(e, meta.Sequence.Stream); err != nil {
			return err
		}
	}
}
