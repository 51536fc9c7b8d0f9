package enginetest_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"google.golang.org/protobuf/proto"

	"github.com/weir-das/weir/pkg/postgres"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	"github.com/weir-das/weir/services/capture/internal/render"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

var (
	fuzzFor  = flag.Duration("fuzzfor", 0, "how long TestFuzzServer goes on; 0 for a few rounds")
	fuzzSeed = flag.Uint64("fuzzseed", 0, "the round of TestFuzzServer that is repeated; 0 for another one every time")
)

const (
	shortRounds = 4
	sessions    = 8
	// Every statement is bounded by a time-out in the server, far below this.
	answerTimeout = 2 * time.Minute
)

var fuzzSettings = map[string]string{"fsync": "off", "autovacuum": "off", "shared_buffers": "16MB", "max_prepared_transactions": "5",
	"log_min_messages": "log", "log_checkpoints": "off", "statement_timeout": "2s", "lock_timeout": "200ms", "deadlock_timeout": "50ms",
	"idle_in_transaction_session_timeout": "20s", "authentication_timeout": "5s", "max_connections": "40", "wal_level": "logical", "restart_after_crash": "on"}

// TestFuzzServer sends what no driver sends, from many sessions at once, which are cancelled, ended and killed, and asks
// after every round: does the server live, was nothing but what we killed ended by a signal, did every number come out of
// the ring as an event or in a gap, can every event be rendered, and is every statement that we saw answered among them?
func TestFuzzServer(t *testing.T) {
	f := &fuzz{audited: start(t, func(o *postgres.Options) { o.RingSize, o.Settings = 4<<20, fuzzSettings }), renderer: render.New(render.Config{})}
	f.psql(f.DSN("postgres", "postgres"), "-c", fixture)
	f.drain(t, nil)

	seed, rounds := *fuzzSeed, 1
	if seed == 0 {
		seed, rounds = uint64(time.Now().UnixNano())>>8<<8, shortRounds
	}
	for end := time.Now().Add(*fuzzFor); rounds > 0 || time.Now().Before(end); rounds-- {
		f.round(t, seed)
		if t.Failed() {
			t.Fatalf("repeat with: go test -run TestFuzzServer ./services/capture/engine/postgres/enginetest -args -fuzzseed %d", seed)
		}
		seed++
	}
	if err := f.Stop(postgres.Fast); err != nil {
		t.Error(err)
	}
	f.drain(t, nil)
	f.noCrash(t, seed-1)
	t.Logf("last seed %d: %d messages, %d marks answered, %d numbers, %d of them in gaps, %d sessions, %d killed, %d crashes of the server's own", seed-1, f.messages, f.marks, *f.number, f.lost, f.logins, f.kills, f.theirs)
	if f.marks == 0 || f.logins == 0 {
		t.Error("no mark was answered: nothing was tested")
	}
}

type fuzz struct {
	*audited
	renderer  *render.Renderer
	logOffset int64

	messages, marks, logins, kills int
	theirs                         int // crashes that the server without the module has too
	lost                           uint64
}

// begin has all sessions of a round play.
func (f *fuzz) begin(t *testing.T, seed uint64) (players []*player, wait func()) {
	mayKill := rand.New(rand.NewPCG(seed, 0)).IntN(4) == 0
	var wg sync.WaitGroup
	for i := range sessions {
		w := newWild(seed, uint64(i)+1)
		p := &player{fuzz: f, seed: seed, index: i, script: w.script(mayKill)}
		players = append(players, p)
		wg.Go(func() { p.err = p.play(t.Context()) })
	}
	return players, wg.Wait
}

