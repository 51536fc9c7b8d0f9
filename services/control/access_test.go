package control_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/fault"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/control"
)

func TestWhoMayCallWhat(t *testing.T) {
	m := newMesh(t)
	r := m.replica()
	r.cluster("orders", "db1")
	denied := func(what string, err error, want bool) {
		t.Helper()
		if got := status.Code(err) == codes.PermissionDenied; got != want {
			t.Errorf("%s = %v, want denied: %v", what, err, want)
		}
	}
	for _, name := range []string{"client", "capture", "publisher", "probe"} {
		c := r.as(name)
		person, capture := name == "client", name == "capture"
		_, err := c.StartStream(t.Context(), startOf("nobody"))
		denied("StartStream as "+name, err, !person)
		_, err = c.StopStream(t.Context(), &controlv1.StopStreamRequest{ClusterId: "orders"})
		denied("StopStream as "+name, err, !person)
		_, err = c.GetStream(t.Context(), &controlv1.GetStreamRequest{ClusterId: "orders"})
		denied("GetStream as "+name, err, !person)
		_, err = c.CreateCluster(t.Context(), &controlv1.CreateClusterRequest{ClusterId: "orders", Engine: "postgres"})
		denied("CreateCluster as "+name, err, !person)
		_, err = c.GetCluster(t.Context(), &controlv1.GetClusterRequest{ClusterId: "orders"})
		denied("GetCluster as "+name, err, !person)
		_, err = c.ListClusters(t.Context(), &controlv1.ListClustersRequest{})
		denied("ListClusters as "+name, err, !person)
		_, err = c.DeleteCluster(t.Context(), &controlv1.DeleteClusterRequest{ClusterId: "nobody"})
		denied("DeleteCluster as "+name, err, !person)
		_, err = c.CreateInstance(t.Context(), &controlv1.CreateInstanceRequest{ClusterId: "orders", InstanceId: "db1"})
		denied("CreateInstance as "+name, err, !person)
		_, err = c.DeleteInstance(t.Context(), &controlv1.DeleteInstanceRequest{ClusterId: "orders", InstanceId: "nobody"})
		denied("DeleteInstance as "+name, err, !person)
		_, err = c.ReportInstance(t.Context(), &controlv1.ReportInstanceRequest{ClusterId: "orders", InstanceId: "db1", Report: &controlv1.InstanceReport{}})
		denied("ReportInstance as "+name, err, !capture)
		ctx, cancel := context.WithCancel(t.Context())
		w, err := c.WatchInstance(ctx, &controlv1.WatchInstanceRequest{ClusterId: "orders", InstanceId: "db1"})
		if err == nil {
			_, err = w.Recv()
		}
		denied("WatchInstance as "+name, err, !person && !capture)
		cancel()
	}
}

