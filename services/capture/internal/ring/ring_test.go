package ring_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/services/capture/internal/ring"
	"github.com/weir-das/weir/services/capture/internal/ring/ringtest"
)

// at is the time of event n.
func at(n uint64) time.Time { return time.UnixMicro(1_700_000_000_000_000 + int64(n)).UTC() }

// text is the payload of event n.
func text(n uint64) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "event %d ", n), int(1+n%20))
}

func open(t testing.TB, path string) *ring.Ring {
	t.Helper()
	r, err := ring.Open(path)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return r
}

// next is the next item in words.
func next(t testing.TB, reader *ring.Reader) string {
	t.Helper()
	item, err := reader.Next()
	if err != nil {
		t.Fatalf("Next: %v", err)
	}
	return words(item)
}

func words(item ring.Item) string {
	switch item.Kind {
	case ring.Event:
		return fmt.Sprintf("%d", item.Number)
	case ring.Gap:
		return fmt.Sprintf("%d..%d %s", item.First, item.Last, item.Cause)
	}
	return "nothing"
}

func expect(t testing.TB, reader *ring.Reader, want ...string) {
	t.Helper()
	for i, w := range want {
		if got := next(t, reader); got != w {
			t.Fatalf("item %d is %q, want %q", i, got, w)
		}
	}
}

func TestEventsComeOutAsTheyWentIn(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	r := open(t, w.Path)
	reader := r.Reader()
	expect(t, reader, "nothing")
	// Many times round the ring, so that frames meet its end in every way.
	for n := uint64(1); n <= 20_000; n++ {
		if number, ok := w.Put(text(n), at(n)); !ok || number != n {
			t.Fatalf("Put = %d, %t, want %d, true", number, ok, n)
		}
		item, err := reader.Next()
		if err != nil || item.Kind != ring.Event || item.Number != n || !item.Time.Equal(at(n)) || !bytes.Equal(item.Payload, text(n)) {
			t.Fatalf("Next = %s %s %q, %v; want event %d as it was written", words(item), item.Time, item.Payload, err, n)
		}
		if n%50 == 0 {
			if err := r.Checkpoint(reader.Position()); err != nil {
				t.Fatalf("Checkpoint: %v", err)
			}
			if w.Stored() != n || w.Durable() != n {
				t.Fatalf("after Checkpoint(%d) stored is %d, durable %d", n, w.Stored(), w.Durable())
			}
		}
	}
	expect(t, reader, "nothing")
}

func TestReaderWaitsForTheFirstUncommittedFrame(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	reader := open(t, w.Path).Reader()
	w.Put(text(1), at(1))
	slow := w.Reserve(10, at(2))
	w.Put(text(3), at(3))
	expect(t, reader, "1", "nothing", "nothing")
	if reader.Blocked().IsZero() {
		t.Error("Blocked = never, want since now")
	}
	slow.Commit(make([]byte, 10))
	expect(t, reader, "2", "3", "nothing")
	if !reader.Blocked().IsZero() {
		t.Errorf("Blocked = %v, want never", reader.Blocked())
	}
}

func TestTornFrameIsAGap(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	reader := open(t, w.Path).Reader()
	w.Put(text(1), at(1))
	w.Reserve(10, at(2))
	w.Put(text(3), at(3))
	w.Reserve(10, at(4))
	w.Recover()
	w.Put(text(5), at(5))
	expect(t, reader, "1", "2..2 torn", "3", "4..4 torn", "5", "nothing")
}

// fill puts events of a kibibyte until one is lost, and returns its number.
func fill(t testing.TB, w *ringtest.Writer) uint64 {
	t.Helper()
	for range 1000 {
		if n, ok := w.Put(make([]byte, 1000), at(w.Number()+1)); !ok {
			return n
		}
	}
	t.Fatal("a ring of 64 KiB took 1000 KiB")
	return 0
}

func checkpoint(t testing.TB, r *ring.Ring, reader *ring.Reader) {
	t.Helper()
	if err := r.Checkpoint(reader.Position()); err != nil {
		t.Fatalf("Checkpoint: %v", err)
	}
}

