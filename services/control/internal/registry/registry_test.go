package registry_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/fault"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/control/internal/registry"
	"github.com/weir-das/weir/services/control/internal/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func create(t *testing.T, reg *registry.Registry, id string) registry.Cluster {
	t.Helper()
	c, err := reg.Create(t.Context(), id, "postgres", now)
	if err != nil {
		t.Fatalf("Create(%s) = %v", id, err)
	}
	return c
}

func TestCreateGetList(t *testing.T) {
	reg := registrytest.Start(t).Open(registry.Options{})
	c := create(t, reg, "orders")
	if !regexp.MustCompile(`^cluster-[A-Z2-7]{26}$`).MatchString(c.ResourceID) {
		t.Errorf("resource id = %q, want cluster- and 26 characters of A-Z2-7", c.ResourceID)
	}
	if want := "aws-rds-das-" + c.ResourceID; c.Stream.KinesisStream != want {
		t.Errorf("Kinesis stream = %q, want %q", c.Stream.KinesisStream, want)
	}
	if _, err := reg.Create(t.Context(), "orders", "postgres", now); !fault.Is(err, fault.Conflict) {
		t.Errorf("Create(orders again) = %v, want conflict", err)
	}
	for _, id := range []string{"orders", c.ResourceID} {
		got, err := reg.Get(t.Context(), id)
		if err != nil || got.ResourceID != c.ResourceID || !got.CreatedAt.Equal(now) {
			t.Errorf("Get(%s) = %+v, %v, want what was created", id, got, err)
		}
	}
	for _, id := range []string{"other", "cluster-AAAAAAAAAAAAAAAAAAAAAAAAAA"} {
		if _, err := reg.Get(t.Context(), id); !fault.Is(err, fault.Invalid) {
			t.Errorf("Get(%s) = %v, want invalid", id, err)
		}
	}
	create(t, reg, "accounts")
	all, err := reg.List(t.Context())
	if err != nil || len(all) != 2 || all[0].ID != "accounts" || all[1].ID != "orders" {
		t.Errorf("List = %v, %v, want accounts and orders", all, err)
	}
}

func TestListOfNothing(t *testing.T) {
	reg := registrytest.Start(t).Open(registry.Options{})
	if all, err := reg.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("List = %v, %v, want nothing", all, err)
	}
}

func TestANameUsedAgainIsAnotherCluster(t *testing.T) {
	reg := registrytest.Start(t).Open(registry.Options{})
	old := create(t, reg, "orders")
	if err := reg.Delete(t.Context(), "orders", func(registry.Cluster) error { return nil }); err != nil {
		t.Fatalf("Delete = %v", err)
	}
	if _, err := reg.Get(t.Context(), "orders"); !fault.Is(err, fault.Invalid) {
		t.Errorf("Get(deleted) = %v, want invalid", err)
	}
	again := create(t, reg, "orders")
	if again.ResourceID == old.ResourceID || again.Revision <= old.Revision {
		t.Errorf("Create after Delete = %s at %d, want another resource id than %s and a later revision than %d", again.ResourceID, again.Revision, old.ResourceID, old.Revision)
	}
	if _, err := reg.Get(t.Context(), old.ResourceID); !fault.Is(err, fault.Invalid) {
		t.Errorf("Get(the old resource id) = %v, want invalid", err)
	}
}

// Ten replicas add up to the same as one: no change is lost.
func TestChangesOfManyReplicas(t *testing.T) {
	nats := registrytest.Start(t)
	first := nats.Open(registry.Options{})
	create(t, first, "orders")
	const replicas, changes = 4, 10
	var wg sync.WaitGroup
	for range replicas {
		reg := nats.Open(registry.Options{})
		wg.Go(func() {
			for range changes {
				_, err := reg.Change(t.Context(), "orders", func(c *registry.Cluster) error {
					c.Stream.Told.Generation++
					return nil
				})
				if err != nil {
					t.Errorf("Change = %v", err)
				}
			}
		})
	}
	wg.Wait()
	c, err := first.Get(t.Context(), "orders")
	if err != nil || c.Stream.Told.Generation != replicas*changes {
		t.Errorf("generation = %d, %v, want %d", c.Stream.Told.Generation, err, replicas*changes)
	}
}

