package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/journal/natsserver"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/services/publisher/internal/kinesis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	cluster  = "cluster-AAAAAAAAAAAAAAAAAAAAAAAAAA"
	instance = "db-ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// fakeKinesis answers as it is told, and remembers what it took.
type fakeKinesis struct {
	t *testing.T

	mu     sync.Mutex
	taken  map[string]int // by partition key, which is the record's number here
	calls  int
	fail   error                  // of whole calls
	refuse func(key string) error // of single records
	takes  time.Duration
}

func (f *fakeKinesis) Put(ctx context.Context, _ string, records []kinesis.Record) ([]error, error) {
	f.mu.Lock()
	takes := f.takes
	f.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	size := 0
	for _, r := range records {
		size += r.Size()
	}
	if len(records) == 0 || len(records) > kinesis.MaxRecords || size > kinesis.MaxBytes && len(records) > 1 {
		f.t.Errorf("Put of %d records, %d bytes, want 1 to %d, up to %d", len(records), size, kinesis.MaxRecords, kinesis.MaxBytes)
	}
	if f.fail != nil {
		return nil, f.fail
	}
	results := make([]error, len(records))
	for i, r := range records {
		if f.refuse != nil {
			results[i] = f.refuse(r.PartitionKey)
		}
		if results[i] == nil {
			f.taken[r.PartitionKey]++
		}
	}
	return results, nil
}

func (f *fakeKinesis) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeKinesis) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.taken)
}

// world is a journal with both its ends.
type world struct {
	in, out *journal.Journal
	kinesis *fakeKinesis
	relay   *Relay
	stop    func()
}

