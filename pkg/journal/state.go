package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-das/weir/pkg/fault"
)

// State is what waits in the journal for Kinesis.
type State struct {
	Records  uint64
	Bytes    uint64    // of all clusters, also when asked for one
	MaxBytes int64     // the journal's limit
	Oldest   time.Time // when the oldest was stored; zero when none waits
}

// State reports what waits: of one cluster, or of all when cluster is empty.
// Errors are NotReady, or Invalid for a cluster that is no resource id.
func (j *Journal) State(ctx context.Context, cluster string) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, apiWait)
	defer cancel()
	var opts []jetstream.StreamInfoOpt
	filter := ""
	if cluster != "" {
		if !clusterID.MatchString(cluster) {
			return State{}, fault.As(fault.Invalid, fmt.Errorf("cluster resource id %.64q, want cluster- and 26 of A-Z2-7", cluster))
		}
		filter = subjectRoot + cluster + ".*"
		opts = append(opts, jetstream.WithSubjectFilter(filter))
	}
	// A fresh handle: Info stores into the one it is called on, and j is shared.
	stream, err := j.conn.js.Stream(ctx, Stream)
	if err != nil {
		return State{}, fault.As(fault.NotReady, fmt.Errorf("asking for the journal's state: %w", err))
	}
	info, err := stream.Info(ctx, opts...)
	if err != nil {
		return State{}, fault.As(fault.NotReady, fmt.Errorf("asking for the journal's state: %w", err))
	}
	st := State{Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes}
	if filter == "" {
		st.Records = info.State.Msgs
		if st.Records > 0 {
			st.Oldest = info.State.FirstTime
		}
		return st, nil
	}
	for _, n := range info.State.Subjects {
		st.Records += n
	}
	if st.Records == 0 {
		return st, nil
	}
	first, err := stream.GetMsg(ctx, info.State.FirstSeq, jetstream.WithGetMsgSubject(filter))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound): // relayed a moment ago
		return State{Bytes: st.Bytes, MaxBytes: st.MaxBytes}, nil
	case err != nil:
		return State{}, fault.As(fault.NotReady, fmt.Errorf("asking for the journal's oldest record: %w", err))
	}
	st.Oldest = first.Time
	return st, nil
}

// Stranded returns the sequence of the oldest record that the journal keeps
// although its consumer has it down as acknowledged; 0 if there is none. A server
// that stops between noting an acknowledgement and deleting the record leaves
// such: it would deliver them to nobody and count them as waiting for ever. One
// that was acknowledged a moment ago may look like it: ask twice.
func (j *Journal) Stranded(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, apiWait)
	defer cancel()
	// The consumer first: what it has acknowledged by then should be gone by the
	// time the stream is asked.
	cons, err := j.conn.js.Consumer(ctx, Stream, Durable)
	if err != nil {
		return 0, fault.As(fault.NotReady, fmt.Errorf("asking for the journal's consumer: %w", err))
	}
	stream, err := j.conn.js.Stream(ctx, Stream)
	if err != nil {
		return 0, fault.As(fault.NotReady, fmt.Errorf("asking for the journal's state: %w", err))
	}
	st := stream.CachedInfo().State
	if st.Msgs == 0 || st.FirstSeq > cons.CachedInfo().AckFloor.Stream {
		return 0, nil
	}
	return st.FirstSeq, nil
}

// Redeliver makes the journal deliver everything it holds from a sequence on once
// more, also what is being worked on: Kinesis gets some of it twice, which is
// legal. Deleting stranded records unseen would not be.
func (j *Journal) Redeliver(ctx context.Context, from uint64) error {
	ctx, cancel := context.WithTimeout(ctx, apiWait)
	defer cancel()
	if _, err := j.stream.ResetConsumerToSequence(ctx, Durable, from); err != nil {
		return fault.As(fault.NotReady, fmt.Errorf("having the journal deliver again from %d: %w", from, err))
	}
	return nil
}
