package notifier_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/journal/natsserver"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	"github.com/weir-das/weir/pkg/service"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/notifier"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deployed reads what compose gives the service, with other certificates.
func deployed(t *testing.T, dir string) notifier.Config {
	t.Helper()
	cfg, err := service.Load[notifier.Config]("notifier", filepath.Join("..", "..", "deploy", "config", "notifier.yaml"))
	if err != nil {
		t.Fatalf("Load(deploy/config/notifier.yaml) = %v", err)
	}
	cfg.TLS, cfg.Journal.TLS = certs.TLS(dir, "notifier"), certs.TLS(dir, "notifier")
	if err := cfg.Validate(); err != nil {
		t.Errorf("deploy/config/notifier.yaml: %v", err)
	}
	return cfg
}

// start runs the service as it is deployed, but on loopback, and returns how to
// call it under a name.
func start(t *testing.T) (as func(name string) notifierv1.NotifierServiceClient) {
	t.Helper()
	dir := t.TempDir()
	if err := certs.Ensure(dir); err != nil {
		t.Fatalf("certs.Ensure = %v", err)
	}
	nats, err := natsserver.Start(natsserver.Options{Dir: t.TempDir(), TLS: certs.TLS(dir, "nats"), MaxBytes: 1 << 30, LazySync: true})
	if err != nil {
		t.Fatalf("natsserver.Start = %v", err)
	}
	t.Cleanup(nats.Stop)
	cfg := deployed(t, dir)
	cfg.Journal.URL = nats.URL()
	cfg.Obs.MetricsListen = ""
	cfg.RPC.Grace = time.Second
	if cfg.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatalf("Listen = %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- notifier.Run(ctx, cfg, slog.New(slog.NewTextHandler(t.Output(), nil))) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil after a clean stop", err)
		}
	})
	return func(name string) notifierv1.NotifierServiceClient {
		conn, err := rpc.Dial(cfg.Listener.Addr().String(), "notifier.weir", certs.TLS(dir, name), obs.Discard())
		if err != nil {
			t.Fatalf("Dial as %s = %v", name, err)
		}
		t.Cleanup(func() { conn.Close() })
		return notifierv1.NewNotifierServiceClient(conn)
	}
}

func started(key string) *notifierv1.NotifyRequest {
	return &notifierv1.NotifyRequest{Kind: notifierv1.EventKind_EVENT_KIND_STREAM_STARTED, SourceId: "orders", IdempotencyKey: key}
}

func lost(key string) *notifierv1.NotifyRequest {
	return &notifierv1.NotifyRequest{
		Kind: notifierv1.EventKind_EVENT_KIND_ENGINE_LOST, SourceId: "db1", IdempotencyKey: key,
		OccurredAt: timestamppb.New(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)), Detail: "The end was not announced.",
	}
}

func TestNotifyAndList(t *testing.T) {
	as := start(t)
	before := time.Now()
	resp, err := as("control").Notify(t.Context(), started("1"))
	if err != nil {
		t.Fatalf("Notify(started) = %v", err)
	}
	e := resp.GetEvent()
	want := &notifierv1.Event{
		EventId: "RDS-EVENT-0179", Kind: notifierv1.EventKind_EVENT_KIND_STREAM_STARTED, SourceType: "db-cluster", SourceId: "orders",
		OccurredAt: e.GetOccurredAt(), Categories: []string{"configuration change"},
		Message: "Database Activity Streams is started on your database cluster.", IdempotencyKey: "1",
	}
	if at := e.GetOccurredAt().AsTime(); !proto.Equal(e, want) || at.Before(before) || at.After(time.Now()) {
		t.Errorf("Notify(started) = %v, want %v, now", e, want)
	}
	resp, err = as("capture").Notify(t.Context(), lost("2"))
	if err != nil {
		t.Fatalf("Notify(lost) = %v", err)
	}
	if m := resp.GetEvent().GetMessage(); !strings.HasSuffix(m, " running. The end was not announced.") || !resp.GetEvent().GetOccurredAt().AsTime().Equal(lost("").GetOccurredAt().AsTime()) {
		t.Errorf("Notify(lost) = %v, want the detail after the text, and the time it was told", resp.GetEvent())
	}
	again, err := as("capture").Notify(t.Context(), lost("2"))
	if err != nil || !proto.Equal(again, resp) {
		t.Errorf("Notify(lost again) = %v, %v, want the same event", again, err)
	}
	list, err := as("client").ListEvents(t.Context(), &notifierv1.ListEventsRequest{PageSize: 1})
	if err != nil || len(list.GetEvents()) != 1 || !proto.Equal(list.GetEvents()[0], e) || list.GetNextPageToken() == "" {
		t.Fatalf("ListEvents(one) = %v, %v, want the first and a token", list, err)
	}
	list, err = as("client").ListEvents(t.Context(), &notifierv1.ListEventsRequest{PageToken: list.GetNextPageToken()})
	if err != nil || len(list.GetEvents()) != 1 || !proto.Equal(list.GetEvents()[0], resp.GetEvent()) || list.GetNextPageToken() != "" {
		t.Errorf("ListEvents(next) = %v, %v, want the second and no token", list, err)
	}
	list, err = as("client").ListEvents(t.Context(), &notifierv1.ListEventsRequest{Since: timestamppb.New(before), SourceId: "ORDERS"})
	if err != nil || len(list.GetEvents()) != 1 || list.GetEvents()[0].GetIdempotencyKey() != "1" {
		t.Errorf("ListEvents(ORDERS since the start) = %v, %v, want the first", list, err)
	}
}

