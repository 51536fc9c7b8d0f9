package enginetest_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-das/weir/pkg/postgres"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// A server that cannot be audited as it was told does not start, and says what to do.
func TestBadSettings(t *testing.T) {
	running := start(t, nil)
	taken := ""
	for _, line := range strings.Split(running.psql(running.DSN("postgres", "postgres"), "-c", "show weir.ring_file"), "\n") {
		if line != "" {
			taken = line
		}
	}
	module, err := buildModule()
	if err != nil {
		t.Fatal(err)
	}
	short, err := os.CreateTemp("/dev/shm", "weir-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(short.Name())
	if _, err := short.WriteString("not a ring"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(short.Chmod(0o666), short.Close()); err != nil {
		t.Fatal(err)
	}
	dir := newDir(t)
	tests := []struct {
		name string
		ring string
		set  map[string]string
		want []string
	}{
		{"not in memory", "/var/tmp/weir-test-ring", nil, []string{"/var/tmp/weir-test-ring", "tmpfs", "weir.ring_file"}},
		{"another server's", taken, nil, []string{taken, "cannot use the ring"}},
		{"no ring", short.Name(), nil, []string{short.Name(), "cannot use the ring"}},
		{"no such group", "/dev/shm/weir-test-unused", map[string]string{"weir.ring_group": "nobody_there"},
			[]string{`there is no group "nobody_there"`, "weir.ring_group"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := postgres.Start(t.Context(), postgres.Options{Dir: dir, Module: module, RingFile: tt.ring, Settings: tt.set})
			if err == nil {
				t.Fatalf("Start() = nil, want an error; stopping: %v", s.Stop(postgres.Immediate))
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Start() = %v, want %q in it", err, want)
				}
			}
		})
	}
	// PostgreSQL itself only warns of a value that a module's setting does not take, and leaves the default.
	odd := start(t, func(o *postgres.Options) {
		o.Settings["log_min_messages"], o.Settings["weir.ring_fiel"] = "warning", "x"
	})
	log, err := os.ReadFile(odd.LogFile())
	if err != nil || !bytes.Contains(log, []byte(odd.unknownSetting()+` "weir.ring_fiel"`)) {
		t.Errorf("log with an unknown setting: %s, %v; want a warning that names it", log, err)
	}
	if b, err := os.ReadFile(short.Name()); err != nil || string(b) != "not a ring" {
		t.Errorf("the file that is no ring holds %q, %v; want it as it was", b, err)
	}
}

// No session switches anything off.
func TestHostile(t *testing.T) {
	a := start(t, nil)
	conn := a.connect(t, "postgres", "postgres").PgConn()
	meaningless := []string{
		"set weir.mode = 'off'",
		"set weir.anything = 1",
		"select set_config('weir.enabled', 'off', false)",
		"alter user postgres set weir.enabled = off",
	}
	for _, sql := range append([]string{
		"set weir.ring_file = '/dev/null'",
		"set weir.ring_size = '1MB'",
		"set local weir.ring_group = 'postgres'",
		"select set_config('weir.ring_file', '/dev/null', false)",
		"alter user postgres set weir.ring_file = '/dev/null'",
		"alter database postgres set weir.ring_size = '1MB'",
		"create function quiet() returns int language sql set weir.ring_size = '1MB' as 'select 1'",
		"update pg_settings set setting = 'x' where name = 'weir.ring_file'",
	}, meaningless...) {
		_, err := conn.Exec(t.Context(), sql).ReadAll()
		var pgErr *pgconn.PgError
		if refused := errors.As(err, &pgErr); refused == (slices.Contains(meaningless, sql) && !a.reservesPrefixes()) {
			t.Errorf("%s = %v; want an error, unless the name means nothing and the server cannot reserve it", sql, err)
		}
		if events := a.events(); !seen("«" + sql)(events) {
			t.Errorf("no event of %s", sql)
		}
	}
	if out := a.psql(a.DSN("postgres", "postgres")+"&options=-cweir.ring_size%3D1MB", "-c", "select 1"); !strings.Contains(out, "cannot be changed") {
		t.Errorf("a login that sets weir.ring_size: %s, want a refusal", out)
	}
	a.await("that login", seen(`CONNECT !55P02 parameter "weir.ring_size" cannot be changed without restarting the server`))
}

// Off costs the events alone: what was begun is told, what came after is not, and nothing is made up when it is on again.
func TestOff(t *testing.T) {
	a := start(t, nil)
	old := a.connect(t, "postgres", "postgres").PgConn()
	a.await("the login", seen("CONNECT"))
	mode := func(m uint32) {
		t.Helper()
		generation := uint64(m) + 1
		if err := a.ring.SetPolicy(ring.Policy{Mode: ring.Mode(m), Generation: generation}); err != nil {
			t.Fatal(err)
		}
	}
	mode(1)
	for _, sql := range []string{"select 'unseen'", "selec", "do $$begin perform 1; end$$"} {
		_, _ = old.Exec(t.Context(), sql).ReadAll()
	}
	young := a.connect(t, "postgres", "postgres").PgConn()
	if _, err := young.Exec(t.Context(), "select 'unseen'").ReadAll(); err != nil {
		t.Fatal(err)
	}
	if events := a.events(); len(events) != 0 {
		t.Errorf("events while off:\n%s", describeAll(events))
	}
	mode(2)
	for _, conn := range []*pgconn.PgConn{old, young} {
		if _, err := conn.Exec(t.Context(), "select 'seen'").ReadAll(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff("1 READ SELECT rows=1 «select 'seen'»", describeAll(a.events())); diff != "" {
			t.Errorf("events once on (-want +got):\n%s", diff)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.await("its end", seen("DISCONNECT exit=0"))
	}
}

// Others have hooks too.
func TestBesideOthers(t *testing.T) {
	a := start(t, func(o *postgres.Options) {
		o.Settings["shared_preload_libraries"] = "pgaudit,pg_stat_statements,auto_explain"
		o.Settings["pgaudit.log"] = "all"
		o.Settings["auto_explain.log_min_duration"] = "0"
		o.Settings["auto_explain.log_nested_statements"] = "on"
		o.Settings["log_min_messages"] = "warning"
	})
	a.psql(a.DSN("postgres", "postgres"), "-c", fixture, "-c", "create extension pg_stat_statements")
	a.await("the end of the fixture", seen("DISCONNECT"))
	conn := a.connect(t, "postgres", "postgres").PgConn()
	a.await("the login", seen("CONNECT"))
	a.events()
	for _, tt := range statements {
		_, _ = conn.Exec(t.Context(), tt.sql).ReadAll()
		if diff := cmp.Diff(strings.Join(a.expected(tt.name, tt.want), "\n"), describeAll(a.events())); diff != "" {
			t.Errorf("%s: events of %q (-want +got):\n%s", tt.name, tt.sql, diff)
		}
	}
	log, err := os.ReadFile(a.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"AUDIT: SESSION", "Query Text: select n, v from t where n < 3"} {
		if !bytes.Contains(log, []byte(want)) {
			t.Errorf("no %q in the server's log: another module's hook was lost", want)
		}
	}
	if out := a.psql(a.DSN("postgres", "postgres"), "-c", "select count(*) > 10 from pg_stat_statements"); out != "t\n" {
		t.Errorf("pg_stat_statements has more than 10 statements: %s, want t", out)
	}
}

// Parallel workers help with a statement that the leader tells of; what functions do in them is told by them.
func TestParallel(t *testing.T) {
	a := start(t, nil)
	conn := a.connect(t, "postgres", "postgres").PgConn()
	setup := `create table big as select g as n from generate_series(1, 50000) g; analyze big;
		create function looks(int) returns int language plpgsql parallel safe as $$begin return (select max(n) from big where n = $1 and n < 0); end$$;
		set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0; set max_parallel_workers_per_gather = 2`
	if _, err := conn.Exec(t.Context(), setup).ReadAll(); err != nil {
		t.Fatal(err)
	}
	a.await("the setup", seen("max_parallel_workers_per_gather"))
	if _, err := conn.Exec(t.Context(), "select count(*) from big where n > 5").ReadAll(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("1 READ SELECT TABLE:public.big rows=1 «select count(*) from big where n > 5»", describeAll(a.events())); diff != "" {
		t.Errorf("a parallel scan (-want +got):\n%s", diff)
	}
	if _, err := conn.Exec(t.Context(), "select count(looks(n)) from big where n % 1000 = 0").ReadAll(); err != nil {
		t.Fatal(err)
	}
	nested, pids := 0, map[int32]bool{}
	for _, e := range a.events() {
		if e.GetSubstatementId() > 1 {
			nested++
			pids[e.GetSession().GetPid()] = true
			if got := string(e.GetSession().GetUserName()); got != "postgres" {
				t.Errorf("user %q of a statement in a worker, want postgres", got)
			}
		}
	}
	if nested != 50 || len(pids) < 2 {
		t.Errorf("%d nested statements in %d processes, want 50 in several", nested, len(pids))
	}
}

var leakRounds = flag.Int("leakrounds", 8, "how many rounds TestLeak makes, of some 25,000 statements each")

// A session's memory does not grow with what it does: not with what an application sends, nor with what a fuzzer does. What
// the server's own caches take is there after a few rounds, for every round sends the same.
func TestLeak(t *testing.T) {
	a := start(t, func(o *postgres.Options) {
		o.RingSize = 64 << 20
		o.Settings["statement_timeout"], o.Settings["lock_timeout"] = "2s", "1s"
	})
	a.psql(a.DSN("postgres", "postgres"), "-c", fixture)
	sent, fuzzed := a.connect(t, "postgres", "postgres"), a.connect(t, "postgres", "postgres")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	g := generator{rand: rand.New(rand.NewPCG(seed, 2))}
	var messages []*message
	for range 150 {
		messages = append(messages, g.message(), simple("rollback"))
	}
	w := &wire{conn: fuzzed.PgConn().Conn()}

	const settled = 3
	first, last := map[string]int{}, map[string]int{}
	for round := range *leakRounds {
		leakRound(t, sent, round)
		for _, m := range messages {
			w.exchange(t, m)
		}
		a.items()
		for name, conn := range map[string]*pgx.Conn{"what an application sends": sent, "what a generator makes": fuzzed} {
			last[name] = anonymousKB(t, int(conn.PgConn().PID()))
			if round < settled {
				first[name] = last[name]
			}
		}
	}
	if *a.number < uint64(*leakRounds)*20_000 {
		t.Fatalf("%d events, want 20000 a round: the check says little", *a.number)
	}
	t.Logf("%d events", *a.number)
	for name := range first {
		t.Logf("%s: %d kB after %d rounds, %d kB after %d", name, first[name], settled, last[name], *leakRounds)
		if grown := last[name] - first[name]; grown > 256 {
			t.Errorf("%s: the session grew by %d kB, from %d kB", name, grown, first[name])
		}
	}
}

func leakRound(t *testing.T, conn *pgx.Conn, round int) {
	t.Helper()
	for _, sql := range []string{
		"do $$begin for i in 1..8000 loop perform n from t where n = i; end loop; end$$",
		"do $$begin for i in 1..4000 loop begin perform 1 / (i - i) from t; exception when others then null; end; end loop; end$$",
		"do $$begin for i in 1..4000 loop execute 'select count_above($1)' using i; end loop; end$$",
		strings.Repeat("insert into watched values (1);", 500),
		"begin; declare c cursor for select * from t; fetch 1 from c; rollback", "selec",
		"select length('" + strings.Repeat("x", 2<<20) + "')", "delete from log",
		"do $$begin for i in 1..500 loop execute format('set application_name = %L', i); end loop; end$$",
	} {
		_, _ = conn.PgConn().Exec(t.Context(), sql).ReadAll()
	}
	for i := range 300 {
		if _, err := conn.Exec(t.Context(), "select n, v from t where n > $1 and v <> $2", round*300+i, "bound"); err != nil {
			t.Fatal(err)
		}
	}
}

// anonymousKB is a process's memory of its own, shared buffers and the ring not counted.
func anonymousKB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		var kb int
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &kb); err == nil {
			return kb
		}
	}
	t.Fatal("no RssAnon in the process's status")
	return 0
}
