package window_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/journal/natsserver"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/notifier/internal/window"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func connect(t *testing.T) jetstream.JetStream {
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
	conn, err := journal.Connect(t.Context(), journal.Config{URL: nats.URL(), TLS: certs.TLS(dir, "notifier")}, "notifier", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("journal.Connect = %v", err)
	}
	t.Cleanup(conn.Close)
	return conn.JetStream()
}

// told is what the events say, as the event store keeps it: the first of each key.
type told struct {
	mu     sync.Mutex
	events map[string]*notifierv1.Window
	order  []string
	fail   func() bool // whether the next one fails; nil: none
}

func (k *told) tell(_ context.Context, w *notifierv1.Window, _ string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil && k.fail() {
		return fault.As(fault.NotReady, errors.New("down"))
	}
	key := w.GetId() + "/closed"
	if w.GetOpen() {
		key = w.GetId() + "/opened"
	}
	if k.events[key] == nil {
		k.events[key] = proto.CloneOf(w)
		k.order = append(k.order, key)
	}
	return nil
}

func open(t *testing.T, js jetstream.JetStream, k *told, now func() time.Time) *window.Store {
	t.Helper()
	if k.events == nil {
		k.events = make(map[string]*notifierv1.Window)
	}
	s, err := window.Open(t.Context(), js, window.Options{MaxBytes: 64 << 20}, k.tell, now)
	if err != nil {
		t.Fatalf("Open = %v", err)
	}
	return s
}

func at(s int) *timestamppb.Timestamp {
	return timestamppb.New(time.Date(2026, 5, 1, 12, 0, s, 0, time.UTC))
}

// one is a window that has lost count numbers, from number 10 on.
func one(id string, count uint64, isOpen bool) *notifierv1.Window {
	return &notifierv1.Window{
		Id: id, ClusterId: "orders", InstanceId: "db1", Epoch: 7, Cause: notifierv1.Cause_CAUSE_RING_FULL,
		First: 10, Last: 10 + count, Count: count, Begin: at(0), End: at(int(count)), Open: isOpen,
	}
}

func put(t *testing.T, s *window.Store, w *notifierv1.Window) *notifierv1.Window {
	t.Helper()
	kept, err := s.Put(t.Context(), w, "")
	if err != nil {
		t.Fatalf("Put(%v) = %v", w, err)
	}
	return kept
}

func TestAWindowOpensGrowsAndCloses(t *testing.T) {
	k := &told{}
	s := open(t, connect(t), k, time.Now)
	put(t, s, one("db1/7/ring_full/10", 0, true))
	put(t, s, one("db1/7/ring_full/10", 5, true))
	if got := put(t, s, one("db1/7/ring_full/10", 3, true)); got.GetCount() != 5 {
		t.Errorf("Put(3 after 5) = %v, want the count to stay 5", got)
	}
	if got := put(t, s, one("db1/7/ring_full/10", 8, false)); got.GetCount() != 8 || got.GetOpen() {
		t.Errorf("Put(closed) = %v, want it closed with 8", got)
	}
	if got := put(t, s, one("db1/7/ring_full/10", 9, true)); got.GetOpen() || got.GetCount() != 8 {
		t.Errorf("Put(open after closed) = %v, want it as it closed", got)
	}
	if fmt.Sprint(k.order) != "[db1/7/ring_full/10/opened db1/7/ring_full/10/closed]" {
		t.Errorf("told %v, want one event for each end", k.order)
	}
	if o := k.events["db1/7/ring_full/10/opened"]; o.GetCount() != 0 || !o.GetOpen() {
		t.Errorf("the first event has %v, want what was known then", o)
	}
	other := one("db1/7/ring_full/10", 1, true)
	other.Epoch = 8
	if _, err := s.Put(t.Context(), other, ""); !fault.Is(err, fault.Conflict) {
		t.Errorf("Put(same id, another epoch) = %v, want conflict", err)
	}
}

// A replica that dies between the document and its events leaves them to the
// next sweep, of whichever replica.
func TestSweepTellsWhatWasNotTold(t *testing.T) {
	k := &told{fail: func() bool { return true }}
	js := connect(t)
	s := open(t, js, k, time.Now)
	if _, err := s.Put(t.Context(), one("db1/7/ring_full/10", 4, false), "late"); !fault.Is(err, fault.NotReady) {
		t.Fatalf("Put with the event store down = %v, want not ready", err)
	}
	k.fail = nil
	if err := open(t, js, k, time.Now).Sweep(t.Context()); err != nil {
		t.Fatalf("Sweep = %v", err)
	}
	if len(k.order) != 2 {
		t.Errorf("told %v, want both events", k.order)
	}
}

