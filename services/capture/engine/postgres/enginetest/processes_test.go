package enginetest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-das/weir/pkg/postgres"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// owner runs a program as whoever the file belongs to: the server's account.
func owner(t *testing.T, file string) *syscall.SysProcAttr {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}}
}

// program runs one of the server's own programs against it.
func (a *audited) program(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(a.BinDir(), name), args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A server in single-user mode has neither postmaster nor client, and is audited all the same.
func TestSingleUser(t *testing.T) {
	// What fails before it has a plan is in the log alone, where there is no client.
	a := start(t, func(o *postgres.Options) { o.Settings["log_min_messages"] = "warning" })
	a.psql(a.DSN("postgres", "postgres"), "-c", "create table t (n int)")
	a.await("the table", seen("DISCONNECT"))
	if err := a.Stop(postgres.Fast); err != nil {
		t.Fatal(err)
	}
	a.events()

	data := filepath.Join(filepath.Dir(a.LogFile()), "data")
	cmd := exec.CommandContext(t.Context(), filepath.Join(a.BinDir(), "postgres"), "--single", "-D", data, "postgres")
	cmd.SysProcAttr = owner(t, data)
	cmd.Dir = data
	cmd.Stdin = strings.NewReader("insert into t values (1), (2)\nselect n from t\nselec\nselect 1 / 0\ndo 'begin perform n from t; end'\n" +
		"update t set n = n where n = 1\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("postgres --single: %v: %s", err, out)
	}
	events := a.events()
	want := []string{
		"1 WRITE INSERT TABLE:public.t rows=2 «insert into t values (1), (2)»",
		"1 READ SELECT TABLE:public.t rows=2 «select n from t»",
		`1 MISC UNKNOWN !42601 syntax error at or near "selec" «selec»`,
		"1 READ SELECT !22012 division by zero «select 1 / 0»",
		"2 READ SELECT TABLE:public.t rows=2 «SELECT n from t»",
		"1 FUNCTION DO «do 'begin perform n from t; end'»",
		"1 WRITE UPDATE TABLE:public.t rows=1 «update t set n = n where n = 1»",
	}
	if !a.loadsAlone() {
		want = nil
	}
	if diff := cmp.Diff(strings.Join(want, "\n"), describeAll(events)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	for _, e := range events {
		if s := e.GetSession(); string(s.GetUserName()) != "postgres" || string(s.GetDatabaseName()) != "postgres" || s.GetLocalSocket() {
			t.Errorf("%s: by %v, want postgres in postgres, without a connection", describe(e), s)
		}
	}
	if status, err := a.ring.Status(); err != nil || status.State != ring.EngineStopped {
		t.Errorf("engine %v, %v after single-user mode; want stopped", status.State, err)
	}

	// The server's next life goes on where the numbers stand.
	if err := a.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.psql(a.DSN("postgres", "postgres"), "-c", "select 'after'")
	a.await("the next session", seen("«select 'after'»"))

	// Without its ring it does not run, in this mode either.
	if err := a.Stop(postgres.Fast); err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), filepath.Join(a.BinDir(), "postgres"), "--single", "-D", data, "-c", "weir.ring_file=/var/tmp/weir-test-ring", "postgres")
	cmd.SysProcAttr, cmd.Dir = owner(t, data), data
	if out, err := cmd.CombinedOutput(); a.loadsAlone() && (err == nil || !strings.Contains(string(out), "cannot use the ring")) {
		t.Errorf("postgres --single without a ring: %v: %s", err, out)
	}
}

// A standby is a server of its own, with a ring of its own, before and after its promotion. What made it is seen where it
// was made from.
func TestStandby(t *testing.T) {
	primary := start(t, func(o *postgres.Options) { o.Settings["wal_level"] = "replica" })
	primary.psql(primary.DSN("postgres", "postgres"), "-c", "create table t (n int)", "-c", "insert into t values (1)")
	primary.await("the table", seen("DISCONNECT"))

	dir := t.TempDir()
	primary.program(t, "pg_basebackup", "-d", primary.DSN("postgres", "postgres"), "-D", filepath.Join(dir, "data"), "-X", "stream", "-R",
		"-C", "-S", "standby", "--checkpoint", "fast", "--no-sync")
	events := primary.await("the backup", func(events []*activityv1.Activity) bool {
		return strings.Count(describeAll(events), "DISCONNECT") == 2
	})
	find(t, events, "1 MISC BASE_BACKUP «BASE_BACKUP ")
	find(t, events, "1 MISC CREATE_REPLICATION_SLOT «CREATE_REPLICATION_SLOT \"standby\" PHYSICAL")
	find(t, events, "1 MISC START_REPLICATION «START_REPLICATION SLOT \"standby\" ")
	if out, err := exec.Command("chown", "-R", "--reference="+filepath.Dir(primary.LogFile()), filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		t.Fatalf("chown: %v: %s", err, out)
	}

	standby := start(t, func(o *postgres.Options) {
		o.Dir, o.Settings["hot_standby"] = dir, "on"
		delete(o.Settings, "autovacuum")
	})
	primary.await("the standby's replication", seen("1 MISC START_REPLICATION «START_REPLICATION SLOT \"standby\" "))
	conn := standby.connect(t, "postgres", "postgres").PgConn()
	for _, sql := range []string{"select n from t", "insert into t values (2)", "select pg_promote()"} {
		_, _ = conn.Exec(t.Context(), sql).ReadAll()
	}
	epoch := standby.ring.Epoch()
	events = standby.await("what ran on the standby", seen("«select pg_promote()»"))
	find(t, events, "1 READ SELECT TABLE:public.t rows=1 «select n from t»")
	find(t, events, "1 WRITE INSERT TABLE:public.t !25006 cannot execute INSERT in a read-only transaction «insert into t values (2)»")
	if _, err := conn.Exec(t.Context(), "insert into t values (3)").ReadAll(); err != nil {
		t.Fatalf("insert after the promotion = %v", err)
	}
	standby.await("what ran once promoted", seen("1 WRITE INSERT TABLE:public.t rows=1 «insert into t values (3)»"))
	if standby.ring.Epoch() != epoch || standby.ring.Epoch() == primary.ring.Epoch() {
		t.Errorf("epochs %d, then %d, primary's %d; want one of its own, kept", epoch, standby.ring.Epoch(), primary.ring.Epoch())
	}
	for _, e := range primary.events() {
		if strings.Contains(describe(e), "insert into t values (3)") {
			t.Errorf("the standby's statement is in the primary's ring: %s", describe(e))
		}
	}
}

