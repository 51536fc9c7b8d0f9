// Package ringtest is a ring's engine half in Go: a Writer that does what engine/ring/ring.c does, so that a test of
// capture needs no C compiler and no server, and can die, stop and lie at will.
//
// It is written from the table in engine/ring/ring.h and shares no code with package ring: what the two agree on, they
// agree on through the table. The tests of package ring hold it against ring.c.
package ringtest

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

// Where the fields lie: see the table in ring.h.
const (
	headerSize = 8192
	frameSize  = 32

	offMagic, offLayout, offHeaderSize, offDataSize, offEpoch  = 0, 8, 12, 16, 24
	offEngine, offVersion, offState, offPID, offStarted        = 32, 36, 40, 44, 48
	offStarts, offVersionText                                  = 56, 64
	offHead, offNumber, offLost                                = 136, 144, 152
	offGapSequence, offGapFirst, offGapLast, offGapFrom, offTo = 192, 200, 208, 216, 224
	offTail, offStored, offDurable                             = 256, 264, 272
	offMode, offGeneration                                     = 320, 336
	offPath, offBell, offSleeps, offGroups                     = 296, 384, 388, 1024
	offReleased, offReleasedThrough, offReleasedAt             = 168, 176, 184
)

// Writer is an engine with a ring. Its methods may be called by several goroutines at once, in the place of sessions.
type Writer struct {
	Path  string
	Epoch uint64

	tb   testing.TB
	mem  []byte
	size uint64

	// mu is the ring's spin lock. It guards what sessions write but the frames' payloads.
	mu   sync.Mutex
	file *os.File // nil when no server runs
}

// Create makes a ring with size bytes of data, a multiple of 4096 and 64 KiB at least, and runs a server on it. The test's
// end removes it.
func Create(tb testing.TB, size int) *Writer {
	tb.Helper()
	return CreateAt(tb, filepath.Join(tb.TempDir(), "ring"), size)
}

// CreateAt is Create with a path of the caller's choice. A file that is there is replaced, as a restarting server does.
func CreateAt(tb testing.TB, path string, size int) *Writer {
	tb.Helper()
	w := &Writer{Path: path, tb: tb, size: uint64(size), Epoch: uint64(time.Now().UnixMicro())}
	file, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o660)
	w.must(err)
	w.must(file.Truncate(int64(headerSize + size)))
	w.mem, err = unix.Mmap(int(file.Fd()), 0, headerSize+size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	w.must(err)
	w.file = file
	tb.Cleanup(func() {
		w.Kill()
		w.must(unix.Munmap(w.mem))
	})
	w.lock()
	w.word(offLayout).Store(1)
	w.word(offHeaderSize).Store(headerSize)
	w.long(offDataSize).Store(w.size)
	w.long(offEpoch).Store(w.Epoch)
	w.word(offEngine).Store(1)
	w.word(offVersion).Store(150000)
	copy(w.mem[offVersionText:offVersionText+64], "15.0")
	w.begin()
	w.long(offMagic).Store(binary.LittleEndian.Uint64([]byte("WEIRRING")))
	w.must(os.Rename(path+".new", path))
	return w
}

func (w *Writer) must(err error) {
	if err != nil {
		w.tb.Helper()
		w.tb.Fatalf("ringtest: %v", err)
	}
}

func (w *Writer) lock() {
	w.must(unix.FcntlFlock(w.file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: 0, Len: 1}))
}

func (w *Writer) begin() {
	w.word(offPID).Store(uint32(os.Getpid()))
	w.long(offStarted).Store(uint64(time.Now().UnixMicro()))
	w.long(offStarts).Add(1)
	w.word(offState).Store(1)
}

func (w *Writer) word(offset uint64) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&w.mem[offset]))
}

func (w *Writer) long(offset uint64) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&w.mem[offset]))
}

// Mode is what capture wants.
func (w *Writer) Mode() uint32 { return w.word(offMode).Load() }

// Generation is that of the policy which capture wrote.
func (w *Writer) Generation() uint64 { return w.long(offGeneration).Load() }

// Number is the last number given.
func (w *Writer) Number() uint64 { return w.long(offNumber).Load() }

// Lost counts the numbers given to events that found no room.
func (w *Writer) Lost() uint64 { return w.long(offLost).Load() }

// Stored and Durable are the watermarks that capture moves.
func (w *Writer) Stored() uint64  { return w.long(offStored).Load() }
func (w *Writer) Durable() uint64 { return w.long(offDurable).Load() }

// Memory is the whole mapping, to spoil it.
func (w *Writer) Memory() []byte { return w.mem }

// Pending is an event that has its number and its room, and is not committed yet.
type Pending struct {
	w      *Writer
	Number uint64
	offset uint64 // of its frame in the mapping; 0 if it found no room
}

// Put writes an event. It returns false where there was no room; the number is then part of a gap.
func (w *Writer) Put(payload []byte, at time.Time) (number uint64, ok bool) {
	p := w.Reserve(len(payload), at)
	return p.Number, p.Commit(payload)
}

