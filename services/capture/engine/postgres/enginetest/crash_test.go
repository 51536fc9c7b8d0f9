package enginetest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-das/weir/pkg/postgres"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

// crashed is a server whose sessions are in the middle of something.
type crashed struct {
	*audited
	victim, bystander, idle int32 // processes
}

const (
	victimSQL    = "select pg_sleep(600), 'victim'"
	bystanderSQL = "do $$begin perform pg_sleep(601); execute 'alter role postgres password ''geheim'''; end$$"
	deadMessage  = "the server process of this session died"
)

// inTheMiddle starts a session that is to be the victim, one beside it, and an idle one.
func inTheMiddle(t *testing.T, a *audited) crashed {
	t.Helper()
	c := crashed{audited: a.on(t)}
	for _, s := range []struct {
		pid *int32
		sql string
	}{{&c.victim, victimSQL}, {&c.bystander, bystanderSQL}, {&c.idle, ""}} {
		conn := a.connect(t, "postgres", "postgres")
		*s.pid = int32(conn.PgConn().PID())
		if s.sql == "" {
			if _, err := conn.Exec(t.Context(), "select 'idle'", pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
			continue
		}
		done := a.busy(t, conn, s.sql)
		t.Cleanup(func() { <-done })
	}
	c.await("the idle session", seen("«select 'idle'»"))
	return c
}

// busy runs a statement and returns when it sleeps.
func (a *audited) busy(t *testing.T, conn *pgx.Conn, sql string) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := conn.PgConn().Exec(context.Background(), sql).ReadAll()
		done <- err
	}()
	admin := a.connect(t, "postgres", "postgres")
	defer admin.Close(t.Context())
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		var sleeps bool
		if err := admin.QueryRow(t.Context(), "select count(*) > 0 from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'",
			conn.PgConn().PID()).Scan(&sleeps); err != nil {
			t.Fatal(err)
		}
		if sleeps {
			return done
		}
		if time.Now().After(deadline) {
			t.Fatalf("%.100s never slept", sql)
		}
	}
}

// ended waits until every one of the sessions has its DISCONNECT, and returns what was written.
func (c crashed) ended() []*activityv1.Activity {
	c.t.Helper()
	return c.await("the ends of three sessions", func(events []*activityv1.Activity) bool {
		return of(events, c.victim, "DISCONNECT") != nil && of(events, c.bystander, "DISCONNECT") != nil && of(events, c.idle, "DISCONNECT") != nil
	})
}

// of returns a process's event of a command, the client's own.
func of(events []*activityv1.Activity, pid int32, command string) *activityv1.Activity {
	for _, e := range events {
		if e.GetSession().GetPid() == pid && e.GetCommand() == command && e.GetSubstatementId() == 1 {
			return e
		}
	}
	return nil
}

// check holds a process's event of a command against its description.
func check(t *testing.T, events []*activityv1.Activity, pid int32, command, want string) {
	t.Helper()
	e := of(events, pid, command)
	if e == nil {
		t.Errorf("no %s of process %d among:\n%s", command, pid, describeAll(events))
		return
	}
	got := describe(e)
	if secret := strings.Contains(got, "geheim"); secret || got != want && (command != "DO" || !strings.HasPrefix(got, want)) {
		t.Errorf("%s of process %d:\n got %s\nwant %s", command, pid, got, want)
	}
	if string(e.GetSession().GetUserName()) != "postgres" || string(e.GetSession().GetDatabaseName()) != "postgres" {
		t.Errorf("%s of process %d has the session %v", command, pid, e.GetSession())
	}
	if length := e.GetEndedAt().AsTime().Sub(e.GetStartedAt().AsTime()); length < 0 || length > time.Minute {
		t.Errorf("%s of process %d took %v", command, pid, length)
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatal(err)
	}
}

// backAgain waits until the server takes sessions after a crash.
func (a *audited) backAgain(mark string) {
	a.t.Helper()
	var out string
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(out, mark); {
		if time.Now().After(deadline) {
			a.t.Fatalf("the server did not come back: %s", out)
		}
		out = a.psql(a.DSN("postgres", "postgres"), "-c", "select '"+mark+"'")
	}
}

