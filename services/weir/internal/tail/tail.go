// Package tail reads an activity stream as any consumer does: Kinesis gives
// the records, KMS opens their data keys, the Encryption SDK message is
// opened, unzipped and printed. It knows nothing of the mesh but the stream's
// name, so what it shows is what every other consumer can see.
//
// A record that cannot be opened is told and counted; the ones after it are
// read all the same.
//
// Before: Kinesis, filled by services/publisher/internal/relay.
// Next: a person, or a program behind a pipe.
package tail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// Options say what to read and who takes it.
type Options struct {
	Kinesis *kinesis.Client // with a retryer that does not retry: Run does
	KMS     *kms.Client     // the same

	Stream     string // the Kinesis stream
	ResourceID string // cluster-… or db-…: the encryption context of the data keys
	From       Position

	// Finish ends the reading when it is closed: what the stream holds by
	// then is still read. nil follows until the context ends.
	Finish <-chan struct{}

	// Until ends the reading of a shard at the first record that arrived
	// later. Zero reads on.
	Until time.Time

	// Wait is asked, once Finish is closed and every shard is read to what was
	// there then, whether to go on reading; it is asked again and again until it
	// says no, from one goroutine at a time. nil is no.
	Wait func() bool

	// Plain leaves records as they were decrypted: Events and Gaps stay empty.
	Plain bool

	// Ready is called once, when every shard that the stream had at the
	// beginning has its place to read from: what arrives later is seen even
	// from latest. May be nil.
	Ready func()

	// Take gets every record that opens, in the order of its shard. It is
	// called by one goroutine for each shard. An error of it ends Run.
	Take func(Record) error

	// Refuse is told of a record that does not open. Called like Take.
	Refuse func(Record, error)

	Log *slog.Logger

	// Pace is the least time between two reads of a shard; 0 means 200 ms,
	// which is as often as Kinesis lets all readers of a shard together.
	Pace time.Duration

	// Patience is how long a service that has never answered is asked again:
	// its address is probably wrong. 0 means 10 s. One that did answer is
	// awaited for as long as the reader follows, and once Finish is closed
	// three times as long as this.
	Patience time.Duration
}

// Summary counts what Run read.
type Summary struct {
	Records int64 // that opened
	Refused int64 // that did not
}

// ResourceOf takes the resource id out of a stream's name, as every consumer
// does: aws-rds-das- and the id.
func ResourceOf(stream string) (string, error) {
	const prefix = "aws-rds-das-"
	if len(stream) <= len(prefix) || stream[:len(prefix)] != prefix {
		return "", fmt.Errorf("stream %q is no activity stream: the name of one is %s and a resource id", stream, prefix)
	}
	return stream[len(prefix):], nil
}

// Run reads the stream until the context ends, Finish is reached or something
// fails for good. It returns nil when it ended as it was asked to. The summary
// is right in any case.
func Run(ctx context.Context, opts Options) (Summary, error) {
	if opts.Pace <= 0 {
		opts.Pace = 200 * time.Millisecond
	}
	if opts.Patience <= 0 {
		opts.Patience = 10 * time.Second
	}
	r := &reader{
		Options: opts,
		opener:  newOpener(opts.KMS, opts.ResourceID),
		shards:  make(map[string]bool),
		tips:    make(map[string]bool),
	}
	err := r.run(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // asked to
	}
	return Summary{Records: r.records.Load(), Refused: r.refused.Load()}, err
}

type reader struct {
	Options // immutable

	opener *opener

	records, refused atomic.Int64

	// reached is set once anything has answered: from then on a service that
	// does not answer is awaited longer.
	reached atomic.Bool

	// mu guards what follows: how many shards are being read, which of them are
	// at their end, and whether Wait has said that this is enough.
	mu     sync.Mutex
	live   int
	tips   map[string]bool
	enough bool

	// shards belongs to run alone: what was seen, and true when it is read to
	// its end.
	shards map[string]bool
}

// finishing reports that Finish is closed.
func (r *reader) finishing() bool {
	select {
	case <-r.Finish: // a nil channel is never ready
		return true
	default:
		return false
	}
}

// take opens one record and hands it on. Only what ends the whole reading is
// an error.
func (r *reader) take(ctx context.Context, rec Record, data []byte) error {
	err := r.persist(ctx, "KMS", func() error {
		var err error
		rec.Plain, err = r.opener.open(ctx, data)
		return err
	})
	if err == nil && !r.Plain {
		err = rec.parse()
	}
	switch {
	case err == nil:
		r.records.Add(1)
		return r.Take(rec)
	case ctx.Err() != nil:
		return ctx.Err()
	case transient(err):
		return fmt.Errorf("opening a record: %w", err) // the record may be good, and a later try tell
	}
	r.refused.Add(1)
	r.Refuse(rec, err)
	return nil
}
