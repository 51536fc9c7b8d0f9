package tail

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"golang.org/x/sync/errgroup"
)

// end is what a shard's goroutine says last.
type end struct {
	shard string
	// closed is true where the shard has ended; false where the reading has.
	closed bool
}

// run reads every shard. A shard that is split or merged ends; its children
// are read when all their parents are at their end, so that what one
// partition key holds stays in order.
func (r *reader) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	ends := make(chan end)
	// begin starts all shards whose turn it is.
	begin := func(from Position) error {
		shards, err := r.list(ctx)
		if err != nil {
			return err
		}
		for _, id := range r.due(shards, from) {
			iterator, err := r.iterator(ctx, id, from, "")
			if err != nil {
				return err
			}
			r.shards[id] = false
			r.began()
			group.Go(func() error {
				closed, err := r.readShard(ctx, id, from, iterator)
				if err != nil {
					return fmt.Errorf("reading shard %s: %w", id, err)
				}
				select {
				case ends <- end{id, closed}:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		}
		return nil
	}

	group.Go(func() error {
		r.began() // counts as a shard until all are begun: the first may be at its end before the last begins
		if err := begin(r.From); err != nil {
			return err
		}
		r.ended("")
		if r.Ready != nil {
			r.Ready()
		}
		later := r.From
		if later == Latest {
			later = TrimHorizon // all that a child holds came after the beginning
		}
		for r.reading() {
			var e end
			select {
			case e = <-ends:
			case <-ctx.Done():
				return ctx.Err()
			}
			if e.closed { // else its children, if it ever has any, are another reader's
				r.shards[e.shard] = true
				if err := begin(later); err != nil {
					return err
				}
			}
			r.ended(e.shard)
		}
		if !r.finishing() {
			return fmt.Errorf("stream %s has no open shard left", r.Stream)
		}
		return nil
	})
	return group.Wait()
}

// due picks the shards that nobody reads yet and whose parents are read to
// their end. From latest, a shard that is closed already counts as read.
func (r *reader) due(shards []types.Shard, from Position) []string {
	listed := make(map[string]bool, len(shards))
	for _, s := range shards {
		id := aws.ToString(s.ShardId)
		listed[id] = true
		if from == Latest && s.SequenceNumberRange != nil && s.SequenceNumberRange.EndingSequenceNumber != nil {
			r.shards[id] = true
		}
	}
	// A parent that is no longer listed is older than the stream remembers.
	read := func(parent *string) bool {
		return parent == nil || !listed[*parent] || r.shards[*parent]
	}
	var due []string
	for _, s := range shards {
		id := aws.ToString(s.ShardId)
		if _, seen := r.shards[id]; !seen && read(s.ParentShardId) && read(s.AdjacentParentShardId) {
			due = append(due, id)
		}
	}
	return due
}

// list returns every shard that the stream remembers, open or closed.
func (r *reader) list(ctx context.Context) ([]types.Shard, error) {
	var shards []types.Shard
	in := &kinesis.ListShardsInput{StreamName: &r.Stream}
	for {
		var out *kinesis.ListShardsOutput
		err := r.persist(ctx, "Kinesis", func() error {
			var err error
			out, err = r.Kinesis.ListShards(ctx, in)
			return err
		})
		var missing *types.ResourceNotFoundException
		if errors.As(err, &missing) {
			return nil, fmt.Errorf("no Kinesis stream %s: is the activity stream started? `weir stream status` tells (%s)", r.Stream, brief(err))
		}
		if err != nil {
			return nil, fmt.Errorf("listing the shards of %s: %w", r.Stream, err)
		}
		shards = append(shards, out.Shards...)
		if out.NextToken == nil {
			return shards, nil
		}
		in = &kinesis.ListShardsInput{NextToken: out.NextToken} // it stands for the name too
	}
}
