package stream_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/weir/internal/stream"
)

// slowControl is a control whose stream is started after a number of answers.
type slowControl struct {
	controlv1.ControlServiceClient // nothing else is called
	answers                        int
	err                            error
}

func (c *slowControl) GetStream(ctx context.Context, _ *controlv1.GetStreamRequest, _ ...grpc.CallOption) (*controlv1.GetStreamResponse, error) {
	if c.err != nil {
		return nil, c.err
	}
	st := &controlv1.Stream{Status: controlv1.StreamStatus_STREAM_STATUS_STARTING, Problem: "no capture reports"}
	if c.answers--; c.answers < 0 {
		st = &controlv1.Stream{Status: controlv1.StreamStatus_STREAM_STATUS_STARTED}
	}
	return &controlv1.GetStreamResponse{Stream: st}, ctx.Err()
}

func TestAwait(t *testing.T) {
	const started = controlv1.StreamStatus_STREAM_STATUS_STARTED
	for _, c := range []struct {
		name    string
		control *slowControl
		want    string // in the error; empty for none
	}{
		{"at once", &slowControl{}, ""},
		{"after a while", &slowControl{answers: 20}, ""},
		{"never", &slowControl{answers: 1 << 30}, "still starting after 1m0s: no capture reports"},
		{"refused", &slowControl{err: status.Error(codes.InvalidArgument, "cluster dev: not registered")}, "cluster dev: not registered"},
		{"not there", &slowControl{err: status.Error(codes.Unavailable, "connection error: desc = \"connection refused\"")}, "is the mesh running"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st, err := stream.Await(t.Context(), c.control, "dev", started, time.Minute)
				switch {
				case c.want == "" && (err != nil || st.GetStatus() != started):
					t.Errorf("Await = %v, %v, want a started stream", st, err)
				case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
					t.Errorf("Await = %v, want an error that says %q", err, c.want)
				}
			})
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			if _, err := stream.Await(ctx, &slowControl{answers: 1 << 30}, "dev", started, time.Minute); !errors.Is(err, context.Canceled) {
				t.Errorf("Await = %v, want context canceled", err)
			}
		})
	})
}
