package ring_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/services/capture/internal/ring"
	"github.com/weir-das/weir/services/capture/internal/ring/ringtest"
)

// What somebody does who runs as the server's account.

func TestFileCutShortIsAnError(t *testing.T) {
	for _, size := range []int64{0, 4096, 8192, 8192 + 4096} {
		w := ringtest.Create(t, 64<<10)
		r := open(t, w.Path)
		reader := r.Reader()
		for n := uint64(1); n <= 20; n++ {
			w.Put(make([]byte, 1000), at(n))
		}
		expect(t, reader, "1", "2")
		if err := os.Truncate(w.Path, size); err != nil {
			t.Fatal(err)
		}
		if !r.Replaced() {
			t.Errorf("cut to %d: Replaced = false", size)
		}
		var err error
		for range 20 {
			if _, err = reader.Next(); err != nil {
				break
			}
		}
		if !errors.Is(err, ring.ErrFault) || !fault.Is(err, fault.NotReady) {
			t.Errorf("cut to %d: Next = %v, want a fault", size, err)
		}
		if size > 0 {
			continue // the header, or its half, is there
		}
		for name, call := range map[string]func() error{
			"Checkpoint":  func() error { return r.Checkpoint(reader.Position()) },
			"Seen":        func() error { return r.Seen(time.Now()) },
			"SetHealthy":  func() error { return r.SetHealthy(true) },
			"SetPolicy":   func() error { return r.SetPolicy(ring.Policy{}) },
			"SetSettings": func() error { return r.SetSettings([]byte("x")) },
			"Settings":    func() error { _, err := r.Settings(); return err },
			"Status":      func() error { _, err := r.Status(); return err },
			"Wait":        func() error { return reader.Wait(t.Context(), time.Millisecond) },
			"Reader":      func() error { _, err := r.Reader().Next(); return err },
		} {
			if err := call(); !errors.Is(err, ring.ErrFault) {
				t.Errorf("cut to nothing: %s = %v, want a fault", name, err)
			}
		}
		if _, err := ring.Open(w.Path); err == nil {
			t.Error("Open of a ring that was cut to nothing succeeded")
		}
	}
}

func TestReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ring")
	w := ringtest.CreateAt(t, path, 64<<10)
	r := open(t, path)
	if r.Replaced() {
		t.Error("Replaced = true on a ring that is there")
	}
	w.Put(text(1), at(1))
	second := ringtest.CreateAt(t, path, 64<<10)
	if !r.Replaced() {
		t.Error("Replaced = false after another ring took the path")
	}
	expect(t, r.Reader(), "1", "nothing") // what is left in the old one can be read
	if other := open(t, path); other.Epoch() != second.Epoch || other.Replaced() {
		t.Error("the second ring cannot be opened beside the first")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if !r.Replaced() {
		t.Error("Replaced = false after the file was removed")
	}
}

func poke(w *ringtest.Writer, offset int, value uint64) {
	binary.LittleEndian.PutUint64(w.Memory()[offset:], value)
}

// A frame that cannot be read takes what lies behind it along; all of it is told, and what comes later is read. A capture
// that comes back tells the same.
func TestSpoiledFrameIsTold(t *testing.T) {
	for name, spoil := range map[string]func(w *ringtest.Writer, offset int){
		"length":         func(w *ringtest.Writer, o int) { poke(w, o, 1|0xffff_0000<<32) },
		"commit":         func(w *ringtest.Writer, o int) { poke(w, o, 9|100<<32) },
		"kind":           func(w *ringtest.Writer, o int) { poke(w, o+16, 7) },
		"padding":        func(w *ringtest.Writer, o int) { poke(w, o+16, 3) },
		"gap":            func(w *ringtest.Writer, o int) { poke(w, o+16, 2) },
		"number too old": func(w *ringtest.Writer, o int) { poke(w, o+8, 1) },
		"number too new": func(w *ringtest.Writer, o int) { poke(w, o+8, 1<<40) },
	} {
		t.Run(name, func(t *testing.T) {
			w := ringtest.Create(t, 64<<10)
			r, err := ring.Open(w.Path)
			if err != nil {
				t.Fatal(err)
			}
			reader := r.Reader()
			for n := uint64(1); n <= 10; n++ {
				w.Put(make([]byte, 200), at(n)) // frames of 256 bytes
			}
			spoil(w, 8192+4*256)
			expect(t, reader, "1", "2", "3", "4")
			first, err := reader.Next()
			if err != nil || words(first) != "5..10 corrupt" {
				t.Fatalf("Next = %s, %v; want 5..10 corrupt", words(first), err)
			}
			w.Put(text(11), at(11))
			expect(t, reader, "nothing") // until a checkpoint says where to come back to
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			r = open(t, w.Path)
			reader = r.Reader()
			expect(t, reader, "1", "2", "3", "4")
			again, err := reader.Next()
			if err != nil || again.First != 5 || again.Last != 10 || again.Cause != ring.Corrupt || !again.From.Equal(first.From) {
				t.Errorf("after a crash it is %+v, %v; want %+v", again, err, first)
			}
			checkpoint(t, r, reader)
			w.Put(text(12), at(12))
			// Where the first capture would have gone on, the second does not know: event 11 is told, too.
			expect(t, reader, "11..11 corrupt", "12", "nothing")
		})
	}
}