// A clock that runs ahead puts no event into the future.
func TestTheFutureIsNow(t *testing.T) {
	as := start(t)
	req := lost("1")
	req.OccurredAt = timestamppb.New(time.Now().Add(time.Hour))
	resp, err := as("capture").Notify(t.Context(), req)
	if err != nil || resp.GetEvent().GetOccurredAt().AsTime().After(time.Now()) {
		t.Errorf("Notify(in an hour) = %v, %v, want it now", resp, err)
	}
}

// What is told with an event never keeps the event from being told.
func TestDetailsAreMadeToFit(t *testing.T) {
	as := start(t)
	req := lost("1")
	req.Detail = " first line\nsecond\x1b[2J " + strings.Repeat("é", 1000)
	resp, err := as("capture").Notify(t.Context(), req)
	if err != nil {
		t.Fatalf("Notify = %v", err)
	}
	_, detail, _ := strings.Cut(resp.GetEvent().GetMessage(), " running. ")
	if want := "first line second [2J éé"; !strings.HasPrefix(detail, want) || len(detail) > 1100 || !strings.HasSuffix(detail, "é…") {
		t.Errorf("detail = %q, want it to begin with %q, on one line, cut", detail, want)
	}
}

func TestWhoMayTellWhat(t *testing.T) {
	as := start(t)
	for name, allowed := range map[string][3]bool{ // a stream's start, an engine's loss, a Kinesis stream's
		"control":   {true, false, false},
		"capture":   {false, true, false},
		"publisher": {false, false, true},
		"client":    {false, false, false},
	} {
		remade := &notifierv1.NotifyRequest{Kind: notifierv1.EventKind_EVENT_KIND_KINESIS_STREAM_REMADE, SourceId: "orders", IdempotencyKey: "r" + name}
		for i, req := range []*notifierv1.NotifyRequest{started(name), lost("l" + name), remade} {
			_, err := as(name).Notify(t.Context(), req)
			want := codes.PermissionDenied
			if allowed[i] {
				want = codes.OK
			}
			if status.Code(err) != want {
				t.Errorf("Notify(%v) as %s = %v, want %v", req.GetKind(), name, err, want)
			}
		}
	}
	if _, err := as("crypto").ListEvents(t.Context(), &notifierv1.ListEventsRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("ListEvents as crypto = %v, want denied by the allow-list", err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	as := start(t)
	capture := as("capture")
	long := strings.Repeat("x", 2000)
	for name, tt := range map[string]struct {
		change func(*notifierv1.NotifyRequest)
		want   string // in the text
	}{
		"no kind":         {func(r *notifierv1.NotifyRequest) { r.Kind = 0 }, "kind 0"},
		"unknown kind":    {func(r *notifierv1.NotifyRequest) { r.Kind = 99 }, "kind 99"},
		"no source":       {func(r *notifierv1.NotifyRequest) { r.SourceId = "" }, "1 to 63"},
		"long source":     {func(r *notifierv1.NotifyRequest) { r.SourceId = long }, "1 to 63"},
		"subject":         {func(r *notifierv1.NotifyRequest) { r.SourceId = "a.>" }, `'.' at 2`},
		"no key":          {func(r *notifierv1.NotifyRequest) { r.IdempotencyKey = "" }, "1 to 256"},
		"long key":        {func(r *notifierv1.NotifyRequest) { r.IdempotencyKey = long }, "1 to 256"},
		"header":          {func(r *notifierv1.NotifyRequest) { r.IdempotencyKey = "a\r\nNats-Rollup: all" }, `'\r' at 2`},
		"text of its own": {func(r *notifierv1.NotifyRequest) { r.Kind = notifierv1.EventKind_EVENT_KIND_STREAM_STARTED }, "takes none"},
		"no time":         {func(r *notifierv1.NotifyRequest) { r.OccurredAt.Nanos = -1 }, "occurred_at"},
		"all at once":     {func(r *notifierv1.NotifyRequest) { r.Kind, r.SourceId, r.IdempotencyKey = 0, "", "" }, "idempotency_key"},
	} {
		req := lost("1")
		tt.change(req)
		_, err := capture.Notify(t.Context(), req)
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(status.Convert(err).Message(), tt.want) {
			t.Errorf("%s: Notify = %v, want INVALID_ARGUMENT with %q", name, err, tt.want)
		}
	}
	for name, req := range map[string]*notifierv1.ListEventsRequest{
		"page size":  {PageSize: 1001},
		"page token": {PageToken: "x"},
		"token zero": {PageToken: "0"},
		"source":     {SourceId: "*"},
		"since":      {Since: &timestamppb.Timestamp{Nanos: -1}},
	} {
		if _, err := capture.ListEvents(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: ListEvents = %v, want INVALID_ARGUMENT", name, err)
		}
	}
	if list, err := capture.ListEvents(t.Context(), &notifierv1.ListEventsRequest{}); err != nil || len(list.GetEvents()) != 0 {
		t.Errorf("ListEvents after refusals = %v, %v, want nothing kept", list, err)
	}
}

func TestConfigReportsEverything(t *testing.T) {
	dir := t.TempDir()
	if err := certs.Ensure(dir); err != nil {
		t.Fatalf("certs.Ensure = %v", err)
	}
	good := deployed(t, dir)
	bad := good
	bad.RPC.Listen, bad.Journal.URL, bad.MaxBytes, bad.Obs.LogLevel = "", "nats://10.0.0.1:4222", 5, "loud"
	err := bad.Validate()
	for _, want := range []string{"rpc: listen", "journal: url", "max_bytes: 5", "log_level"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want it to name %q", err, want)
		}
	}
	if err := notifier.Run(t.Context(), bad, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(fmt.Sprint(err), "max_bytes") {
		t.Errorf("Run = %v, want what Validate says", err)
	}
}
