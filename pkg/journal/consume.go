package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-das/weir/pkg/fault"
)

// AckWait is how long the journal waits for a delivery to be settled or told to
// be in progress before it delivers the record again, to whichever replica asks.
const AckWait = 30 * time.Second

// Consumer is the durable consumer that all publishers share: each record goes
// to one of them, and leaves the journal when that one acknowledges it.
type Consumer struct {
	conn *Conn
	cons jetstream.Consumer
}

// Consumer makes sure that the consumer exists with the right settings. Records
// nobody has acknowledged are not bounded in number (MaxAckPending -1): a stream
// that Kinesis does not take would otherwise fill the bound with its own records
// and stop all others. Memory is bounded where records are fetched.
func (j *Journal) Consumer(ctx context.Context) (*Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, apiWait)
	defer cancel()
	cons, err := j.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       Durable,
		Description:   "Weir's publishers",
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       AckWait,
		MaxDeliver:    -1,
		MaxAckPending: -1,
		ReplayPolicy:  jetstream.ReplayInstantPolicy,
	})
	if err != nil {
		return nil, apiError(fmt.Errorf("consumer %s of %s: %w", Durable, Stream, err))
	}
	return &Consumer{conn: j.conn, cons: cons}, nil
}

// fetchCount is how many records one Fetch takes at most: what one PutRecords
// takes.
const fetchCount = 500

// Fetch asks for up to maxBytes of records and calls handle with each as it
// arrives. It returns when the request is used up or wait is over; ctx only
// keeps it from starting, so that no record is on its way to nobody. Errors are
// NotReady, after which records may still have been handled; a consumer that is
// gone is reported by fault.Conflict: call Journal.Consumer again.
func (c *Consumer) Fetch(ctx context.Context, maxBytes int, wait time.Duration, handle func(*Delivery)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	batch, err := c.cons.Fetch(fetchCount, jetstream.FetchMaxBytes(maxBytes), jetstream.FetchMaxWait(wait))
	if err != nil {
		return fault.As(fault.NotReady, fmt.Errorf("fetching from the journal: %w", err))
	}
	for msg := range batch.Messages() {
		handle(newDelivery(msg))
	}
	switch err := batch.Error(); {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrConsumerDeleted), errors.Is(err, jetstream.ErrConsumerNotFound), isNobody(err):
		return fault.As(fault.Conflict, fmt.Errorf("fetching from the journal: %w", err))
	default:
		return fault.As(fault.NotReady, fmt.Errorf("fetching from the journal: %w", err))
	}
}

// Delivery is one record on loan from the journal. Exactly one of Ack, Return
// and Drop settles it; until then Hold must be called within AckWait. None of
// them waits for the journal's answer: what gets lost on the way makes the
// record come again, which is legal.
type Delivery struct {
	Message
	Sequence   uint64    // in the journal
	Deliveries uint64    // 1 the first time
	Stored     time.Time // when the journal took it
	msg        jetstream.Msg
}

func newDelivery(msg jetstream.Msg) *Delivery {
	h := msg.Headers()
	d := &Delivery{msg: msg, Message: Message{
		KinesisStream: h.Get(headerStream),
		PartitionKey:  h.Get(headerPartitionKey),
		ClusterID:     h.Get(headerClusterID),
		ID:            h.Get(jetstream.MsgIDHeader),
		Data:          msg.Data(),
	}}
	// nats.Header.Get keeps the case as written, unlike HTTP's.
	d.Traceparent = h.Get(headerTraceparent)
	if rest, ok := strings.CutPrefix(msg.Subject(), subjectRoot); ok {
		d.Cluster, d.Instance, _ = strings.Cut(rest, ".")
	}
	if meta, err := msg.Metadata(); err == nil {
		d.Sequence, d.Deliveries, d.Stored = meta.Sequence.Stream, meta.NumDelivered, meta.Timestamp
	}
	return d
}

// Ack says that Kinesis has it: the journal deletes it.
func (d *Delivery) Ack() error { return d.msg.Ack() }

// Hold says that it is still being worked on.
func (d *Delivery) Hold() error { return d.msg.InProgress() }

// Return gives it back: the journal delivers it again, no sooner than after.
func (d *Delivery) Return(after time.Duration) error { return d.msg.NakWithDelay(after) }

// Drop gives it up: it is deleted without having reached Kinesis. The caller
// counts it as lost.
func (d *Delivery) Drop(reason string) error { return d.msg.TermWithReason(reason) }
