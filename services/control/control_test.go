package control_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/control/internal/stream/streamtest"
)

const (
	stopped  = controlv1.StreamStatus_STREAM_STATUS_STOPPED
	starting = controlv1.StreamStatus_STREAM_STATUS_STARTING
	started  = controlv1.StreamStatus_STREAM_STATUS_STARTED
	stopping = controlv1.StreamStatus_STREAM_STATUS_STOPPING
)

// told waits until as many events were told as kinds, and compares them.
func (m *mesh) told(id string, kinds ...notifierv1.EventKind) {
	m.t.Helper()
	var have []streamtest.Told
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit) && len(have) < len(kinds); time.Sleep(20 * time.Millisecond) {
		have = m.world.Told(id)
	}
	ok := len(have) == len(kinds)
	for i := range min(len(have), len(kinds)) {
		ok = ok && have[i].Kind == kinds[i]
	}
	if !ok {
		m.t.Errorf("told %v, want %v", have, kinds)
	}
}

const (
	toldStarted  = notifierv1.EventKind_EVENT_KIND_STREAM_STARTED
	toldStopped  = notifierv1.EventKind_EVENT_KIND_STREAM_STOPPED
	toldRestored = notifierv1.EventKind_EVENT_KIND_REGISTRY_RESTORED
)

// A stream's life, through two replicas at once.
func TestTheLifeOfAStream(t *testing.T) {
	m := newMesh(t)
	a, b := m.replica(), m.replica()
	c := a.cluster("Orders", "db1", "DB2")
	if c.GetClusterId() != "orders" || len(c.GetInstances()) != 2 || c.GetStream().GetStatus() != stopped || c.GetStream().GetProblem() != "" {
		t.Fatalf("cluster = %v, want orders, two instances, stopped", c)
	}
	a.capture("orders", "db1")
	b.capture("orders", "db2")
	a.until("orders", "reported on by both", func(s *controlv1.GetStreamResponse) bool {
		return s.GetInstances()[0].GetReport() != nil && s.GetInstances()[1].GetReport() != nil
	})
	a.start("orders")
	s := b.untilStatus("orders", started)
	kinesis := s.GetStream().GetKinesisStream()
	if kinesis != "aws-rds-das-"+c.GetClusterResourceId() || !m.world.HasStream(kinesis) || s.GetStream().GetMode() != controlv1.StreamMode_STREAM_MODE_ASYNC ||
		s.GetStream().GetKmsKeyId() != "alias/audit" || s.GetStream().GetRecordLayout() != controlv1.RecordLayout_RECORD_LAYOUT_PACKED || s.GetStream().GetProblem() != "" {
		t.Errorf("stream = %v, want it as it was started", s.GetStream())
	}
	for _, in := range s.GetInstances() {
		if rep := in.GetReport(); rep.GetGeneration() != s.GetStream().GetGeneration() || time.Since(rep.GetReportedAt().AsTime()) > time.Minute || rep.GetEngineVersion() != "PostgreSQL 15.20" {
			t.Errorf("%s has reported %v, want generation %d, now", in.GetInstanceId(), rep, s.GetStream().GetGeneration())
		}
	}
	m.told("orders", toldStarted)

	// Again the same is no change; anything else is refused.
	a.start("orders")
	other := startOf("orders")
	other.KmsKeyId = "alias/other"
	if _, err := b.as("client").StartStream(t.Context(), other); status.Code(err) != codes.Aborted {
		t.Errorf("StartStream(another key) = %v, want ABORTED", err)
	}
	if tried := m.world.Tried(); len(tried) != 1 {
		t.Errorf("keys tried = %v, want one try for one start", tried)
	}
	if _, err := a.as("client").DeleteCluster(t.Context(), &controlv1.DeleteClusterRequest{ClusterId: "orders"}); status.Code(err) != codes.Aborted {
		t.Errorf("DeleteCluster(started) = %v, want ABORTED", err)
	}
	if _, err := a.as("client").DeleteInstance(t.Context(), &controlv1.DeleteInstanceRequest{ClusterId: "orders", InstanceId: "db1"}); status.Code(err) != codes.Aborted {
		t.Errorf("DeleteInstance(lives, started) = %v, want ABORTED", err)
	}

	m.world.SetWaiting(c.GetClusterResourceId(), 3)
	if _, err := b.as("client").StopStream(t.Context(), &controlv1.StopStreamRequest{ClusterId: "orders", DeleteKinesisStream: true}); err != nil {
		t.Fatalf("StopStream = %v", err)
	}
	a.until("orders", "waiting for the journal", func(s *controlv1.GetStreamResponse) bool {
		return s.GetStream().GetStatus() == stopping && strings.Contains(s.GetStream().GetProblem(), "wait in the journal")
	})
	if !m.world.HasStream(kinesis) {
		t.Error("the Kinesis stream was deleted while records waited for it")
	}
	m.world.SetWaiting(c.GetClusterResourceId(), 0)
	s = a.untilStatus("orders", stopped)
	if m.world.HasStream(kinesis) || s.GetStream().GetProblem() != "" {
		t.Errorf("stopped: Kinesis stream there: %v, problem %q, want neither", m.world.HasStream(kinesis), s.GetStream().GetProblem())
	}
	m.told("orders", toldStarted, toldStopped)
	a.until("orders", "told", func(*controlv1.GetStreamResponse) bool {
		_, err := b.as("client").DeleteCluster(t.Context(), &controlv1.DeleteClusterRequest{ClusterId: "orders"})
		return status.Code(err) != codes.Unavailable
	})
	if list, err := a.as("client").ListClusters(t.Context(), &controlv1.ListClustersRequest{}); err != nil || len(list.GetClusters()) != 0 {
		t.Errorf("ListClusters after deletion = %v, %v, want none", list, err)
	}
}

