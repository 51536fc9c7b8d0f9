package grpcapi

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/control/internal/registry"
	"github.com/weir-das/weir/services/control/internal/stream"
)

type reports = map[string]*controlv1.InstanceReport

func (s *Server) cluster(c registry.Cluster, reps reports) *controlv1.Cluster {
	return &controlv1.Cluster{
		ClusterId:         c.ID,
		ClusterResourceId: c.ResourceID,
		Engine:            c.Engine,
		Instances:         instances(c, reps),
		Stream:            s.stream(c, reps),
		CreatedAt:         timestamppb.New(c.CreatedAt),
	}
}

func (s *Server) stream(c registry.Cluster, reps reports) *controlv1.Stream {
	st := c.Stream
	problem := stream.Problem(c, reps, s.now(), s.lim)
	if st.Params.Mode == stream.ModeSync && st.Status != registry.Stopped {
		problem = joinProblems(problem, s.proof.Problem())
		problem = joinProblems(problem, cannotWait(c, reps))
	}
	return &controlv1.Stream{
		Status:              status(st.Status),
		Mode:                mode(st.Params.Mode),
		SyncLevel:           level(st.Params.SyncLevel),
		OnFailure:           policy(st.Params.OnFailure),
		SyncTimeout:         timeout(st.Params.SyncTimeout),
		KmsKeyId:            st.Params.KMSKeyID,
		KinesisStream:       st.KinesisStream,
		RecordLayout:        layout(st.Params.RecordLayout),
		StatusSince:         timestamppb.New(st.Since),
		Problem:             problem,
		Generation:          st.Told.Generation,
		DeleteKinesisStream: st.DeleteKinesis,
	}
}

// cannotWait names the instances that are recorded asynchronously, whatever is
// wanted: their source is no engine module.
func cannotWait(c registry.Cluster, reps reports) string {
	problem := ""
	for _, in := range c.Instances {
		if source := reps[in.ID].GetSource(); source != "" {
			problem = joinProblems(problem, fmt.Sprintf("instance %s is recorded asynchronously, its source is its %s", in.ID, source))
		}
	}
	return problem
}

func joinProblems(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

func instances(c registry.Cluster, reps reports) []*controlv1.Instance {
	list := make([]*controlv1.Instance, 0, len(c.Instances))
	for _, in := range c.Instances {
		list = append(list, instance(in, reps[in.ID]))
	}
	return list
}

func instance(in registry.Instance, rep *controlv1.InstanceReport) *controlv1.Instance {
	return &controlv1.Instance{InstanceId: in.ID, InstanceResourceId: in.ResourceID, Report: rep}
}

// desired is what a capture needs to know. It holds what was told, not what is
// asked for: the two differ until the Kinesis stream is there.
func desired(c registry.Cluster, in registry.Instance) *controlv1.Desired {
	told := c.Stream.Told
	return &controlv1.Desired{
		Generation:         told.Generation,
		Recording:          told.Recording,
		Mode:               mode(told.Params.Mode),
		ClusterResourceId:  c.ResourceID,
		InstanceResourceId: in.ResourceID,
		KmsKeyId:           told.Params.KMSKeyID,
		KinesisStream:      c.Stream.KinesisStream,
		RecordLayout:       layout(told.Params.RecordLayout),
		Engine:             c.Engine,
		SyncLevel:          level(told.Params.SyncLevel),
		OnFailure:          policy(told.Params.OnFailure),
		SyncTimeout:        timeout(told.Params.SyncTimeout),
	}
}

func status(s registry.Status) controlv1.StreamStatus {
	switch s {
	case registry.Stopped:
		return controlv1.StreamStatus_STREAM_STATUS_STOPPED
	case registry.Starting:
		return controlv1.StreamStatus_STREAM_STATUS_STARTING
	case registry.Started:
		return controlv1.StreamStatus_STREAM_STATUS_STARTED
	case registry.Stopping:
		return controlv1.StreamStatus_STREAM_STATUS_STOPPING
	}
	return controlv1.StreamStatus_STREAM_STATUS_UNSPECIFIED
}

func mode(m string) controlv1.StreamMode {
	switch m {
	case stream.ModeAsync:
		return controlv1.StreamMode_STREAM_MODE_ASYNC
	case stream.ModeSync:
		return controlv1.StreamMode_STREAM_MODE_SYNC
	}
	return controlv1.StreamMode_STREAM_MODE_UNSPECIFIED // never started
}

func level(l string) controlv1.SyncLevel {
	switch l {
	case stream.LevelTransaction:
		return controlv1.SyncLevel_SYNC_LEVEL_TRANSACTION
	case stream.LevelStatement:
		return controlv1.SyncLevel_SYNC_LEVEL_STATEMENT
	case stream.LevelStrict:
		return controlv1.SyncLevel_SYNC_LEVEL_STRICT
	}
	return controlv1.SyncLevel_SYNC_LEVEL_UNSPECIFIED // not synchronous
}

func policy(p string) controlv1.FailurePolicy {
	switch p {
	case stream.PolicyContinue:
		return controlv1.FailurePolicy_FAILURE_POLICY_CONTINUE
	case stream.PolicyFail:
		return controlv1.FailurePolicy_FAILURE_POLICY_FAIL_OPERATION
	}
	return controlv1.FailurePolicy_FAILURE_POLICY_UNSPECIFIED // not synchronous
}

func timeout(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil // not synchronous
	}
	return durationpb.New(d)
}

func layout(l string) controlv1.RecordLayout {
	switch l {
	case stream.LayoutPacked:
		return controlv1.RecordLayout_RECORD_LAYOUT_PACKED
	case stream.LayoutAurora:
		return controlv1.RecordLayout_RECORD_LAYOUT_AURORA
	}
	return controlv1.RecordLayout_RECORD_LAYOUT_UNSPECIFIED // never started
}
