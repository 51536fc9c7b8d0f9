package pgauditlog_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	"github.com/weir-das/weir/services/capture/internal/pgauditlog"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a log that a test writes, a follower that can be stopped anywhere, and a reader of its ring.
type bench struct {
	t         *testing.T
	cfg       pgauditlog.Config
	dir, ring string
	written   int       // statements
	clock     time.Time // of the files and records: no two are the same

	follower *pgauditlog.Follower
	stop     func()

	r      *ring.Ring
	reader *ring.Reader
	seen   []string // statements and gaps

	mu  sync.Mutex
	why []string // of what was told as interrupted
}

func (b *bench) Interrupted(_ uint64, _ time.Time, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.why = append(b.why, why)
}

func (b *bench) Resumed(uint64, time.Time) {}

func newBench(t *testing.T, cfg pgauditlog.Config) *bench {
	t.Helper()
	memory, err := os.MkdirTemp("/dev/shm", "weir-log-")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, cfg: cfg, dir: t.TempDir(), ring: filepath.Join(memory, "ring"), stop: func() {}, clock: time.Now().Add(-time.Hour).Truncate(time.Millisecond)}
	b.cfg.Pattern = filepath.Join(b.dir, "*.csv*")
	b.cfg.RingSize = 8 << 20
	t.Cleanup(func() {
		b.stop()
		if b.r != nil {
			b.r.Close()
		}
		os.RemoveAll(memory)
	})
	return b
}

// log appends n statements to a file, and gives it the time of the last.
func (b *bench) log(name string, n int) {
	b.t.Helper()
	var text strings.Builder
	for range n {
		b.written++
		b.clock = b.clock.Add(time.Millisecond)
		fmt.Fprintf(&text, "%s UTC,\"ann\",\"shop\",20010,\"127.0.0.1:43070\",6b043796.4e2a,3,\"INSERT\",2026-11-23 12:54:46 UTC,3/4,725,"+
			"LOG,00000,\"AUDIT: SESSION,%d,1,WRITE,INSERT,,,\"\"insert '\n%d'\"\",<none>\",,,,,,,,,\"psql\",\"client backend\"\n",
			b.clock.UTC().Format("2006-01-02 15:04:05.000"), b.written, b.written)
	}
	b.raw(name, text.String())
}

func (b *bench) raw(name, text string) {
	b.t.Helper()
	file, err := os.OpenFile(filepath.Join(b.dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	b.must(err)
	_, err = file.WriteString(text)
	b.must(err)
	b.must(file.Close())
	b.clock = b.clock.Add(time.Millisecond)
	b.must(os.Chtimes(filepath.Join(b.dir, name), b.clock, b.clock))
}

func (b *bench) must(err error) {
	if err != nil {
		b.t.Helper()
		b.t.Fatal(err)
	}
}

// start runs a follower, as a capture that starts does.
func (b *bench) start() {
	b.t.Helper()
	f, err := pgauditlog.Open(b.cfg, b.ring, b, slog.New(slog.DiscardHandler))
	b.must(err)
	if b.r == nil {
		b.r, err = ring.Open(b.ring)
		b.must(err)
		b.must(b.r.SetPolicy(ring.Policy{Mode: ring.ModeAsync}))
		b.reader = b.r.Reader()
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	b.follower = f
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("Run: %v", err)
		}
		if err := f.Close(); err != nil {
			b.t.Errorf("Close: %v", err)
		}
		b.stop = func() {}
	}
}

// read takes what is in the ring.
func (b *bench) read() {
	b.t.Helper()
	for {
		item, err := b.reader.Next()
		b.must(err)
		switch item.Kind {
		case ring.Nothing:
			return
		case ring.Gap:
			b.seen = append(b.seen, item.Cause.String())
		default:
			var a activityv1.Activity
			b.must(proto.Unmarshal(item.Payload, &a))
			b.seen = append(b.seen, fmt.Sprint(a.GetStatementId()))
			if want := fmt.Sprintf("insert '\n%d'", a.GetStatementId()); string(a.GetText().GetKept()) != want {
				b.t.Fatalf("statement %d is %q", a.GetStatementId(), a.GetText().GetKept())
			}
		}
		position := b.reader.Position()
		b.must(b.r.Checkpoint(position))
	}
}

// await waits until n things came out.
func (b *bench) await(n int) {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); len(b.seen) < n; time.Sleep(5 * time.Millisecond) {
		if b.read(); len(b.seen) < n && time.Now().After(deadline) {
			b.t.Fatalf("%d came out, want %d: %s", len(b.seen), n, summary(b.seen))
		}
	}
}