func TestAChangeThatChangesNothingWritesNothing(t *testing.T) {
	reg := registrytest.Start(t).Open(registry.Options{})
	was := create(t, reg, "orders")
	c, err := reg.Change(t.Context(), "orders", func(*registry.Cluster) error { return nil })
	if err != nil || c.Revision != was.Revision {
		t.Errorf("Change(nothing) = revision %d, %v, want %d", c.Revision, err, was.Revision)
	}
	refusal := errors.New("no")
	if _, err := reg.Change(t.Context(), "orders", func(*registry.Cluster) error { return refusal }); !errors.Is(err, refusal) {
		t.Errorf("Change(refused) = %v, want the refusal", err)
	}
	if _, err := reg.Change(t.Context(), "other", func(*registry.Cluster) error { return nil }); !fault.Is(err, fault.Invalid) {
		t.Errorf("Change(unknown) = %v, want invalid", err)
	}
}

func TestInstancesAreUniqueAmongAllClusters(t *testing.T) {
	reg := registrytest.Start(t).Open(registry.Options{})
	create(t, reg, "orders")
	create(t, reg, "accounts")
	in, err := reg.AddInstance(t.Context(), "orders", "db1")
	if err != nil || !regexp.MustCompile(`^db-[A-Z2-7]{26}$`).MatchString(in.ResourceID) {
		t.Fatalf("AddInstance(orders, db1) = %+v, %v, want db- and 26 characters of A-Z2-7", in, err)
	}
	for _, cluster := range []string{"orders", "accounts"} {
		if _, err := reg.AddInstance(t.Context(), cluster, "db1"); !fault.Is(err, fault.Conflict) {
			t.Errorf("AddInstance(%s, db1 again) = %v, want conflict", cluster, err)
		}
	}
	if _, err := reg.AddInstance(t.Context(), "other", "db2"); !fault.Is(err, fault.Invalid) {
		t.Errorf("AddInstance(unknown cluster) = %v, want invalid", err)
	}
	if _, err := reg.AddInstance(t.Context(), "accounts", "db2"); err != nil {
		t.Errorf("AddInstance(accounts, db2) after it was refused elsewhere = %v", err)
	}
	allow := func(registry.Cluster, registry.Instance) error { return nil }
	if err := reg.RemoveInstance(t.Context(), "orders", "db1", allow); err != nil {
		t.Fatalf("RemoveInstance = %v", err)
	}
	if err := reg.RemoveInstance(t.Context(), "orders", "db1", allow); !fault.Is(err, fault.Invalid) {
		t.Errorf("RemoveInstance again = %v, want invalid", err)
	}
	again, err := reg.AddInstance(t.Context(), "accounts", "db1")
	if err != nil || again.ResourceID == in.ResourceID {
		t.Errorf("AddInstance(accounts, db1) after its removal = %+v, %v, want a new resource id", again, err)
	}
	// A deleted cluster gives back the ids of its instances.
	if err := reg.Delete(t.Context(), "accounts", func(registry.Cluster) error { return nil }); err != nil {
		t.Fatalf("Delete = %v", err)
	}
	for _, id := range []string{"db1", "db2"} {
		if _, err := reg.AddInstance(t.Context(), "orders", id); err != nil {
			t.Errorf("AddInstance(orders, %s) after its cluster was deleted = %v", id, err)
		}
	}
}

