package outbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/fault"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
)

type sealClient = grpc.BidiStreamingClient[cryptov1.SealRequest, cryptov1.SealResponse]

// flight is what one stream has on its way, in the order it was sent. The
// first of them has the sequence base+1.
type flight struct {
	records []*Record
	base    uint64
}

// keepStream opens a stream, and another when it breaks, until ctx ends.
func (o *Outbox) keepStream(ctx context.Context) error {
	wait := backoff.Backoff{Min: 50 * time.Millisecond, Max: 5 * time.Second}
	for ctx.Err() == nil {
		var sent flight
		progress, err := o.runStream(ctx, &sent)
		for _, r := range sent.records {
			o.requeue(r)
		}
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case err == nil:
			continue // its turn is over: on to the next replica
		case progress:
			// A replica that drains ends a stream that was well: no trouble yet.
			wait.Reset()
		default:
			o.health.broken(err)
		}
		if wait.Wait(ctx) != nil {
			return nil
		}
	}
	return nil
}

// runStream sends over one stream until its turn is over, which is no error, or
// it breaks. sent is what it leaves without an acknowledgement; progress is
// whether anything was acknowledged.
func (o *Outbox) runStream(ctx context.Context, sent *flight) (progress bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := o.crypto.Seal(ctx)
	if err != nil {
		cancel()
		return false, fmt.Errorf("stream to crypto: %w", fault.FromStatus(err))
	}
	open := &cryptov1.SealRequest{Message: &cryptov1.SealRequest_Open{Open: o.open}}
	if err := stream.Send(open); err != nil {
		// Send says only that the stream is over; Recv says why.
		_, err = stream.Recv()
		cancel()
		return false, fmt.Errorf("stream to crypto: %w", fault.FromStatus(err))
	}

	// One goroutine blocks in Recv; cancel frees it, and we wait for it.
	answers := make(chan *cryptov1.SealResponse, 1)
	var recvErr error
	go func() {
		defer close(answers)
		recvErr = receive(ctx, stream, answers)
	}()
	defer func() {
		cancel()
		for range answers {
		}
	}()

	turn := time.After(o.turn/2 + rand.N(o.turn/2))
	leaving, closed := false, false
	for {
		queue := o.queue
		if leaving || len(sent.records) >= perStream {
			queue = nil
		}
		if leaving && !closed && len(sent.records) == 0 {
			closed = true
			// Whatever is wrong with the stream, Recv says it.
			_ = stream.CloseSend()
		}
		select {
		case <-ctx.Done():
			return progress, ctx.Err()
		case <-turn:
			leaving = true
		case r := <-queue:
			if !o.take(r) {
				continue
			}
			sent.records = append(sent.records, r)
			seq := sent.base + uint64(len(sent.records))
			if stream.Send(request(seq, r)) != nil {
				for range answers {
				}
				return progress, fmt.Errorf("stream to crypto: %w", recvErr)
			}
		case answer, ok := <-answers:
			if !ok && closed && errors.Is(recvErr, io.EOF) {
				return progress, nil
			}
			if !ok {
				return progress, fmt.Errorf("stream to crypto: %w", recvErr)
			}
			if err := o.acknowledge(ctx, sent, answer); err != nil {
				return progress, err
			}
			progress = true
			o.health.well()
		}
	}
}

// receive passes on what the stream answers until it ends; io.EOF is its end in
// good order.
func receive(ctx context.Context, stream sealClient, answers chan<- *cryptov1.SealResponse) error {
	for {
		answer, err := stream.Recv()
		if err != nil {
			return fault.FromStatus(err)
		}
		select {
		case answers <- answer:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// acknowledge gives every record that the answer covers its result.
func (o *Outbox) acknowledge(ctx context.Context, sent *flight, answer *cryptov1.SealResponse) error {
	last := sent.base + uint64(len(sent.records))
	if seq := answer.GetRefusedSequence(); seq > sent.base && seq <= last {
		o.finish(ctx, sent.records[seq-sent.base-1], answer.GetRefusedReason())
	}
	through := answer.GetDurableThrough()
	if through > last {
		return fmt.Errorf("crypto acknowledged record %d of a stream that has %d", through, last)
	}
	for sent.base < through {
		o.finish(ctx, sent.records[0], "")
		sent.records = sent.records[1:]
		sent.base++
	}
	return nil
}

func request(seq uint64, r *Record) *cryptov1.SealRequest {
	return &cryptov1.SealRequest{Message: &cryptov1.SealRequest_Record{Record: &cryptov1.SealRecord{
		Sequence:        seq,
		Plaintext:       r.Plaintext,
		SealedPlaintext: r.Sealed,
		SpoolKeyId:      r.SpoolKeyID,
		MessageId:       r.MessageID,
		PartitionKey:    r.PartitionKey,
		Traceparent:     r.Traceparent,
	}}}
}
