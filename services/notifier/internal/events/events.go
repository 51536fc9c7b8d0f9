// Package events keeps what happens to the audit itself, in RDS's manner: a
// stream was started or stopped, an engine is no longer audited or is again.
//
// The one idea: an event's idempotency key is its place. Every key has a
// subject of its own in the JetStream stream WEIR_EVENTS, and an event is
// published on the condition that no subject of that key holds a message yet.
// The server checks and writes in one step, so whoever tells the same thing
// again, a second or ten days later, through this replica or another, finds
// that it is kept already. The key is forgotten with its event, after 14 days.
//
//	weir.events.<source, lower case>.<SHA-256 of the key>
//
// Events hold no statement text and are kept in clear: they are what RDS would
// show on its console.
//
// Before: services/control, capture and publisher, which tell.
// Next: internal/deliver, and whoever lists.
package events

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/weir-das/weir/pkg/fault"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

const (
	// StreamName is the stream that keeps events. Deliveries read it too.
	StreamName  = "WEIR_EVENTS"
	subjectRoot = "weir.events."

	// Retention is how long an event is kept, counted from when it was told. It
	// is RDS's.
	Retention = 14 * 24 * time.Hour

	// duplicateWindow is how long the server answers a key that comes again from
	// memory. What comes later is found by its subject.
	duplicateWindow = 2 * time.Minute

	// maxEvent bounds one message, in bytes; the largest that Notify accepts is
	// under 3 KiB.
	maxEvent = 8 << 10
)

// Options say how the stream is made.
type Options struct {
	Replicas int   // 1 where it is 0
	MaxBytes int64 // a full stream refuses events; it never forgets one early
	// After is the last sequence that is known of a stream that was lost. One that is
	// made goes on well behind it, so that whoever asks for what came after some event
	// of before gets what is new, and does not wait until the numbers are there again.
	After uint64
}

// overlooked is more events than can have been told since After was seen.
const overlooked = 1 << 20

// Store keeps events. It is safe for concurrent use.
type Store struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

// Open makes the stream where it is missing.
func Open(ctx context.Context, js jetstream.JetStream, opts Options) (*Store, error) {
	cfg := jetstream.StreamConfig{
		Name:        StreamName,
		Description: "Weir: events about the audit itself",
		Subjects:    []string{subjectRoot + ">"},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		MaxAge:      Retention,
		MaxBytes:    opts.MaxBytes,
		MaxMsgSize:  maxEvent,
		Discard:     jetstream.DiscardNew,
		Duplicates:  duplicateWindow,
		Replicas:    max(opts.Replicas, 1),
		DenyDelete:  true, // nobody edits what was told
		DenyPurge:   true,
	}
	stream, err := openStream(ctx, js, cfg, opts.After)
	if err != nil {
		return nil, err
	}
	return &Store{js: js, stream: stream}, nil
}

// openStream makes a stream where it is missing, and brings the one there is up to
// date: it is never made smaller or less safe than somebody has made it.
func openStream(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig, after uint64) (jetstream.Stream, error) {
	switch have, err := js.Stream(ctx, cfg.Name); {
	case err == nil:
		cfg.Replicas = max(cfg.Replicas, have.CachedInfo().Config.Replicas)
		cfg.MaxBytes = max(cfg.MaxBytes, have.CachedInfo().Config.MaxBytes)
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, unavailable("looking for stream "+cfg.Name, err)
	case after > 0:
		// Made and never changed: another replica may be faster, and a stream whose
		// first sequence is moved forgets what lies before it.
		cfg.FirstSeq = after + overlooked
		if _, err := js.CreateStream(ctx, cfg); err != nil {
			return nil, unavailable("making stream "+cfg.Name+" again", err)
		}
		cfg.FirstSeq = 0
	}
	stream, err := js.CreateOrUpdateStream(ctx, cfg)
	if err != nil {
		return nil, unavailable("opening stream "+cfg.Name, err)
	}
	return stream, nil
}

// Keep records an event and returns it as it is kept, once it is on disk. Where
// its key is kept already, that event is returned and nothing is written; a
// fault.Conflict says that it is about something else.
func (s *Store) Keep(ctx context.Context, e *notifierv1.Event) (kept *notifierv1.Event, isNew bool, err error) {
	doing := "keeping event " + e.GetIdempotencyKey()
	data, err := protojson.Marshal(e)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", doing, err)
	}
	key := KeyToken(e.GetIdempotencyKey())
	anySource := subjectRoot + "*." + key // a key is one event, whatever source it names
	ack, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: subjectRoot + sourceToken(e.GetSourceId()) + "." + key, Data: data},
		jetstream.WithMsgID(e.GetIdempotencyKey()),
		jetstream.WithExpectLastSequenceForSubject(0, anySource))
	switch {
	case err == nil && !ack.Duplicate:
		return e, true, nil
	case err != nil && !isKept(err):
		return nil, false, unavailable(doing, err)
	}
	m, err := s.stream.GetLastMsgForSubject(ctx, anySource)
	if err != nil {
		return nil, false, unavailable(doing, err)
	}
	if kept, err = Decode(m.Data, m.Sequence); err != nil {
		return nil, false, err
	}
	if kept.GetKind() != e.GetKind() || !strings.EqualFold(kept.GetSourceId(), e.GetSourceId()) {
		return nil, false, fault.As(fault.Conflict, fmt.Errorf("idempotency_key %s: kept for %s of %s", e.GetIdempotencyKey(), kept.GetEventId(), kept.GetSourceId()))
	}
	return kept, false, nil
}

// isKept reports whether a publish was refused because the key's subject holds
// a message. Replicated streams say so in two ways.
func isKept(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// sourceToken is a source as part of a subject. Ids are case-insensitive.
func sourceToken(source string) string { return strings.ToLower(source) }

// KeyToken is a key as part of a subject.
func KeyToken(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// Decode reads what is kept of an event.
func Decode(data []byte, seq uint64) (*notifierv1.Event, error) {
	e := new(notifierv1.Event)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, e); err != nil {
		return nil, fault.As(fault.Corrupted, fmt.Errorf("decoding event %d: %w", seq, err))
	}
	return e, nil
}

func unavailable(doing string, err error) error {
	return fault.As(fault.NotReady, fmt.Errorf("%s: %w", doing, err))
}