// round plays the scripts of one seed, all at once.
func (f *fuzz) round(t *testing.T, seed uint64) {
	t.Helper()
	unread := rand.New(rand.NewPCG(seed, 99)).IntN(4) == 0
	players, wait := f.begin(t, seed)
	played := make(chan struct{})
	go func() { wait(); close(played) }()
	seen := make(map[string]int)
	gaps := f.lost
	for done := false; !done; {
		select {
		case <-played:
			done = true
		case <-time.After(time.Millisecond):
		}
		if !unread {
			f.read(t, seen)
		}
	}
	killed := 0
	for i, p := range players {
		if p.err != nil {
			t.Errorf("seed %d, session %d: %v", seed, i, p.err)
		}
		f.messages += p.sent
		f.marks += len(p.answered)
		if p.pid != 0 {
			f.logins++
		}
		if p.killed {
			killed++
		}
	}
	f.kills += killed
	f.settle(t)
	f.drain(t, seen)
	f.noCrash(t, seed)
	if f.lost != gaps {
		return // what is in the gap cannot be named
	}
	for _, p := range players {
		for _, mark := range p.answered {
			if seen[mark] != 1 {
				t.Errorf("seed %d: %d events of the answered statement %s, want 1", seed, seen[mark], mark)
			}
		}
	}
}

// settle waits until the round's sessions are gone: their last events are then in the ring.
func (f *fuzz) settle(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(answerTimeout)
	for {
		out := f.psql(f.DSN("postgres", "postgres"), "-c",
			"select count(*) from pg_stat_activity where backend_type in ('client backend', 'walsender') and pid <> pg_backend_pid()")
		if out == "0\n" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("sessions that do not end, or a server that does not answer: %s%s", out, f.psql(f.DSN("postgres", "postgres"), "-c",
				"select pid, state, wait_event, query from pg_stat_activity where backend_type in ('client backend', 'walsender')"))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

var markPattern = regexp.MustCompile(`mark-\d+-\d+-\d+`)

// read takes what lies in the ring. Every item is checked as it comes, also by items: its number follows the one before.
func (f *fuzz) read(t *testing.T, seen map[string]int) {
	t.Helper()
	for _, item := range f.items() {
		if item.Kind == ring.Gap {
			f.lost += item.Last - item.First + 1
			continue
		}
		event := new(activityv1.Activity)
		if err := proto.Unmarshal(item.Payload, event); err != nil {
			t.Errorf("number %d is no activity: %v: %x", item.Number, err, item.Payload)
			continue
		}
		if event.GetKind() == 0 || event.GetStartedAt() == nil || event.GetEndedAt() == nil || event.GetSession().GetPid() == 0 {
			t.Errorf("number %d lacks what every event has: %v", item.Number, event)
		}
		f.rendered(t, item.Number, item.Payload)
		if mark := markPattern.Find(event.GetText().GetKept()); mark != nil && seen != nil && event.GetKind() == activityv1.Kind_KIND_STATEMENT {
			seen[string(mark)]++
		}
	}
}

func (f *fuzz) rendered(t *testing.T, number uint64, payload []byte) {
	t.Helper()
	out, elements, _, err := f.renderer.Append(nil, number, payload)
	if err != nil {
		t.Errorf("number %d cannot be rendered: %v: %x", number, err, payload)
	} else if elements > 0 && !json.Valid(append(append([]byte{'['}, out...), ']')) {
		t.Errorf("number %d renders to what is no JSON: %s", number, out)
	}
}

// drain reads the ring to its end: no number may be missing. A gap that has no frame yet gets one with the next event.
func (f *fuzz) drain(t *testing.T, seen map[string]int) {
	t.Helper()
	deadline := time.Now().Add(answerTimeout)
	for {
		f.read(t, seen)
		status, err := f.ring.Status()
		if err != nil {
			t.Fatal(err)
		}
		if status.Unnumbered != 0 {
			t.Errorf("%d events have no number", status.Unnumbered)
		}
		if *f.number == status.Number {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d numbers were given, %d came out", status.Number, *f.number)
		}
		time.Sleep(time.Millisecond)
	}
}

var crashPattern = regexp.MustCompile(`terminated by signal (\d+)|PANIC:|TRAP:|stuck spinlock|AddressSanitizer`)

// noCrash reads what the server logged since it was last called. The log of a session that we killed may come a round late.
func (f *fuzz) noCrash(t *testing.T, seed uint64) {
	t.Helper()
	crash := f.crash(t)
	if crash == "" {
		return
	}
	if without := crashWithout(t, seed); without != "" {
		f.theirs++
		t.Logf("seed %d crashes a server without the module too: …%s…", seed, without)
		return
	}
	t.Errorf("seed %d: the server's log: …%s…", seed, crash)
}

// crash is what the log says of a process that ended by a signal of nobody's, or "".
func (f *fuzz) crash(t *testing.T) string {
	t.Helper()
	log, err := os.ReadFile(f.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	fresh := log[f.logOffset:]
	f.logOffset = int64(len(log))
	for _, found := range crashPattern.FindAllSubmatchIndex(fresh, -1) {
		if f.kills == 0 || found[2] < 0 || string(fresh[found[2]:found[3]]) != "9" {
			return string(fresh[max(0, found[0]-500):min(len(fresh), found[1]+500)])
		}
	}
	return ""
}

// crashWithout plays a round on a server without the module, a few times, for chance has its part in it: PostgreSQL has bugs
// of its own (15.20 runs through a list that is gone when Execute comes for a portal whose transaction was aborted).
func crashWithout(t *testing.T, seed uint64) string {
	t.Helper()
	plain, err := postgres.Start(t.Context(), postgres.Options{Dir: newDir(t), Settings: fuzzSettings})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := plain.Stop(postgres.Immediate); err != nil {
			t.Error(err)
		}
	}()
	f := &fuzz{audited: &audited{Server: plain, t: t}}
	f.psql(f.DSN("postgres", "postgres"), "-c", fixture)
	for range 5 {
		players, wait := f.begin(t, seed)
		wait()
		for _, p := range players {
			if p.killed {
				f.kills++
			}
		}
		f.settle(t)
		if crash := f.crash(t); crash != "" {
			return crash
		}
	}
	return ""
}

// player is one session.
type player struct {
	*fuzz
	seed   uint64
	index  int
	script script

	err      error
	pid      uint32
	key      []byte
	conn     net.Conn
	sent     int
	answered []string
	killed   bool

	// marks carries the marks that the server answered; it is closed when the connection ends. Nobody reads it once over is.
	marks chan string
	over  chan struct{}
}

func (p *player) dial() (net.Conn, error) {
	return net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.Port()))
}

