package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"sync/atomic"
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

// Where a Writer keeps what its source needs to go on: two slots, of which the one with the higher sequence counts.
const (
	sourceSlot = 128
	sourceHead = 16
	maxKept    = sourceSlot - sourceHead
)

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
