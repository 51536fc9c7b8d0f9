package relay

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/weir-das/weir/pkg/obs"
)

// accepted settles a record that Kinesis has, by a call that began at put with
// so many records.
func (r *Relay) accepted(l *loan, put time.Time, records int) {
	r.trace(l, put, records)
	r.hop.Out(1)
	_ = l.Ack() // lost on the way: it comes again, and Kinesis gets it twice
	r.settled(l)
}

// giveBack returns a record to the journal.
func (r *Relay) giveBack(l *loan, after time.Duration) {
	r.returned.Add(context.Background(), 1)
	_ = l.Return(after) // lost on the way: it comes again after AckWait
	r.settled(l)
}

// giveUp settles a record that Kinesis will never take: retrying it for ever
// would hold up the line. It is lost, which is counted and said; the consumer
// sees the gap in its numbers.
func (r *Relay) giveUp(l *loan, why error) {
	r.lost.Add(context.Background(), 1)
	r.log.Error("record lost: Kinesis will never take it", obs.KeyCluster, l.Cluster, obs.KeyInstance, l.Instance,
		obs.KeySeq, l.Sequence, "message_id", l.ID, "bytes", len(l.Data), obs.KeyErr, why)
	_ = l.Drop("Kinesis refuses it")
	r.settled(l)
}

func (r *Relay) settled(l *loan) {
	r.mu.Lock()
	delete(r.held, l)
	r.mu.Unlock()
	r.budget.Release(l.size())
}

// hold tells the journal of records that have been here for long.
func (r *Relay) hold() {
	limit := time.Now().Add(-holdEvery / 2)
	r.mu.Lock()
	var old []*loan
	for l := range r.held {
		if l.taken.Before(limit) {
			old = append(old, l)
		}
	}
	r.mu.Unlock()
	for _, l := range old {
		_ = l.Hold() // lost on the way: it may be delivered twice
	}
}

// trace records the relay of a record in the trace it came with: from when it
// was taken, and in it the call, begun at put with so many records, by which
// Kinesis took it.
func (r *Relay) trace(l *loan, put time.Time, records int) {
	if l.Traceparent == "" {
		return
	}
	ctx := obs.ExtractTraceparent(context.Background(), l.Traceparent)
	ctx, span := r.tel.Tracer.Start(ctx, "relay", trace.WithTimestamp(l.taken), trace.WithAttributes(
		attribute.String("weir.stream", l.KinesisStream), attribute.Int64("weir.deliveries", int64(l.Deliveries))))
	_, call := r.tel.Tracer.Start(ctx, "Kinesis PutRecords", trace.WithTimestamp(put), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.Int("weir.records", records)))
	call.End()
	span.End()
}