// Whatever a control was doing when it ended, the next one does the rest.
func TestARestartInEveryState(t *testing.T) {
	m := newMesh(t)
	gone := func(methods ...string) {
		m.world.Faults(func(method string) error {
			for _, g := range methods {
				if method == g {
					return streamtest.Away(method)
				}
			}
			return nil
		}, nil)
	}
	r := m.replica()
	restart := func() {
		r.stop()
		r = m.replica()
	}
	c := r.cluster("orders", "db1")
	name := c.GetStream().GetKinesisStream()

	gone("EnsureStream")
	r.start("orders")
	r.until("orders", "held up by the publisher", func(s *controlv1.GetStreamResponse) bool {
		return s.GetStream().GetStatus() == starting && strings.Contains(s.GetStream().GetProblem(), "making the Kinesis stream "+name)
	})
	restart() // starting, nothing made
	gone("Notify")
	r.until("orders", "waiting for a capture", func(s *controlv1.GetStreamResponse) bool {
		return s.GetStream().GetGeneration() == 1 && strings.Contains(s.GetStream().GetProblem(), "db1: no capture has reported")
	})
	restart() // starting, captures told
	stopCapture := r.capture("orders", "db1")
	r.untilStatus("orders", started)
	stopCapture()
	restart() // started, not told to the notifier
	if told := m.world.Told("orders"); len(told) != 0 {
		t.Fatalf("told %v without a notifier", told)
	}
	gone("GetStatus")
	m.told("orders", toldStarted)
	stopCapture = r.capture("orders", "db1")
	if _, err := r.as("client").StopStream(t.Context(), &controlv1.StopStreamRequest{ClusterId: "orders", DeleteKinesisStream: true}); err != nil {
		t.Fatalf("StopStream = %v", err)
	}
	r.until("orders", "asking for the journal", func(s *controlv1.GetStreamResponse) bool {
		return strings.Contains(s.GetStream().GetProblem(), "what waits in the journal")
	})
	stopCapture()
	restart() // stopping, drained
	gone("DeleteStream")
	r.until("orders", "held up by Kinesis", func(s *controlv1.GetStreamResponse) bool {
		return strings.Contains(s.GetStream().GetProblem(), "deleting the Kinesis stream "+name)
	})
	restart() // stopping, to be deleted
	gone("Notify")
	r.untilStatus("orders", stopped)
	restart() // stopped, not told
	gone()
	m.told("orders", toldStarted, toldStopped)
	if m.world.HasStream(name) {
		t.Error("the Kinesis stream is still there")
	}
}

