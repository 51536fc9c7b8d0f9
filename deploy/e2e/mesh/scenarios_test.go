package mesh_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	"github.com/weir-das/weir/pkg/postgres"
)

// The hard ends of a statement and of a session, each done to a server and then looked for in the decrypted stream.
func TestSevenScenarios(t *testing.T) {
	m := mesh.Start(t, mesh.Options{
		HBA: "local all all trust\nhost all turned_away 127.0.0.1/32 reject\nhost all,replication all 127.0.0.1/32 trust\n",
	})
	m.Psql("postgres", `
CREATE ROLE turned_away LOGIN;
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
`)
	s := &scenarios{t: t, m: m}
	sessions := map[string]string{} // the sessionId of whom each scenario ended

	// 1. A session is killed in a statement: it writes nothing itself.
	killed := s.busy("SELECT pg_sleep(3600), 'killed';")
	sessions["killed"] = killed.session
	if err := syscall.Kill(killed.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed.end()
	m.Eventually(60*time.Second, func() error {
		if out := m.Psql("postgres", "SELECT 'back';"); strings.TrimSpace(out) != "back" {
			return fmt.Errorf("the server is not back: %s", out)
		}
		return nil
	})

	// 2. A SELECT is terminated whose first rows its client has already.
	streaming := s.streaming("SELECT g, repeat('x', 200), CASE WHEN g > 500 THEN pg_sleep(3600) END FROM generate_series(1, 1000) g")
	sessions["terminated"] = streaming.session
	m.Psql("postgres", fmt.Sprintf("SELECT pg_terminate_backend(%d);", streaming.pid))
	streaming.end()

	// 3. A superuser hides his errors from the server's log.
	m.Psql("postgres", "SET log_min_messages = panic;\nSELEKT 'hidden';\n")
	// 4. The INSERT has been done when its commit fails.
	m.Psql("postgres", "INSERT INTO child VALUES (77);\n")
	// 5. A login that pg_hba.conf rejects.
	if out := m.Psql("turned_away", "SELECT 'never'"); !strings.Contains(out, "rejects") {
		t.Fatalf("turned_away got in: %s", out)
	}
	// 6. All data leave by a command that no hook sees.
	s.backUp()

	// 7. The last statement, and the ends of all sessions, of a server that is stopped.
	idle := s.connect()
	sessions["idle at the stop"] = idle.session
	last := s.busy("SELECT pg_sleep(3600), 'last';")
	sessions["busy at the stop"] = last.session
	if err := m.Postgres.Stop(postgres.Fast); err != nil {
		t.Fatal(err)
	}
	last.end()
	idle.end()

	account, _ := m.Settle(t)
	if len(account.Told) > 0 {
		t.Errorf("%d numbers are told as lost, want none: %v", len(account.Told), account.Told)
	}
	all := account.All()
	for _, want := range []struct {
		name string
		is   fields
	}{
		{"the statement of a killed session", fields{"commandText": "SELECT pg_sleep(3600), 'killed';", "command": "SELECT", "class": "READ",
			"exitCode": "57P02", "sessionId": sessions["killed"], "dbUserName": "postgres"}},
		{"a terminated SELECT", fields{"command": "SELECT", "exitCode": "57P01", "rowCount": 500.0, "sessionId": sessions["terminated"],
			"errorMessage": "terminating connection due to administrator command"}},
		{"a syntax error hidden from the log", fields{"commandText": "SELEKT 'hidden';", "exitCode": "42601",
			"errorMessage": `syntax error at or near "SELEKT"`}},
		{"an INSERT that failed at commit", fields{"commandText": "INSERT INTO child VALUES (77);", "command": "INSERT", "class": "WRITE",
			"objectName": "public.child", "exitCode": "23503", "rowCount": nil,
			"errorMessage": `insert or update on table "child" violates foreign key constraint "child_id_fkey"`}},
		{"a rejected login", fields{"command": "CONNECT", "exitCode": "28000", "dbUserName": "turned_away", "commandText": nil,
			"errorMessage": `pg_hba.conf rejects connection for host "127.0.0.1", user "turned_away", database "postgres", no encryption`}},
		{"a base backup", fields{"command": "BASE_BACKUP", "class": "MISC", "exitCode": nil, "clientApplication": "pg_basebackup"}},
		{"the last statement of a stopped server", fields{"commandText": "SELECT pg_sleep(3600), 'last';", "exitCode": "57P01",
			"sessionId": sessions["busy at the stop"], "errorMessage": "terminating connection due to administrator command"}},
	} {
		if closest, ok := find(all, want.is); !ok {
			t.Errorf("%s did not arrive. Wanted\n  %v\nclosest is\n  %s", want.name, want.is, closest)
		}
	}
	for who, session := range sessions {
		if closest, ok := find(all, fields{"command": "DISCONNECT", "sessionId": session}); !ok {
			t.Errorf("the session that was %s has no DISCONNECT; closest is\n  %s", who, closest)
		}
	}
}

// scenarios are the sessions that something happens to.
type scenarios struct {
	t *testing.T
	m *mesh.Mesh
}

// session is one of them, and what runs in it.
type session struct {
	conn    *pgconn.PgConn
	pid     int
	session string // Aurora's sessionId
	done    chan struct{}
}

// end waits for what runs to come to its end, and lets go.
func (s *session) end() {
	<-s.done
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = s.conn.Close(ctx)
}

func (s *scenarios) connect() *session {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgconn.Connect(ctx, s.m.Postgres.DSN("postgres", "postgres"))
	if err != nil {
		s.t.Fatal(err)
	}
	pid := int(conn.PID())
	id := s.m.Psql("postgres", fmt.Sprintf("SELECT to_hex(trunc(extract(epoch FROM backend_start))::bigint) || '.' || to_hex(pid) FROM pg_stat_activity WHERE pid = %d;", pid))
	done := make(chan struct{})
	close(done)
	return &session{conn: conn, pid: pid, session: strings.TrimSpace(id), done: done}
}

// busy is a session in a statement that sleeps.
func (s *scenarios) busy(sql string) *session {
	s.t.Helper()
	b := s.connect()
	b.done = make(chan struct{})
	go func() {
		defer close(b.done)
		_, _ = b.conn.Exec(context.Background(), sql).ReadAll()
	}()
	s.asleep(b)
	return b
}

// asleep waits until a session sleeps in its statement.
func (s *scenarios) asleep(b *session) {
	s.t.Helper()
	s.m.Eventually(60*time.Second, func() error {
		out := s.m.Psql("postgres", fmt.Sprintf("SELECT wait_event FROM pg_stat_activity WHERE pid = %d;", b.pid))
		if strings.TrimSpace(out) != "PgSleep" {
			return fmt.Errorf("session %d does not sleep but %s", b.pid, out)
		}
		return nil
	})
}

// streaming is a session whose client has read the first rows of a statement that sleeps.
func (s *scenarios) streaming(sql string) *session {
	s.t.Helper()
	b := s.connect()
	b.done = make(chan struct{})
	first := make(chan struct{})
	go func() {
		defer close(b.done)
		rows := b.conn.ExecParams(context.Background(), sql, nil, nil, nil, nil)
		for n := 1; rows.NextRow(); n++ {
			if n == 100 {
				close(first)
			}
		}
		_, _ = rows.Close()
	}()
	select {
	case <-first:
	case <-b.done:
		s.t.Fatal("the statement ended before its hundredth row")
	case <-time.After(time.Minute):
		s.t.Fatal("no row has come")
	}
	s.asleep(b)
	return b
}

func (s *scenarios) backUp() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(s.m.Postgres.BinDir(), "pg_basebackup"), "--host", "127.0.0.1",
		"--port", strconv.Itoa(s.m.Postgres.Port()), "--username", "postgres", "--no-password", "--checkpoint", "fast",
		"--wal-method", "none", "--no-sync", "--pgdata", s.m.Path("backup")).CombinedOutput()
	if err != nil {
		s.t.Fatalf("pg_basebackup: %v: %s", err, out)
	}
}
