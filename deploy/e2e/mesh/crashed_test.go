package mesh_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
)

// killedInItsStatement kills a session in the middle of a statement: whoever reads the stream sees the statement, with its
// text, that it did not end well, and that this was a crash.
func killedInItsStatement(t *testing.T, m *mesh.Mesh) {
	const text = "select 'the last words', pg_sleep(3600);"
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Psql("postgres", text)
	}()
	var pid int
	mesh.Eventually(t, 30*time.Second, func() error {
		out := m.Psql("postgres", "select pid from pg_stat_activity where query like 'select ''the last words''%' and wait_event = 'PgSleep'")
		if _, err := fmt.Sscan(out, &pid); err != nil {
			return fmt.Errorf("it does not sleep yet: %s", out)
		}
		return nil
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-done
	mesh.Eventually(t, 60*time.Second, func() error {
		if out := m.Psql("postgres", "select 'alive'"); !strings.Contains(out, "alive") {
			return fmt.Errorf("the server is not back: %s", out)
		}
		return nil
	})
	account, _ := m.Settle(t)
	if closest, ok := find(account.All(), fields{
		"commandText": text, "command": "SELECT", "class": "READ", "exitCode": "57P02", "pid": float64(pid), "dbUserName": "postgres",
		"errorMessage": "the server process of this session died",
	}); !ok {
		t.Errorf("the statement did not arrive; closest is\n  %s", closest)
	}
	if closest, ok := find(account.All(), fields{"command": "DISCONNECT", "exitCode": "57P02", "pid": float64(pid)}); !ok {
		t.Errorf("the end of the session did not arrive; closest is\n  %s", closest)
	}
	noticed := false
	for _, b := range account.Beside {
		noticed = noticed || b.Kind == "session_crashed" && b.Subject == fmt.Sprint("process ", pid) && b.User == "postgres"
	}
	if !noticed {
		t.Errorf("no notice says that process %d crashed: %v", pid, account.Beside)
	}
	mesh.Eventually(t, 30*time.Second, func() error {
		out := m.MustWeir("events", "list")
		if want := fmt.Sprint("session_crashed: process ", pid); !strings.Contains(out, want) {
			return fmt.Errorf("the notifier has no %q:\n%s", want, out)
		}
		return nil
	})
}

// captureKilledThroughSQL has a superuser kill capture with the means that SQL gives him: the account of the server. Where
// capture has an account of its own, as it is deployed, he may not; where he may, the ring keeps what happens meanwhile.
func captureKilledThroughSQL(t *testing.T, m *mesh.Mesh) {
	text := fmt.Sprintf("copy (select 1) to program 'kill -9 %d';", m.PID(mesh.Capture))
	if out := m.Psql("postgres", text); !strings.Contains(out, "failed") {
		m.Kill(mesh.Capture) // dead already; this waits for it
		m.Psql("postgres", "select 'while capture is dead'")
		m.StartProcess(mesh.Capture)
	}
	account, _ := m.Settle(t)
	if closest, ok := find(account.All(), fields{"commandText": text, "command": "COPY"}); !ok {
		t.Errorf("the attempt did not arrive; closest is\n  %s", closest)
	}
	if len(account.Told) > 16 {
		t.Errorf("%d numbers are told as lost", len(account.Told))
	}
}
