package stream

import (
	"context"
	"fmt"
	"time"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/weir/internal/cluster"
	"github.com/weir-das/weir/services/weir/internal/connect"
)

// Await asks for the stream until it is where it should be. The error of a
// time-out holds what control says keeps it.
func Await(ctx context.Context, control controlv1.ControlServiceClient, clusterID string, want controlv1.StreamStatus, limit time.Duration) (*controlv1.Stream, error) {
	return await(ctx, control, clusterID, limit, func(out *controlv1.GetStreamResponse) bool { return out.GetStream().GetStatus() == want })
}

// AwaitCarriedOut asks for the stream until every instance that lives does what
// is wanted of it.
func AwaitCarriedOut(ctx context.Context, control controlv1.ControlServiceClient, clusterID string, limit time.Duration) (*controlv1.Stream, error) {
	return await(ctx, control, clusterID, limit, carriedOut)
}

// silence is how much older than the newest report another may be, of a capture
// that lives.
const silence = 10 * time.Second

// carriedOut says whether no instance lags: one that is gone is told when it is back.
func carriedOut(out *controlv1.GetStreamResponse) bool {
	var newest time.Time
	for _, in := range out.GetInstances() {
		if at := in.GetReport().GetReportedAt().AsTime(); in.GetReport() != nil && at.After(newest) {
			newest = at
		}
	}
	done := 0
	for _, in := range out.GetInstances() {
		switch rep := in.GetReport(); {
		case rep == nil, newest.Sub(rep.GetReportedAt().AsTime()) > silence:
		case rep.GetGeneration() < out.GetStream().GetGeneration():
			return false
		default:
			done++
		}
	}
	return done > 0
}

func await(ctx context.Context, control controlv1.ControlServiceClient, clusterID string, limit time.Duration, ok func(*controlv1.GetStreamResponse) bool) (*controlv1.Stream, error) {
	waitCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var last *controlv1.Stream
	for {
		out, err := control.GetStream(waitCtx, &controlv1.GetStreamRequest{ClusterId: clusterID})
		switch {
		case err == nil:
			if last = out.GetStream(); ok(out) {
				return last, nil
			}
		case waitCtx.Err() == nil:
			return nil, connect.Explain("asking for the stream of "+clusterID, err)
		}
		select {
		case <-tick.C:
		case <-waitCtx.Done():
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			problem := last.GetProblem()
			if problem == "" {
				problem = "control tells no problem; look at the instances with `weir stream status`"
			}
			return nil, fmt.Errorf("the stream of %s is still %s after %s: %s", clusterID, cluster.StatusName(last.GetStatus()), limit, problem)
		}
	}
}
