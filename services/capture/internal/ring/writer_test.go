package ring_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

func writer(t testing.TB, path string) *ring.Writer {
	t.Helper()
	w, err := ring.NewWriter(ring.WriterOptions{Path: path, Size: 64 << 10, ServerVersion: "15.20"})
	if err != nil {
		t.Fatalf("NewWriter: %v", err)
	}
	return w
}

func closeWriter(t testing.TB, w *ring.Writer) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// What a Writer puts in comes out, many times round the ring; what finds no room has no number.
func TestWriter(t *testing.T) {
	path := memoryPath(t)
	w := writer(t, path)
	defer func() { closeWriter(t, w) }()
	r := open(t, path)
	reader := r.Reader()
	for n, full := uint64(1), 0; n <= 5000 || full == 0; {
		ok, err := w.Put(text(n), at(n))
		if err != nil {
			t.Fatalf("Put(%d): %v", n, err)
		}
		if ok {
			n++
			continue
		}
		full++
		number, err := w.Number()
		if err != nil || number != n-1 {
			t.Fatalf("Number() = %d, %v with a ring that has no room, want %d", number, err, n-1)
		}
		for {
			item, err := reader.Next()
			if err != nil {
				t.Fatalf("Next: %v", err)
			}
			if item.Kind == ring.Nothing {
				break
			}
			if item.Kind != ring.Event || !bytes.Equal(item.Payload, text(item.Number)) || !item.Time.Equal(at(item.Number)) {
				t.Fatalf("%s is not what was put in", words(item))
			}
		}
		if got := reader.Position().Number; got != n-1 {
			t.Fatalf("the reader came to %d, want %d", got, n-1)
		}
		if err := r.Checkpoint(reader.Position()); err != nil {
			t.Fatalf("Checkpoint: %v", err)
		}
	}
	if !r.EngineRunning() {
		t.Error("EngineRunning() = false while a Writer holds the ring")
	}
	if _, err := w.Put(make([]byte, 8<<10+1), at(1)); !fault.Is(err, fault.Invalid) {
		t.Errorf("Put of more than an eighth of the ring = %v, want invalid", err)
	}
}

func TestWriterTellsWhatIsUnread(t *testing.T) {
	path := memoryPath(t)
	w := writer(t, path)
	defer func() { closeWriter(t, w) }()
	for _, put := range []func() (bool, error){
		func() (bool, error) { return w.Put(text(1), at(1)) },
		func() (bool, error) { return w.PutUnread(at(2), at(3)) },
		func() (bool, error) { return w.Put(text(3), at(4)) },
	} {
		if ok, err := put(); !ok || err != nil {
			t.Fatalf("a put = %v, %v, want room", ok, err)
		}
	}
	reader := open(t, path).Reader()
	for _, want := range []string{"1", "2-2 unread", "3"} {
		item, err := reader.Next()
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(item.Number)
		if item.Kind == ring.Gap {
			got = fmt.Sprintf("%d-%d %s", item.First, item.Last, item.Cause)
			if !item.From.Equal(at(2)) || !item.To.Equal(at(3)) {
				t.Errorf("the gap is from %v to %v, want %v to %v", item.From, item.To, at(2), at(3))
			}
		}
		if got != want {
			t.Errorf("Next() = %s, want %s", got, want)
		}
	}
}