// Of many who want one id at the same time exactly one gets it.
func TestOneInstanceOfMany(t *testing.T) {
	nats := registrytest.Start(t)
	reg := nats.Open(registry.Options{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 6 {
		cluster := fmt.Sprintf("c%d", i)
		create(t, reg, cluster)
		wg.Go(func() {
			_, err := reg.AddInstance(t.Context(), cluster, "db1")
			if err != nil && !fault.Is(err, fault.Conflict) {
				t.Errorf("AddInstance(%s) = %v, want conflict or nothing", cluster, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			}
		})
	}
	wg.Wait()
	all, err := reg.List(t.Context())
	if err != nil {
		t.Fatalf("List = %v", err)
	}
	have := 0
	for _, c := range all {
		have += len(c.Instances)
	}
	if won != 1 || have != 1 {
		t.Errorf("%d calls got db1 and %d clusters have it, want one each", won, have)
	}
}

func TestFollowersAreWokenAndSee(t *testing.T) {
	nats := registrytest.Start(t)
	writer, reader := nats.Open(registry.Options{}), nats.Open(registry.Options{})
	wake, stop := reader.Follow("orders")
	defer stop()
	create(t, writer, "accounts") // nobody follows it
	c := create(t, writer, "orders")
	await := func(what string, ok func() bool) {
		t.Helper()
		limit := time.After(10 * time.Second)
		for !ok() {
			select {
			case <-wake:
			case <-limit:
				t.Fatalf("not seen in 10 s: %s", what)
			}
		}
	}
	await("creation", func() bool { got, ok, _ := reader.Seen("orders"); return ok && got.ResourceID == c.ResourceID })
	if _, err := writer.Change(t.Context(), "orders", func(c *registry.Cluster) error { c.Stream.Problem = "x"; return nil }); err != nil {
		t.Fatalf("Change = %v", err)
	}
	await("change", func() bool { got, _, _ := reader.Seen("orders"); return got.Stream.Problem == "x" })
	if err := writer.Delete(t.Context(), "orders", func(registry.Cluster) error { return nil }); err != nil {
		t.Fatalf("Delete = %v", err)
	}
	await("deletion", func() bool { _, exists, known := reader.Seen("orders"); return known && !exists })
}

// The mirror lives through a restart of the server and sees what came after.
func TestTheMirrorOutlivesTheServer(t *testing.T) {
	nats := registrytest.Start(t)
	reg := nats.Open(registry.Options{})
	create(t, reg, "orders")
	nats.Stop()
	if _, err := reg.Get(t.Context(), "orders"); !fault.Is(err, fault.NotReady) {
		t.Errorf("Get without a server = %v, want not ready", err)
	}
	nats.Restart()
	wake, stop := reg.Follow("orders")
	defer stop()
	limit, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		_, err := reg.Change(limit, "orders", func(c *registry.Cluster) error { c.Stream.Problem = "after"; return nil })
		if err == nil {
			break
		}
		if limit.Err() != nil {
			t.Fatalf("Change after the restart = %v, for 30 s", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	for {
		if c, _, _ := reg.Seen("orders"); c.Stream.Problem == "after" {
			return
		}
		select {
		case <-wake:
		case <-limit.Done():
			t.Fatal("the mirror has not seen the change 30 s after the restart")
		}
	}
}

// Who dies between claiming an id and using it does not take it along.
func TestAClaimOfTheDeadIsTakenOver(t *testing.T) {
	reg := registrytest.Start(t).Open(registry.Options{})
	create(t, reg, "orders")
	create(t, reg, "accounts")
	if err := reg.Claim(t.Context(), "orders", "db1"); err != nil {
		t.Fatalf("Claim = %v", err)
	}
	if _, err := reg.AddInstance(t.Context(), "accounts", "db1"); !fault.Is(err, fault.Conflict) {
		t.Errorf("AddInstance(claimed a moment ago) = %v, want conflict", err)
	}
	reg.SetClaimGrace(0)
	if _, err := reg.AddInstance(t.Context(), "accounts", "db1"); err != nil {
		t.Errorf("AddInstance(claimed long ago) = %v", err)
	}
	if _, err := reg.AddInstance(t.Context(), "orders", "db1"); !fault.Is(err, fault.Conflict) {
		t.Errorf("AddInstance(taken) = %v, want conflict, however old the claim is", err)
	}
}

func TestReports(t *testing.T) {
	nats := registrytest.Start(t)
	writer, reader := nats.Open(registry.Options{}), nats.Open(registry.Options{})
	create(t, writer, "orders")
	in, err := writer.AddInstance(t.Context(), "orders", "db1")
	if err != nil {
		t.Fatalf("AddInstance = %v", err)
	}
	if rep, err := reader.Report(t.Context(), in); rep != nil || err != nil {
		t.Errorf("Report(never said) = %v, %v, want nothing", rep, err)
	}
	want := &controlv1.InstanceReport{ReportedAt: timestamppb.New(now), Generation: 3, Number: 7, Durable: 5}
	for range 2 { // the second time in a bucket that the server has lost
		if err := writer.PutReport(t.Context(), in, want); err != nil {
			t.Fatalf("PutReport = %v", err)
		}
		if rep, err := reader.Report(t.Context(), in); err != nil || !proto.Equal(rep, want) {
			t.Errorf("Report = %v, %v, want %v", rep, err, want)
		}
		if err := writer.LoseReports(t.Context()); err != nil {
			t.Fatalf("LoseReports = %v", err)
		}
	}
	if rep, err := reader.Report(t.Context(), in); rep != nil || err != nil {
		t.Errorf("Report(lost) = %v, %v, want nothing", rep, err)
	}
	if err := writer.PutReport(t.Context(), in, want); err != nil {
		t.Fatalf("PutReport = %v", err)
	}
	if err := writer.RemoveInstance(t.Context(), "orders", "db1", func(registry.Cluster, registry.Instance) error { return nil }); err != nil {
		t.Fatalf("RemoveInstance = %v", err)
	}
	if rep, err := reader.Report(t.Context(), in); rep != nil || err != nil {
		t.Errorf("Report(of a deleted instance) = %v, %v, want nothing", rep, err)
	}
}

// A document that cannot be read is an error for who asks for it, and nothing
// to those who do not.
func TestADocumentThatCannotBeRead(t *testing.T) {
	reg := registrytest.Start(t).Open(registry.Options{})
	create(t, reg, "orders")
	for name, doc := range map[string]string{
		"no JSON":         `{"v":1,`,
		"later version":   `{"v":2,"id":"accounts"}`,
		"without version": `{"id":"accounts"}`,
	} {
		if err := reg.Corrupt(t.Context(), "accounts", doc); err != nil {
			t.Fatalf("Corrupt = %v", err)
		}
		if _, err := reg.Get(t.Context(), "accounts"); !fault.Is(err, fault.Corrupted) {
			t.Errorf("%s: Get = %v, want corrupted", name, err)
		}
		if _, err := reg.Change(t.Context(), "accounts", func(c *registry.Cluster) error { c.Engine = "x"; return nil }); !fault.Is(err, fault.Corrupted) {
			t.Errorf("%s: Change = %v, want corrupted, and nothing written over it", name, err)
		}
	}
	if _, err := reg.Change(t.Context(), "orders", func(c *registry.Cluster) error { c.Stream.Problem = "x"; return nil }); err != nil {
		t.Errorf("Change(the other cluster) = %v", err)
	}
}

// A replica that opens the buckets later, with another lease, changes no more
// than that.
func TestOpenAgainKeepsEverything(t *testing.T) {
	nats := registrytest.Start(t)
	create(t, nats.Open(registry.Options{}), "orders")
	if c, err := nats.Open(registry.Options{LeaseTTL: 5 * time.Second}).Get(t.Context(), "orders"); err != nil || c.ID != "orders" {
		t.Errorf("Get after opening again = %v, %v, want what was there", c, err)
	}
}
