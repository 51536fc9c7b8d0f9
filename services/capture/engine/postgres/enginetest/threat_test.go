package enginetest_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-das/weir/pkg/postgres"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// compile builds testdata/hostile.c into a directory that the server can read.
func compile(t *testing.T, dir, name string, flags ...string) string {
	t.Helper()
	include, err := exec.Command("pg_config", "--includedir-server").Output()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, name)
	args := append([]string{"-shared", "-fPIC", "-I" + strings.TrimSpace(string(include)), "-o", out, "testdata/hostile.c"}, flags...)
	if text, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v: %s", err, text)
	}
	if err := os.Chmod(out, 0o755); err != nil {
		t.Fatal(err)
	}
	return out
}

// guarded is a server under attack, and what it wrote since the attack began.
type guarded struct {
	*audited
	seen []*activityv1.Activity
}

// forget begins an attack: what was written before is not looked at again.
func (g *guarded) forget(t *testing.T) {
	g.audited = g.on(t)
	g.events()
	*g.aside, g.seen = nil, nil
}

// until reads until done is true.
func (g *guarded) until(what string, done func() bool) {
	g.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		g.seen = append(g.seen, g.events()...)
		if done() {
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("waited in vain for %s; seen:\n%s\nand beside:\n%v", what, describeAll(g.seen), *g.aside)
		}
	}
}

// wrote waits for an event described so.
func (g *guarded) wrote(want string) *activityv1.Activity {
	g.t.Helper()
	g.until(want, func() bool { return seen(want)(g.seen) })
	return find(g.t, g.seen, want)
}

// told waits for a notice whose subject holds every word, and logs how long it took since began.
func (g *guarded) told(began time.Time, kind activityv1.NoticeKind, words ...string) (notice *activityv1.Activity) {
	g.t.Helper()
	g.until(fmt.Sprint(kind, words), func() bool {
		for _, e := range g.notices(kind) {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(e.GetNotice().GetSubject(), w) }) {
				notice = e
			}
		}
		return notice != nil
	})
	g.t.Logf("told after %v: %s, %s", time.Since(began).Round(time.Millisecond), kind, notice.GetNotice().GetSubject())
	return notice
}

// startAfterDeath starts a server whose postmaster was killed. Its sessions end when they notice, and there is no start before.
func (g *guarded) startAfterDeath() {
	g.t.Helper()
	if err := g.Kill(); err != nil {
		g.t.Logf("Kill() = %v: it was dead already", err)
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := g.Restart(g.t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) || !strings.Contains(err.Error(), "shared memory block") {
			g.t.Fatal(err)
		}
	}
}

// guard is the process of the server's guard. It has no database, so the server's views do not show it.
func (g *guarded) guard() (pid string) {
	g.t.Helper()
	children := fmt.Sprintf("/proc/%d/task/%[1]d/children", g.PID())
	g.until("the guard", func() bool {
		all, err := os.ReadFile(children)
		if err != nil {
			g.t.Fatal(err)
		}
		for _, pid = range strings.Fields(string(all)) {
			if title, err := os.ReadFile("/proc/" + pid + "/cmdline"); err == nil && bytes.Contains(title, []byte("weir guard")) {
				return true
			}
		}
		return false
	})
	return pid
}

const (
	hookReplaced     = activityv1.NoticeKind_NOTICE_KIND_HOOK_REPLACED
	messagesReplaced = activityv1.NoticeKind_NOTICE_KIND_MESSAGES_REPLACED
	libraryLoaded    = activityv1.NoticeKind_NOTICE_KIND_LIBRARY_LOADED
	settingChanged   = activityv1.NoticeKind_NOTICE_KIND_SETTING_CHANGED
	ringRemoved      = activityv1.NoticeKind_NOTICE_KIND_RING_REMOVED
	sessionCrashed   = activityv1.NoticeKind_NOTICE_KIND_SESSION_CRASHED
	guardSilent      = activityv1.NoticeKind_NOTICE_KIND_GUARD_SILENT
)

