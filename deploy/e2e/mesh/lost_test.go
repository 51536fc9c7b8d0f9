package mesh_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	"github.com/weir-das/weir/pkg/localaws/inject"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// journalIsLost deletes NATS's data while records wait in the journal. Nobody has to be
// restarted for it: the mesh makes again what it needs, what was wanted is wanted
// still, and what is lost for good is told, by numbers that hold all of it. The
// capture that had it acknowledged is killed too: what it knew lies in the ring.
func journalIsLost(t *testing.T, m *mesh.Mesh, aws *cloud, dir string) {
	_, before := m.Settle(t)
	mend := aws.Kinesis().FailPut(inject.Fault{})
	for i := range 20 {
		m.Psql("postgres", fmt.Sprintf("SELECT 'lost %d';", i))
	}
	held := m.Durable(t)
	// The publisher has them in memory too, and would deliver them.
	m.Kill(mesh.Publisher)
	m.Kill(mesh.Capture)
	m.Kill(mesh.NATS)
	empty(t, dir)
	m.StartProcess(mesh.NATS)
	m.StartProcess(mesh.Publisher)
	m.StartProcess(mesh.Capture)
	mend()

	m.Psql("postgres", "SELECT 'not lost';")
	last := m.Durable(t)
	var lost *notifierv1.Window
	mesh.Eventually(t, 60*time.Second, func() error {
		out, err := m.Weir(context.Background(), "events", "windows", "--json")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out) // the notifier makes its streams again
		}
		for _, w := range windows(t, m) {
			if w.GetCause() == notifierv1.Cause_CAUSE_JOURNAL_LOST && !w.GetOpen() {
				lost = w
				return nil
			}
		}
		return errors.New("nobody tells of the journal's loss")
	})
	if lost.GetEpoch() != before.Epoch || lost.GetFirst() > before.Number+1 || lost.GetLast() < held.Number || lost.GetLast() > last.Number ||
		lost.GetCount() != lost.GetLast()-lost.GetFirst()+1 || lost.GetLowerBound() {
		t.Errorf("window %v, want one of epoch %d with the numbers %d to %d in it", lost, before.Epoch, before.Number+1, held.Number)
	}
	// Exactly what waited is missing, and nothing that came after.
	mesh.Eventually(t, 60*time.Second, func() error {
		records, err := m.Records(context.Background())
		if err != nil {
			return err
		}
		epochs, err := mesh.AccountFor(records)
		if err != nil {
			t.Fatal(err)
		}
		missing := epochs[before.Epoch].Missing(last.Number)
		if len(missing) == 0 || missing[0] != before.Number+1 || missing[len(missing)-1] != held.Number || uint64(len(missing)) != held.Number-before.Number {
			return fmt.Errorf("missing are %v, want %d to %d", missing, before.Number+1, held.Number)
		}
		return nil
	})
	out, err := m.Weir(context.Background(), "verify", "--patience", "1s", "--events", m.Addr(mesh.Notifier))
	if err != nil || !containsAll(out, "loss, told", "told: by the notifier", " 0 missing untold", "Whole:") {
		t.Errorf("weir verify = %v, want the loss told by the notifier:\n%s", err, out)
	}
	out, err = m.Weir(context.Background(), "verify", "--patience", "1s")
	if err == nil || strings.Contains(out, "Tampered") {
		t.Errorf("weir verify that does not ask the notifier = %v, want a hole and no tampering:\n%s", err, out)
	}
	if out := m.MustWeir("stream", "status"); !containsAll(out, "started since", "journal_lost", fmt.Sprintf("≤ %d", lost.GetCount())) {
		t.Errorf("weir stream status:\n%s", out)
	}
	mesh.Eventually(t, 30*time.Second, func() error {
		if out := m.MustWeir("events"); !containsAll(out, "WEIR-EVENT-0011", "WEIR-EVENT-0004") {
			return fmt.Errorf("weir events has not all:\n%s", out)
		}
		return nil
	})
}

