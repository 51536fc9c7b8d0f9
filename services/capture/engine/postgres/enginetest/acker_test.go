package enginetest_test

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/protobuf/proto"

	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// patience bounds every wait for something that has to come.
const patience = 45 * time.Second

// acker stands in for capture: it reads the ring all the time, and acknowledges what the test lets it.
type acker struct {
	*audited

	mu       sync.Mutex
	lines    []string // what was read, a number each, in words; lines[i] is number i+1
	pids     []int32
	pending  []ring.Position
	through  uint64                 // acknowledged
	stop     func(line string) bool // what is not acknowledged, nor anything after it; nil for nothing
	problems []error
}

// acknowledge starts a capture that acknowledges all it reads.
func (a *audited) acknowledge(t *testing.T) *acker {
	t.Helper()
	c := &acker{audited: a}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := c.step(); err != nil {
				c.mu.Lock()
				c.problems = append(c.problems, err)
				c.mu.Unlock()
				return
			}
			_ = a.reader.Wait(ctx, 2*time.Millisecond)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		for _, err := range c.problems {
			t.Error(err)
		}
	})
	return c
}

// step reads what there is and acknowledges what may be.
func (c *acker) step() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		item, err := c.reader.Next()
		if err != nil {
			return err
		}
		if item.Kind == ring.Nothing {
			break
		}
		if item.Kind == ring.Gap {
			for n := item.First; n <= item.Last; n++ {
				c.lines, c.pids, c.pending = append(c.lines, "gap"), append(c.pids, 0), append(c.pending, c.reader.Position())
			}
			continue
		}
		event := new(activityv1.Activity)
		if err := proto.Unmarshal(item.Payload, event); err != nil {
			return err
		}
		if item.Number != uint64(len(c.lines)+1) {
			return fmt.Errorf("number %d follows %d", item.Number, len(c.lines))
		}
		line := strings.TrimPrefix(event.GetKind().String(), "KIND_") + " " + describe(event)
		if n := event.GetNotice(); n != nil {
			line += " " + n.GetKind().String() + " " + n.GetSubject()
		}
		c.lines, c.pids, c.pending = append(c.lines, line), append(c.pids, event.GetSession().GetPid()), append(c.pending, c.reader.Position())
	}
	upTo := c.through
	for upTo < uint64(len(c.lines)) && (c.stop == nil || !c.stop(c.lines[upTo])) {
		upTo++
	}
	if upTo == c.through {
		return nil
	}
	position := c.pending[upTo-c.through-1]
	c.pending = c.pending[upTo-c.through:]
	c.through = upTo
	return c.ring.Checkpoint(position)
}

// hold stops acknowledging before the next event that has words in it; "" means any.
func (c *acker) hold(words string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop = func(line string) bool { return strings.Contains(line, words) }
}

// release acknowledges everything.
func (c *acker) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop = nil
}

// last is the highest number of an event of that session, 0 for none; durable is what is acknowledged.
func (c *acker) last(pid uint32) (number, durable uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, p := range c.pids {
		if p == int32(pid) {
			number = uint64(i + 1)
		}
	}
	return number, c.through
}

// count is how many events read so far have words in them.
func (c *acker) count(words string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, line := range c.lines {
		if strings.Contains(line, words) {
			n++
		}
	}
	return n
}

// expectRead waits for an event with words in it.
func (c *acker) expectRead(t *testing.T, words string) {
	t.Helper()
	eventually(t, fmt.Sprintf("an event with %q", words), func() bool { return c.count(words) > 0 }, c.dump)
}

func (c *acker) dump() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.lines[max(0, len(c.lines)-30):], "\n")
}

// eventually waits until done; explain, if not nil, adds to the failure.
func eventually(t *testing.T, what string, done func() bool, explain func() string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			text := ""
			if explain != nil {
				text = ":\n" + explain()
			}
			t.Fatalf("waited in vain for %s%s", what, text)
		}
	}
}

