package mesh_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// Whoever is killed under load and comes back: no number is missing but those
// of frames that were being written, and these are told; the same number is
// always the same bytes (AccountFor refuses anything else).
func TestNothingIsMissingWhoeverIsKilled(t *testing.T) {
	m := mesh.Start(t, mesh.Options{})
	m.MustPgbench("-i", "-q", "-s", "4")

	for _, name := range []string{mesh.Capture, mesh.Crypto, mesh.Publisher, mesh.NATS} {
		t.Run(name, func(t *testing.T) {
			stop := m.KeepBusy("-n", "-c", "4", "-T", "3600")
			defer stop()
			time.Sleep(time.Second)
			for range 2 {
				m.Kill(name)
				time.Sleep(500 * time.Millisecond)
				m.StartProcess(name)
				time.Sleep(1500 * time.Millisecond)
			}
			stop()
			account, numbers := m.Settle(t)
			if len(account.Told) > 0 {
				t.Errorf("%d numbers are told as lost, want none: no session died and the ring had room", len(account.Told))
			}
			t.Logf("%d numbers, all there", numbers.Number)
		})
	}
	t.Run("a session", func(t *testing.T) {
		stop := m.KeepBusy("-n", "-c", "4", "-T", "3600")
		defer stop()
		for range 2 {
			time.Sleep(1500 * time.Millisecond)
			killSession(t, m)
		}
		time.Sleep(1500 * time.Millisecond)
		stop()
		onlyTorn(t, m)
	})
	t.Run("a session in its statement", func(t *testing.T) { killedInItsStatement(t, m) })
	t.Run("capture, by a superuser in psql", func(t *testing.T) { captureKilledThroughSQL(t, m) })
	t.Run("the postmaster", func(t *testing.T) {
		stop := m.KeepBusy("-n", "-c", "4", "-T", "3600")
		defer stop()
		time.Sleep(time.Second)
		if err := m.Postgres.Kill(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := m.Postgres.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond)
		stop()
		onlyTorn(t, m)
		lostAndReturned(t, m)
	})
}

// killSession kills one session of pgbench's with SIGKILL, as a bug or the
// kernel's memory killer would; PostgreSQL then ends all others and restarts.
func killSession(t *testing.T, m *mesh.Mesh) {
	t.Helper()
	var pid int
	mesh.Eventually(t, 20*time.Second, func() error {
		out := m.Psql("postgres", "select pid from pg_stat_activity where application_name = 'pgbench' limit 1")
		if _, err := fmt.Sscan(out, &pid); err != nil {
			return fmt.Errorf("no session of pgbench: %s", out)
		}
		return nil
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// onlyTorn checks that whatever is told as lost is a frame that was being written.
func onlyTorn(t *testing.T, m *mesh.Mesh) {
	t.Helper()
	account, numbers := m.Settle(t)
	for n, cause := range account.Told {
		if cause != "torn" {
			t.Errorf("number %d is told as %s, want torn", n, cause)
		}
	}
	// A session writes one frame at a time: no more can be torn than sessions died.
	if len(account.Told) > 4*4 {
		t.Errorf("%d numbers are torn, of a handful of sessions", len(account.Told))
	}
	t.Logf("%d numbers, %d torn and told", numbers.Number, len(account.Told))
}

// lostAndReturned checks that the notifier heard of the server's end and return.
func lostAndReturned(t *testing.T, m *mesh.Mesh) {
	t.Helper()
	mesh.Eventually(t, 20*time.Second, func() error {
		out := m.MustWeir("events", "list")
		for _, id := range []string{"WEIR-EVENT-0001", "WEIR-EVENT-0002", "RDS-EVENT-0179"} {
			if !strings.Contains(out, id) {
				return fmt.Errorf("no %s in:\n%s", id, out)
			}
		}
		return nil
	})
}

// A ring too small for what happens while capture stands still: what is told as
// lost is exactly what has no event, and both together are what was executed.
func TestGapOfAFullRingIsExact(t *testing.T) {
	m := mesh.Prepare(t, mesh.Options{RingSize: 64 << 10, Environment: []string{"WEIR_CAPTURE_DRAIN=1s"}})
	receiver := refusingHook(t, m)
	m.Begin()
	w := watch(t, m)
	m.Settle(t)
	before, err := m.Numbers()
	if err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	m.Signal(mesh.Capture, syscall.SIGSTOP)
	const statements = 5000
	m.MustPgbench("-n", "-c", "1", "-t", fmt.Sprint(statements), "-f", script(t, m, "SELECT 1;\n"))
	silent := w.opens(t, notifierv1.Cause_CAUSE_CAPTURE_SILENT, stopped)
	m.Signal(mesh.Capture, syscall.SIGCONT)

	account, numbers := m.Settle(t)
	// The session is a login, the statements and a disconnect. pgbench without
	// -n would look at its tables too.
	executed := numbers.Number - before.Number
	if executed < statements+2 || executed > statements+8 {
		t.Errorf("%d numbers for %d statements, a login and a disconnect", executed, statements)
	}
	if len(account.Told) == 0 {
		t.Fatal("no loss: the ring was not too small, the test tests nothing")
	}
	if got := uint64(account.Kept() + len(account.Told)); got != numbers.Number {
		t.Errorf("%d events and %d lost are %d, want %d", len(account.Events), len(account.Told), got, numbers.Number)
	}
	for n := range account.Told {
		if _, there := account.Events[n]; there {
			t.Errorf("number %d is told as lost, and is there", n)
		}
	}
	if numbers.Lost != uint64(len(account.Told)) {
		t.Errorf("capture says that %d are lost, the stream tells of %d", numbers.Lost, len(account.Told))
	}
	t.Logf("%d executed, %d kept, %d told as lost", executed, len(account.Events), len(account.Told))
	oneWindowTells(t, m, account)
	if silent = w.closes(t, silent); !silent.GetLowerBound() || silent.GetEnd().AsTime().Sub(silent.GetBegin().AsTime()) < 4*time.Second {
		t.Errorf("capture's silence is told as %v, want 4 s of it at least", silent)
	}
	aWindowOpensBeforeItCanBeCounted(t, m, w, len(account.Told))
	receiver.isADeadLetter(t)
	withoutANumber(t, m, w)
	theRingGoes(t, m, w)
	endsThatNobodyHeardOf(t, m, w)
	w.end(t)
}
