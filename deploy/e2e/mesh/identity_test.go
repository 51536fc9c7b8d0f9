package mesh_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	capturev1 "github.com/weir-das/weir/proto/gen/weir/capture/v1"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	publisherv1 "github.com/weir-das/weir/proto/gen/weir/publisher/v1"
)

// Who comes with the right certificate may do what the allow-lists say, and
// nobody else gets a word in.
func TestOnlyTheRightOnesComeIn(t *testing.T) {
	m := mesh.Start(t, mesh.Options{})
	strangers := t.TempDir()
	if err := certs.Ensure(strangers); err != nil {
		t.Fatal(err)
	}
	for _, name := range services {
		t.Run("health and reflection of "+name, func(t *testing.T) { answersWhoItIs(t, m, name) })
		t.Run("strangers at "+name, func(t *testing.T) { refusesStrangers(t, m, name, strangers) })
	}
	t.Run("allow-lists", func(t *testing.T) { denies(t, m) })
	t.Run("capture of another CA", func(t *testing.T) {
		captureAs(t, m, certs.TLS(strangers, "capture"), func(since, _ mark) {
			said(t, m, mesh.Capture, since, []string{"control is away", "unknown authority"},
				[]string{"records do not reach the journal", "unknown authority"})
		})
	})
	t.Run("capture as publisher", func(t *testing.T) {
		captureAs(t, m, certs.TLS(m.Path("certs"), "publisher"), func(since, control mark) {
			said(t, m, mesh.Capture, since,
				[]string{"control refuses this capture's certificate", "publisher.weir may not call", "rpc.allow"},
				[]string{"records do not reach the journal", "publisher.weir may not call"})
			// It watches and it reports, again and again.
			said(t, m, mesh.Control, control, []string{"call denied", "publisher.weir", "rpc.allow", "/WatchInstance"},
				[]string{"call denied", "publisher.weir", "rpc.allow", "/ReportInstance"})
		})
	})
}

func dial(t *testing.T, m *mesh.Mesh, service, as string) *grpc.ClientConn {
	t.Helper()
	conn, err := rpc.Dial(m.Addr(service), service+".weir", certs.TLS(m.Path("certs"), as), obs.Discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func fullName(service string) string {
	return fmt.Sprintf("weir.%s.v1.%s%sService", service, strings.ToUpper(service[:1]), service[1:])
}

// answersWhoItIs asks what grpcurl asks.
func answersWhoItIs(t *testing.T, m *mesh.Mesh, service string) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, as := range []string{"client", "probe"} {
		answer, err := grpc_health_v1.NewHealthClient(dial(t, m, service, as)).Check(ctx,
			&grpc_health_v1.HealthCheckRequest{Service: fullName(service)})
		if err != nil || answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("health for %s = %v, %v, want SERVING", as, answer.GetStatus(), err)
		}
	}
	stream, err := grpc_reflection_v1.NewServerReflectionClient(dial(t, m, service, "client")).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(r *grpc_reflection_v1.ServerReflectionRequest) *grpc_reflection_v1.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	var names []string
	for _, s := range ask(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	}).GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	if !slices.Contains(names, fullName(service)) {
		t.Errorf("reflection lists %q, want %s", names, fullName(service))
	}
	files := ask(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: fullName(service)},
	}).GetFileDescriptorResponse().GetFileDescriptorProto()
	if len(files) == 0 {
		t.Errorf("reflection has no schema of %s", fullName(service))
	}
}