// NATS is restarted under a stream that runs: what was on disk is there, what
// captures said is said again.
func TestNATSRestarts(t *testing.T) {
	m := newMesh(t)
	r := m.replica()
	r.cluster("orders", "db1")
	r.capture("orders", "db1")
	r.start("orders")
	r.untilStatus("orders", started)
	m.nats.Stop()
	if _, err := r.as("client").GetStream(t.Context(), &controlv1.GetStreamRequest{ClusterId: "orders"}); status.Code(err) != codes.Unavailable {
		t.Errorf("GetStream without NATS = %v, want UNAVAILABLE", err)
	}
	m.nats.Restart()
	client := r.as("client")
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, err := client.StopStream(t.Context(), &controlv1.StopStreamRequest{ClusterId: "orders"})
		if err == nil {
			break
		}
		if status.Code(err) != codes.Unavailable || time.Now().After(limit) {
			t.Fatalf("StopStream after the restart = %v", err)
		}
	}
	s := r.untilStatus("orders", stopped)
	if s.GetStream().GetProblem() != "" {
		t.Errorf("problem = %q, want none: the capture has gone on", s.GetStream().GetProblem())
	}
	m.told("orders", toldStarted, toldStopped)
}

// NATS comes back without its data under two replicas: what they had in memory is
// wanted as before, once, and what had been deleted stays so.
func TestNATSLosesItsData(t *testing.T) {
	m := newMesh(t)
	a, b := m.replica(), m.replica()
	before := a.cluster("orders", "db1")
	a.cluster("idle")
	a.cluster("gone", "db9")
	if _, err := a.as("client").DeleteCluster(t.Context(), &controlv1.DeleteClusterRequest{ClusterId: "gone"}); err != nil {
		t.Fatalf("DeleteCluster = %v", err)
	}
	b.capture("orders", "db1")
	a.start("orders")
	stream := b.untilStatus("orders", started).GetStream()
	m.told("orders", toldStarted)

	m.nats.Stop()
	m.nats.Lose()
	m.nats.Restart()
	client := b.as("client")
	var after *controlv1.Cluster
	for limit := time.Now().Add(30 * time.Second); after == nil; time.Sleep(50 * time.Millisecond) {
		resp, err := client.GetCluster(t.Context(), &controlv1.GetClusterRequest{ClusterId: "orders"})
		if err != nil && time.Now().After(limit) {
			t.Fatalf("GetCluster after the loss = %v", err)
		}
		after = resp.GetCluster()
	}
	if after.GetClusterResourceId() != before.GetClusterResourceId() ||
		after.GetInstances()[0].GetInstanceResourceId() != before.GetInstances()[0].GetInstanceResourceId() {
		t.Errorf("cluster = %v, want the resource ids of %v", after, before)
	}
	s := a.untilStatus("orders", started).GetStream()
	s.Problem, stream.Problem = "", "" // what captures say comes a moment later
	if !proto.Equal(s, stream) {
		t.Errorf("stream = %v, want it as it was: %v", s, stream)
	}
	m.told("orders", toldStarted, toldRestored)
	m.told("idle", toldRestored)
	if _, err := client.GetCluster(t.Context(), &controlv1.GetClusterRequest{ClusterId: "gone"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("GetCluster of one that was deleted = %v, want INVALID_ARGUMENT", err)
	}
	// The capture's watch goes on, or the stop would not be carried out.
	if _, err := client.StopStream(t.Context(), &controlv1.StopStreamRequest{ClusterId: "orders"}); err != nil {
		t.Fatalf("StopStream = %v", err)
	}
	a.untilStatus("orders", stopped)
	m.told("orders", toldStarted, toldRestored, toldStopped)
}

// A capture that is gone holds up neither a start nor, for long, a stop; both
// say which.
func TestACaptureThatIsGone(t *testing.T) {
	m := newMesh(t)
	r := m.replica()
	r.cluster("orders", "db1", "db2")
	r.capture("orders", "db1")
	r.start("orders")
	s := r.untilStatus("orders", started)
	if p := s.GetStream().GetProblem(); p != "db2: no capture has reported" {
		t.Errorf("problem = %q, want it to name db2", p)
	}
	if _, err := r.as("client").StopStream(t.Context(), &controlv1.StopStreamRequest{ClusterId: "orders"}); err != nil {
		t.Fatalf("StopStream = %v", err)
	}
	s = r.untilStatus("orders", stopped)
	if p := s.GetStream().GetProblem(); !strings.Contains(p, "db2") || strings.Contains(p, "db1") {
		t.Errorf("problem = %q, want it to name db2 alone", p)
	}
	if !m.world.HasStream(s.GetStream().GetKinesisStream()) {
		t.Error("the Kinesis stream is gone, want it kept")
	}
	if _, err := r.as("client").StopStream(t.Context(), &controlv1.StopStreamRequest{ClusterId: "orders", DeleteKinesisStream: true}); status.Code(err) != codes.Aborted {
		t.Errorf("StopStream(stopped, delete) = %v, want ABORTED", err)
	}
}

func TestWatchInstance(t *testing.T) {
	m := newMesh(t)
	a, b := m.replica(), m.replica()
	c := a.cluster("orders", "db1", "db2")
	watch := func(r *replica, as, instance string) controlv1.ControlService_WatchInstanceClient {
		t.Helper()
		w, err := r.as(as).WatchInstance(t.Context(), &controlv1.WatchInstanceRequest{ClusterId: "orders", InstanceId: instance})
		if err != nil {
			t.Fatalf("WatchInstance = %v", err)
		}
		return w
	}
	next := func(w controlv1.ControlService_WatchInstanceClient) *controlv1.Desired {
		t.Helper()
		resp, err := w.Recv()
		if err != nil {
			t.Fatalf("Recv = %v", err)
		}
		return resp.GetDesired()
	}
	wa, wb := watch(a, "capture", "db1"), watch(b, "client", "db1")
	off := &controlv1.Desired{
		ClusterResourceId: c.GetClusterResourceId(), InstanceResourceId: c.GetInstances()[0].GetInstanceResourceId(),
		KinesisStream: c.GetStream().GetKinesisStream(), Engine: "postgres",
	}
	on := proto.CloneOf(off)
	on.Generation, on.Recording, on.Mode, on.KmsKeyId, on.RecordLayout = 1, true, controlv1.StreamMode_STREAM_MODE_ASYNC, "alias/audit", controlv1.RecordLayout_RECORD_LAYOUT_PACKED
	offAgain := proto.CloneOf(on)
	offAgain.Generation, offAgain.Recording = 2, false
	for _, w := range []controlv1.ControlService_WatchInstanceClient{wa, wb} {
		if got := next(w); !proto.Equal(got, off) {
			t.Errorf("first = %v, want %v", got, off)
		}
	}
	a.start("orders")
	for _, w := range []controlv1.ControlService_WatchInstanceClient{wa, wb} {
		if got := next(w); !proto.Equal(got, on) {
			t.Errorf("after the start = %v, want %v", got, on)
		}
	}
	if _, err := b.as("client").StopStream(t.Context(), &controlv1.StopStreamRequest{ClusterId: "orders"}); err != nil {
		t.Fatalf("StopStream = %v", err)
	}
	for _, w := range []controlv1.ControlService_WatchInstanceClient{wa, wb} {
		if got := next(w); !proto.Equal(got, offAgain) {
			t.Errorf("after the stop = %v, want %v: what was recorded is still to be sealed", got, offAgain)
		}
	}
	if got := next(watch(a, "capture", "db1")); !proto.Equal(got, offAgain) {
		t.Errorf("first of a new watch = %v, want %v", got, offAgain)
	}

	// Deleted: the watch ends, at whichever replica.
	w2 := watch(b, "capture", "db2")
	next(w2)
	if _, err := a.as("client").DeleteInstance(t.Context(), &controlv1.DeleteInstanceRequest{ClusterId: "orders", InstanceId: "db2"}); err != nil {
		t.Fatalf("DeleteInstance = %v", err)
	}
	if _, err := w2.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("Recv after deletion = %v, want INVALID_ARGUMENT", err)
	}
	for _, instance := range []string{"db2", "nobody"} {
		if _, err := watch(a, "capture", instance).Recv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("watch of %s = %v, want INVALID_ARGUMENT", instance, err)
		}
	}

	// A control that stops tells its watchers to go elsewhere; it does not make
	// its stop wait for them.
	began := time.Now()
	a.stop()
	if took := time.Since(began); took >= m.cfg.RPC.Grace {
		t.Errorf("the stop took %v, want less than the grace period", took)
	}
	if _, err := wa.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("Recv from a control that has stopped = %v, want UNAVAILABLE", err)
	}
}

