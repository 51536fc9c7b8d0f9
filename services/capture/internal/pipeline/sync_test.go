package pipeline_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
)

// witness keeps what it was told.
type witness struct {
	mu   sync.Mutex
	told []string
	from []time.Time
}

func (w *witness) Degraded(_ uint64, from time.Time, released uint64) {
	w.tell(fmt.Sprintf("degraded %d", released), from)
}

func (w *witness) Restored(_ uint64, at time.Time, released uint64) {
	w.tell(fmt.Sprintf("restored %d", released), at)
}

func (w *witness) Losing(_, first, through uint64, from time.Time, cause string) {
	w.tell(fmt.Sprintf("losing %d-%d %s", first, through, cause), from)
}

func (w *witness) Missing(_, first, last, count uint64, from, _ time.Time, cause string) {
	w.tell(fmt.Sprintf("missing %d of %d-%d %s", count, first, last, cause), from)
}

func (w *witness) Durable(uint64, uint64) {}

func (w *witness) tell(what string, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told, w.from = append(w.told, what), append(w.from, at)
}

func (w *witness) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

// sync makes what is wanted synchronous.
func (b *bench) sync(timeout time.Duration) *controlv1.Desired {
	d := proto.CloneOf(b.desired)
	d.Generation++
	d.Mode, d.SyncLevel = controlv1.StreamMode_STREAM_MODE_SYNC, controlv1.SyncLevel_SYNC_LEVEL_TRANSACTION
	d.OnFailure, d.SyncTimeout = controlv1.FailurePolicy_FAILURE_POLICY_CONTINUE, durationpb.New(timeout)
	return d
}

// records counts the records journalled that hold events.
func (b *bench) records() (n int) {
	for _, r := range b.crypto.Journal() {
		if r.GetMessageId() != "" {
			n++
		}
	}
	return n
}

// A session that waits does so for a way to the journal and back, and not for a
// nap or a record's age: half of them would be over 20 ms.
func TestOneSessionWaitsForNothingButTheJournal(t *testing.T) {
	b := newBench(t, 1<<20)
	b.desired = b.sync(time.Minute)
	stop := b.run(time.Second)
	defer stop()
	const commits = 100
	var waited []time.Duration
	for range commits {
		b.put(1)
		begun := time.Now()
		if !b.engine.Await(b.engine.Number(), time.Minute) {
			t.Fatalf("number %d is not durable; path %d", b.engine.Number(), b.engine.PathState())
		}
		waited = append(waited, time.Since(begun))
	}
	slices.Sort(waited)
	if middle := waited[commits/2]; middle > 10*time.Millisecond {
		t.Errorf("half of %d sessions waited over %v", commits, middle)
	}
	t.Logf("p50 %v, p99 %v", waited[commits/2], waited[commits*99/100])
}

// What ends while a record is on its way shares the next one.
func TestRecordsGrowWithTheLoad(t *testing.T) {
	b := newBench(t, 1<<20)
	b.desired = b.sync(time.Minute)
	stop := b.run(time.Second)
	const sessions, commits = 16, 40
	payload := b.payload()
	var wg sync.WaitGroup
	for range sessions {
		wg.Go(func() {
			for range commits {
				number, ok := b.engine.Put(payload, time.Now())
				if !ok || !b.engine.Await(number, time.Minute) {
					t.Errorf("number %d: kept %v, durable %d", number, ok, b.engine.Durable())
					return
				}
			}
		})
	}
	wg.Wait()
	stop()
	if events, lost := b.account(); len(events) != sessions*commits || len(lost) != 0 {
		t.Errorf("%d events and %d lost, want %d and none", len(events), len(lost), sessions*commits)
	}
	if n := b.records(); n > sessions*commits/2 {
		t.Errorf("%d records for %d sessions' %d commits each, want far fewer: they did not share", n, sessions, commits)
	}
}

// Switching loses and repeats nothing, and takes no other pipeline.
func TestModeSwitchesUnderLoad(t *testing.T) {
	b := newBench(t, 1<<20)
	stop := b.run(time.Second)
	async, synchronous := b.desired, b.sync(time.Minute)
	for i := range 20 {
		d := async
		if i%2 == 0 {
			d = synchronous
		}
		b.wanted.Store(d)
		b.put(50)
		if d == synchronous && !b.engine.Await(b.engine.Number(), time.Minute) {
			t.Fatalf("number %d is not durable", b.engine.Number())
		}
	}
	b.waitDurable()
	stop()
	if events, lost := b.account(); len(events) != 1000 || len(lost) != 0 {
		t.Errorf("%d events and %d lost, want 1000 and none", len(events), len(lost))
	}
	times := map[string]int{}
	for _, r := range b.crypto.Journal() {
		if id := r.GetMessageId(); id != "" {
			times[id]++
		}
	}
	for id, n := range times {
		if n != 1 {
			t.Errorf("record %s is in the journal %d times, want once", id, n)
		}
	}
}