// A ring outlives its Writer, with what it holds and what was kept, and has one Writer at a time.
func TestWriterComesBack(t *testing.T) {
	path := memoryPath(t)
	w := writer(t, path)
	if kept, err := w.Kept(); kept != nil || err != nil {
		t.Errorf("Kept() of a new ring = %q, %v, want nothing", kept, err)
	}
	epoch, err := w.Epoch()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.NewWriter(ring.WriterOptions{Path: path, Size: 64 << 10}); !errors.Is(err, ring.ErrOccupied) {
		t.Errorf("a second NewWriter = %v, want %v", err, ring.ErrOccupied)
	}
	for n := uint64(1); n <= 3; n++ {
		if ok, err := w.Put(text(n), at(n)); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := w.Keep(fmt.Appendf(nil, "after %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	closeWriter(t, w)
	r := open(t, path)
	if status, err := r.Status(); err != nil || status.State != ring.EngineStopped || status.ServerVersion != "15.20" {
		t.Errorf("Status() = %+v, %v, want a server 15.20 that stopped", status, err)
	}
	w = writer(t, path)
	defer func() { closeWriter(t, w) }()
	if again, err := w.Epoch(); err != nil || again != epoch {
		t.Errorf("Epoch() = %d, %v, want %d still", again, err, epoch)
	}
	if kept, err := w.Kept(); string(kept) != "after 3" || err != nil {
		t.Errorf("Kept() = %q, %v, want after 3", kept, err)
	}
	if ok, err := w.Put(text(4), at(4)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	reader := r.Reader()
	for n := 1; n <= 4; n++ {
		if got := next(t, reader); got != fmt.Sprint(n) {
			t.Errorf("Next() = %s, want %d", got, n)
		}
	}
}

// A Writer may be killed between any two of its stores. Put's order is payload, head, number, commit: for each of those
// that are missing, the event is there whole, or was not put at all.
func TestWriterKilled(t *testing.T) {
	const (
		offHead, offNumber = 136, 144
		commit             = 8192
	)
	for name, undo := range map[string]func(mem []byte){
		"before the commit": func(mem []byte) { clear(mem[commit : commit+4]) },
		"before the number": func(mem []byte) { clear(mem[commit : commit+4]); clear(mem[offNumber : offNumber+8]) },
		"before the head": func(mem []byte) {
			clear(mem[commit : commit+4])
			clear(mem[offNumber : offNumber+8])
			clear(mem[offHead : offHead+8])
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := memoryPath(t)
			w := writer(t, path)
			if ok, err := w.Put(text(1), at(1)); !ok || err != nil {
				t.Fatal(ok, err)
			}
			closeWriter(t, w)
			spoil(t, path, undo)
			w = writer(t, path)
			defer func() { closeWriter(t, w) }()
			number, err := w.Number()
			if err != nil {
				t.Fatal(err)
			}
			if want := map[bool]uint64{true: 0, false: 1}[name == "before the head"]; number != want {
				t.Fatalf("Number() = %d, want %d", number, want)
			}
			if number == 0 {
				if ok, err := w.Put(text(1), at(1)); !ok || err != nil {
					t.Fatal(ok, err)
				}
			}
			item, err := open(t, path).Reader().Next()
			if err != nil || item.Kind != ring.Event || !bytes.Equal(item.Payload, text(1)) {
				t.Errorf("Next() = %s, %v, want event 1", words(item), err)
			}
		})
	}
}

// Half a Keep leaves what was kept before.
func TestKeepKilled(t *testing.T) {
	path := memoryPath(t)
	w := writer(t, path)
	for _, s := range []string{"old", "new"} {
		if err := w.Keep([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Keep(make([]byte, 113)); !fault.Is(err, fault.Invalid) {
		t.Errorf("Keep of 113 bytes = %v, want invalid", err)
	}
	closeWriter(t, w)
	spoil(t, path, func(mem []byte) { mem[1536+16] ^= 1 }) // the second one's slot
	w = writer(t, path)
	defer func() { closeWriter(t, w) }()
	if kept, err := w.Kept(); string(kept) != "old" || err != nil {
		t.Errorf("Kept() = %q, %v, want old", kept, err)
	}
}

func TestWriterRefusesADisk(t *testing.T) {
	// The source tree is on a disk, wherever temporary files are.
	if _, err := ring.NewWriter(ring.WriterOptions{Path: "ring", Size: 64 << 10}); !fault.Is(err, fault.Invalid) {
		t.Errorf("NewWriter on a disk = %v, want invalid", err)
	}
	if _, err := os.Stat("ring.new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was refused is still there: %v", err)
	}
}

// spoil changes a ring's bytes.
func spoil(t *testing.T, path string, change func(mem []byte)) {
	t.Helper()
	mem, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	change(mem)
	if err := os.WriteFile(path, mem, 0o600); err != nil {
		t.Fatal(err)
	}
}