// refusesStrangers comes without a certificate, with another CA's, and with a
// TLS of yesterday.
func refusesStrangers(t *testing.T, m *mesh.Mesh, service, strangers string) {
	pair := func(dir string) []tls.Certificate {
		files := certs.TLS(dir, "client")
		cert, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{cert}
	}
	pem, err := os.ReadFile(m.Path("certs", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	// A server that does not like a certificate closes: what its client sees of
	// that is now an alert and now a broken pipe.
	for _, tt := range []struct {
		name   string
		config *tls.Config
		code   codes.Code
		says   string
	}{
		{"our own", &tls.Config{Certificates: pair(m.Path("certs"))}, codes.OK, ""},
		{"no certificate", &tls.Config{}, codes.Unavailable, ""},
		{"another CA's", &tls.Config{Certificates: pair(strangers)}, codes.Unavailable, ""},
		{"TLS 1.2", &tls.Config{Certificates: pair(m.Path("certs")), MaxVersion: tls.VersionTLS12}, codes.Unavailable, "protocol version"},
	} {
		tt.config.RootCAs, tt.config.ServerName = roots, service+".weir"
		conn, err := grpc.NewClient(m.Addr(service), grpc.WithTransportCredentials(credentials.NewTLS(tt.config)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err = grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		cancel()
		if status.Code(err) != tt.code || !strings.Contains(fmt.Sprint(err), tt.says) {
			t.Errorf("%s: %v, want %v with %q", tt.name, err, tt.code, tt.says)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// denies calls what the caller may not, and what it may.
func denies(t *testing.T, m *mesh.Mesh) {
	type call func(ctx context.Context, conn *grpc.ClientConn) error
	getStream := func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := controlv1.NewControlServiceClient(conn).GetStream(ctx, &controlv1.GetStreamRequest{ClusterId: "test"})
		return err
	}
	stopStream := func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := controlv1.NewControlServiceClient(conn).StopStream(ctx, &controlv1.StopStreamRequest{ClusterId: "test"})
		return err
	}
	publisherStatus := func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := publisherv1.NewPublisherServiceClient(conn).GetStatus(ctx, &publisherv1.GetStatusRequest{})
		return err
	}
	deleteStream := func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := publisherv1.NewPublisherServiceClient(conn).DeleteStream(ctx, &publisherv1.DeleteStreamRequest{Name: m.KinesisStream})
		return err
	}
	checkKey := func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := cryptov1.NewCryptoServiceClient(conn).CheckKey(ctx, &cryptov1.CheckKeyRequest{ClusterResourceId: m.ClusterResourceID, KmsKeyId: m.KMSKeyID})
		return err
	}
	seal := func(ctx context.Context, conn *grpc.ClientConn) error {
		stream, err := cryptov1.NewCryptoServiceClient(conn).Seal(ctx)
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	captureStatus := func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := capturev1.NewCaptureServiceClient(conn).GetStatus(ctx, &capturev1.GetStatusRequest{})
		return err
	}
	listEvents := func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := notifierv1.NewNotifierServiceClient(conn).ListEvents(ctx, &notifierv1.ListEventsRequest{})
		return err
	}
	for _, tt := range []struct {
		as, service, method string
		call                call
		want                codes.Code
	}{
		{"client", mesh.Control, "GetStream", getStream, codes.OK},
		{"probe", mesh.Control, "GetStream", getStream, codes.PermissionDenied},
		{"publisher", mesh.Control, "StopStream", stopStream, codes.PermissionDenied},
		{"client", mesh.Publisher, "GetStatus", publisherStatus, codes.OK},
		{"capture", mesh.Publisher, "GetStatus", publisherStatus, codes.PermissionDenied},
		{"crypto", mesh.Publisher, "DeleteStream", deleteStream, codes.PermissionDenied},
		{"control", mesh.Crypto, "CheckKey", checkKey, codes.OK},
		{"client", mesh.Crypto, "CheckKey", checkKey, codes.PermissionDenied},
		{"publisher", mesh.Crypto, "Seal", seal, codes.PermissionDenied},
		{"client", mesh.Capture, "GetStatus", captureStatus, codes.OK},
		{"crypto", mesh.Capture, "GetStatus", captureStatus, codes.PermissionDenied},
		{"client", mesh.Notifier, "ListEvents", listEvents, codes.OK},
		{"crypto", mesh.Notifier, "ListEvents", listEvents, codes.PermissionDenied},
	} {
		t.Run(tt.as+" to "+tt.service+" "+tt.method, func(t *testing.T) {
			since := now(t, m, tt.service)
			conn := dial(t, m, tt.service, tt.as)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for range 3 {
				err := tt.call(ctx, conn)
				if status.Code(err) != tt.want {
					t.Errorf("%v, want %v", err, tt.want)
				}
				if tt.want != codes.OK && !strings.Contains(err.Error(), tt.as+".weir may not call "+fullName(tt.service)) {
					t.Errorf("%v, want it to say who may not call what", err)
				}
			}
			if tt.want != codes.OK {
				saidOnce(t, m, tt.service, since, "call denied", tt.as+".weir", fullName(tt.service)+"/"+tt.method)
			}
		})
	}
	// A capture may watch, and no more, although control lets it in.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := stopStream(ctx, dial(t, m, mesh.Control, "capture")); status.Code(err) != codes.PermissionDenied {
		t.Errorf("StopStream by capture = %v, want PermissionDenied", err)
	}
	if out := m.MustWeir("stream", "status", "--cluster", "test"); !strings.Contains(out, "started") {
		t.Errorf("after all that the stream is not started:\n%s", out)
	}
}

// captureAs runs capture with a certificate that is not its own, while
// statements are executed, and then as it should be: nothing is missing.
func captureAs(t *testing.T, m *mesh.Mesh, files rpc.TLS, check func(capture, control mark)) {
	t.Helper()
	path := m.Path("capture.yaml")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	own := certs.TLS(m.Path("certs"), "capture")
	wrong := strings.NewReplacer(own.CertFile, files.CertFile, own.KeyFile, files.KeyFile, own.CAFile, files.CAFile).Replace(string(good))
	if err := os.WriteFile(path, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	m.Terminate(mesh.Capture)
	capture, control := now(t, m, mesh.Capture), now(t, m, mesh.Control)
	m.StartProcess(mesh.Capture)
	statements(t, m, 100)
	time.Sleep(2500 * time.Millisecond)
	check(capture, control)
	m.Kill(mesh.Capture) // told to stop, it would try for a while to deliver
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	m.StartProcess(mesh.Capture)
	whole(t, m)
}
