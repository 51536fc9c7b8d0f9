package control_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-das/weir/pkg/journal"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
)

// journalled makes the journal, as crypto does when it starts.
func (m *mesh) journalled() {
	m.t.Helper()
	conn, err := journal.Connect(m.t.Context(), m.nats.Config("crypto"), "crypto", nil)
	if err != nil {
		m.t.Fatalf("Connect = %v", err)
	}
	defer conn.Close()
	cfg := m.nats.Config("crypto")
	cfg.MaxBytes = 64 << 20
	if _, err := journal.Open(m.t.Context(), conn, cfg); err != nil {
		m.t.Fatalf("journal.Open = %v", err)
	}
}

func syncOf(id string) *controlv1.StartStreamRequest {
	return &controlv1.StartStreamRequest{ClusterId: id, Mode: controlv1.StreamMode_STREAM_MODE_SYNC, KmsKeyId: "alias/audit"}
}

// Synchronous mode is had only of a journal that says it syncs, can be had and
// given up while the stream runs, and says so when the journal no longer does.
func TestSynchronousModeRestsOnTheProof(t *testing.T) {
	m := newMesh(t)
	m.journalled()
	r := m.replica()
	r.cluster("orders", "db1")
	r.capture("orders", "db1")
	client := r.as("client")

	_, err := client.StartStream(t.Context(), syncOf("orders"))
	if s := status.Convert(err); s.Code() != codes.InvalidArgument || !strings.Contains(s.Message(), "mode sync is refused") ||
		!strings.Contains(s.Message(), "set sync_interval: always") || !strings.Contains(s.Message(), "of nats") {
		t.Errorf("StartStream(sync) of a journal that does not sync = %v, want INVALID_ARGUMENT that names the server and the setting", err)
	}
	r.start("orders")
	r.untilStatus("orders", started)
	if _, err := client.StartStream(t.Context(), syncOf("orders")); status.Code(err) != codes.InvalidArgument {
		t.Errorf("StartStream(sync) of a stream that runs = %v, want INVALID_ARGUMENT", err)
	}
	if s := r.untilStatus("orders", started).GetStream(); s.GetMode() != controlv1.StreamMode_STREAM_MODE_ASYNC || s.GetGeneration() != 1 {
		t.Errorf("after refusals: %v, want it as it was", s)
	}

	m.nats.Stop()
	m.nats.Sync(true)
	m.nats.Restart()
	strict := syncOf("orders")
	strict.SyncLevel, strict.OnFailure = controlv1.SyncLevel_SYNC_LEVEL_STRICT, controlv1.FailurePolicy_FAILURE_POLICY_FAIL_OPERATION
	strict.SyncTimeout = durationpb.New(700 * time.Millisecond)
	for _, want := range []*controlv1.StartStreamRequest{syncOf("orders"), strict, strict} {
		r.eventually("StartStream(sync)", func() error {
			_, err := client.StartStream(t.Context(), want)
			return err
		})
	}
	s := r.until("orders", "strict, and carried out", func(s *controlv1.GetStreamResponse) bool {
		return s.GetInstances()[0].GetReport().GetGeneration() == 3
	}).GetStream()
	if s.GetStatus() != started || s.GetMode() != strict.GetMode() || s.GetSyncLevel() != strict.GetSyncLevel() || s.GetOnFailure() != strict.GetOnFailure() ||
		s.GetSyncTimeout().AsDuration() != 700*time.Millisecond || s.GetGeneration() != 3 {
		t.Errorf("stream = %v, want started, generation 3, and what was asked for", s)
	}
	if d := r.watched("orders", "db1"); d.GetMode() != strict.GetMode() || d.GetSyncLevel() != strict.GetSyncLevel() ||
		d.GetOnFailure() != strict.GetOnFailure() || d.GetSyncTimeout().AsDuration() != 700*time.Millisecond {
		t.Errorf("captures are told %v, want what was asked for", d)
	}

	// Somebody restarts the server as it was: the reconnection finds it.
	m.nats.Stop()
	m.nats.Sync(false)
	m.nats.Restart()
	r.eventually("the problem of the stream", func() error {
		s, err := client.GetStream(t.Context(), &controlv1.GetStreamRequest{ClusterId: "orders"})
		if st := s.GetStream(); err == nil && (st.GetStatus() != started || st.GetMode() != strict.GetMode() ||
			!strings.Contains(st.GetProblem(), "sessions wait for less than they should: NATS acknowledges records before they are on disk")) {
			err = fmt.Errorf("stream = %v, want a synchronous one that tells of the server", st)
		}
		return err
	})
	r.start("orders") // async again: no proof is needed, and none is missing
	s = r.until("orders", "without a problem", func(s *controlv1.GetStreamResponse) bool { return s.GetStream().GetProblem() == "" }).GetStream()
	if s.GetMode() != controlv1.StreamMode_STREAM_MODE_ASYNC || s.GetSyncLevel() != 0 || s.GetOnFailure() != 0 || s.GetSyncTimeout() != nil {
		t.Errorf("stream = %v, want async and nothing of sync", s)
	}
}

// watched is what a capture of the instance is told first.
func (r *replica) watched(cluster, instance string) *controlv1.Desired {
	r.m.t.Helper()
	w, err := r.as("capture").WatchInstance(r.m.t.Context(), &controlv1.WatchInstanceRequest{ClusterId: cluster, InstanceId: instance})
	if err != nil {
		r.m.t.Fatalf("WatchInstance = %v", err)
	}
	answer, err := w.Recv()
	if err != nil {
		r.m.t.Fatalf("WatchInstance = %v", err)
	}
	return answer.GetDesired()
}

// eventually tries until do returns nil.
func (r *replica) eventually(what string, do func() error) {
	r.m.t.Helper()
	var err error
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		if err = do(); err == nil {
			return
		}
	}
	r.m.t.Fatalf("%s = %v after 30 s", what, err)
}