func (p *player) play(ctx context.Context) (err error) {
	// After a session that was killed the server starts again, and refuses for as long.
	if p.conn, err = p.dial(); err != nil {
		return nil
	}
	p.marks, p.over = make(chan string, 1), make(chan struct{})
	reading := make(chan error, 1)
	go func() { reading <- p.readAll() }()
	defer func() {
		close(p.over)
		err = errors.Join(err, p.conn.Close(), <-reading)
	}()
	if p.script.hello != nil {
		p.send(p.script.hello)
		return nil
	}
	parameters := map[string]string{"user": p.script.user, "database": p.script.database, "application_name": "fuzz"}
	if p.script.replication != "" {
		parameters["replication"] = p.script.replication
	}
	p.send(encode(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: parameters}))
	if _, ok := <-p.marks; !ok {
		return nil // refused
	}
	for i, s := range p.script.steps {
		switch s.kind {
		case stepSend, stepLast:
			p.send(s.bytes)
		case stepPause:
			time.Sleep(s.pause)
		case stepCancel:
			p.cancel()
		case stepSignal:
			if s.signal == int(syscall.SIGKILL) {
				p.killed = true
			}
			// It may have ended; its number is not given to another as soon as that.
			_ = syscall.Kill(int(p.pid), syscall.Signal(s.signal))
		case stepMark:
			if p.script.replication == "true" {
				continue // knows no SQL
			}
			if ended, err := p.mark(i); ended || err != nil {
				return err
			}
		}
	}
	return nil
}

