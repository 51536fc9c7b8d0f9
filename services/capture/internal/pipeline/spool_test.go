package pipeline_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/pkg/spoolkey"
	"github.com/weir-das/weir/services/capture/internal/spool"
)

// spoolKeys makes a key and the private half of it.
func spoolKeys(t *testing.T) *spoolkey.Ring {
	t.Helper()
	name := filepath.Join(t.TempDir(), "spool.pem")
	if err := spoolkey.CreateFile(name); err != nil {
		t.Fatal(err)
	}
	keys, err := spoolkey.OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// spooling is a bench with a spool, which stays when the pipeline ends, as its directory does.
func spooling(t *testing.T, ringSize int, limit int64) *bench {
	b := newBench(t, ringSize)
	b.crypto.SpoolKeys = spoolKeys(t)
	b.spoolDir, b.spoolLimit = t.TempDir(), limit
	return b
}

// openSpool opens the spool and drains it; the function that it returns ends that, as a capture that dies does.
func (b *bench) openSpool() (*spool.Spool, func()) {
	b.t.Helper()
	if b.spoolDir == "" {
		return nil, func() {}
	}
	s, err := spool.Open(b.spoolDir, b.spoolLimit, slog.New(slog.DiscardHandler))
	if err != nil {
		b.t.Fatal(err)
	}
	if b.teller != nil {
		s.Losing = b.teller.SpoolLost
	}
	client := b.crypto.Serve(b.t)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.KeepKey(ctx, client) })
	wg.Go(func() { _ = s.Drain(ctx, client, func(int) {}) })
	b.spool = s
	return s, func() {
		cancel()
		wg.Wait()
		if err := s.Close(); err != nil {
			b.t.Error(err)
		}
	}
}

// keyed waits until the spool has its key.
func (b *bench) keyed() {
	b.t.Helper()
	b.eventually("a key to seal with", func() bool {
		_, err := os.Stat(filepath.Join(b.spoolDir, "public.key"))
		return err == nil
	})
}

// outlast writes twenty events n times, none before the ring is less than two
// thirds full; while it waits for that it waits for the spool.
func (b *bench) outlast(n int) {
	b.t.Helper()
	const ring = 64 << 10
	frame := uint64(32+len(b.payload())+31) &^ 31
	b.written--
	for range n {
		lost := b.engine.Lost()
		b.eventually("room in the ring", func() bool { return (b.engine.Number()-b.engine.Stored())*frame < ring/3*2 })
		b.put(20)
		if b.engine.Lost() != lost {
			b.t.Fatalf("%d events lost with room in the spool", b.engine.Lost()-lost)
		}
	}
}

// whole checks that the journal has every number, once for all told, and as it was.
func (b *bench) whole() {
	b.t.Helper()
	events, lost := b.account()
	if uint64(len(events)) != b.engine.Number() || len(lost) != 0 || b.engine.Lost() != 0 {
		b.t.Fatalf("%d events and %d told as lost of %d numbers; the engine lost %d", len(events), len(lost), b.engine.Number(), b.engine.Lost())
	}
	for i := 1; i <= b.written; i++ {
		if !strings.Contains(events[uint64(i)], b.text(i)) {
			b.t.Fatalf("number %d is %s, want %q in it", i, events[uint64(i)], b.text(i))
		}
	}
}

// Crypto is away for longer than the ring lasts, and comes back: nothing is lost,
// nobody was told that it was durable meanwhile, and nothing is left on the disk.
func TestSpoolHoldsWhatTheRingCannot(t *testing.T) {
	b := spooling(t, 64<<10, 64<<20)
	b.text = func(int) string { return "SELECT 'canary in the mine'" }
	stop := b.run(time.Second)
	b.keyed()
	b.put(10)
	b.waitDurable()
	b.crypto.SetAway(true)
	b.outlast(100)
	if d := b.engine.Durable(); d != 10 || b.engine.Stored() < 1000 {
		t.Errorf("durable %d and stored %d while crypto is away, want 10 and nearly all", d, b.engine.Stored())
	}
	if b.spool.Used() == 0 {
		t.Error("nothing is in the spool")
	}
	b.hasNoCanary("canary")
	b.crypto.SetAway(false)
	b.waitDurable()
	b.put(10)
	b.waitDurable()
	b.eventually("an empty spool", func() bool { return b.spool.Used() == 0 && b.progress.Durable.Load() == b.engine.Number() })
	stop()
	b.whole()
	spooled := 0
	for _, r := range b.crypto.Journal() {
		if len(r.GetSealedPlaintext()) > 0 {
			spooled++
		}
	}
	if spooled == 0 || b.records() == spooled {
		t.Errorf("%d of %d records came out of the spool, want some, and others directly", spooled, b.records())
	}
}

