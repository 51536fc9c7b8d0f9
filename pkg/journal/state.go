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
