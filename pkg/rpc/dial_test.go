package rpc_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
)

func TestMessageSizes(t *testing.T) {
	w := start(t, &echo{unary: parrot, stream: idle})
	conn := w.as("capture.weir")
	const limit = 32 << 20
	if got, err := do(t.Context(), conn, make([]byte, limit-100)); err != nil || len(got) != limit-100 {
		t.Errorf("Do(just under 32 MiB) = %d bytes, %v", len(got), err)
	}
	_, err := do(t.Context(), conn, make([]byte, limit))
	if err = fault.FromStatus(err); !fault.Is(err, fault.Invalid) {
		t.Errorf("Do(over 32 MiB) = %v, want invalid: it must not be retried", err)
	}
}

func TestCallsGoToEveryReplica(t *testing.T) {
	dir := t.TempDir()
	if err := certs.Ensure(dir); err != nil {
		t.Fatal(err)
	}
	calls := make(chan int, 64)
	var addrs []resolver.Address
	for i := range 2 {
		srv, err := rpc.NewServer(rpc.ServerConfig{Listen: "127.0.0.1:0", Allow: map[string][]string{echoName: {"capture.weir"}}},
			certs.TLS(dir, "crypto"), slog.New(slog.DiscardHandler), obs.Discard())
		if err != nil {
			t.Fatal(err)
		}
		e := &echo{stream: idle, unary: func(_ context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
			calls <- i
			return in, nil
		}}
		srv.RegisterService(e.desc(), e)
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- srv.Serve(ctx) }()
		t.Cleanup(func() { cancel(); <-served })
		addrs = append(addrs, resolver.Address{Addr: srv.Addr().String()})
	}
	names := manual.NewBuilderWithScheme("replicas")
	names.InitialState(resolver.State{Addresses: addrs})
	conn, err := rpc.DialWith("replicas:///crypto", "crypto.weir", certs.TLS(dir, "capture"), obs.Discard(), grpc.WithResolvers(names))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	seen := map[int]int{}
	// The second connection may be a moment behind the first, so ask until both have answered.
	for n := 0; len(seen) < 2 && n < 1000; n++ {
		if _, err := do(t.Context(), conn, nil); err != nil {
			t.Fatal(err)
		}
		seen[<-calls]++
	}
	if len(seen) != 2 {
		t.Errorf("calls per replica: %v, want both", seen)
	}
}

func TestDialConnectsLazily(t *testing.T) {
	dir := t.TempDir()
	if err := certs.Ensure(dir); err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := lis.Addr().String()
	_ = lis.Close() // nobody is there now
	conn, err := rpc.Dial(addr, "crypto.weir", certs.TLS(dir, "capture"), obs.Discard())
	if err != nil {
		t.Fatalf("Dial(nobody there) = %v, want a connection that tries when it is used", err)
	}
	defer conn.Close()
	if _, err := do(t.Context(), conn, nil); !fault.Is(fault.FromStatus(err), fault.NotReady) {
		t.Errorf("Do(nobody there) = %v, want not ready", err)
	}
	if _, err := rpc.Dial(addr, "crypto.weir", certs.TLS(t.TempDir(), "capture"), obs.Discard()); err == nil || !strings.Contains(err.Error(), "capture.pem") {
		t.Errorf("Dial(no certificate) = %v, want an error naming the file", err)
	}
}

// A trace goes from the caller's span through the client and the server into the handler.
func TestTracesCross(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := trace.NewTracerProvider(trace.WithSyncer(spans))
	inside := make(chan string, 1)
	w := start(t, &echo{stream: idle, unary: func(ctx context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
		inside <- obs.InjectTraceparent(ctx)
		return in, nil
	}}, func(w *world) { w.tel.TracerProvider = provider })

	ctx, span := provider.Tracer("test").Start(t.Context(), "caller")
	if _, err := do(ctx, w.as("capture.weir"), []byte("SELECT 'payload'")); err != nil {
		t.Fatal(err)
	}
	span.End()
	if got := <-inside; !strings.Contains(got, span.SpanContext().TraceID().String()) {
		t.Errorf("traceparent in the handler = %q, want trace %s", got, span.SpanContext().TraceID())
	}
	w.cancel()
	<-w.served
	kinds := map[string]bool{}
	for _, s := range spans.GetSpans() {
		kinds[s.SpanKind.String()] = true
		for _, a := range s.Attributes {
			if strings.Contains(a.Value.String(), "payload") {
				t.Errorf("span %s holds what was sent in %s", s.Name, a.Key)
			}
		}
	}
	if !kinds["client"] || !kinds["server"] {
		t.Errorf("spans of kinds %v, want client and server", kinds)
	}
}