// Whatever ends a server process in the middle of a statement, the statement has its event, with its text, and the session its end.
func TestCrashedStatements(t *testing.T) {
	a := start(t, func(o *postgres.Options) { o.Settings["restart_after_crash"] = "on" })
	// How much of it is left is for the test of redaction to say.
	doBody := "do $$begin perform pg_sleep(601); execute 'alter role postgres"

	t.Run("a killed session", func(t *testing.T) {
		c := inTheMiddle(t, a)
		began := time.Now()
		kill(t, int(c.victim))
		events := c.ended()
		t.Logf("told %v after the kill", time.Since(began).Round(time.Millisecond))
		other := "!57P02 terminating connection because of crash of another server process"
		check(t, events, c.victim, "SELECT", "1 READ SELECT !57P02 "+deadMessage+" «"+victimSQL+"»")
		check(t, events, c.victim, "DISCONNECT", "1 MISC DISCONNECT !57P02 "+deadMessage)
		check(t, events, c.bystander, "DO", "1 FUNCTION DO "+other+" «"+doBody)
		check(t, events, c.bystander, "DISCONNECT", "1 MISC DISCONNECT "+other)
		check(t, events, c.idle, "DISCONNECT", "1 MISC DISCONNECT "+other)
		if got := of(events, c.idle, "SELECT"); got != nil {
			t.Errorf("the idle session's statement is told twice: %s", describe(got))
		}
		notices := c.notices(activityv1.NoticeKind_NOTICE_KIND_SESSION_CRASHED)
		if len(notices) != 1 || notices[0].GetNotice().GetSubject() != fmt.Sprint("process ", c.victim) || notices[0].GetSession().GetPid() != c.victim {
			t.Errorf("notices of crashed sessions: %v, want one of process %d", notices, c.victim)
		}
		c.backAgain("back after a session")
	})
	t.Run("a long statement", func(t *testing.T) {
		a := a.on(t)
		conn := a.connect(t, "postgres", "postgres")
		long := "select pg_sleep(602), '" + strings.Repeat("ä", 4000) + "'"
		done := a.busy(t, conn, long)
		kill(t, int(conn.PgConn().PID()))
		<-done
		events := a.await("its end", func(events []*activityv1.Activity) bool {
			return of(events, int32(conn.PgConn().PID()), "DISCONNECT") != nil
		})
		text := of(events, int32(conn.PgConn().PID()), "SELECT").GetText()
		if len(text.GetKept()) < 2000 || !strings.HasPrefix(long, string(text.GetKept())) || text.GetLength() != uint64(len(long)) {
			t.Errorf("%d bytes kept of %d, want the first 2000 or more of %d", len(text.GetKept()), text.GetLength(), len(long))
		}
		a.backAgain("back after a long one")
	})
	t.Run("a killed postmaster", func(t *testing.T) {
		c := inTheMiddle(t, a)
		if err := a.Kill(); err != nil {
			t.Fatal(err)
		}
		died := "!57P02 the server's main process died while the statement ran"
		events := c.ended()
		check(t, events, c.victim, "SELECT", "1 READ SELECT rows=0 "+died+" «"+victimSQL+"»")
		check(t, events, c.bystander, "DO", "1 FUNCTION DO "+died+" «"+doBody)
		check(t, events, c.idle, "DISCONNECT", "1 MISC DISCONNECT exit=1 !57P01 terminating connection due to unexpected postmaster exit")
		if err := a.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.psql(a.DSN("postgres", "postgres"), "-c", "select 'again'")
		again := c.await("a new session", seen("«select 'again'»"))
		if len(again) > 3 {
			t.Errorf("what was told is told again:\n%s", describeAll(again))
		}
	})
	t.Run("all processes killed", func(t *testing.T) {
		c := inTheMiddle(t, a)
		// Stopped first, or it would see the others die and begin anew.
		if err := syscall.Kill(a.PID(), syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		for _, pid := range children(t, a.PID()) {
			kill(t, pid)
		}
		if err := a.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := a.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		events := c.ended()
		died := "!57P02 the server died with this session open"
		check(t, events, c.victim, "SELECT", "1 READ SELECT "+died+" «"+victimSQL+"»")
		check(t, events, c.bystander, "DO", "1 FUNCTION DO "+died+" «"+doBody)
		check(t, events, c.idle, "DISCONNECT", "1 MISC DISCONNECT "+died)
	})
	t.Run("an immediate stop", func(t *testing.T) {
		c := inTheMiddle(t, a)
		if err := a.Stop(postgres.Immediate); err != nil {
			t.Fatal(err)
		}
		events := c.ended()
		stopped := a.stoppedAtOnce()
		check(t, events, c.victim, "SELECT", "1 READ SELECT "+stopped+" «"+victimSQL+"»")
		check(t, events, c.idle, "DISCONNECT", "1 MISC DISCONNECT "+stopped)
		if files, err := filepath.Glob(filepath.Join(filepath.Dir(a.ringFile), "*")); err != nil || len(files) != 1 {
			t.Errorf("%v, %v left beside the ring of a server that owes nothing", files, err)
		}
	})
}

// children are the processes that a process started.
func children(t *testing.T, parent int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, stat := range stats {
		b, err := os.ReadFile(stat)
		if err != nil {
			continue // gone meanwhile
		}
		fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat))); err == nil && string(fields[1]) == strconv.Itoa(parent) {
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		t.Fatalf("process %d has no children", parent)
	}
	return pids
}
