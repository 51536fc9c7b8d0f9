package tail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// readShard reads one shard until it ends (closed is true), until everything
// is read that was there when Finish was closed, or until ctx ends.
func (r *reader) readShard(ctx context.Context, id string, from Position, iterator string) (closed bool, err error) {
	last := "" // the sequence number of the last record taken
	for {
		// Asked before the read: what the answer holds is then at least what
		// was there when Finish was closed.
		finishing := r.finishing()
		began := time.Now()

		var out *kinesis.GetRecordsOutput
		err := r.persist(ctx, "Kinesis", func() error {
			var err error
			out, err = r.Kinesis.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: &iterator, Limit: aws.Int32(10_000)})
			return err
		})
		var expired *types.ExpiredIteratorException
		switch {
		case errors.As(err, &expired):
			// Five minutes without a read: the machine slept, or Kinesis was away.
			if iterator, err = r.iterator(ctx, id, from, last); err != nil {
				return false, err
			}
			continue
		case err != nil:
			return false, err
		}

		for _, rec := range out.Records {
			if !r.Until.IsZero() && aws.ToTime(rec.ApproximateArrivalTimestamp).After(r.Until) {
				return true, nil // what its children hold came later still, and they end at once
			}
			seq := aws.ToString(rec.SequenceNumber)
			err := r.take(ctx, Record{Shard: id, Sequence: seq, Arrived: aws.ToTime(rec.ApproximateArrivalTimestamp)}, rec.Data)
			if err != nil {
				return false, err
			}
			last = seq
		}
		if from == Latest {
			from = At(began) // should the iterator expire before there is a first record
		}
		if out.NextShardIterator == nil {
			return true, nil
		}
		iterator = *out.NextShardIterator
		if finishing && aws.ToInt64(out.MillisBehindLatest) == 0 && r.atTip(id) {
			return false, nil
		}
		if err := r.pause(ctx, r.Pace-time.Since(began), finishing); err != nil {
			return false, err
		}
	}
}

// pause waits for d, or until there is a reason to read at once.
func (r *reader) pause(ctx context.Context, d time.Duration, finishing bool) error {
	if d <= 0 {
		return ctx.Err()
	}
	finish := r.Finish
	if finishing {
		finish = nil // closed already: keep the pace
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-finish:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// iterator asks for a place in a shard: after the record last, or at from
// where there is none.
func (r *reader) iterator(ctx context.Context, id string, from Position, last string) (string, error) {
	in := &kinesis.GetShardIteratorInput{StreamName: &r.Stream, ShardId: &id, ShardIteratorType: types.ShardIteratorTypeLatest}
	switch {
	case last != "":
		in.ShardIteratorType, in.StartingSequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, &last
	case from.kind == types.ShardIteratorTypeAtTimestamp:
		in.ShardIteratorType, in.Timestamp = from.kind, &from.at
	case from.kind != "":
		in.ShardIteratorType = from.kind
	}
	var out *kinesis.GetShardIteratorOutput
	err := r.persist(ctx, "Kinesis", func() error {
		var err error
		out, err = r.Kinesis.GetShardIterator(ctx, in)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("finding %s in shard %s: %w", from, id, err)
	}
	return aws.ToString(out.ShardIterator), nil
}
