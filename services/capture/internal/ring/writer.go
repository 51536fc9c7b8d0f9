package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/fault"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

// Writer is the engine's half of a ring, for a source that is no engine: capture itself writes what it reads elsewhere,
// and everything behind the ring is as with an engine. It belongs to one goroutine.
//
// It differs from engine/ring in two ways. There is one writer, so nobody takes the lock. And what finds no room is not
// lost and has no number: the source still has it, and the caller comes again.
type Writer struct {
	path string
	file *os.File
	mem  []byte
	h    *header
	data []byte
	size uint64
}

// WriterOptions say what ring a Writer makes.
type WriterOptions struct {
	Path string
	// Size is of a new ring's data, in bytes. One that exists keeps its own.
	Size uint64
	// ServerVersion is the database server's, as it calls itself.
	ServerVersion string
}

// Where a Writer keeps what its source needs to go on: two slots, of which the one with the higher sequence counts.
const (
	sourceSlot = 128
	sourceHead = 16
	maxKept    = sourceSlot - sourceHead
)

// notOurs says that a file is there and is none of ours.
func notOurs(path, what string) error {
	return fault.As(fault.Invalid, fmt.Errorf("%s %s: remove it once nothing in it is wanted, or set ring_file to another path", path, what))
}

// NewWriter opens the ring at the path, or makes it, and takes the server's lock on it. What lies in it unread stays.
func NewWriter(o WriterOptions) (*Writer, error) {
	file, err := os.OpenFile(o.Path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return createWriter(o)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the ring: %w", err)
	}
	w := &Writer{path: o.Path, file: file}
	if err := w.takeOver(o); err != nil {
		return nil, errors.Join(err, w.release())
	}
	return w, nil
}

// createWriter finishes the ring beside its path and renames it, so that the path never leads to less than a whole one.
func createWriter(o WriterOptions) (*Writer, error) {
	if o.Size%pageSize != 0 || o.Size < minDataSize || o.Size > maxDataSize {
		return nil, fault.As(fault.Invalid, fmt.Errorf("a ring of %d bytes, want a multiple of %d from %d on", o.Size, pageSize, minDataSize))
	}
	beside := o.Path + ".new"
	if err := os.Remove(beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := os.OpenFile(beside, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("creating the ring: %w", err)
	}
	w := &Writer{path: o.Path, file: file}
	err = w.fill(o, beside)
	if err == nil {
		err = os.Rename(beside, o.Path)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(beside), w.release())
	}
	return w, nil
}

func (w *Writer) fill(o WriterOptions, beside string) error {
	var at unix.Statfs_t
	if err := unix.Fstatfs(int(w.file.Fd()), &at); err != nil {
		return fmt.Errorf("asking for the file system of %s: %w", o.Path, err)
	}
	if at.Type != unix.TMPFS_MAGIC && at.Type != unix.RAMFS_MAGIC {
		return fault.As(fault.Invalid, fmt.Errorf("%s is not in memory: the ring holds statements in clear text, which must not touch a "+
			"disk once more; set ring_file to a path on a tmpfs, such as one under /dev/shm", o.Path))
	}
	if err := unix.Fallocate(int(w.file.Fd()), 0, 0, int64(headerSize+o.Size)); err != nil {
		return fmt.Errorf("allocating %d bytes for %s: %w", headerSize+o.Size, beside, err)
	}
	if err := w.attach(o.Size); err != nil {
		return err
	}
	return guarded(w.mem, func() error {
		w.h.layout.Store(layoutVersion)
		w.h.headerSize.Store(headerSize)
		w.h.dataSize.Store(o.Size)
		w.h.epoch.Store(uint64(time.Now().UnixMicro()))
		w.begin(o)
		w.h.magic.Store(headerMagic)
		return nil
	})
}

// takeOver goes on with a ring that an earlier capture left.
func (w *Writer) takeOver(o WriterOptions) error {
	info, err := w.file.Stat()
	if err != nil {
		return err
	}
	size := info.Size() - headerSize
	if !info.Mode().IsRegular() || size < minDataSize || size > maxDataSize {
		return notOurs(o.Path, "is no ring")
	}
	if err := w.attach(uint64(size)); err != nil {
		return err
	}
	return guarded(w.mem, func() error {
		if w.h.magic.Load() != headerMagic || w.h.layout.Load() != layoutVersion || w.h.dataSize.Load() != w.size {
			return notOurs(o.Path, "is no ring of this version")
		}
		w.recover()
		w.begin(o)
		return nil
	})
}