func TestKeysThatCannotBeUsed(t *testing.T) {
	m := newMesh(t)
	r := m.replica()
	r.cluster("orders", "db1")
	for name, tt := range map[string]struct {
		refusal error
		want    codes.Code
		text    string
	}{
		"disabled": {fault.As(fault.Invalid, errors.New("DisabledException: key k is disabled")), codes.InvalidArgument, "KMS key k cannot be used: InvalidArgument: DisabledException: key k is disabled"},
		"denied":   {fault.As(fault.Denied, errors.New("AccessDeniedException")), codes.InvalidArgument, "KMS key k is denied to Weir"},
		"away":     {fault.As(fault.NotReady, errors.New("KMS: no route to host")), codes.Unavailable, "KMS key k could not be tried, nothing was started: Unavailable: KMS: no route to host"},
		"broken":   {errors.New("something"), codes.Unavailable, "KMS key k could not be tried"},
	} {
		m.world.Refuse("k", tt.refusal)
		req := startOf("orders")
		req.KmsKeyId = "k"
		_, err := r.as("client").StartStream(t.Context(), req)
		if st := status.Convert(err); st.Code() != tt.want || !strings.Contains(st.Message(), tt.text) {
			t.Errorf("%s: StartStream = %v, want %v with %q", name, err, tt.want, tt.text)
		}
	}
	if s := r.untilStatus("orders", stopped); s.GetStream().GetKmsKeyId() != "" || m.world.HasStream(s.GetStream().GetKinesisStream()) {
		t.Errorf("stream after refusals = %v, want nothing of it", s.GetStream())
	}
	m.world.Refuse("k", nil)
	req := startOf("orders")
	req.KmsKeyId = "k"
	if _, err := r.as("client").StartStream(t.Context(), req); err != nil {
		t.Errorf("StartStream(good key) = %v", err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	m := newMesh(t)
	r := m.replica()
	c := r.cluster("orders", "db1")
	client, capture, ctx := r.as("client"), r.as("capture"), t.Context()
	long := strings.Repeat("x", 64)
	for name, tt := range map[string]struct {
		call func() error
		want string
	}{
		"no cluster id": {func() error {
			_, err := client.CreateCluster(ctx, &controlv1.CreateClusterRequest{Engine: "postgres"})
			return err
		}, "1 to 63"},
		"long cluster id": {func() error {
			_, err := client.CreateCluster(ctx, &controlv1.CreateClusterRequest{ClusterId: long, Engine: "postgres"})
			return err
		}, "64 characters, want 1 to 63"},
		"dotted": {func() error {
			_, err := client.CreateCluster(ctx, &controlv1.CreateClusterRequest{ClusterId: "a.*", Engine: "postgres"})
			return err
		}, `'.' at 2`},
		"resource id": {func() error {
			_, err := client.CreateCluster(ctx, &controlv1.CreateClusterRequest{ClusterId: c.GetClusterResourceId(), Engine: "postgres"})
			return err
		}, "looks like a resource id"},
		"no engine": {func() error {
			_, err := client.CreateCluster(ctx, &controlv1.CreateClusterRequest{ClusterId: "a"})
			return err
		}, "supports postgres"},
		"mariadb": {func() error {
			_, err := client.CreateCluster(ctx, &controlv1.CreateClusterRequest{ClusterId: "a", Engine: "mariadb"})
			return err
		}, "mariadb: cannot be captured in this version, which supports postgres"},
		"aurora": {func() error {
			_, err := client.CreateCluster(ctx, &controlv1.CreateClusterRequest{ClusterId: "a", Engine: "aurora-postgresql"})
			return err
		}, "supports postgres"},
		"unknown cluster": {func() error {
			_, err := client.GetStream(ctx, &controlv1.GetStreamRequest{ClusterId: "nobody"})
			return err
		}, "nobody: not registered"},
		"instance id": {func() error {
			_, err := client.CreateInstance(ctx, &controlv1.CreateInstanceRequest{ClusterId: "orders", InstanceId: long})
			return err
		}, "instance_id: 64 characters"},
		"no mode": {func() error {
			_, err := client.StartStream(ctx, &controlv1.StartStreamRequest{ClusterId: "orders", KmsKeyId: "k"})
			return err
		}, "mode: missing"},
		"level of async": {func() error {
			_, err := client.StartStream(ctx, &controlv1.StartStreamRequest{ClusterId: "orders", KmsKeyId: "k", Mode: controlv1.StreamMode_STREAM_MODE_ASYNC, SyncLevel: controlv1.SyncLevel_SYNC_LEVEL_STRICT})
			return err
		}, "mode async: sync_level, on_failure and sync_timeout are for mode sync"},
		"unknown level": {func() error {
			_, err := client.StartStream(ctx, &controlv1.StartStreamRequest{ClusterId: "orders", KmsKeyId: "k", Mode: controlv1.StreamMode_STREAM_MODE_SYNC, SyncLevel: 9})
			return err
		}, "sync_level 9: unknown, want transaction, statement or strict"},
		"unknown policy": {func() error {
			_, err := client.StartStream(ctx, &controlv1.StartStreamRequest{ClusterId: "orders", KmsKeyId: "k", Mode: controlv1.StreamMode_STREAM_MODE_SYNC, OnFailure: 9})
			return err
		}, "on_failure 9: unknown, want continue or fail_operation"},
		"short time-out": {func() error {
			_, err := client.StartStream(ctx, &controlv1.StartStreamRequest{ClusterId: "orders", KmsKeyId: "k", Mode: controlv1.StreamMode_STREAM_MODE_SYNC, SyncTimeout: durationpb.New(9 * time.Millisecond)})
			return err
		}, "sync_timeout: 9ms, want 10ms to 10m0s"},
		"long time-out": {func() error {
			_, err := client.StartStream(ctx, &controlv1.StartStreamRequest{ClusterId: "orders", KmsKeyId: "k", Mode: controlv1.StreamMode_STREAM_MODE_SYNC, SyncTimeout: durationpb.New(11 * time.Minute)})
			return err
		}, "sync_timeout: 11m0s, want 10ms to 10m0s"},
		"no time-out": {func() error {
			_, err := client.StartStream(ctx, &controlv1.StartStreamRequest{ClusterId: "orders", KmsKeyId: "k", Mode: controlv1.StreamMode_STREAM_MODE_SYNC, SyncTimeout: durationpb.New(0)})
			return err
		}, "sync_timeout: 0s, want"},
		"no key": {func() error {
			_, err := client.StartStream(ctx, &controlv1.StartStreamRequest{ClusterId: "orders", Mode: controlv1.StreamMode_STREAM_MODE_ASYNC})
			return err
		}, "kms_key_id: 0 characters, want 1 to 2048"},
		"odd key": {func() error {
			_, err := client.StartStream(ctx, &controlv1.StartStreamRequest{ClusterId: "orders", KmsKeyId: "a b", Mode: controlv1.StreamMode_STREAM_MODE_ASYNC})
			return err
		}, `' ' at 2`},
		"layout": {func() error {
			_, err := client.StartStream(ctx, &controlv1.StartStreamRequest{ClusterId: "orders", KmsKeyId: "k", Mode: controlv1.StreamMode_STREAM_MODE_ASYNC, RecordLayout: 9})
			return err
		}, "record_layout 9"},
		"no report": {func() error {
			_, err := capture.ReportInstance(ctx, &controlv1.ReportInstanceRequest{ClusterId: "orders", InstanceId: "db1"})
			return err
		}, "report: missing"},
		"report of nobody": {func() error {
			_, err := capture.ReportInstance(ctx, &controlv1.ReportInstanceRequest{ClusterId: "orders", InstanceId: "db2", Report: &controlv1.InstanceReport{}})
			return err
		}, "db2: not registered in cluster orders"},
		"long version": {func() error {
			_, err := capture.ReportInstance(ctx, &controlv1.ReportInstanceRequest{ClusterId: "orders", InstanceId: "db1", Report: &controlv1.InstanceReport{EngineVersion: strings.Repeat("x", 257)}})
			return err
		}, "engine_version: 257"},
		"far future": {func() error {
			_, err := capture.ReportInstance(ctx, &controlv1.ReportInstanceRequest{ClusterId: "orders", InstanceId: "db1", Report: &controlv1.InstanceReport{Generation: 1 << 63}})
			return err
		}, "no such generation"},
		"long ends": {func() error {
			report := &controlv1.InstanceReport{Ended: []*controlv1.EndedEpoch{{Epoch: 1, Detail: strings.Repeat("x", 9<<10)}}}
			_, err := capture.ReportInstance(ctx, &controlv1.ReportInstanceRequest{ClusterId: "orders", InstanceId: "db1", Report: report})
			return err
		}, "want at most 8192"},
	} {
		if err := tt.call(); status.Code(err) != codes.InvalidArgument || !strings.Contains(status.Convert(err).Message(), tt.want) {
			t.Errorf("%s = %v, want INVALID_ARGUMENT with %q", name, err, tt.want)
		}
	}
	if _, err := client.GetCluster(ctx, &controlv1.GetClusterRequest{ClusterId: c.GetClusterResourceId()}); err != nil {
		t.Errorf("GetCluster(by resource id) = %v", err)
	}
}

func TestConfigReportsEverything(t *testing.T) {
	dir := t.TempDir()
	if err := certs.Ensure(dir); err != nil {
		t.Fatalf("certs.Ensure = %v", err)
	}
	bad := deployed(t, dir)
	bad.RPC.Listen, bad.Crypto, bad.LeaseTTL, bad.Poll, bad.Journal.URL = "", "nowhere", time.Millisecond, -1, ""
	err := bad.Validate()
	for _, want := range []string{"rpc: listen", `crypto: "nowhere"`, "lease_ttl: 1ms", "poll: -1ns", "journal: url"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want it to name %q", err, want)
		}
	}
	if err := control.Run(t.Context(), bad, slog.New(slog.NewTextHandler(io.Discard, nil))); err == nil || !strings.Contains(err.Error(), "lease_ttl") {
		t.Errorf("Run = %v, want what Validate says", err)
	}
}

// A service that cannot serve says so, instead of running on without a server.
func TestAPortThatIsTaken(t *testing.T) {
	m := newMesh(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("Listen = %v", err)
	}
	defer lis.Close()
	m.cfg.RPC.Listen = lis.Addr().String()
	if err := control.Run(t.Context(), m.cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("Run(port taken) = %v, want it to say so", err)
	}
}