func TestGapHasAFrameBeforeTheNextEvent(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	r := open(t, w.Path)
	reader := r.Reader()
	lost := fill(t, w)
	w.Put(make([]byte, 1000), at(lost+1))
	for n := uint64(1); n <= 10; n++ {
		expect(t, reader, fmt.Sprint(n))
	}
	checkpoint(t, r, reader)
	w.Put([]byte("fits"), at(lost+2))
	for n := uint64(11); n < lost; n++ {
		expect(t, reader, fmt.Sprint(n))
	}
	item, err := reader.Next()
	if err != nil || words(item) != fmt.Sprintf("%d..%d ring_full", lost, lost+1) || !item.From.Equal(at(lost)) || !item.To.Equal(at(lost+1)) {
		t.Errorf("Next = %s from %v to %v, %v; want the gap %d..%d as it was", words(item), item.From, item.To, err, lost, lost+1)
	}
	expect(t, reader, fmt.Sprint(lost+2), "nothing")
}

// A gap that is told while it grows is cut where the reader saw it; a capture that comes back cuts it there again, and the
// frame that the engine writes later tells the rest.
func TestOpenGapIsCutWhereItWasSeen(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	r, err := ring.Open(w.Path)
	if err != nil {
		t.Fatal(err)
	}
	reader := r.Reader()
	lost := fill(t, w)
	for n := uint64(1); n < lost; n++ {
		expect(t, reader, fmt.Sprint(n))
	}
	first, err := reader.Next()
	if err != nil || words(first) != fmt.Sprintf("%d..%d ring_full", lost, lost) {
		t.Fatalf("Next = %s, %v, want the open gap", words(first), err)
	}
	w.Put(make([]byte, 1000), at(lost+1))
	w.Put(make([]byte, 1000), at(lost+2))
	expect(t, reader, "nothing") // one cut at a time
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}

	r = open(t, w.Path)
	reader = r.Reader()
	for n := uint64(1); n < lost; n++ {
		expect(t, reader, fmt.Sprint(n))
	}
	again, err := reader.Next()
	if err != nil || fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("after a crash the gap is %v, %v; want %v", again, err, first)
	}
	checkpoint(t, r, reader)
	rest, err := reader.Next()
	if err != nil || words(rest) != fmt.Sprintf("%d..%d ring_full", lost+1, lost+2) || !rest.From.Equal(first.To) {
		t.Errorf("the rest of the gap is %s from %v, %v; want %d..%d from %v", words(rest), rest.From, err, lost+1, lost+2, first.To)
	}
	w.Put([]byte("fits"), at(lost+3))
	expect(t, reader, fmt.Sprint(lost+3), "nothing")
}

func TestGapFrameIsSplitAtTheCut(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	r := open(t, w.Path)
	reader := r.Reader()
	lost := fill(t, w)
	for n := uint64(1); n < lost; n++ {
		expect(t, reader, fmt.Sprint(n))
	}
	end := reader.Position()
	expect(t, reader, fmt.Sprintf("%d..%d ring_full", lost, lost))
	w.Put(make([]byte, 1000), at(lost+1))
	if err := r.Checkpoint(end); err != nil { // up to before the gap
		t.Fatal(err)
	}
	w.Put([]byte("fits"), at(lost+2))
	want := []string{fmt.Sprintf("%d..%d ring_full", lost+1, lost+1), fmt.Sprint(lost + 2), "nothing"}
	expect(t, reader, want...)
	expect(t, r.Reader(), append([]string{fmt.Sprintf("%d..%d ring_full", lost, lost)}, want...)...)
}

func TestCheckpointSurvives(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	r, err := ring.Open(w.Path)
	if err != nil {
		t.Fatal(err)
	}
	reader := r.Reader()
	for n := uint64(1); n <= 5; n++ {
		w.Put(text(n), at(n))
	}
	expect(t, reader, "1", "2", "3")
	p := reader.Position()
	p.Hash, p.Lost = sha256.Sum256([]byte("three")), 7
	if err := r.Checkpoint(p); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = open(t, w.Path)
	reader = r.Reader()
	if got := reader.Position(); got != p {
		t.Errorf("Position after a restart = %+v, want %+v", got, p)
	}
	expect(t, reader, "4", "5", "nothing")
	p.Number = 2
	if err := r.Checkpoint(p); !fault.Is(err, fault.Invalid) {
		t.Errorf("Checkpoint(2 after 3) = %v, want invalid", err)
	}
}