// attach locks and maps the file.
func (w *Writer) attach(size uint64) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: engineLock, Len: 1}
	err := unix.FcntlFlock(w.file.Fd(), unix.F_OFD_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return fault.As(fault.Busy, fmt.Errorf("%w: %s is held by a server with the module, or by another capture that follows a log; "+
			"give this one a ring_file of its own", ErrOccupied, w.path))
	}
	if err != nil {
		return fmt.Errorf("locking %s: %w", w.path, err)
	}
	w.mem, err = unix.Mmap(int(w.file.Fd()), 0, int(headerSize+size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping %s: %w", w.path, err)
	}
	_ = unix.Madvise(w.mem, unix.MADV_DONTDUMP) // as Open does
	w.h, w.data, w.size = (*header)(unsafe.Pointer(&w.mem[0])), w.mem[headerSize:], size
	return nil
}

func (w *Writer) begin(o WriterOptions) {
	const postgresql, running = 1, 1
	w.h.engine.Store(postgresql)
	clear(w.h.serverVersionText[:])
	copy(w.h.serverVersionText[:len(w.h.serverVersionText)-1], o.ServerVersion)
	w.h.serverPID.Store(int32(os.Getpid()))
	w.h.startedUS.Store(uint64(time.Now().UnixMicro()))
	w.h.starts.Add(1)
	w.h.state.Store(running)
}

// recover mends what a Writer that was killed left. Put writes a payload before head moves over it, so a frame that lies
// before head is whole whether or not it was committed: nothing is torn.
func (w *Writer) recover() {
	head, number := w.h.head.Load(), w.h.number.Load()
	for at := w.h.tail.Load(); at < head && head-at <= w.size && at%frameAlign == 0; {
		b := w.data[at%w.size:]
		length, kind := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[16:])
		if frameSize(length) > min(uint64(len(b)), head-at) {
			break // no frame: the reader finds it, and tells
		}
		if kind != kindPad {
			number = max(number, binary.LittleEndian.Uint64(b[8:]))
		}
		at += frameSize(length)
	}
	w.h.number.Store(number)
	for at := w.h.tail.Load(); at < head && head-at <= w.size && at%frameAlign == 0; {
		b := w.data[at%w.size:]
		length := binary.LittleEndian.Uint32(b[4:])
		if frameSize(length) > min(uint64(len(b)), head-at) {
			break
		}
		(*atomic.Uint32)(unsafe.Pointer(&b[0])).CompareAndSwap(frameReserved, frameCommitted)
		at += frameSize(length)
	}
}

// Put gives the event the next number and copies it in. Where there is no room it returns false and nothing happened.
// A payload longer than an eighth of the ring is fault.Invalid: it never finds room.
func (w *Writer) Put(payload []byte, at time.Time) (ok bool, err error) {
	return w.put(kindEvent, func(uint64) ([]byte, error) { return payload, nil }, at)
}

// PutUnread gives the next number to what the source no longer has: at least one event between from and to, and nobody
// knows how many. Where there is no room it returns false and nothing happened.
func (w *Writer) PutUnread(from, to time.Time) (ok bool, err error) {
	return w.put(kindGap, func(number uint64) ([]byte, error) {
		return proto.Marshal(&activityv1.Gap{First: number, Last: number, From: timestamppb.New(from), To: timestamppb.New(to),
			Cause: activityv1.GapCause_GAP_CAUSE_UNREAD})
	}, to)
}

// put writes a frame. What a death between two steps leaves: before head moves, nothing; after it, a whole frame that
// recover counts and commits. Number moves before the frame is committed, as the reader wants it.
func (w *Writer) put(kind uint32, payloadOf func(number uint64) ([]byte, error), at time.Time) (ok bool, err error) {
	err = guarded(w.mem, func() error {
		number := w.h.number.Load() + 1
		payload, err := payloadOf(number)
		if err != nil {
			return err
		}
		if uint64(len(payload)) > w.size/8 {
			return fault.As(fault.Invalid, fmt.Errorf("an event of %d bytes, and the ring takes %d", len(payload), w.size/8))
		}
		head, tail := w.h.head.Load(), w.h.tail.Load()
		frameAt := head
		if left := w.size - head%w.size; left < frameSize(uint32(len(payload))) {
			frameAt += left
		}
		end := frameAt + frameSize(uint32(len(payload)))
		if head%frameAlign != 0 || tail > head {
			return fault.As(fault.Corrupted, fmt.Errorf("%w: head %d, tail %d; stop capture and remove %s", ErrCorrupt, head, tail, w.path))
		}
		if end-tail > w.size {
			return nil
		}
		if frameAt != head {
			w.frame(head, kindPad, uint32(frameAt-head-frameHeaderSize), 0, 0).Store(frameCommitted)
		}
		commit := w.frame(frameAt, kind, uint32(len(payload)), number, uint64(max(at.UnixMicro(), 0)))
		copy(w.data[frameAt%w.size+frameHeaderSize:], payload)
		w.h.head.Store(end)
		w.h.number.Store(number)
		commit.Store(frameCommitted)
		ok = true
		return nil
	})
	return ok, err
}

