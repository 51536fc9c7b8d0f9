package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/rpc"
)

// bothWays calls the unary and the streaming method and returns how each ended.
func bothWays(t *testing.T, conn *grpc.ClientConn) map[string]error {
	t.Helper()
	_, unary := do(t.Context(), conn, []byte("SELECT 'payload'"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := follow(ctx, conn)
	if err == nil {
		if err = stream.RecvMsg(new(wrapperspb.BytesValue)); err == io.EOF {
			err = nil
		}
	}
	return map[string]error{"unary": unary, "stream": err}
}

// fails returns an echo whose handlers both fail with err.
func fails(err error) *echo {
	return &echo{
		unary:  func(context.Context, *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) { return nil, err },
		stream: func(grpc.ServerStream) error { return err },
	}
}

func TestOnlyAllowedNamesComeIn(t *testing.T) {
	names := make(chan string, 2)
	w := start(t, &echo{
		unary: func(ctx context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
			names <- rpc.PeerName(ctx)
			return in, nil
		},
		stream: func(ss grpc.ServerStream) error { names <- rpc.PeerName(ss.Context()); return nil },
	}, func(w *world) { w.cfg.Allow["grpc.health.v1.Health"] = []string{"probe.weir"} })

	for _, name := range []string{"capture.weir", "control.weir"} {
		for way, err := range bothWays(t, w.as(name)) {
			if err != nil {
				t.Errorf("%s, %s: %v, want it let in", name, way, err)
				continue
			}
			if got := <-names; got != name {
				t.Errorf("%s, %s: PeerName = %q", name, way, got)
			}
		}
	}
	for _, name := range []string{"publisher.weir", "crypto.weir", "client.weir", "probe.weir"} {
		for way, err := range bothWays(t, w.as(name)) {
			if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), name) {
				t.Errorf("%s, %s: %v, want PermissionDenied naming it", name, way, err)
			}
		}
	}
	if len(names) != 0 {
		t.Error("a handler ran for a caller that was denied")
	}
	for name, want := range map[string]codes.Code{"probe.weir": codes.OK, "capture.weir": codes.PermissionDenied} {
		_, err := grpc_health_v1.NewHealthClient(w.as(name)).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if status.Code(err) != want {
			t.Errorf("health check by %s: %v, want %v", name, err, want)
		}
	}
	for range 20 { // whoever has the wrong certificate tries again; the log says it once
		bothWays(t, w.as("publisher.weir"))
	}
	if got := w.log.String(); strings.Count(got, "call denied") != 9 || !strings.Contains(got, "publisher.weir") {
		t.Errorf("log = %s\nwant 9 denials with names", got)
	}
}

func TestErrorsBecomeStatuses(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want codes.Code
		text string
	}{
		"invalid":               {fault.As(fault.Invalid, errors.New("bad id")), codes.InvalidArgument, "bad id"},
		"busy":                  {fmt.Errorf("sealing: %w", fault.As(fault.Busy, errors.New("window of 3 full"))), codes.ResourceExhausted, "sealing: window of 3 full"},
		"unmarked":              {errors.New("reading /secret"), codes.Internal, "internal error"},
		"peer's status":         {status.Error(codes.PermissionDenied, "secret"), codes.Internal, "internal error"},
		"peer's status wrapped": {fmt.Errorf("sealing: %w", status.Error(codes.Aborted, "secret")), codes.Internal, "internal error"},
		"peer's, by FromStatus": {fmt.Errorf("sealing: %w", fault.FromStatus(status.Error(codes.PermissionDenied, "secret"))), codes.Internal, "internal error"},
		"peer away":             {fault.FromStatus(status.Error(codes.Unavailable, "secret")), codes.Unavailable, "not ready"},
		"peer's, marked again":  {fault.As(fault.Invalid, errors.New("no such key")), codes.InvalidArgument, "no such key"},
		"cancelled inside":      {context.Canceled, codes.Internal, "internal error"},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, fails(tt.err))
			for way, err := range bothWays(t, w.as("capture.weir")) {
				st := status.Convert(err)
				if st.Code() != tt.want || !strings.Contains(st.Message(), tt.text) || strings.Contains(st.Message(), "secret") {
					t.Errorf("%s: %v %q, want %v %q", way, st.Code(), st.Message(), tt.want, tt.text)
				}
			}
			if logged := strings.Count(w.log.String(), "call failed"); (tt.want == codes.Internal) != (logged == 2) {
				t.Errorf("%d lines about failed calls for %v: an internal error is logged with its detail, another is the caller's business", logged, tt.want)
			}
		})
	}
}

func TestPanicsAreContained(t *testing.T) {
	w := start(t, &echo{
		unary: func(_ context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
			panic("cannot render " + string(in.Value))
		},
		stream: func(grpc.ServerStream) error { panic(errors.New("SELECT 'payload'")) },
	})
	conn := w.as("capture.weir")
	for way, err := range bothWays(t, conn) {
		if st := status.Convert(err); st.Code() != codes.Internal || st.Message() != "internal error" {
			t.Errorf("%s: %v, want Internal, internal error", way, err)
		}
	}
	log := w.log.String()
	if strings.Contains(log, "payload") {
		t.Errorf("the log holds what was sent: %s", log)
	}
	if n := strings.Count(log, "handler panicked"); n != 2 || strings.Count(log, "\n") != n+1 { // and one line about serving
		t.Errorf("log = %s\nwant one line for each of 2 panics", log)
	}
	if !strings.Contains(log, "guard_test.go") {
		t.Errorf("log = %s\nwant a stack that leads here", log)
	}
}

// A caller that hangs up is no error of ours, whatever the handler stumbles over then.
func TestCallersThatLeaveAreNotLogged(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	w := start(t, &echo{
		unary: func(ctx context.Context, _ *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
			defer close(left)
			close(entered)
			<-ctx.Done()
			return nil, fmt.Errorf("writing: %w", io.ErrClosedPipe)
		},
		stream: idle,
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if _, err := do(ctx, w.as("capture.weir"), nil); status.Code(err) != codes.Canceled {
		t.Errorf("Do = %v, want Canceled", err)
	}
	<-left
	w.cancel()
	if err := <-w.served; err != nil {
		t.Errorf("Serve = %v", err)
	}
	if log := w.log.String(); strings.Contains(log, "call failed") {
		t.Errorf("log = %s", log)
	}
}