// kinesisIsDeleted deletes the Kinesis stream behind Weir's back: it is made again,
// which is told with the cluster's name, and takes what comes then.
func kinesisIsDeleted(t *testing.T, m *mesh.Mesh) {
	if _, err := m.Kinesis().DeleteStream(context.Background(), &kinesis.DeleteStreamInput{StreamName: &m.KinesisStream}); err != nil {
		t.Fatal(err)
	}
	m.Psql("postgres", "SELECT 'in the new one';")
	last := m.Durable(t)
	mesh.Eventually(t, 30*time.Second, func() error {
		if out := m.MustWeir("events", "--source", "test"); !containsAll(out, "WEIR-EVENT-0013", m.KinesisStream) {
			return fmt.Errorf("weir events has not all:\n%s", out)
		}
		records, err := m.Records(context.Background())
		if err != nil {
			return err
		}
		epochs, err := mesh.AccountFor(records)
		if err != nil {
			t.Fatal(err)
		}
		if a := epochs[last.Epoch]; a == nil || a.Last < last.Number {
			return fmt.Errorf("the new stream does not have number %d yet", last.Number)
		}
		return nil
	})
}

// nobodyKnowsTheInstance deletes NATS's data while control is away, too. The capture
// alone knows what was wanted, and goes on; also when the instance is registered anew,
// until a stream of the new registration is started.
func nobodyKnowsTheInstance(t *testing.T, m *mesh.Mesh, dir string) {
	m.Kill(mesh.Control)
	m.Kill(mesh.NATS)
	empty(t, dir)
	m.StartProcess(mesh.NATS)
	m.StartProcess(mesh.Control)
	recorded := func(when string) {
		t.Helper()
		before, err := m.Numbers()
		if err != nil {
			t.Fatal(err)
		}
		m.Psql("postgres", "SELECT 'recorded "+when+"';")
		if after := m.Durable(t); after.Number <= before.Number {
			t.Errorf("number %d after %d: nothing is recorded %s", after.Number, before.Number, when)
		}
	}
	m.Eventually(30*time.Second, func() error {
		out, err := m.Weir(context.Background(), "stream", "status")
		if err == nil || !strings.Contains(out, "not registered") {
			return fmt.Errorf("weir stream status: %v, want that nobody knows the cluster:\n%s", err, out)
		}
		return nil
	})
	recorded("while control does not know the instance")
	capture := now(t, m, mesh.Capture)
	m.MustWeir("cluster", "create", "test", "--engine", "postgres")
	m.MustWeir("instance", "add", "test", "test-1")
	m.Eventually(30*time.Second, func() error {
		all := complaints(t, m, mesh.Capture, capture)
		if !slices.ContainsFunc(all, func(line string) bool { return containsAll(line, "registered anew", "weir stream start") }) {
			return fmt.Errorf("the capture does not say that it goes on as before: %q", all)
		}
		return nil
	})
	recorded("when the instance is registered anew")
	m.StartStream("--mode", "async")
	m.Psql("postgres", "SELECT 'in the stream of the new registration';")
	m.Durable(t)
	var cluster struct {
		ResourceID string `json:"cluster_resource_id"`
	}
	out := m.MustWeir("cluster", "show", "test", "--json")
	if err := json.Unmarshal([]byte(out), &cluster); err != nil || cluster.ResourceID == "" || cluster.ResourceID == m.ClusterResourceID {
		t.Fatalf("the cluster is %s, %v, want one that is registered anew", out, err)
	}
	mesh.Eventually(t, 30*time.Second, func() error {
		out := m.MustWeir("tail", "--stream", "aws-rds-das-"+cluster.ResourceID, "--from", "trim-horizon", "--no-follow")
		if !strings.Contains(out, "in the stream of the new registration") || strings.Contains(out, "is registered anew") {
			return fmt.Errorf("the new stream has\n%s", out)
		}
		return nil
	})
}

// empty deletes all that NATS has.
func empty(t *testing.T, dir string) {
	t.Helper()
	stores, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(stores) == 0 {
		t.Fatalf("NATS has nothing in %s: %v", dir, err)
	}
	for _, store := range stores {
		if err := os.RemoveAll(store); err != nil {
			t.Fatal(err)
		}
	}
}
