package enginetest_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/pkg/postgres"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// The SQLSTATEs of engine/postgres/sync.h.
const (
	refused    = "57W01" // nothing happened, or it was rolled back
	unrecorded = "57W02" // it happened, and the session ended before its client was told
)

func failingClosed(level ring.SyncLevel, timeout time.Duration) ring.Policy {
	return ring.Policy{Mode: ring.ModeSync, SyncLevel: level, OnFailure: ring.FailureFailOperation, SyncTimeout: timeout}
}

// recover lets everything become durable, and says that the path is healthy, as a capture does.
func (c *acker) recover(t *testing.T) {
	t.Helper()
	c.release()
	eventually(t, "the backlog to be durable", func() bool { s := c.status(t); return s.Durable == s.Number }, nil)
	c.healthy(t, true)
}

// lockRing holds the ring's lock for a process, as one does that stands still with it; 0 gives it back.
func (c *acker) lockRing(t *testing.T, pid int) {
	t.Helper()
	file, err := os.OpenFile(c.ringFile, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const place = 128 // engine/ring/ring.h
	if _, err := file.WriteAt(binary.LittleEndian.AppendUint32(nil, uint32(pid)), place); err != nil {
		t.Fatal(err)
	}
}

// awaitWait waits until the statement's session waits. A session that looked at it in SQL would wait, too.
func (c *acker) awaitWait(t *testing.T, r *running) {
	t.Helper()
	eventually(t, r.sql+" to wait", func() bool { return c.status(t).Waiting > 0 }, c.dump)
	select {
	case err := <-r.done:
		t.Fatalf("%s was answered (%v) while its record was not durable", r.sql, err)
	default:
	}
}

// TestFailOperation is synchronous mode with the policy fail_operation.
func TestFailOperation(t *testing.T) {
	a := start(t, func(o *postgres.Options) { o.Settings["weir.break_glass_role"] = "glass" })
	c := a.acknowledge(t)
	admin := c.login(t, "postgres", true)
	admin.must(`create role glass login superuser; create table t (n int primary key);
		create function outside() returns int volatile language plpgsql as $$begin return 1; end$$;
		create function inside() returns int stable language plpgsql as $$begin return 1; end$$;
		create procedure twice() language plpgsql as $$begin insert into t values (100); commit; insert into t values (101); end$$`)
	c.policy(t, failingClosed(ring.LevelTransaction, 0))
	rows := func(t *testing.T, n int, want string) {
		t.Helper()
		if got := admin.must(fmt.Sprintf("select count(*) from t where n = %d", n)); got != want {
			t.Errorf("%s rows of %d, want %s", got, n, want)
		}
	}

	t.Run("a healthy path", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		for _, sql := range []string{"insert into t values (1)", "select outside()", "begin", "insert into t values (2)", "commit", "call twice()", "vacuum t"} {
			cl.must(sql)
		}
		c.expectRead(t, "STATEMENT 1 MISC VACUUM")
		// What can be rolled back is told of before its commit, what can not before it runs; and nothing twice.
		for words, want := range map[string]int{
			"STARTED 1 WRITE INSERT TABLE:public.t «insert into t values (1)»": 1,
			"STARTED 1 READ SELECT «select outside()»":                         1,
			"«insert into t values (2)»":                                       1,
			"STARTED 1 FUNCTION CALL":                                          1,
			"STARTED 1 MISC VACUUM":                                            1,
		} {
			if got := c.count(words); got != want {
				t.Errorf("%d events with %q, want %d:\n%s", got, words, want, c.dump())
			}
		}
	})

	t.Run("what can be rolled back is, at its commit", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		before := c.status(t).Refused
		c.hold("STARTED 1 WRITE INSERT TABLE:public.t «insert into t values (3)»")
		r := cl.start("insert into t values (3)")
		c.awaitWait(t, r)
		c.healthy(t, false)
		e := isState(t, r.sql, r.ends(), refused)
		if !strings.Contains(e.Message, "rolled back") || !strings.Contains(e.Detail, "fail_operation") || !strings.Contains(e.Hint, "weir stream status") {
			t.Errorf("the refusal says %q, %q, %q", e.Message, e.Detail, e.Hint)
		}
		if after := c.status(t).Refused; after != before+1 {
			t.Errorf("refused %d, want %d", after, before+1)
		}
		c.recover(t)
		c.expectRead(t, "STATEMENT 1 WRITE INSERT TABLE:public.t !57W01 transaction rolled back: its audit records could not be made durable «insert into t values (3)»")
		rows(t, 3, "0")
		cl.must("insert into t values (3)")
	})

	t.Run("so is a transaction of several statements, and one that is prepared", func(t *testing.T) {
		for _, end := range []string{"commit", "prepare transaction 'p'"} {
			cl := c.login(t, "postgres", false)
			cl.must("begin")
			cl.must("insert into t values (4)")
			c.hold("")
			r := cl.start(end)
			c.awaitWait(t, r)
			c.healthy(t, false)
			isState(t, r.sql, r.ends(), refused)
			c.recover(t)
			rows(t, 4, "0")
			if n := admin.must("select count(*) from pg_prepared_xacts"); n != "0" {
				t.Errorf("%s transactions are prepared, want none", n)
			}
		}
	})

	t.Run("the time-out closes the gate", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		c.policy(t, failingClosed(ring.LevelTransaction, 50*time.Millisecond))
		defer c.policy(t, failingClosed(ring.LevelTransaction, 0))
		c.hold("«insert into t values (5)»")
		cl.refused("insert into t values (5)", refused)
		if path := c.status(t).Path; path != ring.PathDegraded {
			t.Errorf("the path is %d, want degraded", path)
		}
		c.recover(t)
		rows(t, 5, "0")
	})

	t.Run("cancel and terminate before the commit roll back", func(t *testing.T) {
		for call, sqlstate := range map[string]string{"pg_cancel_backend": "57014", "pg_terminate_backend": "57P01"} {
			cl := c.login(t, "postgres", false)
			// The call is of a volatile function, which would wait for what is held before.
			c.hold("«insert into t values (6)»")
			r := cl.start("insert into t values (6)")
			c.awaitWait(t, r)
			c.policy(t, synchronously(ring.LevelTransaction))
			admin.must("begin")
			admin.must(fmt.Sprintf("select %s(%d)", call, cl.conn.PID()))
			// The error is told when its own record is durable.
			c.expectRead(t, "STATEMENT 1 WRITE INSERT TABLE:public.t !"+sqlstate)
			c.policy(t, failingClosed(ring.LevelTransaction, 0))
			c.recover(t)
			isState(t, r.sql, r.ends(), sqlstate)
			admin.must("rollback")
			rows(t, 6, "0")
		}
	})

	t.Run("nobody is told of what is not durable", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		before := c.status(t).Released
		c.hold("STATEMENT 1 WRITE INSERT TABLE:public.t rows=1 «insert into t values (7)»")
		r := cl.start("insert into t values (7)")
		c.expectRead(t, "STATEMENT 1 WRITE INSERT TABLE:public.t rows=1 «insert into t values (7)»")
		c.awaitWait(t, r)
		c.healthy(t, false)
		e := isState(t, r.sql, r.ends(), unrecorded)
		if e.Severity != "FATAL" {
			t.Errorf("severity %s, want FATAL", e.Severity)
		}
		if after := c.status(t).Released; after != before {
			t.Errorf("released %d, want %d", after, before)
		}
		c.recover(t)
		rows(t, 7, "1")
		c.expectRead(t, "DISCONNECT exit=1 !57W02")
	})

	t.Run("a closed gate", func(t *testing.T) {
		cl, open, extended := c.login(t, "postgres", false), c.login(t, "postgres", false), c.login(t, "postgres", false)
		open.must("begin")
		open.must("insert into t values (8)")
		if _, err := extended.conn.Prepare(t.Context(), "p", "select 'prepared'", nil); err != nil {
			t.Fatal(err)
		}
		_ = extended.conn.ExecPrepared(t.Context(), "p", nil, nil, nil).Read()
		c.healthy(t, false)
		before := c.status(t).Refused
		statements := []string{"select 'closed'", "insert into t values (9)", "vacuum t", "create table u ()", "set work_mem = '1MB'", "begin",
			"do $$begin perform 1; end$$", "commit prepared 'x'", "copy t to stdout", "explain select 1", "show work_mem", "select 1/0 as closed"}
		for _, sql := range statements {
			e := cl.refused(sql, refused)
			if e.Severity != "ERROR" || !strings.Contains(e.Hint, `"glass"`) {
				t.Errorf("%s: %s with the hint %q, want an error that names the way out", sql, e.Severity, e.Hint)
			}
		}
		if after := c.status(t).Refused; after != before+uint64(len(statements)) {
			t.Errorf("refused %d, want %d more than %d", after, len(statements), before)
		}
		if err := extended.conn.ExecPrepared(t.Context(), "p", nil, nil, nil).Read().Err; err == nil || isState(t, "the prepared statement", err, refused) == nil {
			t.Error("a prepared statement passed")
		}
		if err := extended.conn.ExecParams(t.Context(), "select $1::int", [][]byte{[]byte("1")}, nil, nil, nil).Read().Err; err == nil || isState(t, "the extended query", err, refused) == nil {
			t.Error("an extended query passed")
		}
		// They have their events, and what is no audit record has nothing to do with it: a login, a rollback.
		c.expectRead(t, "!57W01 statement refused: its audit record could not be made durable «select 'closed'»")
		c.login(t, "postgres", false)
		if r := open.start("rollback"); r.ends() != nil {
			t.Error("a rollback was refused")
		}
		c.login(t, "postgres", false).must("rollback") // without a transaction, too
		c.recover(t)
		rows(t, 8, "0")
		cl.must("select 'open again'")
	})

	t.Run("what cannot be rolled back has its record before", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		file := filepath.Join(t.TempDir(), "out")
		if err := os.Chmod(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		for _, sql := range []string{
			"copy (select 1) to program 'cat > " + file + "'",
			"copy (select 1) to '" + file + "'",
			"create database other",
			"alter system set work_mem = '9MB'",
			"select outside()",
			"select inside() where outside() > 0",
			"do $$begin end$$",
		} {
			c.hold("STARTED")
			r := cl.start(sql)
			c.awaitWait(t, r)
			c.expectRead(t, "«"+sql+"»")
			c.healthy(t, false)
			isState(t, sql, r.ends(), refused)
			c.recover(t)
		}
		if _, err := os.Stat(file); err == nil {
			t.Error("a command ran whose record was refused")
		}
		if n := admin.must("select count(*) from pg_database where datname = 'other'"); n != "0" {
			t.Error("a database was made whose record was refused")
		}
		if n := c.count("STARTED 1 READ SELECT «select inside()»"); n != 0 {
			t.Error("a stable function has a record of its beginning")
		}
	})

	t.Run("statement level undoes an open transaction", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		cl.must("begin")
		c.policy(t, failingClosed(ring.LevelStatement, 0))
		defer c.policy(t, failingClosed(ring.LevelTransaction, 0))
		c.hold("«insert into t values (10)»")
		r := cl.start("insert into t values (10)")
		c.expectRead(t, "«insert into t values (10)»")
		c.healthy(t, false)
		isState(t, r.sql, r.ends(), refused)
		if s := cl.conn.TxStatus(); s != 'E' {
			t.Errorf("the transaction is %c, want E", s)
		}
		cl.must("rollback")
		c.policy(t, failingClosed(ring.LevelTransaction, 0))
		c.recover(t)
		rows(t, 10, "0")
	})

	t.Run("break glass", func(t *testing.T) {
		local, remote := c.login(t, "glass", true), c.login(t, "glass", false)
		c.hold("")
		c.healthy(t, false)
		remote.refused("select 'from elsewhere'", refused)
		local.must("insert into t values (11)")
		local.must("vacuum t")
		local.must("begin; set local role postgres; insert into t values (12); commit")
		if n := c.count("BREAK_GLASS glass"); n > 1 {
			t.Errorf("%d notices, want one for as long as it is closed", n)
		}
		c.expectRead(t, "NOTICE 0 MISC  NOTICE_KIND_BREAK_GLASS glass")
		// Who becomes that role is not that role.
		other := c.login(t, "postgres", true)
		other.refused("set session authorization glass", refused)
		c.recover(t)
		rows(t, 11, "1")
		rows(t, 12, "1")
		local.must("select 'like anybody'")
	})

	t.Run("a login and an error let nobody go, a completion does", func(t *testing.T) {
		open, glass := c.login(t, "postgres", false), c.login(t, "glass", true)
		open.must("begin")
		c.hold("")
		c.healthy(t, false)
		before := c.status(t)
		cl := c.login(t, "postgres", false)
		cl.refused("select 'nothing'", refused)
		cl.refused("selekt 'nothing'", "42601")
		err := cl.conn.ExecParams(t.Context(), "select $1::int", [][]byte{[]byte("1")}, nil, nil, nil).Read().Err
		isState(t, "the extended query", err, refused)
		if s := c.status(t); s.Released != before.Released || s.Refused != before.Refused+2 {
			t.Errorf("released %d, refused %d; want %d and %d", s.Released, s.Refused, before.Released, before.Refused+2)
		}
		if r := open.start("rollback"); r.ends() != nil {
			t.Error("a rollback was refused")
		}
		glass.must("select 'simple'")
		if err := glass.conn.ExecParams(t.Context(), "select 'extended'", nil, nil, nil, nil).Read().Err; err != nil {
			t.Error(err)
		}
		if s := c.status(t); s.Released != before.Released+3 {
			t.Errorf("released %d, want %d", s.Released, before.Released+3)
		}
		c.recover(t)
	})

	t.Run("what cannot get a number is not durable", func(t *testing.T) {
		cl, reader := c.login(t, "postgres", false), c.login(t, "postgres", false)
		before := c.status(t)
		c.lockRing(t, os.Getpid())
		wrote, read := cl.start("insert into t values (13)"), reader.start("select 'unnumbered'")
		isState(t, wrote.sql, wrote.ends(), refused)
		isState(t, read.sql, read.ends(), unrecorded)
		c.policy(t, synchronously(ring.LevelTransaction))
		cl.must("select 'let go'")
		c.lockRing(t, 0)
		if s := c.status(t); s.Unnumbered < before.Unnumbered+4 || s.Released != before.Released+1 {
			t.Errorf("%d without a number, %d released; want four more than %d at least, and one more than %d", s.Unnumbered, s.Released, before.Unnumbered, before.Released)
		}
		c.policy(t, failingClosed(ring.LevelTransaction, 0))
		rows(t, 13, "0")
		cl.must("select 'numbered again'")
	})

	t.Run("a restarted server stays closed until capture is back", func(t *testing.T) {
		c.healthy(t, false)
		if err := c.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		cl := c.login(t, "postgres", false)
		cl.refused("select 'after the restart'", refused)
		c.recover(t)
		cl.must("select 'capture is back'")
	})
}