func TestHoleIsTold(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	r := open(t, w.Path)
	reader := r.Reader()
	w.Put(text(1), at(1))
	poke(w, 144, 5) // number
	w.Put(text(6), at(6))
	expect(t, reader, "1", "2..5 corrupt", "6", "nothing")
	poke(w, 144, 8)
	expect(t, reader, "7..8 corrupt", "nothing")
	checkpoint(t, r, reader)
	w.Put(text(9), at(9))
	expect(t, reader, "9", "nothing")
	poke(w, 144, 3)
	if _, err := reader.Next(); !errors.Is(err, ring.ErrCorrupt) || !fault.Is(err, fault.Corrupted) {
		t.Errorf("Next after the numbers went back = %v, want corrupted", err)
	}
}

func TestHostileTailLosesNothing(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	r := open(t, w.Path)
	reader := r.Reader()
	w.Put(text(1), at(1))
	poke(w, 256, 1<<50) // tail: the engine takes the ring for full
	if _, ok := w.Put(text(2), at(2)); ok {
		t.Fatal("an event found room behind a tail that is beyond the head")
	}
	expect(t, reader, "1", "2..2 ring_full")
	checkpoint(t, r, reader) // mends it
	if _, ok := w.Put(text(3), at(3)); !ok {
		t.Error("no room after a checkpoint")
	}
	expect(t, reader, "3", "nothing")
}

// hostile is a ring with something of everything in it, as bytes.
func hostile(f *testing.F) (path string, file []byte) {
	w := ringtest.Create(f, 64<<10)
	r := open(f, w.Path)
	reader := r.Reader()
	for n := uint64(1); n <= 200; n++ {
		w.Put(text(n), at(n))
		expect(f, reader, words(ring.Item{Kind: ring.Event, Number: n}))
	}
	checkpoint(f, r, reader)
	lost := fill(f, w)
	for range 20 {
		if _, err := reader.Next(); err != nil {
			f.Fatal(err)
		}
	}
	checkpoint(f, r, reader)
	w.Put(text(lost+1), at(lost+1)) // with a gap frame
	w.Reserve(30, at(lost+2))
	w.Recover()
	fill(f, w)
	w.Kill()
	return w.Path, append([]byte(nil), w.Memory()...)
}

// Whatever the ring says, the reader neither panics nor allocates more than a frame may hold, gives out every number once
// and in order, and comes to an end: of what is there, or of its patience, with an error.
func FuzzHostileRing(f *testing.F) {
	_, template := hostile(f)
	field := func(when byte, offset uint32, value uint64) []byte {
		return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32([]byte{when}, offset), value)
	}
	f.Add([]byte{})
	for _, offset := range []uint32{128, 136, 144, 192, 200, 208, 216, 256, 448, 456, 464, 472, 480, 512, 520, 640, 648, 8192, 8200, 8208} {
		for _, value := range []uint64{0, 1, 31, 64 << 10, 1 << 40, 1<<63 - 1, 1<<64 - 1} {
			f.Add(field(0, offset, value))
			f.Add(field(7, offset, value))
		}
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		path := filepath.Join(t.TempDir(), "ring")
		if err := os.WriteFile(path, template, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		// An instruction: a byte that says after how many items, four that say where, and eight to put there.
		spoil := func(items int) {
			for len(script) >= 13 && int(script[0]) <= items {
				offset := int64(binary.LittleEndian.Uint32(script[1:])) % int64(len(template)-8)
				if script[0]&1 == 0 && offset >= 4096 {
					offset &^= 31 // what counts of the data is the frames' headers
				}
				if _, err := file.WriteAt(script[5:13], offset); err != nil {
					t.Fatal(err)
				}
				script = script[13:]
			}
		}
		spoil(0)
		r, err := ring.Open(path)
		if err != nil {
			return
		}
		defer func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}()
		reader := r.Reader()
		number, items, idle := reader.Position().Number, 0, 0
		for idle < 3 {
			item, err := reader.Next()
			if err != nil {
				return
			}
			switch item.Kind {
			case ring.Nothing:
				idle++
				if err := r.Checkpoint(reader.Position()); err != nil && !fault.Is(err, fault.Invalid) {
					t.Fatal(err)
				}
			case ring.Event:
				if item.Number != number+1 || len(item.Payload) > 8192 {
					t.Fatalf("event %d with %d bytes after number %d", item.Number, len(item.Payload), number)
				}
				number = item.Number
			case ring.Gap:
				if item.First != number+1 || item.Last < item.First || item.Last > 1<<53 {
					t.Fatalf("gap %d..%d after number %d", item.First, item.Last, number)
				}
				number = item.Last
			}
			if reader.Position().Number != number {
				t.Fatalf("Position says %d after number %d", reader.Position().Number, number)
			}
			items++
			spoil(items)
			if items > 10_000 {
				t.Fatal("the reader does not come to an end")
			}
		}
	})
}

// The engine's half, too, stays inside the ring whatever the header says.
func TestEngineStaysInBounds(t *testing.T) {
	out, err := exec.Command(program(t, "hostile"), "200000", fmt.Sprint(time.Now().UnixNano()%1_000_000)).Output()
	if err != nil {
		t.Fatalf("hostile: %v", err)
	}
	if in := strings.TrimSpace(string(out)); in == "0" {
		t.Error("no put found room: the program does not test")
	}
}