// A Kinesis stream that takes long to be made keeps no other cluster waiting.
func TestOneStreamHoldsUpNoOther(t *testing.T) {
	m := newMesh(t)
	r := m.replica()
	r.cluster("slow", "db1")
	r.cluster("quick", "db2")
	r.capture("quick", "db2")
	release := make(chan struct{})
	entered := make(chan struct{}, 1)
	m.world.Faults(func(method string) error {
		if method == "EnsureStream" {
			select {
			case entered <- struct{}{}: // the first
				<-release
			default:
			}
		}
		return nil
	}, nil)
	r.start("slow")
	<-entered
	entered <- struct{}{}
	r.start("quick")
	r.untilStatus("quick", started)
	r.untilStatus("slow", starting)
	close(release)
	r.until("slow", "waiting for its capture", func(s *controlv1.GetStreamResponse) bool { return s.GetStream().GetGeneration() == 1 })
}

// A peer that fails is asked ever more rarely, even if it fails with a new text
// each time, and at once when the wish changes.
func TestFailuresAreSpaced(t *testing.T) {
	m := newMesh(t)
	r := m.replica()
	r.cluster("orders", "db1")
	var calls atomic.Int64
	m.world.Faults(func(method string) error {
		if method == "EnsureStream" {
			return streamtest.Away(fmt.Sprintf("request %d", calls.Add(1)))
		}
		return nil
	}, nil)
	r.start("orders")
	time.Sleep(2 * time.Second)
	if n := calls.Load(); n < 2 || n > 40 {
		t.Errorf("%d calls in 2 s, want a few", n)
	}
	if _, err := r.as("client").StopStream(t.Context(), &controlv1.StopStreamRequest{ClusterId: "orders"}); err != nil {
		t.Fatalf("StopStream = %v", err)
	}
	r.untilStatus("orders", stopped)
}