func newWorld(t *testing.T, limits Limits) *world {
	t.Helper()
	dir := t.TempDir()
	if err := certs.Ensure(dir); err != nil {
		t.Fatal(err)
	}
	s, err := natsserver.Start(natsserver.Options{Dir: t.TempDir(), TLS: certs.TLS(dir, "nats")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	open := func(name string) *journal.Journal {
		cfg := journal.Config{URL: s.URL(), TLS: certs.TLS(dir, name)}
		conn, err := journal.Connect(t.Context(), cfg, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		j, err := journal.Open(t.Context(), conn, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	w := &world{in: open("crypto"), out: open("publisher"), kinesis: &fakeKinesis{t: t, taken: map[string]int{}}}
	w.start(t, limits)
	return w
}

func (w *world) start(t *testing.T, limits Limits) {
	t.Helper()
	var err error
	if w.relay, err = New(w.out, w.kinesis, limits, slog.New(slog.DiscardHandler), obs.Discard()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.relay.Run(ctx) })
	w.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(w.stop)
}

func (w *world) publish(t *testing.T, first, last, size int) {
	t.Helper()
	var wg sync.WaitGroup
	for n := first; n <= last; n++ {
		wg.Go(func() {
			if err := w.in.Publish(t.Context(), journal.Message{
				Cluster: cluster, Instance: instance, KinesisStream: "s",
				PartitionKey: fmt.Sprint(n), ID: fmt.Sprint(n), Data: make([]byte, size),
			}); err != nil {
				t.Error(err)
			}
		})
		if n%64 == 0 {
			wg.Wait()
		}
	}
	wg.Wait()
}

func (w *world) waiting(t *testing.T) uint64 {
	t.Helper()
	st, err := w.out.State(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return st.Records
}

var usual = Limits{Bytes: 64 << 20, LaneBytes: 16 << 20, Workers: 4, Linger: 20 * time.Millisecond}

func TestBatchesFitAndMemoryIsGivenBack(t *testing.T) {
	w := newWorld(t, usual)
	w.publish(t, 1, 1000, 100)
	w.publish(t, 1001, 1030, 800_000)
	eventually(t, "all records", func() bool { return w.kinesis.count() == 1030 && w.waiting(t) == 0 })
	for key, n := range w.kinesis.taken {
		if n != 1 {
			t.Errorf("record %s was put %d times, want once", key, n)
		}
	}
	if w.kinesis.calls > 300 {
		t.Errorf("1030 records took %d calls, want batches", w.kinesis.calls)
	}
	w.stop()
	if !w.relay.budget.TryAcquire(usual.Bytes) || w.relay.failing.Load() != 0 || len(w.relay.held) != 0 || len(w.relay.lanes) != 0 {
		t.Errorf("after the end: failing %d, held %d, lanes %d, or the budget is not whole",
			w.relay.failing.Load(), len(w.relay.held), len(w.relay.lanes))
	}
}

// An endpoint that calls everything invalid is no reason to give up a record:
// only one that takes others is.
func TestEndpointThatRefusesEverything(t *testing.T) {
	w := newWorld(t, usual)
	invalid := fault.As(fault.Invalid, errors.New("ValidationException"))
	w.kinesis.set(func() { w.kinesis.fail = invalid })
	w.publish(t, 1, 30, 100)
	time.Sleep(3 * time.Second)
	if n := w.waiting(t); n != 30 {
		t.Fatalf("%d of 30 records are left in the journal", n)
	}
	// It comes to its senses, but for one record.
	w.kinesis.set(func() {
		w.kinesis.fail = nil
		w.kinesis.refuse = func(key string) error {
			if key == "17" {
				return invalid
			}
			return nil
		}
	})
	eventually(t, "all records but one", func() bool { return w.kinesis.count() == 29 && w.waiting(t) == 0 })
}

// Stopping finishes what is on its way to Kinesis and gives the rest back at
// once: the next replica need not wait for AckWait.
func TestStopGivesBack(t *testing.T) {
	w := newWorld(t, Limits{Bytes: 64 << 20, LaneBytes: 16 << 20, Workers: 1, Linger: time.Millisecond})
	w.kinesis.set(func() { w.kinesis.takes = 500 * time.Millisecond })
	w.publish(t, 1, 1500, 100)
	eventually(t, "the first batch", func() bool { return w.kinesis.count() > 0 })
	began := time.Now()
	w.stop()
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("stopping took %v", d)
	}
	if w.kinesis.count() == 1500 {
		t.Fatal("everything had been put before the stop: the test proved nothing")
	}
	w.kinesis.set(func() { w.kinesis.takes = 0 })
	w.start(t, usual)
	began = time.Now()
	eventually(t, "the rest", func() bool { return w.kinesis.count() == 1500 && w.waiting(t) == 0 })
	if d := time.Since(began); d > journal.AckWait/2 {
		t.Errorf("the next replica had the rest after %v, want at once", d)
	}
	for key, n := range w.kinesis.taken {
		if n != 1 {
			t.Errorf("record %s was put %d times, want once", key, n)
		}
	}
}

// A server may stop between noting an acknowledgement and deleting the record.
// What it then keeps is delivered to nobody, until the relay sees it.
func TestStrandedRecordsAreDeliveredAgain(t *testing.T) {
	w := newWorld(t, usual)
	w.stop()
	w.publish(t, 1, 10, 100)
	if _, err := w.out.Consumer(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The consumer believes that it is through with the first five.
	if err := w.out.Redeliver(t.Context(), 6); err != nil {
		t.Fatal(err)
	}
	if first, err := w.out.Stranded(t.Context()); err != nil || first != 1 {
		t.Fatalf("Stranded = %d, %v, want 1", first, err)
	}
	w.start(t, usual)
	eventually(t, "all records, the stranded ones too", func() bool { return w.kinesis.count() == 10 && w.waiting(t) == 0 })
	if first, err := w.out.Stranded(t.Context()); err != nil || first != 0 {
		t.Errorf("Stranded = %d, %v, want none", first, err)
	}
}

// Records held for longer than the journal's patience are not delivered twice.
func TestHeldRecordsAreNotDeliveredAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, usual)
	w.kinesis.set(func() { w.kinesis.fail = fault.As(fault.NotReady, errors.New("away")) })
	w.publish(t, 1, 50, 100)
	time.Sleep(journal.AckWait + 5*time.Second)
	if in, _ := w.relay.hop.Counts(); in != 50 {
		t.Errorf("%d deliveries of 50 records in %v, want 50", in, journal.AckWait+5*time.Second)
	}
	w.kinesis.set(func() { w.kinesis.fail = nil })
	eventually(t, "all records", func() bool { return w.kinesis.count() == 50 && w.waiting(t) == 0 })
}

func TestAfter(t *testing.T) {
	for deliveries := uint64(1); deliveries < 100; deliveries++ {
		ceiling := min(2*time.Second<<min(deliveries, 8), 5*time.Minute)
		for range 20 {
			if d := after(deliveries); d < ceiling/2 || d > ceiling {
				t.Errorf("after(%d) = %v, want %v to %v", deliveries, d, ceiling/2, ceiling)
			}
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}