// frame writes a frame's header, not committed, and returns its commit word.
func (w *Writer) frame(at uint64, kind, length uint32, number, us uint64) *atomic.Uint32 {
	b := w.data[at%w.size:][:frameHeaderSize]
	commit := (*atomic.Uint32)(unsafe.Pointer(&b[0]))
	commit.Store(frameReserved)
	binary.LittleEndian.PutUint32(b[4:], length)
	binary.LittleEndian.PutUint64(b[8:], number)
	binary.LittleEndian.PutUint32(b[16:], kind)
	binary.LittleEndian.PutUint32(b[20:], 0)
	binary.LittleEndian.PutUint64(b[24:], us)
	return commit
}

// Keep writes up to 112 bytes into the ring, for the Writer that comes next. It is whole or not there: a death in between
// leaves what was kept before.
func (w *Writer) Keep(b []byte) error {
	if len(b) > maxKept {
		return fault.As(fault.Invalid, fmt.Errorf("%d bytes to keep, and there is room for %d", len(b), maxKept))
	}
	return guarded(w.mem, func() error {
		_, sequence, _ := w.kept()
		sequence++
		slot := w.h.source[sequence%2*sourceSlot:][:sourceSlot]
		clear(slot)
		binary.LittleEndian.PutUint64(slot, sequence)
		binary.LittleEndian.PutUint32(slot[12:], uint32(len(b)))
		copy(slot[sourceHead:], b)
		binary.LittleEndian.PutUint32(slot[8:], slotSum(slot))
		return nil
	})
}

// Kept is what the last Keep wrote; nil where there was none.
func (w *Writer) Kept() (b []byte, err error) {
	err = guarded(w.mem, func() error {
		kept, _, ok := w.kept()
		if ok {
			b = append([]byte{}, kept...)
		}
		return nil
	})
	return b, err
}

func (w *Writer) kept() (b []byte, sequence uint64, ok bool) {
	for i := range uint64(2) {
		slot := w.h.source[i*sourceSlot:][:sourceSlot]
		s, length := binary.LittleEndian.Uint64(slot), binary.LittleEndian.Uint32(slot[12:])
		if s > sequence && length <= maxKept && binary.LittleEndian.Uint32(slot[8:]) == slotSum(slot) {
			b, sequence, ok = slot[sourceHead:sourceHead+length], s, true
		}
	}
	return b, sequence, ok
}

func slotSum(slot []byte) uint32 {
	return crc32.Update(crc32.Checksum(slot[:8], castagnoli), castagnoli, slot[12:])
}

// Number is the last number given.
func (w *Writer) Number() (number uint64, err error) {
	err = guarded(w.mem, func() error { number = w.h.number.Load(); return nil })
	return number, err
}

// Durable is the number up to which all is on the journal's disk, or told as a gap.
func (w *Writer) Durable() (number uint64, err error) {
	err = guarded(w.mem, func() error { number = w.h.durable.Load(); return nil })
	return number, err
}

// Epoch tells this life of the ring from every other.
func (w *Writer) Epoch() (epoch uint64, err error) {
	err = guarded(w.mem, func() error { epoch = w.h.epoch.Load(); return nil })
	return epoch, err
}

// Mode is what is wanted.
func (w *Writer) Mode() (mode Mode, err error) {
	err = guarded(w.mem, func() error { mode = Mode(w.h.mode.Load()); return nil })
	return mode, err
}

// Close announces the end and gives up the ring.
func (w *Writer) Close() error {
	const stopAnnounced = 2
	err := guarded(w.mem, func() error { w.h.state.Store(stopAnnounced); return nil })
	return errors.Join(err, w.release())
}

func (w *Writer) release() error {
	var err error
	if w.mem != nil {
		err = unix.Munmap(w.mem)
		w.mem, w.h, w.data = nil, nil, nil
	}
	return errors.Join(err, w.file.Close())
}