// Each row of the threat model that needs a superuser in psql, and nothing else: prevented, or told.
func TestAgainstTheSuperuser(t *testing.T) {
	var dir, conf string
	a := &guarded{audited: start(t, func(o *postgres.Options) {
		o.Settings["restart_after_crash"] = "on"
		o.Settings["weir.long_statement"] = "300ms"
		dir, conf = o.Dir, filepath.Join(o.Dir, "data", "postgresql.conf")
	})}
	hostile, atLoad := compile(t, dir, "hostile.so"), compile(t, dir, "at_load.so", "-DAT_LOAD")
	dsn := a.DSN("postgres", "postgres")
	run := func(t *testing.T, conn *pgx.Conn, sql string) {
		t.Helper()
		if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}

	t.Run("ALTER SYSTEM", func(t *testing.T) {
		for _, tt := range []struct{ sql, want string }{
			{"alter system set shared_preload_libraries = 'plpgsql'", "shared_preload_libraries, by ALTER SYSTEM"},
			{"alter system reset shared_preload_libraries", "shared_preload_libraries, by ALTER SYSTEM"},
			{"alter system set weir.ring_file = '/dev/shm/elsewhere'", "weir.ring_file, by ALTER SYSTEM"},
			{"alter system reset all", "all settings, by ALTER SYSTEM"},
			{"create role clerk; alter role clerk set session_preload_libraries = 'x'", "session_preload_libraries, by ALTER ROLE"},
			{"alter role clerk reset session_preload_libraries", "session_preload_libraries, by ALTER ROLE"},
			{"alter database template1 set local_preload_libraries = 'x'", "local_preload_libraries, by ALTER DATABASE"},
			{"alter database template1 reset all", "all settings, by ALTER DATABASE"},
		} {
			a.forget(t)
			began := time.Now()
			if out := a.psql(dsn, "-c", tt.sql); out != "" {
				t.Fatalf("%s: %s", tt.sql, out)
			}
			if by := a.told(began, settingChanged, tt.want).GetSession().GetUserName(); string(by) != "postgres" {
				t.Errorf("%s: told of user %q, want postgres", tt.sql, by)
			}
		}
		a.forget(t)
		a.psql(dsn, "-c", "alter role postgres set work_mem = '8MB'", "-c", "alter role postgres reset work_mem")
		a.wrote("«alter role postgres reset work_mem»")
		for _, n := range a.notices(settingChanged) {
			if strings.Contains(n.GetNotice().GetSubject(), "work_mem") {
				t.Errorf("a setting that nothing rests on is told of: %v", n)
			}
		}
	})
	t.Run("a configuration file edited by hand", func(t *testing.T) {
		a.forget(t)
		before, err := os.ReadFile(conf)
		if err != nil {
			t.Fatal(err)
		}
		write := func(text []byte) {
			t.Helper()
			if err := os.WriteFile(conf, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(append(slices.Clone(before), "\nlocal_preload_libraries = 'x'\n"...))
		a.told(time.Now(), settingChanged, "local_preload_libraries, in the configuration files")
		a.forget(t)
		write(append(slices.Clone(before), "\nshared_preload_libraries = ''\n"...)) // the next start would be without the module
		a.told(time.Now(), settingChanged, "shared_preload_libraries, in the configuration files")
		a.forget(t)
		write(before)
		a.told(time.Now(), settingChanged, "shared_preload_libraries, in the configuration files")
	})
	t.Run("LOAD of a module that takes the hooks back", func(t *testing.T) {
		a.forget(t)
		conn := a.connect(t, "postgres", "postgres")
		began := time.Now()
		run(t, conn, "load '"+atLoad+"'")
		run(t, conn, "select 'after it'")
		run(t, conn, "do $$begin perform 'nested after it'; end$$")
		load := a.told(began, libraryLoaded, atLoad)
		a.told(began, hookReplaced, "ExecutorRun_hook", "ProcessUtility_hook", "put back")
		a.told(began, messagesReplaced, "put back", atLoad)
		a.wrote("«SELECT 'nested after it'»")
		a.wrote("«select 'after it'»")
		if string(load.GetSession().GetUserName()) != "postgres" || load.GetSession().GetPid() != int32(conn.PgConn().PID()) {
			t.Errorf("told of session %v, want that which loaded it", load.GetSession())
		}
	})
	t.Run("session_preload_libraries", func(t *testing.T) {
		run(t, a.connect(t, "postgres", "postgres"), "create role walked login; alter role walked set session_preload_libraries = '"+atLoad+"'")
		a.forget(t)
		began := time.Now()
		conn := a.connect(t, "walked", "postgres")
		run(t, conn, "select 'what it did'")
		who := a.told(began, libraryLoaded, atLoad)
		a.told(began, hookReplaced, "put back")
		run(t, conn, "select 'what it did next'")
		a.wrote("«select 'what it did next'»")
		if string(who.GetSession().GetUserName()) != "walked" {
			t.Errorf("told of %v, want walked", who.GetSession())
		}
	})
	t.Run("a C function that takes the hooks", func(t *testing.T) {
		a.forget(t)
		conn := a.connect(t, "postgres", "postgres")
		began := time.Now()
		run(t, conn, "create function take_hooks() returns void language c as '"+hostile+"'")
		a.told(began, libraryLoaded, hostile)
		began = time.Now()
		run(t, conn, "select take_hooks()")
		a.told(began, hookReplaced, "put back")
		a.told(began, messagesReplaced, hostile)
		run(t, conn, "select 'seen all the same'")
		a.wrote("«select 'seen all the same'»")
	})
	t.Run("a C function that runs SQL around the hooks", func(t *testing.T) {
		a.forget(t)
		conn := a.connect(t, "postgres", "postgres")
		began := time.Now()
		run(t, conn, "create function around(text) returns void language c as '"+hostile+"'")
		run(t, conn, "select around('create table unseen ()')")
		a.told(began, libraryLoaded, hostile)
		a.wrote("«select around('create table unseen ()')»")
		a.wrote("«create function around(text)")
	})
	t.Run("a C function that ends the process", func(t *testing.T) {
		a.forget(t)
		conn := a.connect(t, "postgres", "postgres")
		run(t, conn, "create function leave() returns void language c as '"+hostile+"'")
		began := time.Now()
		if _, err := conn.PgConn().Exec(t.Context(), "select leave()").ReadAll(); err == nil {
			t.Fatal("the session lives")
		}
		a.told(began, sessionCrashed, fmt.Sprint("process ", conn.PgConn().PID()))
		a.wrote("!57P02 " + deadMessage + " «select leave()»")
		a.backAgain("back after leave")

		// The planner calls what it holds for constant, before there is anything to execute.
		a.forget(t)
		conn = a.connect(t, "postgres", "postgres")
		run(t, conn, "create function leave_early() returns int immutable language c as '"+hostile+"', 'leave'")
		if _, err := conn.PgConn().Exec(t.Context(), "select 'x' where leave_early() = 1").ReadAll(); err == nil {
			t.Fatal("the session lives")
		}
		a.wrote("1 READ SELECT !57P02 " + deadMessage + " «select 'x' where leave_early() = 1»")
		a.backAgain("back after leaving early")
	})
	t.Run("COPY TO PROGRAM kills a session", func(t *testing.T) {
		a.forget(t)
		victim := a.connect(t, "postgres", "postgres")
		done := a.busy(t, victim, victimSQL)
		began := time.Now()
		sql := fmt.Sprintf("copy (select) to program 'kill -9 %d'", victim.PgConn().PID())
		a.psql(dsn, "-c", sql)
		<-done
		a.told(began, sessionCrashed, fmt.Sprint("process ", victim.PgConn().PID()))
		a.wrote("!57P02 " + deadMessage + " «" + victimSQL + "»")
		a.wrote("«" + sql + "»")
		a.backAgain("back after the copy")
	})
	t.Run("COPY TO PROGRAM kills the postmaster", func(t *testing.T) {
		a.forget(t)
		sql := fmt.Sprintf("copy (select) to program 'kill -9 %d; sleep 0.1'", a.PID())
		a.psql(dsn, "-c", sql)
		// Whether the session ends before or after its answer is the kernel's choice.
		a.wrote("«" + sql + "»")
		deadline := time.Now().Add(30 * time.Second)
		for status, err := a.ring.Status(); err != nil || status.State != ring.EngineLost; status, err = a.ring.Status() {
			if time.Now().After(deadline) {
				t.Fatalf("engine %v, %v; want lost", status.State, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		a.startAfterDeath()
	})
	t.Run("COPY TO PROGRAM kills everything", func(t *testing.T) {
		a.forget(t)
		a.backAgain("before everything")
		// Not "kill -9 -1": other servers of the account run on this machine.
		pids := fmt.Sprint(children(t, a.PID()))
		sql := fmt.Sprintf("copy (select) to program 'kill -STOP %d; kill -9 %s $PPID %d'", a.PID(), strings.Trim(pids, "[]"), a.PID())
		a.psql(dsn, "-c", sql)
		a.startAfterDeath()
		a.wrote("1 READ COPY !57P02 the server died with this session open «" + sql + "»")
	})
	t.Run("the guard terminated", func(t *testing.T) {
		a.forget(t)
		first := a.guard()
		a.psql(dsn, "-c", "copy (select) to program 'kill "+first+"'")
		a.until("another guard", func() bool { return a.guard() != first })
		conn := a.connect(t, "postgres", "postgres")
		began := time.Now()
		done := make(chan error, 1)
		go func() {
			_, err := conn.PgConn().Exec(context.Background(), "select pg_sleep(600) as long").ReadAll()
			done <- err
		}()
		var started *activityv1.Activity
		a.until("a statement that runs for long", func() bool {
			for _, e := range *a.aside {
				if e.GetKind() == activityv1.Kind_KIND_STARTED && strings.Contains(string(e.GetText().GetKept()), "as long") {
					started = e
				}
			}
			return started != nil
		})
		t.Logf("told after %v", time.Since(began).Round(time.Millisecond))
		a.psql(dsn, "-c", fmt.Sprintf("select pg_cancel_backend(%d)", conn.PgConn().PID()))
		<-done
		end := a.wrote("!57014")
		if started.GetStatementId() != end.GetStatementId() || started.GetSubstatementId() != 1 || started.GetCommand() != "SELECT" ||
			!started.GetStartedAt().AsTime().Equal(end.GetStartedAt().AsTime()) || started.GetSession().GetPid() != end.GetSession().GetPid() {
			t.Errorf("told as begun: %v; its end: %v", started, end)
		}
		count := 0
		for _, e := range *a.aside {
			if e.GetKind() == activityv1.Kind_KIND_STARTED {
				count++
			}
		}
		if count != 1 {
			t.Errorf("%d statements told as begun, want one, once", count)
		}
	})
	t.Run("the guard stopped", func(t *testing.T) {
		a.forget(t)
		guard := a.guard()
		a.psql(dsn, "-c", "copy (select) to program 'kill -STOP "+guard+"'")
		stopped := time.Now()
		conn := a.connect(t, "postgres", "postgres")
		a.until("the guard is told as silent", func() bool {
			run(t, conn, "select 1")
			return len(a.notices(guardSilent)) > 0
		})
		t.Logf("told after %v", time.Since(stopped).Round(time.Millisecond))
		// Whoever told it has woken it, too.
		a.until("the guard runs again", func() bool {
			stat, err := os.ReadFile("/proc/" + guard + "/stat")
			return err == nil && !bytes.Contains(stat, []byte(") T "))
		})
		if told := a.notices(guardSilent); len(told) != 1 || string(told[0].GetNotice().GetSubject()) != "weir guard, process "+guard {
			t.Errorf("told %v, want it once", told)
		}
	})
	t.Run("a restart without the module", func(t *testing.T) {
		a.forget(t)
		if err := a.Stop(postgres.Fast); err != nil {
			t.Fatal(err)
		}
		without, err := postgres.Start(t.Context(), postgres.Options{Dir: dir, Settings: map[string]string{"fsync": "off"}})
		if err != nil {
			t.Fatal(err)
		}
		status, err := a.ring.Status()
		if err != nil || status.State != ring.EngineStopped {
			t.Errorf("engine %v, %v while a server without the module runs; want stopped, which capture tells", status.State, err)
		}
		if err := without.Stop(postgres.Fast); err != nil {
			t.Fatal(err)
		}
		if err := a.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.backAgain("audited again")
		a.wrote("«select 'audited again'»")
		if back, err := a.ring.Status(); err != nil || back.State != ring.EngineRunning || back.Starts != status.Starts+1 {
			t.Errorf("%+v, %v after the start with the module, want one start more than %d", back, err, status.Starts)
		}
	})
	t.Run("the ring unlinked", func(t *testing.T) {
		a.forget(t)
		began := time.Now()
		a.psql(dsn, "-c", "copy (select) to program 'rm "+a.ringFile+"'")
		if _, err := os.Stat(a.ringFile); err == nil {
			// The directory may be another's, as /dev/shm is: then only the file's owner, or its directory's, can.
			if err := os.Remove(a.ringFile); err != nil {
				t.Fatal(err)
			}
		}
		a.told(began, ringRemoved, a.ringFile)
		run(t, a.connect(t, "postgres", "postgres"), "select 'still recorded'")
		a.wrote("«select 'still recorded'»")
	})
	t.Run("the ring truncated", func(t *testing.T) {
		a.forget(t)
		path := fmt.Sprintf("/proc/%d/fd/%s", a.PID(), ringDescriptor(t, a.audited))
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := a.ring.Seen(time.Now()); err == nil {
			t.Error("Seen() = nil on a ring that was truncated, want capture's cue to tell")
		}
		t.Logf("capture is told after %v", time.Since(began).Round(time.Millisecond))
		// Nobody goes on unrecorded: who touches the ring dies, the postmaster last.
		out := ""
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if out = a.psql(dsn, "-c", "select 'unseen'"); strings.Contains(out, "refused") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the server goes on without a ring: %s", out)
			}
		}
		if err := a.Kill(); err != nil {
			t.Logf("Kill() = %v: it was dead already", err)
		}
	})
}

// ringDescriptor is the number of the postmaster's descriptor of the ring, whose name is gone.
func ringDescriptor(t *testing.T, a *audited) string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", a.PID())
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && strings.HasPrefix(to, a.ringFile) {
			return e.Name()
		}
	}
	t.Fatal("the postmaster has no ring open")
	return ""
}
