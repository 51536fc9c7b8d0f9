package rpc_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const echoName = "weir.test.v1.EchoService"

// echo is a service with one call of each sort whose handlers a test supplies.
type echo struct {
	unary  func(context.Context, *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error)
	stream func(grpc.ServerStream) error
}

func (e *echo) desc() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: echoName,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Do", Handler: func(_ any, ctx context.Context, dec func(any) error, ic grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.BytesValue)
			if err := dec(in); err != nil {
				return nil, err
			}
			info := &grpc.UnaryServerInfo{FullMethod: "/" + echoName + "/Do"}
			return ic(ctx, in, info, func(ctx context.Context, req any) (any, error) { return e.unary(ctx, req.(*wrapperspb.BytesValue)) })
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Follow", ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, ss grpc.ServerStream) error { return e.stream(ss) }}},
	}
}

func do(ctx context.Context, conn *grpc.ClientConn, in []byte) ([]byte, error) {
	out := new(wrapperspb.BytesValue)
	err := conn.Invoke(ctx, "/"+echoName+"/Do", wrapperspb.Bytes(in), out)
	return out.GetValue(), err
}

func follow(ctx context.Context, conn *grpc.ClientConn) (grpc.ClientStream, error) {
	return conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+echoName+"/Follow")
}

// logBuffer is a log that a test reads while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// world is one server that answers as crypto.weir, and what a test needs to reach it.
type world struct {
	t      *testing.T
	dir    string // certificates
	cfg    rpc.ServerConfig
	tel    *obs.Telemetry
	log    *logBuffer
	lis    *bufconn.Listener
	cancel context.CancelFunc // asks the server to stop
	served chan error         // what Serve returned

	onServer func(*rpc.Server) // called before it serves, if set
}

// start serves e on a network in memory. configure may change the server's configuration.
func start(t *testing.T, e *echo, configure ...func(*world)) *world {
	t.Helper()
	w := &world{
		t: t, dir: t.TempDir(), tel: obs.Discard(), log: &logBuffer{}, lis: bufconn.Listen(1 << 20), served: make(chan error, 1),
		cfg: rpc.ServerConfig{Allow: map[string][]string{echoName: {"capture.weir", "control.weir"}}, Grace: 10 * time.Second},
	}
	for _, f := range configure {
		f(w)
	}
	if err := certs.Ensure(w.dir); err != nil {
		t.Fatal(err)
	}
	srv, err := rpc.NewServer(w.cfg, certs.TLS(w.dir, "crypto"), slog.New(slog.NewJSONHandler(w.log, nil)), w.tel)
	if err != nil {
		t.Fatal(err)
	}
	srv.RegisterService(e.desc(), e)
	if w.onServer != nil {
		w.onServer(srv)
	}
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.Background())
	go func() { w.served <- srv.ServeListener(ctx, w.lis); close(w.served) }()
	t.Cleanup(func() {
		w.cancel()
		if err := <-w.served; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	return w
}

// dial connects with the files given, as a client that expects serverName.
func (w *world) dial(files rpc.TLS, serverName string, extra ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	extra = append(extra, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w.lis.DialContext(ctx) }))
	conn, err := rpc.DialWith("passthrough:///memory", serverName, files, w.tel, extra...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// as connects with the certificate of name.
func (w *world) as(name string) *grpc.ClientConn {
	w.t.Helper()
	return w.dial(certs.TLS(w.dir, name), "crypto.weir")
}

func parrot(_ context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	return in, nil
}

// idle keeps a stream open until its client goes or the server cuts it off.
func idle(ss grpc.ServerStream) error {
	<-ss.Context().Done()
	return ss.Context().Err()
}

func watchHealth(t *testing.T, ctx context.Context, conn *grpc.ClientConn) grpc.ServerStreamingClient[grpc_health_v1.HealthCheckResponse] {
	t.Helper()
	stream, err := grpc_health_v1.NewHealthClient(conn).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := stream.Recv(); err != nil || got.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Fatalf("Watch = %v, %v, want SERVING", got, err)
	}
	return stream
}
