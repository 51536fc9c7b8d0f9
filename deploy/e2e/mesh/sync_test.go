package mesh_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// What a client saw committed has its record on the journal's disk, at that very
// moment: whoever is killed right after, and even if the memory of the database's
// host is gone with the ring in it.
func TestWhatAClientSawCommittedIsInTheStream(t *testing.T) {
	t.Parallel()
	m := mesh.Start(t, mesh.Options{Mode: []string{"--mode", "sync", "--sync-level", "transaction", "--sync-timeout", "10m"}})
	// Sessions do not wait for Kinesis: what the journal has is delivered at the end.
	m.Kill(mesh.Publisher)
	l := startLedger(t, m, 4)
	for _, name := range []string{mesh.Capture, mesh.Crypto, mesh.NATS} {
		l.progress(50)
		m.Kill(name)
		m.StartProcess(name)
	}
	l.progress(50)
	restart := func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := m.Postgres.Restart(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Postgres.Kill(); err != nil {
		t.Fatal(err)
	}
	restart()
	l.progress(50)

	// The host dies: capture first, so that clients may see what they like until
	// the server dies too. In asynchronous mode they would see a lot.
	m.Kill(mesh.Capture)
	time.Sleep(300 * time.Millisecond)
	m.Kill(mesh.Crypto)
	m.Kill(mesh.NATS)
	if err := m.Postgres.Kill(); err != nil {
		t.Fatal(err)
	}
	l.stop()
	seen := l.commits()
	if err := os.Remove(m.Ring()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{mesh.NATS, mesh.Crypto, mesh.Publisher} {
		m.StartProcess(name)
	}
	allWritten(t, m, seen)

	// Nothing of the mesh waits for what is gone.
	restart()
	m.StartProcess(mesh.Capture)
	again := startLedger(t, m, 1)
	again.progress(20)
	again.stop()
	m.Settle(t)
	allWritten(t, m, again.commits())
	if n, err := m.Numbers(); err != nil || n.Released != 0 {
		t.Errorf("%d sessions were let go, %v; want none", n.Released, err)
	}
	t.Logf("%d commits seen by clients, all in the stream", len(seen))
}

// One mesh, through the modes and policies that it can be switched between.
func TestSynchronousMode(t *testing.T) {
	t.Parallel()
	m := mesh.Start(t, mesh.Options{})

	t.Run("switching loses and repeats nothing", func(t *testing.T) {
		l := startLedger(t, m, 3)
		for _, level := range []string{"transaction", "statement", "strict"} {
			m.StartStream("--mode", "sync", "--sync-level", level, "--sync-timeout", "10m")
			l.progress(40)
			m.StartStream("--mode", "async")
			l.progress(40)
		}
		l.stop()
		account, _ := m.Settle(t)
		if len(account.Told) > 0 {
			t.Errorf("%d numbers are told as lost, want none", len(account.Told))
		}
		once(t, m)
		allWritten(t, m, rows(t, m))
	})
	t.Run("continue", func(t *testing.T) { continues(t, m) })
	t.Run("fail_operation", func(t *testing.T) { fails(t, m) })
}

// once checks that no number is in two records.
func once(t *testing.T, m *mesh.Mesh) {
	t.Helper()
	records, err := m.Records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	in := map[uint64]int{}
	for i, r := range records {
		for _, n := range r.Weir.N {
			if before, seen := in[n]; seen && before != i {
				t.Errorf("number %d is in two records", n)
			}
			in[n] = i
		}
	}
}

// With the policy continue sessions go on when the journal is gone, somebody is
// told, and all is as before when it is back; nothing is lost, for the ring holds it.
func continues(t *testing.T, m *mesh.Mesh) {
	m.StartStream("--mode", "sync", "--on-failure", "continue", "--sync-timeout", "400ms")
	if out := m.MustWeir("stream", "status", "--cluster", "test"); !strings.Contains(out, "sync, level transaction, on failure continue, time-out 400ms") {
		t.Errorf("weir stream status does not say what was asked for:\n%s", out)
	}
	l := startLedger(t, m, 2)
	l.progress(20)
	before := now(t, m, mesh.Capture)
	m.Signal(mesh.NATS, syscall.SIGSTOP)
	l.progress(200) // one after the other they would take 40 s
	m.Eventually(30*time.Second, func() error {
		n, err := m.Numbers()
		if err == nil && (n.Healthy || n.Released < 100 || n.Refused > 0) {
			err = fmt.Errorf("while NATS is down: %+v, want a path that is not healthy, and sessions let go", n)
		}
		return err
	})
	m.Signal(mesh.NATS, syscall.SIGCONT)
	m.Eventually(30*time.Second, func() error {
		if out := m.MustWeir("events", "list"); !strings.Contains(out, "WEIR-EVENT-0005") {
			return fmt.Errorf("nobody is told of possible loss:\n%s", out)
		}
		return nil
	})
	// They wait again, on a path that is well.
	m.Eventually(60*time.Second, func() error {
		from, err := m.Numbers()
		if err != nil || !from.Healthy {
			return fmt.Errorf("%+v, %v; want a healthy path", from, err)
		}
		l.progress(20)
		to, err := m.Numbers()
		if err != nil || !to.Healthy || to.Released != from.Released {
			return fmt.Errorf("from %+v to %+v, %v; want nobody let go", from, to, err)
		}
		return nil
	})
	possibleLossIsToldInTime(t, m)
	l.stop()
	account, _ := m.Settle(t)
	if len(account.Told) > 0 {
		t.Errorf("%d numbers are told as lost, want none: the ring had room", len(account.Told))
	}
	allWritten(t, m, l.commits())
	log := capturesLog(t, m, before)
	for _, want := range []string{"possible loss began", "possible loss is over"} {
		if !strings.Contains(log, want) {
			t.Errorf("capture did not say %q:\n%s", want, log)
		}
	}
}

// possibleLossIsToldInTime wants the window that has been open closed, and of
// another both events, the first of them soon: this time nothing that the notifier
// needs is away.
func possibleLossIsToldInTime(t *testing.T, m *mesh.Mesh) {
	t.Helper()
	m.Eventually(60*time.Second, func() error {
		for _, w := range released(t, m) {
			if w.GetOpen() {
				return fmt.Errorf("open still: %v", w)
			}
		}
		return nil
	})
	w := watch(t, m)
	began := time.Now()
	m.Signal(mesh.Crypto, syscall.SIGSTOP)
	open := w.opens(t, notifierv1.Cause_CAUSE_RELEASED, began)
	m.Signal(mesh.Crypto, syscall.SIGCONT)
	if closed := w.closes(t, open); closed.GetCount() == 0 || closed.GetLowerBound() || !closed.GetEnd().AsTime().After(open.GetBegin().AsTime()) {
		t.Errorf("possible loss is told as %v, want a count, and its end", closed)
	}
	w.end(t)
}

// released are the windows of possible loss.
func released(t *testing.T, m *mesh.Mesh) (some []*notifierv1.Window) {
	t.Helper()
	for _, w := range windows(t, m) {
		if w.GetCause() == notifierv1.Cause_CAUSE_RELEASED {
			some = append(some, w)
		}
	}
	return some
}

// With fail_operation statements are refused while the journal is gone, with an
// error that says where to look, and are taken again when it is back.
func fails(t *testing.T, m *mesh.Mesh) {
	m.StartStream("--mode", "sync", "--on-failure", "fail_operation", "--sync-timeout", "1s")
	l := startLedger(t, m, 2)
	l.progress(20)
	from, err := m.Numbers()
	if err != nil {
		t.Fatal(err)
	}
	windowsBefore := len(released(t, m))
	m.Signal(mesh.NATS, syscall.SIGSTOP)
	m.Eventually(30*time.Second, func() error {
		if out := m.Psql("postgres", "SELECT 1"); !strings.Contains(out, "weir stream status") {
			return fmt.Errorf("SELECT 1 is answered by %q, want a refusal that says where to look", out)
		}
		return nil
	})
	while, err := m.Numbers()
	if err != nil || while.Healthy || while.Refused <= from.Refused {
		t.Errorf("while NATS is down: %+v, %v; want refusals, after %+v", while, err, from)
	}
	m.Signal(mesh.NATS, syscall.SIGCONT)
	l.progress(20)
	l.stop()
	m.Settle(t)
	allWritten(t, m, l.commits())
	// Logins went in, and errors out, before their records were durable: nothing was
	// done that they could tell of.
	after, err := m.Numbers()
	if n := len(released(t, m)); err != nil || after.Released != from.Released || n != windowsBefore {
		t.Errorf("%+v, %v, with %d windows of possible loss; want nobody let go since %+v, with %d", after, err, n, from, windowsBefore)
	}
}

// capturesLog is what capture wrote since then.
func capturesLog(t *testing.T, m *mesh.Mesh, since mark) string {
	t.Helper()
	text, err := os.ReadFile(m.Path(mesh.Capture + ".log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text[since:])
}