// A ring that is full is a reason to wait, then to refuse.
func TestNoRoom(t *testing.T) {
	a := start(t, func(o *postgres.Options) { o.RingSize = 256 << 10 })
	c := a.acknowledge(t)
	c.policy(t, synchronously(ring.LevelTransaction))
	cl := c.login(t, "postgres", false)

	// A statement that runs many others, faster than they are read: none is lost.
	cl.must("do $$begin for i in 1..20000 loop perform i; end loop; end$$")
	c.expectRead(t, "STATEMENT 1 FUNCTION DO")
	if s := c.status(t); s.Lost != 0 || s.Released != 0 || s.Head < 10*(256<<10) {
		t.Errorf("lost %d, released %d of %d bytes; want none of ten rings", s.Lost, s.Released, s.Head)
	}

	// The path is healthy and nothing moves: it is not healthy.
	p := failingClosed(ring.LevelTransaction, 50*time.Millisecond)
	c.policy(t, p)
	c.hold("select 'stuck'")
	cl.refused("do $$begin perform 'stuck'; perform (select 'stuck' where 1 = 1); for i in 1..20000 loop perform i; end loop; end$$; select 'stuck'", refused)
	if s := c.status(t); s.Path != ring.PathDegraded {
		t.Errorf("the path is %d, want degraded", s.Path)
	}
	c.recover(t)
	cl.must("select 'unstuck'")
}