func TestOpenSaysWhatToDo(t *testing.T) {
	spoiled := func(offset int, value byte) func(t *testing.T) string {
		return func(t *testing.T) string {
			w := ringtest.Create(t, 64<<10)
			w.Memory()[offset] = value
			return w.Path
		}
	}
	written := func(content string) func(t *testing.T) string {
		return func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "ring")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	for _, test := range []struct {
		name string
		path func(t *testing.T) string
		kind fault.Kind
		is   error
		says string
	}{
		{"no file", func(t *testing.T) string { return filepath.Join(t.TempDir(), "ring") }, fault.NotReady, ring.ErrAbsent, "weir.ring_file"},
		{"empty", written(""), fault.NotReady, ring.ErrAbsent, "not finished"},
		{"not finished", written(strings.Repeat("\x00", 8192+65536)), fault.NotReady, ring.ErrAbsent, "not finished"},
		{"short", written("hello"), fault.Invalid, nil, "which no ring is"},
		{"something else", written(strings.Repeat("x", 8192+65536)), fault.Invalid, nil, "not a ring"},
		{"another layout", spoiled(8, 2), fault.Invalid, nil, "layout 2"},
		{"another size", spoiled(18, 9), fault.Invalid, nil, "cut short"},
		{"directory", func(t *testing.T) string { return t.TempDir() }, 0, nil, "is a directory"},
		{"link", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "ring")
			if err := os.Symlink("/etc/passwd", path); err != nil {
				t.Fatal(err)
			}
			return path
		}, fault.Invalid, nil, "symbolic link"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ring.Open(test.path(t))
			if fault.Of(err) != test.kind || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(fmt.Sprint(err), test.says) {
				t.Errorf("Open = %v (%v), want %v with %q", err, fault.Of(err), test.kind, test.says)
			}
		})
	}
}

func TestOneCaptureAtATime(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	r, err := ring.Open(w.Path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ring.Open(w.Path)
	if !errors.Is(err, ring.ErrOccupied) || !fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("a second Open = %v, want that this process occupies it", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, w.Path)
}

// A capture dies between any two steps of a checkpoint; the one that comes back begins at the old or at the new, and the
// engine is told which.
func TestCheckpointDiesHalfWay(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	r, err := ring.Open(w.Path)
	if err != nil {
		t.Fatal(err)
	}
	reader := r.Reader()
	var positions [2]ring.Position
	var before, after []byte
	for i := range positions {
		w.Put(text(uint64(i+1)), at(uint64(i+1)))
		expect(t, reader, fmt.Sprint(i+1))
		positions[i] = reader.Position()
		positions[i].Hash, positions[i].Lost = sha256.Sum256([]byte{byte(i)}), uint64(i)
		before = bytes.Clone(w.Memory()[:1024])
		if err := r.Checkpoint(positions[i]); err != nil {
			t.Fatal(err)
		}
		after = bytes.Clone(w.Memory()[:1024])
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// The words that the second checkpoint wrote, in its order: the slot, the switch, tail, stored, durable.
	var order []int
	for offset := 512; offset < 768; offset += 8 {
		order = append(order, offset)
	}
	order = append(order, 448, 256, 264, 272)
	copy(w.Memory(), before)
	for i, offset := range order {
		copy(w.Memory()[offset:offset+8], after[offset:offset+8])
		state := bytes.Clone(w.Memory()[:1024])
		r, err := ring.Open(w.Path)
		if err != nil {
			t.Fatal(err)
		}
		want := positions[0]
		if i >= len(order)-4 {
			want = positions[1]
		}
		if got := r.Reader().Position(); got != want || w.Stored() != want.Number || w.Durable() != want.Number {
			t.Errorf("dead after the word at %d: the next begins at %+v with stored %d, durable %d; want %+v",
				offset, got, w.Stored(), w.Durable(), want)
		}
		if tail := binary.LittleEndian.Uint64(w.Memory()[256:]); tail != want.Tail {
			t.Errorf("dead after the word at %d: the tail is at %d, want %d", offset, tail, want.Tail)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		copy(w.Memory(), state)
	}
}

func TestPermissionDeniedNamesTheGroup(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	dir := filepath.Dir(w.Path)
	if err := errors.Join(os.Chmod(w.Path, 0), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		// Root may open everything; this thread looks at files as another user does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := syscall.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := syscall.Setfsuid(0); err != nil {
				t.Fatal(err)
			}
		}()
	}
	_, err := ring.Open(w.Path)
	group := strconv.Itoa(os.Getgid())
	if g, lookup := user.LookupGroupId(group); lookup == nil {
		group = g.Name
	}
	if !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), "group "+group) {
		t.Errorf("Open = %v, want denied, with group %s", err, group)
	}
}
