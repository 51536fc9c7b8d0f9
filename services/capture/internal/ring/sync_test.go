package ring_test

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/services/capture/internal/ring"
)

// synchronous is what the tests below tell the engine.
func synchronous(t testing.TB, r *ring.Ring, timeout time.Duration) {
	t.Helper()
	if err := r.SetPolicy(ring.Policy{Mode: ring.ModeSync, SyncLevel: ring.LevelTransaction, SyncTimeout: timeout, Generation: 1}); err != nil {
		t.Fatal(err)
	}
	if err := r.SetHealthy(true); err != nil {
		t.Fatal(err)
	}
}

// waitIn has the engine wait for a number, and returns why it ended. The answer comes when it has.
func waitIn(e *engine, number uint64) <-chan string {
	answer := make(chan string, 1)
	go func() {
		why, _, _ := strings.Cut(e.say("wait %d", number), " ")
		answer <- why
	}()
	return answer
}

// ended is the answer, which has to come.
func ended(t testing.TB, answer <-chan string, want string) {
	t.Helper()
	select {
	case got := <-answer:
		if got != want {
			t.Errorf("the wait ended with %q, want %q", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("the wait has not ended, want %q", want)
	}
}

func path(t testing.TB, r *ring.Ring, want ring.Path) {
	t.Helper()
	if got, err := r.Path(); err != nil || got != want {
		t.Errorf("Path() = %d, %v, want %d", got, err, want)
	}
}

// Every way in which a wait ends.
func TestSessionWaitsUntilDurable(t *testing.T) {
	at := memoryPath(t)
	e := startEngine(t, at, 64<<10)
	r, err := ring.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	reader := r.Reader()
	synchronous(t, r, time.Hour)

	n, _ := e.put(10, base)
	waiting := waitIn(e, n)
	expect(t, reader, fmt.Sprint(n))
	select {
	case why := <-waiting:
		t.Fatalf("the wait ended with %q before the checkpoint", why)
	case <-time.After(250 * time.Millisecond): // two slices and more
	}
	checkpoint(t, r, reader)
	ended(t, waiting, "durable")
	ended(t, waitIn(e, n), "durable") // nothing to wait for
	path(t, r, ring.PathHealthy)

	// Capture says that records do not reach the journal.
	n, _ = e.put(10, base)
	waiting = waitIn(e, n)
	if err := r.SetHealthy(false); err != nil {
		t.Fatal(err)
	}
	ended(t, waiting, "degraded")
	ended(t, waitIn(e, n), "degraded") // nobody waits until it is healthy again
	if err := r.SetHealthy(true); err != nil {
		t.Fatal(err)
	}

	// The mode leaves sync.
	waiting = waitIn(e, n)
	if err := r.SetPolicy(ring.Policy{Mode: ring.ModeAsync, Generation: 2}); err != nil {
		t.Fatal(err)
	}
	ended(t, waiting, "unsynced")

	// The time-out degrades the path, for everybody.
	synchronous(t, r, 20*time.Millisecond)
	ended(t, waitIn(e, n), "timeout")
	path(t, r, ring.PathDegraded)
	ended(t, waitIn(e, n), "degraded")

	// So it does where no capture ever said how the path is.
	expect(t, reader, fmt.Sprint(n))
	checkpoint(t, r, reader)
	e.end()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	e = startEngine(t, at, 64<<10)
	r2 := open(t, at)
	path(t, r2, ring.PathUnknown)
	n, _ = e.put(10, base)
	ended(t, waitIn(e, n), "timeout")
	path(t, r2, ring.PathDegraded)
}

// A restarting server believes the capture that is there, and no other.
func TestServerForgetsTheHealthOfACaptureThatIsGone(t *testing.T) {
	at := memoryPath(t)
	e := startEngine(t, at, 64<<10)
	r, err := ring.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	synchronous(t, r, time.Second)
	e.end()
	e = startEngine(t, at, 64<<10)
	path(t, r, ring.PathHealthy)
	e.end()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	startEngine(t, at, 64<<10)
	again := open(t, at)
	path(t, again, ring.PathUnknown)
	if p, err := again.Policy(); err != nil || p.Mode != ring.ModeSync {
		t.Errorf("Policy() after the restart = %+v, %v, want sync as before", p, err)
	}
}

// What sessions count, and what a session that was killed in its wait leaves.
func TestEngineCountsReleasedAndRefused(t *testing.T) {
	at := memoryPath(t)
	e := startEngine(t, at, 64<<10)
	r := open(t, at)
	synchronous(t, r, time.Hour)
	for _, line := range []string{"released 7 1700000000000001", "released 5 1700000000000002", "refused", "refused", "refused"} {
		if answer := e.say("%s", line); answer != "ok" {
			t.Fatalf("engine says %q to %q", answer, line)
		}
	}
	s := status(t, r)
	if s.Released != 2 || s.ReleasedThrough != 7 || s.ReleasedAt.UnixMicro() != base+2 || s.Refused != 3 || s.Path != ring.PathHealthy {
		t.Errorf("Status() = %d released to %d at %v, %d refused, path %d; want 2 to 7 at the last one's time, 3, healthy",
			s.Released, s.ReleasedThrough, s.ReleasedAt, s.Refused, s.Path)
	}
	if left := e.say("kill 99"); left != "1" || status(t, r).Waiting != 1 {
		t.Errorf("after a session was killed in its wait %s waiters are counted, want 1", left)
	}
	e.say("recover")
	if left := e.say("waiters"); left != "0" || status(t, r).Waiting != 0 {
		t.Errorf("after the server recovered %s waiters are counted, want 0", left)
	}
	path(t, r, ring.PathHealthy) // the capture is here
}

// Room is what put finds, wherever the ring ends and whatever gap is open.
func TestRoomIsWhatPutFinds(t *testing.T) {
	at := memoryPath(t)
	e := startEngine(t, at, 64<<10)
	r := open(t, at)
	reader := r.Reader()
	rnd := rand.New(rand.NewPCG(1, 2))
	var found, refused, careful int
	for i := range 600 {
		length := rnd.IntN(8300)
		room := e.say("room %d", length) == "1"
		_, in := e.put(length, base+uint64(i))
		if room && !in {
			t.Fatalf("put %d: there was room for %d bytes, and put found none", i, length)
		}
		if in && !room {
			careful++ // a gap's frame is counted at its longest
		}
		if in {
			found++
		} else {
			refused++
		}
		if rnd.IntN(12) == 0 {
			for {
				item, err := reader.Next()
				if err != nil {
					t.Fatal(err)
				}
				if item.Kind == ring.Nothing {
					break
				}
			}
			checkpoint(t, r, reader)
		}
	}
	if found < 100 || refused < 100 || careful > 10 {
		t.Errorf("%d puts found room, %d of them against what was said, and %d did not: want many, few, many", found, careful, refused)
	}
}

// Sessions write and wait while capture acknowledges as it likes: each wake-up arrives. A sleep is a minute long in this
// test, so a lost one is not made good by the next look.
func TestNoWakeUpIsLost(t *testing.T) {
	sessions, rounds := 96, 150
	if testing.Short() {
		sessions, rounds = 32, 60
	}
	seed := uint64(time.Now().UnixNano()) % 1_000_000
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 3))
	at := memoryPath(t)
	d := converse(t, exec.Command(program(t, "waiters"), at, fmt.Sprint(sessions), fmt.Sprint(rounds), fmt.Sprint(seed)))
	if answer := d.line(); answer != "open" {
		t.Fatalf("waiters says %q", answer)
	}
	r := open(t, at)
	synchronous(t, r, time.Hour)
	reader := r.Reader()
	report := make(chan string, 1)
	go func() { report <- d.say("go") }()

	acks := 0
	var pending []ring.Position
	for {
		item, err := reader.Next()
		if err != nil {
			t.Fatal(err)
		}
		if item.Kind != ring.Nothing {
			pending = append(pending, reader.Position())
			if rnd.IntN(4) != 0 {
				continue
			}
		} else if len(pending) == 0 {
			// Nothing to read and nothing to acknowledge: asleep, until a session rings.
			if err := reader.Wait(t.Context(), 20*time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		if len(pending) > 0 {
			i := rnd.IntN(len(pending))
			if err := r.Checkpoint(pending[i]); err != nil {
				t.Fatal(err)
			}
			pending = pending[i+1:]
			acks++
		}
		select {
		case answer := <-report:
			var waited, slept, timeouts, left, released, through uint64
			if _, err := fmt.Sscan(answer, &waited, &slept, &timeouts, &left, &released, &through); err != nil {
				t.Fatalf("waiters says %q: %v", answer, err)
			}
			t.Logf("%d waits, %d of them with something to wait for, by %d acknowledgements", waited, slept, acks)
			if waited != uint64(sessions*rounds) || slept == 0 || timeouts != 0 || left != 0 {
				t.Errorf("%d waits, %d to wait for, %d lost wake-ups, %d waiters left; want %d, some, 0, 0",
					waited, slept, timeouts, left, sessions*rounds)
			}
			s := status(t, r)
			if s.Released != released || s.ReleasedThrough != through || released == 0 {
				t.Errorf("%d released to %d, want %d to %d", s.Released, s.ReleasedThrough, released, through)
			}
			return
		default:
		}
	}
}
