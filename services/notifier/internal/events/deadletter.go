package events

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/weir-das/weir/pkg/fault"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

const (
	// LetterStream is the stream that keeps them.
	LetterStream = "WEIR_DEAD_LETTERS"
	letterRoot   = "weir.deadletters."
)

// DeadLetters keeps the events that a sink did not take, each under its sink and
// key, so that two replicas that give it up keep it once.
type DeadLetters struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

// OpenDeadLetters makes the stream where it is missing.
func OpenDeadLetters(ctx context.Context, js jetstream.JetStream, opts Options) (*DeadLetters, error) {
	cfg := jetstream.StreamConfig{
		Name:        LetterStream,
		Description: "Weir: events that could not be delivered",
		Subjects:    []string{letterRoot + ">"},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		MaxAge:      Retention,
		MaxBytes:    opts.MaxBytes,
		MaxMsgSize:  2 * maxEvent,
		Discard:     jetstream.DiscardOld, // the events themselves are kept elsewhere
		Replicas:    max(opts.Replicas, 1),
	}
	stream, err := openStream(ctx, js, cfg, 0)
	if err != nil {
		return nil, err
	}
	return &DeadLetters{js: js, stream: stream}, nil
}

// Keep records one; a second time it changes nothing.
func (d *DeadLetters) Keep(ctx context.Context, l *notifierv1.DeadLetter) error {
	doing := "keeping a dead letter of " + l.GetSink()
	data, err := protojson.Marshal(l)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	_, err = d.js.PublishMsg(ctx, &nats.Msg{Subject: letterSubject(l), Data: data}, jetstream.WithExpectLastSequencePerSubject(0))
	if err != nil && !isKept(err) {
		return unavailable(doing, err)
	}
	return nil
}

// Remove forgets one.
func (d *DeadLetters) Remove(ctx context.Context, l *notifierv1.DeadLetter) error {
	if err := d.stream.Purge(ctx, jetstream.WithPurgeSubject(letterSubject(l))); err != nil {
		return unavailable("forgetting a dead letter of "+l.GetSink(), err)
	}
	return nil
}

func letterSubject(l *notifierv1.DeadLetter) string {
	return letterRoot + sourceToken(l.GetSink()) + "." + KeyToken(l.GetEvent().GetIdempotencyKey())
}

// List returns dead letters, oldest first: of one sink, or of all where sink is
// empty. last is where the next page begins, 0 at the end.
func (d *DeadLetters) List(ctx context.Context, sink string, after uint64, limit int) (page []*notifierv1.DeadLetter, last uint64, err error) {
	cfg := jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy, FilterSubject: letterRoot + ">"}
	if sink != "" {
		cfg.FilterSubject = letterRoot + sourceToken(sink) + ".*"
	}
	if after > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, after+1
	}
	last, err = readPage(ctx, d.stream, cfg, limit, "listing dead letters", func(data []byte, sequence uint64) (bool, error) {
		l := new(notifierv1.DeadLetter)
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, l); err != nil {
			return false, fault.As(fault.Corrupted, fmt.Errorf("decoding dead letter %d: %w", sequence, err))
		}
		page = append(page, l)
		return true, nil
	})
	if err != nil {
		return nil, 0, err
	}
	return page, last, nil
}
