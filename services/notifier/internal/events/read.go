package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// How a page is read.
const (
	fetchAtOnce = 200
	// readerIdle is when the server drops a reader whose replica has died.
	readerIdle = 30 * time.Second
)

// readPage reads a stream as cfg says until keep has taken limit messages. last
// is the sequence of the last one looked at where there may be more.
func readPage(ctx context.Context, stream jetstream.Stream, cfg jetstream.ConsumerConfig, limit int, doing string,
	keep func(data []byte, sequence uint64) (kept bool, err error)) (last uint64, err error) {
	cfg.AckPolicy = jetstream.AckNonePolicy
	cfg.MemoryStorage, cfg.Replicas, cfg.InactiveThreshold = true, 1, readerIdle
	reader, err := stream.CreateConsumer(ctx, cfg)
	if err != nil {
		return 0, unavailable(doing, err)
	}
	defer func() {
		// On a context of its own: the caller's may have ended. What cannot be
		// deleted goes after readerIdle.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = stream.DeleteConsumer(ctx, reader.CachedInfo().Name)
	}()
	taken := 0
	for pending := reader.CachedInfo().NumPending; pending > 0; {
		batch, err := reader.Fetch(int(min(pending, fetchAtOnce)), jetstream.FetchContext(ctx))
		if err != nil {
			return 0, unavailable(doing, err)
		}
		got := false
		for m := range batch.Messages() {
			got = true
			if taken == limit {
				continue // the channel has to be read to its end
			}
			meta, err := m.Metadata()
			if err != nil {
				return 0, fmt.Errorf("%s: %w", doing, err)
			}
			kept, err := keep(m.Data(), meta.Sequence.Stream)
			if err != nil {
				return 0, err
			}
			if kept {
				taken++
			}
			last, pending = meta.Sequence.Stream, meta.NumPending
		}
		if err := batch.Error(); err != nil {
			return 0, unavailable(doing, err)
		}
		if !got {
			return 0, unavailable(doing, errors.New("the stream was read to less than its end"))
		}
		if taken == limit && pending > 0 {
			return last, nil
		}
	}
	return 0, nil
}