// What closed long ago is forgotten, what is open never, nor the newest of an instance.
func TestSweepForgets(t *testing.T) {
	now := time.Now()
	k := &told{}
	s := open(t, connect(t), k, func() time.Time { return now })
	put(t, s, one("db1/7/ring_full/10", 4, false))
	open2 := one("db1/7/engine_gone/1", 0, true)
	open2.Begin = at(1)
	put(t, s, open2)
	newest := one("db1/7/torn/90", 1, false)
	newest.Begin, newest.End = at(2), at(3)
	put(t, s, newest)
	now = now.Add(window.Retention + time.Minute)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatalf("Sweep = %v", err)
	}
	left, err := s.List(t.Context(), window.Query{InstanceID: "DB1"})
	if err != nil || len(left) != 2 || left[0].GetId() != open2.GetId() || left[1].GetId() != newest.GetId() {
		t.Errorf("List after Sweep = %v, %v, want the open one and the newest", left, err)
	}
}

func TestList(t *testing.T) {
	s := open(t, connect(t), &told{}, time.Now)
	put(t, s, one("db1/7/ring_full/10", 4, false))
	other := one("db2/9/torn/3", 1, true)
	other.InstanceId, other.Epoch, other.ClusterId, other.Begin = "db2", 9, "accounts", at(5)
	put(t, s, other)
	for name, tt := range map[string]struct {
		q    window.Query
		want string
	}{
		"all":      {window.Query{}, "[db1/7/ring_full/10 db2/9/torn/3]"},
		"instance": {window.Query{InstanceID: "db2"}, "[db2/9/torn/3]"},
		"cluster":  {window.Query{ClusterID: "ORDERS"}, "[db1/7/ring_full/10]"},
		"epoch":    {window.Query{Epoch: 9}, "[db2/9/torn/3]"},
		"open":     {window.Query{OpenOnly: true}, "[db2/9/torn/3]"},
		"none":     {window.Query{InstanceID: "db1", OpenOnly: true}, "[]"},
	} {
		got, err := s.List(t.Context(), tt.q)
		ids := []string{}
		for _, w := range got {
			ids = append(ids, w.GetId())
		}
		if err != nil || fmt.Sprint(ids) != tt.want {
			t.Errorf("%s: List = %v, %v, want %s", name, ids, err, tt.want)
		}
	}
}

// Calls that come twice, out of order, through two replicas of which any may
// die before it has told, leave each window with one event for each end, and
// with what whoever closed it first said.
func TestTwoReplicasAndEveryOrder(t *testing.T) {
	js := connect(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var rngMu sync.Mutex
	k := &told{}
	k.fail = func() bool { rngMu.Lock(); defer rngMu.Unlock(); return rng.IntN(4) == 0 }
	replicas := []*window.Store{open(t, js, k, time.Now), open(t, js, k, time.Now)}
	const windows = 6
	var calls []*notifierv1.Window
	for n := range windows {
		id := fmt.Sprintf("db1/7/ring_full/%d", n)
		for c := range uint64(3) {
			calls = append(calls, one(id, c, true), one(id, c, true))
		}
		calls = append(calls, one(id, 3, false), one(id, 3, false))
	}
	rng.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
	var wg sync.WaitGroup
	for i, s := range replicas {
		wg.Go(func() {
			for n, w := range calls {
				if n%2 == i {
					if _, err := s.Put(t.Context(), w, ""); err != nil && !fault.Is(err, fault.NotReady) {
						t.Errorf("Put(%v) = %v", w, err)
					}
				}
			}
		})
	}
	wg.Wait()
	k.fail = nil
	if err := replicas[0].Sweep(t.Context()); err != nil {
		t.Fatalf("Sweep = %v", err)
	}
	got, err := replicas[1].List(t.Context(), window.Query{})
	if err != nil || len(got) != windows || len(k.events) != 2*windows {
		t.Fatalf("%d windows, %d events, %v; want %d and twice as many", len(got), len(k.events), err, windows)
	}
	for _, w := range got {
		if w.GetOpen() || w.GetCount() != 3 {
			t.Errorf("%v, want it closed with 3", w)
		}
		if c := k.events[w.GetId()+"/closed"]; !proto.Equal(c, w) {
			t.Errorf("told %v, kept %v", c, w)
		}
	}
}