// send writes; that the other end is gone is nothing to fail for.
func (p *player) send(b []byte) {
	p.sent++
	_ = p.conn.SetWriteDeadline(time.Now().Add(answerTimeout))
	_, _ = p.conn.Write(b)
}

func (p *player) cancel() {
	conn, err := p.dial()
	if err != nil {
		return
	}
	_, _ = conn.Write(encode(&pgproto3.CancelRequest{ProcessID: p.pid, SecretKey: p.key}))
	_ = conn.Close()
}

// mark ends what is begun, sends a statement of its own, and waits for its answer or the end of the connection. A cancel
// that is late may hit it: then it is sent again.
func (p *player) mark(step int) (ended bool, err error) {
	deadline := time.After(answerTimeout)
	for try := 0; ; try++ {
		mark := fmt.Sprintf("mark-%d-%d-%d", p.seed, p.index, step*100+try)
		var b []byte
		for _, m := range []pgproto3.FrontendMessage{&pgproto3.CopyFail{Message: "enough"}, &pgproto3.Sync{}, &pgproto3.Query{String: "rollback"},
			&pgproto3.Query{String: "select '" + mark + "', '" + p.probe(mark) + "'"}, &pgproto3.Query{String: "select '" + p.end(mark) + "'"}} {
			b = append(b, encode(m)...)
		}
		p.send(b)
		for answered := false; ; {
			select {
			case got, ok := <-p.marks:
				switch {
				case !ok:
					return true, nil
				case got == p.probe(mark):
					answered = true
				case got == p.end(mark) && answered:
					p.answered = append(p.answered, mark)
					return false, nil
				case got != p.end(mark):
					continue // an older one
				}
			case <-time.After(5 * time.Second):
				// Late cancels hit the last one, or both.
				if answered {
					p.send(encode(&pgproto3.Query{String: "select '" + p.end(mark) + "'"}))
				}
			case <-deadline:
				return false, fmt.Errorf("%s was not answered within %s, the session is at: %s; replication %q, step %d", mark, answerTimeout,
					p.psql(p.DSN("postgres", "postgres"), "-c", fmt.Sprintf("select * from pg_stat_activity where pid = %d", p.pid)), p.script.replication, step)
			}
			if !answered {
				break
			}
		}
	}
}

// probe and end are what is looked for in the answers; the text of the statement, which errors quote, has other words.
func (*player) probe(mark string) string { return strings.Replace(mark, "mark", "probe", 1) }
func (*player) end(mark string) string   { return strings.Replace(mark, "mark", "enough", 1) }

func (p *player) arrived(mark string) {
	select {
	case p.marks <- mark:
	case <-p.over:
	}
}

// readAll reads until the connection ends. What it knows is only how messages are framed.
func (p *player) readAll() error {
	defer close(p.marks)
	head := make([]byte, 5)
	ready := false
	for {
		if _, err := io.ReadFull(p.conn, head); err != nil {
			return nil
		}
		if !ready && head[0] == 'N' && p.script.hello != nil {
			return nil // the answer to a request for TLS has no frame
		}
		n := binary.BigEndian.Uint32(head[1:])
		if n < 4 || n > 1<<30 {
			return fmt.Errorf("a message %q of %d bytes", head[0], n)
		}
		body := make([]byte, n-4)
		if _, err := io.ReadFull(p.conn, body); err != nil {
			return nil
		}
		switch head[0] {
		case 'K':
			p.pid, p.key = binary.BigEndian.Uint32(body), body[4:]
		case 'Z':
			if !ready {
				ready = true
				p.arrived("")
			}
		case 'D':
			for _, word := range []string{"probe", "enough"} {
				if at := bytes.Index(body, []byte(word+"-")); at >= 0 {
					p.arrived(string(body[at:]))
				}
			}
		}
	}
}
