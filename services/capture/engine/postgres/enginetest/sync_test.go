package enginetest_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-das/weir/pkg/postgres"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

func isState(t *testing.T, sql string, err error, sqlstate string) *pgconn.PgError {
	t.Helper()
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != sqlstate {
		t.Fatalf("%s = %v, want SQLSTATE %s", sql, err, sqlstate)
	}
	return pgErr
}

func synchronously(level ring.SyncLevel) ring.Policy {
	return ring.Policy{Mode: ring.ModeSync, SyncLevel: level, OnFailure: ring.FailureContinue}
}

// TestSync is synchronous mode with the policy continue.
func TestSync(t *testing.T) {
	a := start(t, nil)
	c := a.acknowledge(t)
	c.policy(t, synchronously(ring.LevelTransaction))
	setup := c.login(t, "postgres", false)
	setup.must("create table t (n int primary key); create sequence s")
	// In its transaction the observer waits for nobody, unless it asks for more than a level.
	observer := c.login(t, "postgres", false)
	observer.must("begin")

	t.Run("a transaction waits until it is durable, and holds nothing", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		c.hold("values (1)")
		r := cl.start("insert into t values (1)")
		r.waits(observer)
		c.expectRead(t, "values (1)")
		held := observer.must(fmt.Sprintf(`select (select count(*) from pg_locks where pid = %[1]d) || ' ' ||
			(select coalesce(backend_xmin::text, '-') || coalesce(backend_xid::text, '-') from pg_stat_activity where pid = %[1]d)`, cl.conn.PID()))
		if held != "0 --" {
			t.Errorf("the waiting session holds %q (locks, xmin, xid), want nothing", held)
		}
		if n := observer.must("select count(*) from t where n = 1"); n != "1" {
			t.Error("the transaction that waits is not over: its row is not seen")
		}
		c.release()
		if err := r.ends(); err != nil {
			t.Errorf("the statement ended with %v", err)
		}
	})

	t.Run("in the extended protocol too", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		c.hold("values ($1)")
		done := make(chan error, 1)
		go func() {
			done <- cl.conn.ExecParams(t.Context(), "insert into t values ($1)", [][]byte{[]byte("2")}, nil, nil, nil).Read().Err
		}()
		(&running{client: cl, sql: "the insert", done: done}).waits(observer)
		c.release()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})

	t.Run("inside a transaction nobody waits", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		c.hold("")
		for _, sql := range []string{"begin", "select 1", "insert into t values (3)"} {
			cl.must(sql)
		}
		r := cl.start("commit")
		r.waits(observer)
		c.release()
		if err := r.ends(); err != nil {
			t.Error(err)
		}
	})

	t.Run("the commit is not told before either", func(t *testing.T) {
		// The answer to COMMIT would go out with that to the statement after it, which takes its time.
		cl := c.login(t, "postgres", false)
		c.hold("«commit;»")
		r := cl.start("begin; insert into t values (4); commit; select pg_sleep(0)")
		r.waits(observer)
		if c.count("pg_sleep(0)») ") != 0 {
			t.Error("the statement after the commit ran before the commit could be told")
		}
		c.release()
		if err := r.ends(); err != nil {
			t.Error(err)
		}
	})

	t.Run("an error waits as well", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		c.hold("1/0")
		r := cl.start("select 1/0")
		r.waits(observer)
		c.release()
		isState(t, r.sql, r.ends(), "22012")
	})

	t.Run("one acknowledgement wakes all it covers", func(t *testing.T) {
		var clients []*client
		for range 15 {
			clients = append(clients, c.login(t, "postgres", false))
		}
		c.hold("'together'")
		var all []*running
		for _, cl := range clients {
			all = append(all, cl.start("select 'together'"))
		}
		eventually(t, "all events", func() bool { return c.count("'together'") == len(all) }, c.dump)
		for _, r := range all {
			r.waits(observer)
		}
		c.release()
		for _, r := range all {
			if err := r.ends(); err != nil {
				t.Error(err)
			}
		}
	})

	t.Run("cancel", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		before := c.status(t)
		c.hold("values (5)")
		r := cl.start("insert into t values (5)")
		r.waits(observer)
		observer.must(fmt.Sprintf("select pg_cancel_backend(%d)", cl.conn.PID()))
		if err := r.ends(); err != nil {
			t.Errorf("the cancelled wait ended with %v, want the statement's success", err)
		}
		if !cl.noticed("WARNING: canceling the wait for the audit record due to user request") {
			t.Errorf("notices: %q, want a warning", cl.notices)
		}
		c.expectRead(t, "values (5)")
		number, durable := c.last(cl.conn.PID())
		s := c.status(t)
		if s.Released != before.Released+1 || s.ReleasedThrough != number || durable >= number || time.Since(s.ReleasedAt) > patience {
			t.Errorf("released %d through %d at %v; want one more than %d, through %d, now", s.Released, s.ReleasedThrough, s.ReleasedAt, before.Released, number)
		}
		c.release()
		cl.must("select 'the session lives'")
	})

	t.Run("terminate", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		before := c.status(t)
		c.hold("values (6)")
		r := cl.start("insert into t values (6)")
		r.waits(observer)
		observer.must(fmt.Sprintf("select pg_terminate_backend(%d)", cl.conn.PID()))
		isState(t, r.sql, r.ends(), "57P01")
		if !cl.noticed("WARNING: canceling the wait for the audit record and terminating connection") {
			t.Errorf("notices: %q, want a warning", cl.notices)
		}
		c.expectRead(t, "DISCONNECT exit=1 !57P01")
		if n := observer.must("select count(*) from t where n = 6"); n != "1" {
			t.Error("the row is gone, and the statement was complete")
		}
		if s := c.status(t); s.Released != before.Released {
			t.Errorf("released %d, want %d: nobody was told of a completion", s.Released, before.Released)
		}
		c.release()
	})

	t.Run("time-out, and recovery", func(t *testing.T) {
		cl, second := c.login(t, "postgres", false), c.login(t, "postgres", false)
		before := c.status(t)
		c.hold("'slow'")
		p := synchronously(ring.LevelTransaction)
		p.SyncTimeout = 50 * time.Millisecond
		c.policy(t, p)
		cl.must("select 'slow'")
		if s := c.status(t); s.Path != ring.PathDegraded || s.Released != before.Released+1 {
			t.Errorf("after the time-out the path is %d and %d were released, want degraded and %d", s.Path, s.Released, before.Released+1)
		}
		// Nobody waits any more: a wait would now be an hour.
		p.SyncTimeout = time.Hour
		if err := c.ring.SetPolicy(p); err != nil {
			t.Fatal(err)
		}
		cl.must("select 'on'")
		second.must("select 'on'")
		eventually(t, "both events", func() bool { return c.count("'on'") == 2 }, c.dump)
		number, _ := c.last(second.conn.PID())
		if s := c.status(t); s.Released != before.Released+3 || s.ReleasedThrough != number {
			t.Errorf("released %d through %d, want %d through %d", s.Released, s.ReleasedThrough, before.Released+3, number)
		}
		c.release()
		eventually(t, "the backlog to be durable", func() bool { s := c.status(t); return s.Durable == s.Number }, nil)
		c.healthy(t, true)
		c.hold("'again'")
		r := cl.start("select 'again'")
		r.waits(observer)
		c.release()
		if err := r.ends(); err != nil {
			t.Error(err)
		}
	})

	t.Run("a path that degrades releases those that wait", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		c.hold("'degrading'")
		r := cl.start("select 'degrading'")
		r.waits(observer)
		c.healthy(t, false)
		if err := r.ends(); err != nil {
			t.Error(err)
		}
		c.release()
		c.healthy(t, true)
	})

	t.Run("a mode that leaves sync releases those that wait", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		c.hold("'leaving'")
		r := cl.start("select 'leaving'")
		r.waits(observer)
		c.policy(t, ring.Policy{Mode: ring.ModeAsync})
		if err := r.ends(); err != nil {
			t.Error(err)
		}
		c.release()
		c.policy(t, synchronously(ring.LevelTransaction))
	})

	t.Run("level statement", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		c.policy(t, synchronously(ring.LevelStatement))
		defer c.policy(t, synchronously(ring.LevelTransaction))
		for _, sql := range []string{"begin", "select 'each'", "insert into t values (7)", "select 1/0 as each", "rollback"} {
			c.hold("«" + sql)
			r := cl.start(sql)
			eventually(t, "its event", func() bool { return c.count("«"+sql) > 0 }, c.dump)
			select {
			case err := <-r.done:
				t.Errorf("%s was answered (%v) before its record was durable", sql, err)
			case <-time.After(20 * time.Millisecond): // longer, and the test proves more; shorter, and it proves less
			}
			c.release()
			if err := r.ends(); err != nil && sql != "select 1/0 as each" {
				t.Errorf("%s = %v", sql, err)
			}
		}
	})

	t.Run("level strict", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		c.policy(t, synchronously(ring.LevelStrict))
		// The observer's own statements would wait for what is held.
		c.hold("STARTED 1 READ SELECT «select nextval('s')»")
		r := cl.start("select nextval('s')")
		c.expectRead(t, "STARTED 1 READ SELECT «select nextval('s')»")
		c.policy(t, synchronously(ring.LevelTransaction))
		if called := observer.must("select is_called from s"); called != "f" {
			t.Error("the statement ran before the record of its beginning was durable")
		}
		select {
		case err := <-r.done:
			t.Errorf("the statement ended with %v", err)
		default:
		}
		c.release()
		if err := r.ends(); err != nil {
			t.Error(err)
		}
		c.expectRead(t, "STATEMENT 1 READ SELECT rows=1 «select nextval('s')»")
		if called := observer.must("select is_called from s"); called != "t" {
			t.Error("the statement did not run")
		}
		// It can be cancelled before it runs, and then has not run.
		c.policy(t, synchronously(ring.LevelStrict))
		c.hold("STARTED 1 READ SELECT «select nextval('s') as unwanted»")
		r = cl.start("select nextval('s') as unwanted")
		c.expectRead(t, "STARTED 1 READ SELECT «select nextval('s') as unwanted»")
		c.policy(t, synchronously(ring.LevelTransaction))
		observer.must(fmt.Sprintf("select pg_cancel_backend(%d)", cl.conn.PID()))
		c.expectRead(t, "!57014 canceling statement due to user request «select nextval('s') as unwanted»")
		c.release()
		isState(t, r.sql, r.ends(), "57014")
		if last := observer.must("select last_value from s"); last != "1" {
			t.Errorf("the sequence is at %s, want 1: the cancelled statement ran", last)
		}
	})

	t.Run("fast shutdown", func(t *testing.T) {
		cl := c.login(t, "postgres", false)
		c.hold("values (8)")
		r := cl.start("insert into t values (8)")
		r.waits(observer)
		if err := c.Stop(postgres.Fast); err != nil {
			t.Errorf("Stop() while a session waits = %v", err)
		}
		isState(t, r.sql, r.ends(), "57P01")
		c.release()
		if err := c.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := c.login(t, "postgres", false).must("select count(*) from t where n = 8"); n != "1" {
			t.Error("the row is gone, and the statement was complete")
		}
	})

	t.Run("the postmaster dies", func(t *testing.T) {
		cl, observer := c.login(t, "postgres", false), c.login(t, "postgres", false)
		observer.must("begin")
		c.hold("values (9)")
		r := cl.start("insert into t values (9)")
		r.waits(observer)
		// Kill returns when the last child is gone, too.
		if err := c.Kill(); err != nil {
			t.Errorf("Kill() while a session waits = %v", err)
		}
		if err := r.ends(); err == nil {
			t.Error("the client was told of a completion that is not durable")
		}
		c.release()
	})
}