// pg_recvlogical, and a subscription: the publisher's side is seen as commands and statements of replication sessions, the
// subscriber's as what triggers run in its worker.
func TestLogicalReplication(t *testing.T) {
	a := start(t, func(o *postgres.Options) {
		o.Settings["wal_level"], o.Settings["wal_retrieve_retry_interval"] = "logical", "100ms"
	})
	dsn := a.DSN("postgres", "postgres")
	a.psql(dsn, "-c", "create table t (n int)", "-c", "insert into t values (1)", "-c", "create publication pub for table t", "-c", "create database target")
	end := strings.TrimSpace(a.psql(dsn, "-c", "select pg_current_wal_insert_lsn()"))
	a.program(t, "pg_recvlogical", "-d", dsn, "--slot", "read", "--create-slot", "-P", "test_decoding")
	a.program(t, "pg_recvlogical", "-d", dsn, "--slot", "read", "--start", "--endpos", end, "--no-loop", "-f", "-")
	a.program(t, "pg_recvlogical", "-d", dsn, "--slot", "read", "--drop-slot")
	events := a.await("the drop of the slot", seen("DROP_REPLICATION_SLOT"))
	find(t, events, `1 MISC CREATE_REPLICATION_SLOT «CREATE_REPLICATION_SLOT "read" LOGICAL "test_decoding"`)
	find(t, events, `1 MISC START_REPLICATION «START_REPLICATION SLOT "read" LOGICAL`)

	target := a.DSN("postgres", "target")
	a.psql(dsn, "-c", "select pg_create_logical_replication_slot('sub', 'pgoutput')")
	out := a.psql(target, "-c", "create table t (n int); create table log (what text)",
		"-c", "create function logs() returns trigger language plpgsql as $$begin insert into public.log values ('applied'); return new; end$$",
		"-c", "create trigger logs after insert on t for each row execute function logs(); alter table t enable always trigger logs",
		"-c", fmt.Sprintf("create subscription sub connection 'host=127.0.0.1 port=%d user=postgres dbname=postgres' publication pub with (create_slot = false)", a.Port()))
	if out != "" {
		t.Fatalf("making the subscription: %s", out)
	}
	events = a.await("the first copy and the stream", func(events []*activityv1.Activity) bool {
		all := describeAll(events)
		return strings.Contains(all, "«COPY public.t ") && strings.Contains(all, `START_REPLICATION SLOT "sub" LOGICAL`) &&
			strings.Contains(all, "rows=1 «insert into public.log values ('applied')»")
	})
	find(t, events, "1 READ COPY TABLE:public.t rows=1 «COPY public.t ")
	a.psql(dsn, "-c", "insert into t values (2)")
	events = a.await("the change, applied", seen("rows=1 «insert into public.log values ('applied')»"))
	e := find(t, events, "1 WRITE INSERT TABLE:public.log rows=1 «insert into public.log values ('applied')»")
	if s := e.GetSession(); string(s.GetDatabaseName()) != "target" || len(s.GetRemoteHost()) != 0 || s.GetLocalSocket() {
		t.Errorf("applied by %v, want a process of the database target without a client", s)
	}
	// The worker ends with its subscription, and the slot with it: the server can be stopped.
	a.psql(target, "-c", "drop subscription sub")
}

// What a background worker runs.
func TestBackgroundWorker(t *testing.T) {
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "sh", "-c", `cp testdata/worker/* "$0" && make -s -C "$0"`, dir)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the worker: %v: %s", err, out)
	}
	a := start(t, func(o *postgres.Options) {
		o.Settings["shared_preload_libraries"], o.Settings["log_min_messages"] = "worker", "warning"
		o.Settings["dynamic_library_path"] = dir + ":$libdir"
	})
	events := a.await("the worker's last statement", seen("UNKNOWN"))
	want := []string{
		"1 DDL CREATE TABLE «create table made_by_worker (n int)»",
		"1 WRITE INSERT TABLE:public.made_by_worker rows=2 «insert into made_by_worker values (1), (2)»",
		"2 READ SELECT TABLE:public.made_by_worker rows=2 «SELECT n from made_by_worker»",
		"1 FUNCTION DO «do $$begin perform n from made_by_worker; end$$»",
		`1 MISC UNKNOWN !42601 syntax error at or near "selec" «selec 'failed'»`,
	}
	var own []*activityv1.Activity
	for _, e := range events {
		if len(e.GetSession().GetRemoteHost()) == 0 {
			own = append(own, e)
		}
	}
	if diff := cmp.Diff(strings.Join(want, "\n"), describeAll(own)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