// policy tells the server; the path is healthy.
func (c *acker) policy(t *testing.T, p ring.Policy) {
	t.Helper()
	if p.SyncTimeout == 0 {
		p.SyncTimeout = time.Hour
	}
	if err := c.ring.SetPolicy(p); err != nil {
		t.Fatal(err)
	}
	c.healthy(t, true)
}

func (c *acker) healthy(t *testing.T, yes bool) {
	t.Helper()
	if err := c.ring.SetHealthy(yes); err != nil {
		t.Fatal(err)
	}
}

func (c *acker) status(t *testing.T) ring.Status {
	t.Helper()
	s, err := c.ring.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// client is a connection whose statements run while the test goes on.
type client struct {
	t       *testing.T
	conn    *pgconn.PgConn
	mu      sync.Mutex
	notices []string
}

// login connects; local is over the socket.
func (c *acker) login(t *testing.T, user string, local bool) *client {
	t.Helper()
	dsn := c.DSN(user, "postgres")
	if local {
		dsn = fmt.Sprintf("postgres://%s@/postgres?host=%s&port=%s", user, url.QueryEscape(c.SocketDir()), strconv.Itoa(c.Port()))
	}
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cl := &client{t: t}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		cl.mu.Lock()
		defer cl.mu.Unlock()
		cl.notices = append(cl.notices, n.Severity+": "+n.Message)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if cl.conn, err = pgconn.ConnectConfig(ctx, config); err != nil {
		t.Fatalf("Connect() = %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = cl.conn.Close(ctx)
	})
	t.Cleanup(c.release) // a test that fails leaves nothing held to the next
	return cl
}

// run runs a statement to its end and returns the first row's first value.
func (cl *client) run(sql string) (string, error) {
	ctx, cancel := context.WithTimeout(cl.t.Context(), patience)
	defer cancel()
	results, err := cl.conn.Exec(ctx, sql).ReadAll()
	for _, r := range results {
		if len(r.Rows) > 0 {
			return string(r.Rows[0][0]), err
		}
	}
	return "", err
}

// must is run for what has to succeed.
func (cl *client) must(sql string) string {
	cl.t.Helper()
	value, err := cl.run(sql)
	if err != nil {
		cl.t.Fatalf("%s = %v", sql, err)
	}
	return value
}

// refused is run for what has to fail with a SQLSTATE.
func (cl *client) refused(sql, sqlstate string) *pgconn.PgError {
	cl.t.Helper()
	_, err := cl.run(sql)
	return isState(cl.t, sql, err, sqlstate)
}

func (cl *client) start(sql string) *running {
	r := &running{client: cl, sql: sql, done: make(chan error, 1)}
	go func() {
		_, err := cl.run(sql)
		r.done <- err
	}()
	return r
}

// running is a statement that has been sent.
type running struct {
	*client
	sql  string
	done chan error
}

// waits fails the test unless the session comes to wait for its record, as the observer sees it, and no answer is out.
func (r *running) waits(observer *client) {
	r.t.Helper()
	sql := fmt.Sprintf(`select pg_stat_clear_snapshot(); select coalesce(wait_event_type || '/' || wait_event || ' ' || state, '') from pg_stat_activity where pid = %d`, r.conn.PID())
	seen := ""
	eventually(r.t, r.sql+" to wait", func() bool {
		results, err := observer.conn.Exec(r.t.Context(), sql).ReadAll()
		if err != nil || len(results) != 2 || len(results[1].Rows) != 1 {
			r.t.Fatalf("asking for the session: %v", err)
		}
		seen = string(results[1].Rows[0][0])
		return seen == r.waitEvent()+" active"
	}, func() string { return "it is seen as " + seen })
	select {
	case err := <-r.done:
		r.t.Fatalf("%s was answered (%v) while its record was not durable", r.sql, err)
	default:
	}
}

// ends returns how the statement ended.
func (r *running) ends() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		r.t.Fatalf("%s has not ended", r.sql)
		return nil
	}
}

func (cl *client) noticed(words string) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for _, n := range cl.notices {
		if strings.Contains(n, words) {
			return true
		}
	}
	return false
}