// Reserve is the first half of Put: a writer that does not Commit has died, or is slow.
func (w *Writer) Reserve(length int, at time.Time) Pending {
	w.mu.Lock()
	defer w.mu.Unlock()
	head, tail := w.long(offHead).Load(), w.long(offTail).Load()
	us := uint64(at.UnixMicro())
	number := w.long(offNumber).Load() + 1

	var gap []byte
	gapAt, gapEnd := head, head
	if w.long(offGapLast).Load() != 0 {
		gap = w.encodeGap()
		gapAt = w.fit(head, frame(len(gap)))
		gapEnd = gapAt + frame(len(gap))
	}
	eventAt := w.fit(gapEnd, frame(length))
	end := eventAt + frame(length)
	if tail > head || end-tail > w.size || uint64(length) > w.size/8 {
		w.lose(number, us)
		return Pending{w: w, Number: number}
	}
	if gap != nil {
		w.pad(head, gapAt)
		w.frame(gapAt, 2, len(gap), w.long(offGapLast).Load(), w.long(offTo).Load())
		copy(w.mem[w.place(gapAt)+frameSize:], gap)
		w.word(w.place(gapAt)).Store(1)
	}
	w.pad(gapEnd, eventAt)
	w.frame(eventAt, 1, length, number, us)
	w.long(offHead).Store(end)
	if gap != nil {
		w.changeGap(func() { w.setGap(0, 0, 0, 0) })
	}
	w.long(offNumber).Store(number)
	return Pending{w: w, Number: number, offset: w.place(eventAt)}
}

// Commit is the second half of Put.
func (p Pending) Commit(payload []byte) bool {
	if p.offset == 0 {
		return false
	}
	copy(p.w.mem[p.offset+frameSize:], payload)
	p.w.word(p.offset).Store(1)
	return true
}

func (w *Writer) lose(number, us uint64) {
	w.changeGap(func() {
		if w.long(offGapLast).Load() == 0 {
			w.setGap(number, number, us, us)
		} else {
			w.long(offTo).Store(us)
			w.long(offGapLast).Store(number)
		}
	})
	w.long(offNumber).Store(number)
	w.long(offLost).Add(1)
}

func (w *Writer) changeGap(change func()) {
	w.word(offGapSequence).Add(1)
	change()
	w.word(offGapSequence).Add(1)
}

func (w *Writer) setGap(first, last, from, to uint64) {
	w.long(offGapFirst).Store(first)
	w.long(offGapFrom).Store(from)
	w.long(offTo).Store(to)
	w.long(offGapLast).Store(last)
}

func (w *Writer) encodeGap() []byte {
	b, err := proto.Marshal(&activityv1.Gap{
		First: w.long(offGapFirst).Load(),
		Last:  w.long(offGapLast).Load(),
		From:  timestamppb.New(time.UnixMicro(int64(w.long(offGapFrom).Load()))),
		To:    timestamppb.New(time.UnixMicro(int64(w.long(offTo).Load()))),
		Cause: activityv1.GapCause_GAP_CAUSE_RING_FULL,
	})
	w.must(err)
	return b
}

func frame(length int) uint64 { return (frameSize + uint64(length) + 31) &^ 31 }

func (w *Writer) place(at uint64) uint64 { return headerSize + at%w.size }

func (w *Writer) fit(at, size uint64) uint64 {
	if left := w.size - at%w.size; left < size {
		return at + left
	}
	return at
}

// frame writes a frame's header, not committed.
func (w *Writer) frame(at uint64, kind uint32, length int, number, us uint64) {
	b := w.mem[w.place(at):][:frameSize]
	w.word(w.place(at)).Store(0)
	binary.LittleEndian.PutUint32(b[4:], uint32(length))
	binary.LittleEndian.PutUint64(b[8:], number)
	binary.LittleEndian.PutUint32(b[16:], kind)
	binary.LittleEndian.PutUint32(b[20:], 0)
	binary.LittleEndian.PutUint64(b[24:], us)
}

func (w *Writer) pad(from, to uint64) {
	if from == to {
		return
	}
	w.frame(from, 3, int(to-from-frameSize), 0, 0)
	w.word(w.place(from)).Store(1)
}

// Recover is what a server does when all its sessions have died: what was reserved and not committed is torn.
func (w *Writer) Recover() {
	w.mu.Lock()
	defer w.mu.Unlock()
	head := w.long(offHead).Load()
	for at := w.long(offTail).Load(); at < head; {
		place := w.place(at)
		w.word(place).CompareAndSwap(0, 2)
		at += frame(int(binary.LittleEndian.Uint32(w.mem[place+4:])))
	}
	w.begin()
}

// Stop ends the server as its operator does: announced.
func (w *Writer) Stop() {
	w.word(offState).Store(2)
	w.Kill()
}

// Kill ends the server unannounced. What it wrote stays.
func (w *Writer) Kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return
	}
	// The mapping would keep the lock with it; a process that dies has none.
	w.must(unix.FcntlFlock(w.file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Start: 0, Len: 1}))
	w.must(w.file.Close())
	w.file = nil
}

// Restart runs a server again on the ring that Stop or Kill left.
func (w *Writer) Restart() {
	file, err := os.OpenFile(w.Path, os.O_RDWR, 0)
	w.must(err)
	w.file = file
	w.lock()
	w.Recover()
}