// hasNoCanary reads every file of the spool.
func (b *bench) hasNoCanary(canary string) {
	b.t.Helper()
	files, err := os.ReadDir(b.spoolDir)
	if err != nil {
		b.t.Fatal(err)
	}
	bytes := 0
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(b.spoolDir, f.Name()))
		if err != nil {
			b.t.Fatal(err)
		}
		bytes += len(data)
		if strings.Contains(string(data), canary) || strings.Contains(string(data), "commandText") {
			b.t.Errorf("%s holds clear text", f.Name())
		}
	}
	if bytes < 10<<10 {
		b.t.Errorf("the spool holds %d bytes: the test proves nothing", bytes)
	}
}

// A capture that dies in the middle of it, again and again, with crypto coming
// and going, loses nothing and invents nothing.
func TestSpoolSurvivesItsCapture(t *testing.T) {
	b := spooling(t, 64<<10, 64<<20)
	b.crypto.BreakAfter = 9
	stop := b.run(0)
	b.keyed()
	for round := range 8 {
		b.crypto.SetAway(round%4 != 3)
		b.outlast(12)
		stop()
		stop = b.run(0)
	}
	b.crypto.SetAway(false)
	b.waitDurable()
	b.eventually("an empty spool", func() bool { return b.spool.Used() == 0 })
	stop()
	b.whole()
}

// A full spool is as a full ring: what does not fit is counted, exactly.
func TestFullSpoolLosesExactlyWhatIsTold(t *testing.T) {
	b := spooling(t, 64<<10, 1<<20)
	stop := b.run(time.Second)
	b.keyed()
	b.crypto.SetAway(true)
	b.text = func(int) string { return strings.Repeat("x", 1000) }
	b.eventually("a ring with no room, and a spool with none", func() bool {
		b.put(20)
		return b.engine.Lost() > 100 && b.spool.Used() > 1<<20-100<<10
	})
	if used := b.spool.Used(); used > 1<<20 {
		t.Errorf("the spool has %d bytes, want 1 MiB at most", used)
	}
	b.crypto.SetAway(false)
	b.waitDurable()
	b.put(1)
	b.waitDurable()
	stop()
	events, lost := b.account()
	if uint64(len(lost)) != b.engine.Lost() || uint64(len(events)+len(lost)) != b.engine.Number() {
		t.Fatalf("%d events and %d told as lost of %d numbers; the engine lost %d", len(events), len(lost), b.engine.Number(), b.engine.Lost())
	}
	for n, cause := range lost {
		if cause != das.CauseRingFull {
			t.Fatalf("number %d is lost by %s", n, cause)
		}
	}
}

// Sessions that wait are not told of durability by the spool.
func TestSpoolIsNotDurable(t *testing.T) {
	b := spooling(t, 64<<10, 64<<20)
	b.desired = b.sync(200 * time.Millisecond)
	stop := b.run(time.Second)
	defer stop()
	b.keyed()
	b.crypto.SetAway(true)
	b.outlast(20)
	if b.engine.Await(1, 10*time.Millisecond) {
		t.Error("number 1 is durable, and is in the spool")
	}
	b.eventually("degraded", func() bool { return b.engine.PathState() == 2 })
	b.crypto.SetAway(false)
	b.waitDurable()
	b.eventually("healthy", func() bool { return b.engine.PathState() == 1 })
}

// Whoever removes the spool, or damages it, loses what it had and is found out.
func TestDamagedSpoolIsTold(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"removed": func(t *testing.T, dir string) {
			for _, f := range segments(t, dir) {
				if err := os.Remove(f); err != nil {
					t.Fatal(err)
				}
			}
		},
		"a bit": func(t *testing.T, dir string) {
			f := segments(t, dir)[0]
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 4
			if err := os.WriteFile(f, data, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"its beginning": func(t *testing.T, dir string) {
			f := segments(t, dir)[0]
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(f, data[100:], 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := spooling(t, 64<<10, 64<<20)
			stop := b.run(0)
			b.keyed()
			b.put(10)
			b.waitDurable()
			b.crypto.SetAway(true)
			b.outlast(30)
			stop()
			// What the first capture sent is not to arrive after it is told as lost.
			b.eventually("all streams over", func() bool { return b.crypto.Open() == 0 })
			damage(t, b.spoolDir)
			b.crypto.SetAway(false)
			stop = b.run(time.Second)
			b.waitDurable()
			b.put(10)
			b.waitDurable()
			stop()
			events, lost := b.account()
			if len(lost) == 0 || uint64(len(events)+len(lost)) != b.engine.Number() {
				t.Fatalf("%d events and %d told as lost of %d numbers", len(events), len(lost), b.engine.Number())
			}
			for n, cause := range lost {
				if _, there := events[n]; there || cause != das.CauseRefused {
					t.Fatalf("number %d is told as lost by %s; its event is there: %v", n, cause, there)
				}
			}
		})
	}
}

func segments(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.spool"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no segments, %v", err)
	}
	return files
}
