package enginetest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-das/weir/pkg/postgres"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// seen says whether an event described so is among them.
func seen(want string) func([]*activityv1.Activity) bool {
	return func(events []*activityv1.Activity) bool {
		for _, e := range events {
			if strings.Contains(describe(e), want) {
				return true
			}
		}
		return false
	}
}

// find returns the event described so.
func find(t *testing.T, events []*activityv1.Activity, want string) *activityv1.Activity {
	t.Helper()
	for _, e := range events {
		if strings.Contains(describe(e), want) {
			return e
		}
	}
	t.Fatalf("no event %q among:\n%s", want, describeAll(events))
	return nil
}

func TestLogin(t *testing.T) {
	a := start(t, func(o *postgres.Options) {
		o.Settings["password_encryption"] = "md5"
		o.HBA = "local all postgres trust\nhost all postgres 127.0.0.1/32 trust\n" +
			"host all walled 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 md5\n"
	})
	a.psql(a.DSN("postgres", "postgres"), "-c", "create role guarded login password 'right'", "-c", "create role walled login",
		"-c", "create role narrow login password 'x' connection limit 0")
	a.await("the roles", seen("DISCONNECT"))

	with := func(user, password, db string) string {
		return strings.Replace(a.DSN(user, db), user+"@", user+":"+password+"@", 1)
	}
	tests := []struct {
		name, dsn      string
		sqlstate, user string
		message        string
	}{
		{"right password", with("guarded", "right", "postgres"), "", "guarded", ""},
		{"wrong password", with("guarded", "wrong", "postgres"), "28P01", "guarded", `password authentication failed for user "guarded"`},
		{"unknown role", with("ghost", "x", "postgres"), "28P01", "ghost", `password authentication failed for user "ghost"`},
		{"unknown role, trusted", a.DSN("postgres", "postgres") + "&user=nobody", "28P01", "nobody", `password authentication failed for user "nobody"`},
		{"unknown database", a.DSN("postgres", "nowhere"), "3D000", "postgres", `database "nowhere" does not exist`},
		{"rejected", a.DSN("walled", "postgres"), "28000", "walled", `pg_hba.conf rejects connection for host "127.0.0.1", user "walled", database "postgres", ` + a.encryption(false)},
		{"too many of a role", with("narrow", "x", "postgres"), "53300", "narrow", `too many connections for role "narrow"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := a.on(t)
			config, err := pgx.ParseConfig(tt.dsn)
			if err != nil {
				t.Fatal(err)
			}
			config.Fallbacks = nil
			conn, err := pgx.ConnectConfig(t.Context(), config)
			if (err == nil) != (tt.sqlstate == "") {
				t.Fatalf("Connect() = %v, want SQLSTATE %q", err, tt.sqlstate)
			}
			if conn != nil {
				if err := conn.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			events := a.await("the login", seen("CONNECT"))
			e := events[0]
			if e.GetKind() != activityv1.Kind_KIND_CONNECT || e.GetCommand() != "CONNECT" || e.GetClass() != activityv1.Class_CLASS_MISC {
				t.Errorf("first event %s, want a CONNECT of class MISC", describe(e))
			}
			if e.GetStatementId() != 1 || e.GetSubstatementId() != 1 {
				t.Errorf("ids %d.%d, want 1.1", e.GetStatementId(), e.GetSubstatementId())
			}
			if got := e.GetSqlstate(); got != tt.sqlstate {
				t.Errorf("SQLSTATE %q, want %q", got, tt.sqlstate)
			}
			if got := string(e.GetErrorMessage().GetKept()); got != tt.message {
				t.Errorf("message %q, want %q", got, tt.message)
			}
			if got := string(e.GetSession().GetUserName()); got != tt.user {
				t.Errorf("user %q, want %q", got, tt.user)
			}
			if e.GetText() != nil || e.Rows != nil || e.ExitCode != nil {
				t.Errorf("a login has text, rows or an exit code: %v", e)
			}
			if tt.sqlstate != "" {
				return
			}
			if !seen("DISCONNECT")(events) {
				events = append(events, a.await("its end", seen("DISCONNECT"))...)
			}
			if got := find(t, events, "DISCONNECT").GetExitCode(); got != 0 {
				t.Errorf("exit code %d, want 0", got)
			}
		})
	}
}

func TestTooManyConnections(t *testing.T) {
	a := start(t, func(o *postgres.Options) { o.Settings["max_connections"] = "4" })
	for range 4 {
		a.connect(t, "postgres", "postgres")
	}
	_, err := pgx.Connect(t.Context(), a.DSN("postgres", "postgres"))
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "53300" {
		t.Fatalf("fifth Connect() = %v, want SQLSTATE 53300", err)
	}
	events := a.await("the refusal", seen("!53300 sorry, too many clients already"))
	if got := string(find(t, events, "!53300").GetSession().GetUserName()); got != "postgres" {
		t.Errorf("user %q, want postgres", got)
	}
}

// The session block: who, from where, with what, and that it follows what changes.
func TestSession(t *testing.T) {
	a := start(t, nil)
	a.psql(a.DSN("postgres", "postgres"), "-c", "create role app", "-c", "create database latin encoding 'LATIN1' template template0 lc_collate 'C' lc_ctype 'C'")
	a.await("the role", seen("DISCONNECT"))
	config, err := pgx.ParseConfig(a.DSN("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["application_name"] = "first"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range []string{"select 1", "set application_name = 'second'", "select 2", "set role app", "select 3", "selec 4",
		"reset role", "select 5", "set session authorization app", "select 6"} {
		_, _ = conn.PgConn().Exec(t.Context(), sql).ReadAll()
	}
	events := a.await("the last select", seen("select 6"))
	want := []struct{ event, application, effective string }{
		{" CONNECT", "first", ""},
		{"«select 1»", "first", ""},
		{"«select 2»", "second", ""},
		{"«set role app»", "second", ""},
		{"«select 3»", "second", "app"},
		{"«selec 4»", "second", "app"},
		{"«select 5»", "second", ""},
		{"«select 6»", "second", "app"},
	}
	for _, w := range want {
		e := find(t, events, w.event)
		s := e.GetSession()
		if string(s.GetApplicationName()) != w.application || string(s.GetEffectiveUserName()) != w.effective {
			t.Errorf("%s: application %q, role in force %q; want %q, %q", w.event, s.GetApplicationName(), s.GetEffectiveUserName(),
				w.application, w.effective)
		}
		if s.GetPid() != int32(conn.PgConn().PID()) || string(s.GetUserName()) != "postgres" || string(s.GetDatabaseName()) != "postgres" {
			t.Errorf("%s: %v, want process %d, user and database postgres", w.event, s, conn.PgConn().PID())
		}
		port := conn.PgConn().Conn().LocalAddr().String()
		if got := fmt.Sprintf("%s:%s", s.GetRemoteHost(), s.GetRemotePort()); got != port || string(s.GetServerHost()) != "127.0.0.1" {
			t.Errorf("%s: from %s to %s, want from %s to 127.0.0.1", w.event, got, s.GetServerHost(), port)
		}
		if age := time.Since(s.GetBackendStartedAt().AsTime()); age < 0 || age > time.Minute {
			t.Errorf("%s: process began %v ago", w.event, age)
		}
		if s.GetLocalSocket() || s.GetEncoding() != "" {
			t.Errorf("%s: local socket %v, encoding %q; want TCP, UTF8", w.event, s.GetLocalSocket(), s.GetEncoding())
		}
	}

	a.psql("host="+a.SocketDir()+fmt.Sprintf(" port=%d user=postgres dbname=postgres", a.Port()), "-c", "select 'local'")
	s := find(t, a.await("the local session", seen("«select 'local'»")), "«select 'local'»").GetSession()
	if !s.GetLocalSocket() || len(s.GetRemoteHost()) > 0 || len(s.GetRemotePort()) > 0 {
		t.Errorf("local session: %v, want a local socket and no address", s)
	}

	a.psql(a.DSN("postgres", "latin"), "-c", "set client_encoding = utf8", "-c", "select 'é'", "-c", "select 'é' from é")
	events = a.await("the Latin session", seen("relation"))
	s = find(t, events, "relation").GetSession()
	if s.GetEncoding() != "LATIN1" {
		t.Errorf("encoding %q, want LATIN1", s.GetEncoding())
	}
	if e := find(t, events, "select '\xe9'»"); e.GetSqlstate() != "" {
		t.Errorf("%s failed", describe(e))
	}
	if got := string(find(t, events, "!42P01").GetErrorMessage().GetKept()); got != "relation \"\xe9\" does not exist" {
		t.Errorf("message %q, want it in the server's encoding", got)
	}
}

// Ends that do not unwind: the event is written all the same.
func TestEnds(t *testing.T) {
	a := start(t, func(o *postgres.Options) { o.Settings["idle_in_transaction_session_timeout"] = "0" })
	admin := a.connect(t, "postgres", "postgres")
	busy := func(t *testing.T, conn *pgx.Conn, sql string) <-chan error {
		t.Helper()
		done := make(chan error, 1)
		go func() {
			_, err := conn.PgConn().Exec(context.Background(), sql).ReadAll()
			done <- err
		}()
		for {
			var waits bool
			if err := admin.QueryRow(t.Context(), "select count(*) > 0 from pg_stat_activity where pid = $1 and state = 'active' and wait_event = 'PgSleep'",
				conn.PgConn().PID()).Scan(&waits); err != nil {
				t.Fatal(err)
			}
			if waits {
				return done
			}
			time.Sleep(time.Millisecond)
		}
	}
	fails := func(t *testing.T, sql string, args ...any) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("cancel", func(t *testing.T) {
		a := a.on(t)
		conn := a.connect(t, "postgres", "postgres")
		done := busy(t, conn, "select pg_sleep(60)")
		fails(t, "select pg_cancel_backend($1)", conn.PgConn().PID())
		<-done
		a.await("the event", seen("1 READ SELECT rows=0 !57014 canceling statement due to user request «select pg_sleep(60)»"))
	})
	t.Run("terminate in a SELECT that has returned rows", func(t *testing.T) {
		a := a.on(t)
		conn := a.connect(t, "postgres", "postgres")
		done := busy(t, conn, "select g, case when g > 500 then pg_sleep(60) end from generate_series(1, 1000) g")
		fails(t, "select pg_terminate_backend($1)", conn.PgConn().PID())
		<-done
		events := a.await("the end", seen("DISCONNECT exit=1"))
		find(t, events, "1 READ SELECT rows=500 !57P01 terminating connection due to administrator command «select g,")
	})
	t.Run("terminate in a nested statement", func(t *testing.T) {
		a := a.on(t)
		conn := a.connect(t, "postgres", "postgres")
		done := busy(t, conn, "do $$begin perform pg_sleep(61); end$$")
		fails(t, "select pg_terminate_backend($1)", conn.PgConn().PID())
		<-done
		events := a.await("the end", seen("DISCONNECT exit=1"))
		find(t, events, "2 READ SELECT rows=0 !57P01 terminating connection due to administrator command «SELECT pg_sleep(61)»")
		find(t, events, "1 FUNCTION DO !57P01 terminating connection due to administrator command «do")
	})
	t.Run("terminate an idle session", func(t *testing.T) {
		a := a.on(t)
		conn := a.connect(t, "postgres", "postgres")
		if _, err := conn.Exec(t.Context(), "select 'idle'", pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		fails(t, "select pg_terminate_backend($1)", conn.PgConn().PID())
		events := a.await("the end", seen("DISCONNECT exit=1 !57P01 terminating connection due to administrator command"))
		find(t, events, "1 READ SELECT rows=1 «select 'idle'»")
	})
	t.Run("the client goes away", func(t *testing.T) {
		a := a.on(t)
		conn := a.connect(t, "postgres", "postgres")
		done := busy(t, conn, "select pg_sleep(0.05), 'going'")
		if err := conn.PgConn().Conn().Close(); err != nil {
			t.Fatal(err)
		}
		<-done
		events := a.await("the end", seen("DISCONNECT"))
		find(t, events, "«select pg_sleep(0.05), 'going'»")
	})
	t.Run("fast stop", func(t *testing.T) {
		a := a.on(t)
		conn := a.connect(t, "postgres", "postgres")
		done := busy(t, conn, "select pg_sleep(62)")
		if err := a.Stop(postgres.Fast); err != nil {
			t.Fatal(err)
		}
		<-done
		events := a.events()
		find(t, events, "1 READ SELECT rows=0 !57P01 terminating connection due to administrator command «select pg_sleep(62)»")
		if got := strings.Count(describeAll(events), "DISCONNECT exit=1"); got < 2 {
			t.Errorf("%d DISCONNECTs, want those of both sessions:\n%s", got, describeAll(events))
		}
	})
}

// A killed session takes its server's sessions along; the ring goes on where it stood. So it does when the postmaster is
// killed, and the numbers never break.
func TestCrash(t *testing.T) {
	a := start(t, func(o *postgres.Options) { o.Settings["restart_after_crash"] = "on" })
	a.psql(a.DSN("postgres", "postgres"), "-c", "select 'before'")
	a.await("the first session", seen("DISCONNECT"))
	epoch := a.ring.Epoch()

	victim := a.connect(t, "postgres", "postgres")
	process, err := os.FindProcess(int(victim.PgConn().PID()))
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	var out string
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(out, "after a session"); {
		if time.Now().After(deadline) {
			t.Fatalf("the server did not come back: %s", out)
		}
		out = a.psql(a.DSN("postgres", "postgres"), "-c", "select 'after a session'")
	}
	a.await("the session after the crash", seen("«select 'after a session'»"))

	if err := a.Kill(); err != nil {
		t.Fatal(err)
	}
	status, err := a.ring.Status()
	if err != nil {
		t.Fatal(err)
	}
	if status.State != ring.EngineLost {
		t.Errorf("engine %v after the postmaster was killed, want lost", status.State)
	}
	if err := a.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.psql(a.DSN("postgres", "postgres"), "-c", "select 'after the postmaster'")
	a.await("the session after the restart", seen("«select 'after the postmaster'»"))
	if a.ring.Replaced() {
		t.Error("the ring was replaced, want it kept")
	}
	if status, err = a.ring.Status(); err != nil || status.Epoch != epoch {
		t.Errorf("epoch %d, %v; want %d kept", status.Epoch, err, epoch)
	}
	if err := a.Stop(postgres.Fast); err != nil {
		t.Fatal(err)
	}
	if status, err = a.ring.Status(); err != nil || status.State != ring.EngineStopped {
		t.Errorf("engine %v, %v after a stop; want stopped", status.State, err)
	}
}
