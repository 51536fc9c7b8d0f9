package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
)

// keepEvery is how often it is looked whether the streams are there. What is
// missing at two looks is made again: a server that lacks it for a moment, while
// it recovers or elects a leader, must not get an empty one in its place.
const keepEvery = 2 * time.Second

// Gone is a stream that its servers have lost, with all that it held.
type Gone struct {
	Stream string
	Last   uint64 // the last sequence that was seen in it; 0 if none was
}

// Keep looks, until ctx ends, whether the streams of those names exist, and has
// again make those that are gone: NATS was set up anew, its directory deleted, or
// somebody deleted them. What they held is lost; whoever can tell what that was
// does so. Without this a service would say "stream not found" until its restart.
func (c *Conn) Keep(ctx context.Context, names []string, again func(context.Context, []Gone) error) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	last := make(map[string]uint64)
	missing := make(map[string]bool)
	for said := ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var gone []Gone
		for _, name := range names {
			was := missing[name]
			if missing[name] = c.missing(ctx, name, last); missing[name] && was {
				gone = append(gone, Gone{name, last[name]})
			}
		}
		if len(gone) == 0 {
			continue
		}
		if err := again(ctx, gone); err != nil {
			if ctx.Err() == nil && said != err.Error() {
				said = err.Error()
				c.log.Error("what NATS has lost cannot be made again yet; trying again", "streams", named(gone), obs.KeyErr, err)
			}
			continue
		}
		said = ""
		clear(missing)
		c.log.Error("NATS had lost its data, or part of it, and what it held is gone; made again, empty: see docs/operations.md, \"When NATS has lost its data\"",
			"streams", named(gone))
	}
}

// missing says whether the server knows for certain that it has no such stream.
// Of one that is there it notes the last sequence.
func (c *Conn) missing(ctx context.Context, name string, last map[string]uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, apiWait)
	defer cancel()
	s, err := c.js.Stream(ctx, name)
	if err == nil {
		last[name] = max(last[name], s.CachedInfo().State.LastSeq)
	}
	return errors.Is(err, jetstream.ErrStreamNotFound)
}

func named(gone []Gone) []string {
	var names []string
	for _, g := range gone {
		names = append(names, g.Stream)
	}
	return names
}

// Keep makes the journal again, until ctx ends, when its servers have lost it.
// Records that it had acknowledged and Kinesis does not have are lost then, which
// capture finds out (Position) and tells.
func (j *Journal) Keep(ctx context.Context) {
	j.conn.Keep(ctx, []string{Stream}, func(ctx context.Context, _ []Gone) error {
		ctx, cancel := context.WithTimeout(ctx, apiWait)
		defer cancel()
		_, err := ensureStream(ctx, j.conn, j.cfg)
		return err
	})
}

// Position is where the journal stands.
type Position struct {
	// Made is when it was made. Another time is another journal: what the one
	// before it held is not in it.
	Made time.Time
	// First is the sequence of the oldest record in it, of whatever cluster, and
	// Last the last one that was given: all before First has left it.
	First, Last uint64
}

// Position asks where the journal stands. Errors are NotReady.
func (j *Journal) Position(ctx context.Context) (Position, error) {
	ctx, cancel := context.WithTimeout(ctx, apiWait)
	defer cancel()
	s, err := j.conn.js.Stream(ctx, Stream)
	if err != nil {
		return Position{}, fault.As(fault.NotReady, fmt.Errorf("asking where the journal stands: %w", err))
	}
	info := s.CachedInfo()
	p := Position{Made: info.Created, First: info.State.FirstSeq, Last: info.State.LastSeq}
	if info.State.Msgs == 0 {
		p.First = p.Last + 1
	}
	return p, nil
}

// isNobody says that nobody takes what was sent to a stream's subject: it has no
// leader now, or is gone.
func isNobody(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse)
}
