package dev

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	capturev1 "github.com/weir-das/weir/proto/gen/weir/capture/v1"
	"github.com/weir-das/weir/services/weir/internal/connect"
)

// awaitServing waits until every service but capture says that it serves.
func (m *mesh) awaitServing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for _, dial := range []func() (*grpc.ClientConn, error){m.file.Notifier, m.file.Publisher, m.file.Crypto, m.file.Control} {
		if err := serving(ctx, dial); err != nil {
			return err
		}
	}
	return nil
}

// awaitCapture waits until capture serves and, where the server is ours, has
// found its ring with the server behind it. In synchronous mode it also waits for
// the path: until that is healthy, sessions are let go, or refused.
func (m *mesh) awaitCapture(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := serving(ctx, m.file.Capture); err != nil || m.db == nil {
		return err
	}
	conn, err := m.file.Capture()
	if err != nil {
		return err
	}
	defer conn.Close()
	return until(ctx, func() (bool, error) {
		st, err := capturev1.NewCaptureServiceClient(conn).GetStatus(ctx, &capturev1.GetStatusRequest{})
		if err != nil {
			return false, connect.Explain("asking capture", err)
		}
		return ready(st), fmt.Errorf("capture says that the engine is %s, the mode %s and the path %s", st.GetEngineState(), st.GetMode(), st.GetPath())
	})
}

// ready says whether the engine records, and whoever waits for it does not wait in vain.
func ready(st *capturev1.GetStatusResponse) bool {
	switch {
	case st.GetEngineState() != capturev1.EngineState_ENGINE_STATE_RUNNING:
		return false
	case st.GetMode() == capturev1.Mode_MODE_SYNC:
		return st.GetPath() == capturev1.PathState_PATH_STATE_HEALTHY
	}
	return st.GetMode() == capturev1.Mode_MODE_ASYNC
}

// serving waits until a service's health says so.
func serving(ctx context.Context, dial func() (*grpc.ClientConn, error)) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	return until(ctx, func() (bool, error) {
		out, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			return false, connect.Explain("asking "+conn.Target()+" for its health", err)
		}
		return out.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING, fmt.Errorf("%s is %s", conn.Target(), out.GetStatus())
	})
}

// until asks until the answer is yes. When ctx ends before, the error is what
// was in the way last.
func until(ctx context.Context, ask func() (bool, error)) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		yes, why := ask()
		if yes {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return why
		}
	}
}