func summary(seen []string) string {
	if len(seen) > 40 {
		seen = slices.Concat(seen[:20], []string{"…"}, seen[len(seen)-20:])
	}
	return strings.Join(seen, " ")
}

// exactly checks that every statement came out once, in order, with the gaps between them left out of the count.
func (b *bench) exactly(gaps int) {
	b.t.Helper()
	b.await(b.written + gaps)
	b.stop()
	b.read()
	n, told := 0, 0
	for _, s := range b.seen {
		if s == "unread" {
			told++
			continue
		}
		if n++; s != fmt.Sprint(n) {
			b.t.Fatalf("statement %s came out where %d was to come: %s", s, n, summary(b.seen))
		}
	}
	if n != b.written || told != gaps {
		b.t.Errorf("%d statements and %d gaps came out, want %d and %d: %s", n, told, b.written, gaps, summary(b.seen))
	}
}

func (b *bench) rename(from, to string) {
	b.t.Helper()
	b.must(os.Rename(filepath.Join(b.dir, from), filepath.Join(b.dir, to)))
}

// Rotation, as the server does it by time and size, and as logrotate does it by renaming: nothing is missing, nothing
// comes twice, whether a follower looks all the time or was away.
func TestRotation(t *testing.T) {
	for _, away := range []bool{false, true} {
		t.Run(map[bool]string{false: "followed", true: "away"}[away], func(t *testing.T) {
			b := newBench(t, pgauditlog.Config{From: "begin"})
			pause := func() {
				if !away {
					b.await(b.written)
				}
			}
			b.log("pg-1.csv", 10)
			b.start()
			b.await(10)
			if away {
				b.stop()
			}
			b.log("pg-1.csv", 10)
			b.raw("pg-2.csv", "") // made before it is written
			b.log("pg-1.csv", 5)
			pause()
			b.log("pg-2.csv", 10)
			pause()
			b.rename("pg-2.csv", "pg-2.csv.1")
			b.log("pg-2.csv.1", 3) // until it is told, the server writes on
			b.log("pg-2.csv", 7)
			pause()
			b.rename("pg-2.csv.1", "pg-2.csv.2")
			b.rename("pg-2.csv", "pg-2.csv.1")
			b.log("pg-2.csv", 7)
			if away {
				b.start()
			}
			b.exactly(0)
		})
	}
}

// A follower dies again and again, each time with the position that it kept at a random earlier time: what the ring has
// beyond that is not put again.
func TestKilledAnywhere(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	b := newBench(t, pgauditlog.Config{From: "begin"})
	b.log("pg-000.csv", 1)
	for file := range 30 {
		b.start()
		b.await(1)
		// What was kept before some of what comes now, in which nothing is lost and no file ends.
		kept, err := b.follower.KeptBytes()
		b.must(err)
		for range 1 + random.IntN(4) {
			b.log(fmt.Sprintf("pg-%03d.csv", file), 1+random.IntN(50))
			if random.IntN(2) == 0 {
				b.await(b.written)
			}
		}
		b.stop()
		b.read()
		f, err := pgauditlog.Open(b.cfg, b.ring, b, slog.New(slog.DiscardHandler))
		b.must(err)
		b.must(f.Back(kept))
		b.must(f.Close())
		if random.IntN(2) == 0 {
			b.log(fmt.Sprintf("pg-%03d.csv", file+1), 1+random.IntN(50))
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	b.start()
	b.exactly(0)
}

// A log that was truncated may have held what nobody read: one gap says so, and what comes after is there.
func TestTruncated(t *testing.T) {
	for name, size := range map[string]int{"shorter": 3, "longer than before": 40} {
		for _, away := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s away=%v", name, away), func(t *testing.T) {
				b := newBench(t, pgauditlog.Config{From: "begin"})
				b.log("pg.csv", 20)
				b.start()
				b.await(20)
				if away {
					b.stop()
				}
				// At once for whoever looks: the file is another one under its own name and number.
				b.written += 2
				b.clock = b.clock.Add(time.Millisecond)
				b.must(os.Truncate(filepath.Join(b.dir, "pg.csv"), 0))
				if !away {
					b.await(21)
				}
				b.log("pg.csv", size)
				if away {
					b.start()
				}
				b.await(20 + 1 + size)
				if got := b.seen[20:22]; got[0] != "unread" || got[1] != "23" {
					t.Errorf("after the truncation came %v, want a gap and 23", got)
				}
				b.stop()
				if b.read(); len(b.seen) != 21+size {
					t.Errorf("%d came out, want %d", len(b.seen), 21+size)
				}
				if len(b.why) == 0 || !strings.Contains(b.why[0], "truncated") {
					t.Errorf("told %q, want the truncation", b.why)
				}
			})
		}
	}
}