func TestMetrics(t *testing.T) {
	m := newMesh(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("Listen = %v", err)
	}
	m.cfg.Obs.MetricsListen = lis.Addr().String()
	if err := lis.Close(); err != nil {
		t.Fatalf("Close = %v", err)
	}
	m.world.Faults(func(method string) error {
		if method == "Notify" {
			return streamtest.Away(method)
		}
		return nil
	}, nil)
	r := m.replica()
	r.cluster("orders", "db1")
	r.cluster("accounts", "db2")
	r.capture("orders", "db1")
	r.start("orders")
	r.start("accounts") // stays starting: nobody records
	r.untilStatus("orders", started)
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	scrape := func() string {
		resp, err := client.Get("http://" + m.cfg.Obs.MetricsListen + "/metrics")
		if err != nil {
			t.Fatalf("Get(/metrics) = %v", err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("ReadAll = %v", err)
		}
		return string(b)
	}
	want := []string{
		`weir_control_streams{status="started"} 1`, `weir_control_streams{status="starting"} 1`, `weir_control_streams{status="stopped"} 0`,
		"weir_control_events_waiting 1", "weir_control_oldest_transition_seconds ",
	}
	var page string
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		page = scrape()
		missing := slices.DeleteFunc(slices.Clone(want), func(w string) bool { return strings.Contains(page, w) })
		if len(missing) == 0 {
			return
		}
	}
	t.Errorf("/metrics has not %q:\n%s", want, page)
}

// What a capture has carried out for a registration that is gone says nothing of
// the one that there is.
func TestAReportOfAnotherRegistration(t *testing.T) {
	m := newMesh(t)
	r := m.replica()
	c := r.cluster("orders", "db1")
	r.start("orders")
	capture := r.as("capture")
	report := func(resource string) {
		t.Helper()
		if _, err := capture.ReportInstance(t.Context(), &controlv1.ReportInstanceRequest{ClusterId: "orders", InstanceId: "db1", Report: &controlv1.InstanceReport{
			Generation: 7, InstanceResourceId: resource, EngineRunning: true, Epoch: 1,
		}}); err != nil {
			t.Fatalf("ReportInstance = %v", err)
		}
	}
	r.until("orders", "waiting for the capture", func(s *controlv1.GetStreamResponse) bool {
		report("db-ABCDEFGHIJKLMNOPQRSTUVWXYZ")
		return s.GetStream().GetStatus() == starting && strings.Contains(s.GetStream().GetProblem(), "carried out generation 0, not yet 1")
	})
	r.until("orders", "started", func(s *controlv1.GetStreamResponse) bool {
		report(c.GetInstances()[0].GetInstanceResourceId())
		return s.GetStream().GetStatus() == started
	})
}