// Each level's promise, with acknowledgements that come when they like: what a client was told of is durable.
func TestWhatAClientWasToldIsDurable(t *testing.T) {
	a := start(t, nil)
	c := a.acknowledge(t)
	c.policy(t, synchronously(ring.LevelTransaction))
	c.login(t, "postgres", false).must("create table t (session int, n int); create procedure p() language plpgsql as $$begin insert into t values (0, 0); commit; insert into t values (0, 1); end$$")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))

	// Acknowledgements stop at one event in five, for a moment.
	stop, stopped := make(chan struct{}), make(chan struct{})
	delays := rand.New(rand.NewPCG(seed, 1))
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				c.release()
				return
			case <-time.After(time.Duration(delays.IntN(3000)) * time.Microsecond):
			}
			if delays.IntN(2) == 0 {
				c.hold("")
			} else {
				c.release()
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })

	steps := 0
	for _, level := range []ring.SyncLevel{ring.LevelTransaction, ring.LevelStatement, ring.LevelStrict} {
		c.policy(t, synchronously(level))
		var clients sync.WaitGroup
		for session := range 6 {
			cl, local := c.login(t, "postgres", false), rand.New(rand.NewPCG(rnd.Uint64(), uint64(session)))
			steps += 25
			clients.Go(func() {
				open := false
				for step := range 25 {
					sql := fmt.Sprintf("insert into t values (%d, %d)", session, step)
					switch local.IntN(8) {
					case 0:
						sql = "begin"
					case 1:
						sql = "commit"
					case 2:
						sql = "rollback"
					case 3:
						sql = "select count(*) from t"
					case 4:
						sql = "select 1/0"
					case 5:
						sql = "call p()"
					}
					if _, err := cl.run(sql); err != nil && pgconn.Timeout(err) {
						t.Errorf("%s = %v", sql, err)
						return
					}
					open = cl.conn.TxStatus() != 'I'
					// What it wrote is in the ring, and this capture reads all of that.
					durable := c.status(t).Durable
					if open && level == ring.LevelTransaction {
						continue
					}
					eventually(t, "its events to be read", func() bool { return c.status(t).Number <= c.read() }, nil)
					if number := c.lastBefore(cl.conn.PID()); number > durable {
						t.Errorf("level %d: %s was told of (transaction %c) with number %d not durable, only %d", level, sql, cl.conn.TxStatus(), number, durable)
						return
					}
				}
			})
		}
		clients.Wait()
	}
	if released := c.status(t).Released; released != 0 {
		t.Errorf("%d were released, want none", released)
	}
	t.Logf("%d steps", steps)
}