// A file that was removed while nobody followed is told; the files after it are read.
func TestRemoved(t *testing.T) {
	b := newBench(t, pgauditlog.Config{From: "begin"})
	b.log("pg-1.csv", 5)
	b.start()
	b.await(5)
	b.stop()
	b.log("pg-1.csv", 5)
	b.must(os.Remove(filepath.Join(b.dir, "pg-1.csv")))
	b.log("pg-2.csv", 5)
	b.start()
	b.await(11)
	if want := "1 2 3 4 5 unread 11 12 13 14 15"; strings.Join(b.seen, " ") != want {
		t.Errorf("came out %v, want %s", b.seen, want)
	}
}

// What is no record is told, and costs no record after it.
func TestUnreadable(t *testing.T) {
	b := newBench(t, pgauditlog.Config{From: "begin"})
	b.log("pg-1.csv", 5)
	b.raw("pg-1.csv", b.clock.UTC().Format("2006-01-02 15:04:05.000")+` UTC,"ann","shop",1,"half a record`+"\n")
	b.log("pg-1.csv", 5)
	b.raw("pg-1.csv", b.clock.UTC().Format("2006-01-02 15:04:05.000")+` UTC,"and the end`)
	b.log("pg-2.csv", 5)
	b.start()
	b.exactly(2)
}

// A record longer than the limit is one loss, however it comes.
func TestTooLong(t *testing.T) {
	b := newBench(t, pgauditlog.Config{From: "begin"})
	b.log("pg.csv", 3)
	b.raw("pg.csv", b.clock.UTC().Format("2006-01-02 15:04:05.000")+` UTC,"ann","`+strings.Repeat("x\n", pgauditlog.MaxRecord/2)+"\"\n")
	b.log("pg.csv", 3)
	b.start()
	b.exactly(1)
}

// The first start begins where the log ends, between two records, and later ones go on from there although nothing came.
func TestFromTheEnd(t *testing.T) {
	b := newBench(t, pgauditlog.Config{From: "end"})
	b.log("pg-1.csv", 1000)
	b.start()
	b.stop()
	b.log("pg-1.csv", 3)
	b.log("pg-2.csv", 2)
	b.start()
	b.await(5)
	if want := "1001 1002 1003 1004 1005"; strings.Join(b.seen, " ") != want {
		t.Errorf("came out %s, want %s", summary(b.seen), want)
	}
}

// A ring that is full stops the follower, and loses nothing.
func TestFull(t *testing.T) {
	b := newBench(t, pgauditlog.Config{From: "begin"})
	b.log("pg.csv", 60_000) // more than 8 MiB of frames
	b.start()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		status, err := b.r.Status()
		b.must(err)
		if status.Size-(status.Head-status.Tail) < 1<<10 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the ring does not fill: %+v", status)
		}
	}
	b.stop() // in the middle of a batch
	b.start()
	b.exactly(0)
}

