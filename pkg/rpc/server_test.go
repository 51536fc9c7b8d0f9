package rpc_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
)

func TestAllowMustFitWhatIsRegistered(t *testing.T) {
	dir := t.TempDir()
	if err := certs.Ensure(dir); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		allow map[string][]string
		want  []string // in the error; none: no error
	}{
		"rule missing":     {nil, []string{"no entry for " + echoName}},
		"service missing":  {map[string][]string{echoName: {"a.weir"}, "a.B": {"a.weir"}}, []string{"a.B is not a service"}},
		"both":             {map[string][]string{"a.B": {"a.weir"}}, []string{"no entry for " + echoName, "a.B is not a service"}},
		"all there":        {map[string][]string{echoName: {"a.weir"}}, nil},
		"health narrowed":  {map[string][]string{echoName: {"a.weir"}, "grpc.health.v1.Health": {"probe.weir"}}, nil},
		"empty rule":       {map[string][]string{echoName: {}}, []string{echoName}},
		"empty name in it": {map[string][]string{echoName: {"a.weir", ""}}, []string{echoName}},
	} {
		t.Run(name, func(t *testing.T) {
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer lis.Close()
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // a server that does start stops at once
			srv, err := rpc.NewServer(rpc.ServerConfig{Allow: tt.allow}, certs.TLS(dir, "crypto"), slog.New(slog.DiscardHandler), obs.Discard())
			if err == nil {
				e := &echo{unary: parrot, stream: idle}
				srv.RegisterService(e.desc(), e)
				err = srv.ServeListener(ctx, lis)
			}
			if (err != nil) != (len(tt.want) > 0) {
				t.Errorf("Serve = %v, want %q", err, tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(fmt.Sprint(err), want) {
					t.Errorf("Serve = %v, want %q", err, want)
				}
			}
		})
	}
}

func TestServeOnLoopback(t *testing.T) {
	dir := t.TempDir()
	if err := certs.Ensure(dir); err != nil {
		t.Fatal(err)
	}
	cfg := rpc.ServerConfig{Listen: "127.0.0.1:0", Allow: map[string][]string{echoName: {"capture.weir"}}}
	srv, err := rpc.NewServer(cfg, certs.TLS(dir, "crypto"), slog.New(slog.DiscardHandler), obs.Discard())
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{unary: parrot, stream: idle}
	srv.RegisterService(e.desc(), e)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx) }()

	conn, err := rpc.Dial(srv.Addr().String(), "crypto.weir", certs.TLS(dir, "capture"), obs.Discard())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := do(t.Context(), conn, []byte("hello")); err != nil || string(got) != "hello" {
		t.Errorf("Do = %q, %v", got, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve = %v, want nil after a clean drain", err)
	}
}

func TestServeFails(t *testing.T) {
	dir := t.TempDir()
	if err := certs.Ensure(dir); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, listen := range map[string]string{"port taken": taken.Addr().String(), "no address": ""} {
		srv, err := rpc.NewServer(rpc.ServerConfig{Listen: listen}, certs.TLS(dir, "crypto"), slog.New(slog.DiscardHandler), obs.Discard())
		if err != nil {
			t.Fatal(err)
		}
		if err := srv.Serve(t.Context()); err == nil || !strings.Contains(err.Error(), "listen") {
			t.Errorf("%s: Serve = %v, want an error about listening", name, err)
		}
		if addr := srv.Addr(); addr != nil {
			t.Errorf("%s: Addr = %v, want nil", name, addr)
		}
	}
}

func TestHealthAndReflection(t *testing.T) {
	w := start(t, &echo{unary: parrot, stream: idle})
	conn := w.as("probe")
	for _, service := range []string{"", echoName} {
		got, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil || got.Status != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("Check(%q) = %v, %v", service, got, err)
		}
	}
	// Probes tell an unknown service from a sick one by this code.
	if _, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "none"}); status.Code(err) != codes.NotFound {
		t.Errorf("Check(none) = %v, want NotFound", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	v1, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := v1.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	if got, err := v1.Recv(); err != nil || !strings.Contains(got.String(), echoName) {
		t.Errorf("reflection v1 = %v, %v, want it to name %s", got, err, echoName)
	}
	alpha, err := grpc_reflection_v1alpha.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 deprecated by gRPC, and still all that older clients speak
	if err := alpha.Send(&grpc_reflection_v1alpha.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1alpha.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	if got, err := alpha.Recv(); err != nil || !strings.Contains(got.String(), echoName) {
		t.Errorf("reflection v1alpha = %v, %v, want it to name %s", got, err, echoName)
	}
}

func TestSetServing(t *testing.T) {
	var srv *rpc.Server
	w := start(t, &echo{unary: parrot, stream: idle}, func(w *world) { w.onServer = func(s *rpc.Server) { srv = s } })
	health := grpc_health_v1.NewHealthClient(w.as("probe"))
	for _, ok := range []bool{false, true} {
		srv.SetServing(ok)
		for _, service := range []string{"", echoName} {
			got, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
			if err != nil || (got.Status == grpc_health_v1.HealthCheckResponse_SERVING) != ok {
				t.Errorf("SetServing(%v): Check(%q) = %v, %v", ok, service, got.GetStatus(), err)
			}
		}
	}
}

// Stopping ends at the grace period when somebody holds a stream open: not before, not never.
func TestStopIsBoundedByGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, &echo{unary: parrot, stream: idle})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		watch := watchHealth(t, ctx, w.as("probe"))

		asked := time.Now()
		w.cancel()
		if got, err := watch.Recv(); err != nil || got.Status != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("Watch while draining = %v, %v, want NOT_SERVING", got, err)
		}
		if err := <-w.served; err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
		if d := time.Since(asked); d != w.cfg.Grace {
			t.Errorf("stopping took %v, want %v", d, w.cfg.Grace)
		}
		if _, err := watch.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("Watch after the stop = %v, want Unavailable", err)
		}
	})
}

func TestStopIsQuickWhenHandlersHeedDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const flush = 2 * time.Second
		w := start(t, &echo{unary: parrot, stream: func(ss grpc.ServerStream) error {
			<-rpc.Draining(ss.Context())
			time.Sleep(flush)
			return nil
		}})
		conn := w.as("capture")
		stream, err := follow(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		asked := time.Now()
		w.cancel()
		if err := stream.RecvMsg(nil); err != io.EOF {
			t.Errorf("stream ended with %v, want EOF", err)
		}
		if err := <-w.served; err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
		if d := time.Since(asked); d != flush {
			t.Errorf("stopping took %v, want the %v that the handler needed", d, flush)
		}
	})
}

// A long stream must move to another replica some time, and unary calls must not notice.
func TestConnectionsGrowOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, &echo{unary: parrot, stream: idle}, func(w *world) { w.cfg.MaxConnectionAge = time.Minute })
		conn := w.as("capture")
		began := time.Now()
		stream, err := follow(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- stream.RecvMsg(nil) }()
		for range 20 {
			if _, err := do(t.Context(), conn, nil); err != nil {
				t.Errorf("Do after %v = %v", time.Since(began), err)
			}
			time.Sleep(5 * time.Second)
		}
		if err := fault.FromStatus(<-ended); !fault.Is(err, fault.NotReady) {
			t.Errorf("the stream ended with %v, want not ready", err)
		}
		_ = conn.Close()
	})
}