// read is the last number that was read.
func (c *acker) read() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return uint64(len(c.lines))
}

func (c *acker) lastBefore(pid uint32) uint64 {
	number, _ := c.last(pid)
	return number
}

// Modes change under sessions that work: no number is lost or given twice, nobody hangs.
func TestModesSwitchUnderLoad(t *testing.T) {
	a := start(t, nil)
	c := a.acknowledge(t)
	c.policy(t, synchronously(ring.LevelTransaction))
	c.login(t, "postgres", false).must("create table t (session int, n int)")
	const sessions, each = 6, 120
	var clients sync.WaitGroup
	done := make(chan struct{})
	for session := range sessions {
		cl := c.login(t, "postgres", false)
		clients.Go(func() {
			for n := range each {
				if _, err := cl.run(fmt.Sprintf("insert into t values (%d, %d)", session, n)); err != nil {
					t.Errorf("insert = %v", err)
					return
				}
			}
		})
	}
	go func() { clients.Wait(); close(done) }()
	modes := []ring.Policy{
		{Mode: ring.ModeAsync}, synchronously(ring.LevelStatement), synchronously(ring.LevelStrict),
		{Mode: ring.ModeSync, SyncLevel: ring.LevelTransaction, OnFailure: ring.FailureFailOperation}, synchronously(ring.LevelTransaction),
	}
	switches := 0
	for running := true; running; switches++ {
		select {
		case <-done:
			running = false
		case <-time.After(3 * time.Millisecond):
		}
		c.policy(t, modes[switches%len(modes)])
	}
	c.policy(t, ring.Policy{Mode: ring.ModeAsync})
	count := c.login(t, "postgres", false).must("select count(*) from t")
	c.expectRead(t, "«select count(*) from t»")
	c.mu.Lock()
	defer c.mu.Unlock()
	var inserts []string
	for _, line := range c.lines {
		if strings.HasPrefix(line, "STATEMENT 1 WRITE INSERT TABLE:public.t rows=1 ") {
			inserts = append(inserts, line)
		}
	}
	slices.Sort(inserts)
	if distinct := len(slices.Compact(slices.Clone(inserts))); count != fmt.Sprint(sessions*each) || len(inserts) != sessions*each || distinct != len(inserts) {
		t.Errorf("%s rows, %d events of inserts, %d of them distinct; want %d of each", count, len(inserts), distinct, sessions*each)
	}
	t.Logf("%d switches under %d events", switches, len(c.lines))
}