// The path turns when records do not become durable in time, though nobody
// waits, and back by itself; what may be lost meanwhile is told from when to when.
func TestPathFollowsTheJournal(t *testing.T) {
	b := newBench(t, 1<<20)
	b.desired = b.sync(200 * time.Millisecond)
	stop := b.run(time.Second)
	defer stop()
	healthy := func() bool { return b.engine.PathState() == 1 }
	b.eventually("healthy", healthy)
	// A capture that died may have told that it was not.
	b.eventually("told that it is well", func() bool { return len(b.witness.all()) == 1 })
	away := time.Now()
	b.crypto.SetAway(true)
	b.put(1)
	b.eventually("degraded", func() bool { return b.engine.PathState() == 2 })
	b.eventually("told", func() bool { return len(b.witness.all()) == 2 })
	if b.engine.Await(b.engine.Number(), time.Minute) {
		t.Error("a session saw its record durable while crypto was away")
	}
	b.engine.Release(b.engine.Number(), time.Now())
	b.put(5)
	b.crypto.SetAway(false)
	b.eventually("healthy again", healthy)
	b.eventually("told that it is over", func() bool { return len(b.witness.all()) == 4 })
	if told := b.witness.all(); !slices.Equal(told, []string{"restored 0", "degraded 0", "degraded 1", "restored 1"}) ||
		b.witness.from[1].Before(away) || !b.witness.from[2].Equal(b.witness.from[1]) || b.witness.from[3].Before(b.witness.from[2]) {
		t.Errorf("told %q at %v, want degraded since it was, and restored, with the one that was let go", told, b.witness.from)
	}
	if b.engine.Durable() < 1 {
		t.Errorf("healthy, and durable is %d", b.engine.Durable())
	}
	b.put(1)
	if !b.engine.Await(b.engine.Number(), time.Minute) {
		t.Error("sessions do not wait on the path that is healthy again")
	}
}

// A session that turns the path is believed, and its client's loss is told, even
// if its record becomes durable a moment later; a cancel is told on a healthy path.
func TestSessionsThatAreLetGoAreTold(t *testing.T) {
	b := newBench(t, 1<<20)
	b.desired = b.sync(time.Minute)
	stop := b.run(time.Second)
	defer stop()
	b.eventually("healthy, and told so", func() bool { return b.engine.PathState() == 1 && len(b.witness.all()) == 1 })
	b.put(1)
	gone := time.Now().Add(-time.Second).Truncate(time.Microsecond)
	b.engine.Release(b.engine.Number(), gone)
	b.eventually("told", func() bool { return len(b.witness.all()) == 4 })
	if told := b.witness.all(); !slices.Equal(told, []string{"restored 0", "degraded 0", "degraded 1", "restored 1"}) || !b.witness.from[1].Equal(gone) {
		t.Errorf("told %q from %v, want it from %v and over", told, b.witness.from[1], gone)
	}
	b.wanted.Store(b.sync(10 * time.Millisecond))
	b.crypto.SetAway(true)
	b.put(1)
	if b.engine.Await(b.engine.Number(), 10*time.Millisecond) {
		t.Error("a record is durable while crypto is away")
	}
	b.engine.Release(b.engine.Number(), time.Now())
	b.crypto.SetAway(false)
	b.eventually("healthy, and told", func() bool {
		told := b.witness.all()
		return b.engine.PathState() == 1 && slices.Contains(told, "degraded 2") && told[len(told)-1] == "restored 2"
	})
}

// Under fail_operation nobody is let go, so there is nothing to tell.
func TestRefusedStatementsAreNoLoss(t *testing.T) {
	b := newBench(t, 1<<20)
	b.desired = b.sync(50 * time.Millisecond)
	b.desired.OnFailure = controlv1.FailurePolicy_FAILURE_POLICY_FAIL_OPERATION
	stop := b.run(time.Second)
	defer stop()
	b.eventually("healthy", func() bool { return b.engine.PathState() == 1 })
	b.crypto.SetAway(true)
	// Nothing is written: the heartbeats alone show that the path is down, and
	// that it is well again.
	b.eventually("degraded", func() bool { return b.engine.PathState() == 2 })
	b.crypto.SetAway(false)
	b.eventually("healthy again", func() bool { return b.engine.PathState() == 1 })
	for _, told := range b.witness.all() {
		if told != "restored 0" {
			t.Errorf("told %q, want nothing but that the path is well", told)
		}
	}
}