// A server that nobody has told anything buffers, or refuses.
func TestBootPolicy(t *testing.T) {
	t.Run("buffer", func(t *testing.T) {
		a := start(t, nil)
		a.connect(t, "postgres", "postgres")
		if out := a.psql(a.DSN("postgres", "postgres"), "-c", "select 'buffered'"); out != "buffered\n" {
			t.Errorf("a statement before capture printed %q", out)
		}
		a.await("its event", seen("«select 'buffered'»"))
	})
	t.Run("refuse", func(t *testing.T) {
		a := start(t, func(o *postgres.Options) {
			o.Settings["weir.boot_policy"], o.Settings["weir.break_glass_role"] = "refuse", "postgres"
		})
		c := a.acknowledge(t)
		remote, local := c.login(t, "postgres", false), c.login(t, "postgres", true)
		e := remote.refused("select 1", refused)
		if !strings.Contains(e.Detail, "weir.boot_policy") {
			t.Errorf("the refusal says %q, want the setting", e.Detail)
		}
		remote.must("rollback")
		remote.refused("set weir.boot_policy = buffer", refused)
		local.must("create table t ()")
		c.expectRead(t, "NOTICE_KIND_BREAK_GLASS postgres")
		c.policy(t, ring.Policy{Mode: ring.ModeAsync})
		remote.must("select 'told'")
		if s := c.status(t); s.Refused != 2 {
			t.Errorf("refused %d, want 2", s.Refused)
		}
	})
}
