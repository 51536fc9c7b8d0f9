package ring

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/weir-das/weir/pkg/fault"
)

// Position is a boundary between two items of the ring, and what the chain is there.
type Position struct {
	Tail   uint64   // where the next frame begins
	Number uint64   // the last number accounted for
	Hash   [32]byte // the chain after that number
	Lost   uint64   // numbers told as lost, in this epoch
}

// Checkpoint says that everything up to p is on the journal's disk, or told as a gap that is. It frees the room, and wakes
// the sessions that wait for it. p must not lie before the last checkpoint: that is fault.Invalid. One goroutine at a
// time may call it.
//
// The order is what a crash in between needs. First the inactive slot: dead there, the other one counts. Then the
// switch: dead after it, Open publishes what the slot says. Only then the tail, for the engine writes over whatever
// lies before the tail, and a capture that comes back must not begin there.
func (r *Ring) Checkpoint(p Position) error {
	return guarded(r.mem, func() error {
		if stored := r.stored.Load(); p.Number < stored || p.Tail%frameAlign != 0 {
			return fault.As(fault.Invalid, fmt.Errorf("a checkpoint at number %d, offset %d, after one at number %d",
				p.Number, p.Tail, stored))
		}
		active := 1 - r.h.activeCheckpoint.Load()&1
		slot := &r.h.checkpoints[active]
		slot.tail.Store(p.Tail)
		slot.number.Store(p.Number)
		for i := range slot.hash {
			slot.hash[i].Store(binary.LittleEndian.Uint64(p.Hash[8*i:]))
		}
		slot.lost.Store(p.Lost)
		slot.atUS.Store(uint64(time.Now().UnixMicro()))
		r.h.activeCheckpoint.Store(active)
		r.publish(p)
		return nil
	})
}

// publish moves the watermarks that the engine sees.
func (r *Ring) publish(p Position) {
	from := r.h.durable.Load()
	r.h.tail.Store(p.Tail)
	r.h.stored.Store(p.Number)
	r.h.durable.Store(p.Number)
	r.stored.Store(p.Number)
	r.wake(from, p.Number)
}

// load reads the active checkpoint.
func (r *Ring) load() Position {
	slot := &r.h.checkpoints[r.h.activeCheckpoint.Load()&1]
	p := Position{Tail: slot.tail.Load(), Number: slot.number.Load(), Lost: slot.lost.Load()}
	for i := range slot.hash {
		binary.LittleEndian.PutUint64(p.Hash[8*i:], slot.hash[i].Load())
	}
	return p
}

// resume publishes what the last capture had no time to publish.
//
// A checkpoint that cannot be one is not published: then the reader finds no frame at its tail and tells what is missing,
// and the next checkpoint mends it.
func (r *Ring) resume() error {
	p := r.load()
	r.stored.Store(p.Number)
	head := r.head()
	if p.Tail%frameAlign == 0 && p.Tail <= head && head-p.Tail <= r.size && p.Number <= r.h.number.Load()+1 {
		r.publish(p)
	}
	return nil
}
