package ring

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
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

// Durable is how far the journal has everything, and what the chain is there.
type Durable struct {
	Number uint64
	Hash   [32]byte
}

// Checkpoint says that everything up to p is on the journal's disk, or told as a gap that is. It frees the room, and wakes
// the sessions that wait for it. p must not lie before the last checkpoint: that is fault.Invalid. One goroutine at a
// time may call it, Store and Deliver.
func (r *Ring) Checkpoint(p Position) error {
	return r.checkpoint(p, Durable{p.Number, p.Hash})
}

// Store says that everything up to p is safe elsewhere, and what the journal does not have of it in the spool. It frees
// the room; sessions wait on.
func (r *Ring) Store(p Position) error {
	return r.checkpoint(p, *r.durable.Load())
}

// Deliver says that the journal has everything up to d out of the spool. A spool can be ahead of the ring, after a crash
// before Store: then that counts which is stored.
func (r *Ring) Deliver(d Durable) error {
	last := *r.last.Load()
	if d.Number > last.Number {
		d = Durable{last.Number, last.Hash}
	}
	if d.Number <= r.durable.Load().Number {
		return nil
	}
	return r.checkpoint(last, d)
}

// Durable is what the last checkpoint says of the journal.
func (r *Ring) Durable() Durable { return *r.durable.Load() }

// checkpoint writes both.
//
// The order is what a crash in between needs. First the inactive slot: dead there, the other one counts. Then the
// switch: dead after it, Open publishes what the slot says. Only then the tail, for the engine writes over whatever
// lies before the tail, and a capture that comes back must not begin there.
func (r *Ring) checkpoint(p Position, d Durable) error {
	return guarded(r.mem, func() error {
		if stored := r.last.Load().Number; p.Number < stored || p.Tail%frameAlign != 0 || d.Number > p.Number {
			return fault.As(fault.Invalid, fmt.Errorf("a checkpoint at number %d, offset %d, after one at number %d",
				p.Number, p.Tail, stored))
		}
		active := 1 - r.h.activeCheckpoint.Load()&1
		slot := &r.h.checkpoints[active]
		slot.tail.Store(p.Tail)
		slot.number.Store(p.Number)
		storeHash(&slot.hash, p.Hash)
		slot.lost.Store(p.Lost)
		slot.atUS.Store(uint64(time.Now().UnixMicro()))
		// The difference, so that a slot of a capture without a spool says 0.
		slot.spooled.Store(p.Number - d.Number)
		storeHash(&slot.durableHash, d.Hash)
		r.h.activeCheckpoint.Store(active)
		r.publish(p, d)
		return nil
	})
}

// publish moves the watermarks that the engine sees.
func (r *Ring) publish(p Position, d Durable) {
	from := r.h.durable.Load()
	r.h.tail.Store(p.Tail)
	r.h.stored.Store(p.Number)
	r.h.durable.Store(d.Number)
	r.last.Store(&p)
	r.durable.Store(&d)
	r.wake(from, d.Number)
}

// load reads the active checkpoint.
func (r *Ring) load() (Position, Durable) {
	slot := &r.h.checkpoints[r.h.activeCheckpoint.Load()&1]
	p := Position{Tail: slot.tail.Load(), Number: slot.number.Load(), Hash: loadHash(&slot.hash), Lost: slot.lost.Load()}
	spooled := slot.spooled.Load()
	if spooled == 0 || spooled > p.Number {
		return p, Durable{p.Number, p.Hash}
	}
	return p, Durable{p.Number - spooled, loadHash(&slot.durableHash)}
}

func storeHash(to *[4]atomic.Uint64, hash [32]byte) {
	for i := range to {
		to[i].Store(binary.LittleEndian.Uint64(hash[8*i:]))
	}
}

func loadHash(from *[4]atomic.Uint64) (hash [32]byte) {
	for i := range from {
		binary.LittleEndian.PutUint64(hash[8*i:], from[i].Load())
	}
	return hash
}

// resume publishes what the last capture had no time to publish.
//
// A checkpoint that cannot be one is not published: then the reader finds no frame at its tail and tells what is missing,
// and the next checkpoint mends it.
func (r *Ring) resume() error {
	p, d := r.load()
	r.last.Store(&p)
	r.durable.Store(&d)
	head := r.head()
	if p.Tail%frameAlign == 0 && p.Tail <= head && head-p.Tail <= r.size && p.Number <= r.h.number.Load()+1 {
		r.publish(p, d)
	}
	return nil
}