// What was written before a stream stops comes; what is written while it is stopped does not, and is passed over.
func TestStopped(t *testing.T) {
	b := newBench(t, pgauditlog.Config{From: "begin"})
	b.log("pg.csv", 5)
	b.start()
	b.await(5)
	b.log("pg.csv", 5)
	b.must(b.r.SetPolicy(ring.Policy{Mode: ring.ModeOff}))
	b.await(10)
	b.stop()

	b.start()
	before, err := b.follower.KeptBytes()
	b.must(err)
	b.log("pg.csv", 3)
	b.written -= 3
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		now, err := b.follower.KeptBytes()
		b.must(err)
		if now != nil && !slices.Equal(now, before) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("what is not wanted is not passed over")
		}
	}
	b.stop()
	b.must(b.r.SetPolicy(ring.Policy{Mode: ring.ModeAsync}))
	b.log("pg.csv", 5)
	b.start()
	b.exactly(0)
}

// A host that went down took the ring along. What was durable is not read again; what was not is, in another epoch.
func TestHostWentDown(t *testing.T) {
	position := filepath.Join(t.TempDir(), "position")
	b := newBench(t, pgauditlog.Config{From: "begin", PositionFile: position})
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	b.log("pg-1.csv", 1)
	b.start()
	b.await(1) // and a checkpoint
	var first []byte
	until("the position is not saved", func() bool { first, _ = os.ReadFile(position); return len(first) > 0 })
	b.log("pg-1.csv", 4)
	b.await(5)
	until("the position is not saved again", func() bool {
		now, err := os.ReadFile(position)
		return err == nil && !slices.Equal(now, first)
	})
	b.log("pg-1.csv", 2)
	b.log("pg-2.csv", 2)
	until("what is written does not come to the ring", func() bool {
		status, err := b.r.Status()
		return err == nil && status.Number == 9
	})
	b.stop()
	b.must(b.r.Close())
	b.r, b.seen = nil, nil
	b.must(os.Remove(b.ring))
	b.log("pg-2.csv", 2)
	b.start()
	until("the last statement does not come", func() bool { b.read(); return len(b.seen) > 0 && b.seen[len(b.seen)-1] == "11" })
	b.stop()
	from := 12 - len(b.seen) // where every statement from there on comes once
	for i, s := range b.seen {
		if s != fmt.Sprint(from+i) {
			t.Fatalf("came out %v, want them in order, each once", b.seen)
		}
	}
	if from < 2 || from > 6 {
		t.Errorf("came out %v, want them from 2 to 6 on: what was saved as durable", b.seen)
	}

	b.must(os.WriteFile(position, []byte("nonsense"), 0o600))
	b.must(b.r.Close())
	b.r = nil
	b.must(os.Remove(b.ring))
	if _, err := pgauditlog.Open(b.cfg, b.ring, b, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "position_file") {
		t.Errorf("Open with nonsense for a position = %v, want an error that names it", err)
	}
}

func TestConfig(t *testing.T) {
	good := pgauditlog.Config{Pattern: "/var/log/postgresql/*.csv"}
	for name, tt := range map[string]struct {
		change func(*pgauditlog.Config)
		want   string
	}{
		"good":     {func(*pgauditlog.Config) {}, ""},
		"off":      {func(c *pgauditlog.Config) { *c = pgauditlog.Config{} }, ""},
		"pattern":  {func(c *pgauditlog.Config) { c.Pattern = ""; c.Format = "csv" }, "pattern"},
		"relative": {func(c *pgauditlog.Config) { c.Pattern = "log/*.csv" }, "absolute"},
		"format":   {func(c *pgauditlog.Config) { c.Format = "text" }, "format"},
		"zone":     {func(c *pgauditlog.Config) { c.Timezone = "Nowhere/Here" }, "timezone"},
		"from":     {func(c *pgauditlog.Config) { c.From = "middle" }, "from"},
		"ring":     {func(c *pgauditlog.Config) { c.RingSize = 4096 }, "ring_size"},
	} {
		c := good
		tt.change(&c)
		err := c.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: Validate() = %v, want %q", name, err, tt.want)
		}
	}
}
