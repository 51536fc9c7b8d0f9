package ring

import (
	"fmt"
	"time"

	"github.com/weir-das/weir/pkg/fault"
)

// Kind says what an Item is.
type Kind uint8

const (
	Nothing Kind = iota // there is nothing to read at the moment
	Event               // Number, Time and Payload are set
	Gap                 // First, Last, From, To and Cause are set
)

// Cause says why the numbers of a gap have no event.
type Cause uint8

const (
	RingFull Cause = iota + 1 // the ring had no room
	Torn                      // the writer died before its event was whole
	Corrupt                   // what lay in the ring was not what an engine writes
	Unread                    // a log that is followed was gone before it was read: the number stands for at least one event
)

// String is the cause as a record tells it.
func (c Cause) String() string {
	switch c {
	case RingFull:
		return "ring_full"
	case Torn:
		return "torn"
	case Unread:
		return "unread"
	default:
		return "corrupt"
	}
}

// Item is one step through the numbers.
type Item struct {
	Kind Kind

	Number  uint64
	Time    time.Time // when the event ended
	Payload []byte    // a weir.activity.v1.Activity, unchecked; valid until the next call of Next

	First, Last uint64
	From, To    time.Time // when the first and the last were lost; for Corrupt, when that was found
	Cause       Cause
}

// Reader walks from the last checkpoint towards the engine. It is for one goroutine. Several Readers of one Ring see the
// same items, but only one may be in use between two checkpoints: see cut.
type Reader struct {
	ring   *Ring
	broken error
	begun  Position // the checkpoint it began at

	at     uint64 // the next frame
	number uint64 // the last number that came out

	// head and top are the ring's head and number when last looked at. They lie on a line that every session writes,
	// so they are looked at only when what was known is used up.
	head uint64
	top  uint64

	cut  cut
	held bool // nothing comes out until a checkpoint covers the cut

	blockedAt    uint64
	blockedSince time.Time // zero when the frame at blockedAt is not waited for

	buf []byte
}

// Reader begins at the last checkpoint.
func (r *Ring) Reader() *Reader {
	reader := &Reader{ring: r}
	reader.broken = guarded(r.mem, func() error {
		p, _ := r.load()
		reader.begun, reader.at, reader.number, reader.head = p, p.Tail, p.Number, p.Tail
		reader.cut = r.loadCut()
		return nil
	})
	return reader
}

// Position is where the reader stands: after the item that came out last. Where nothing has come out yet it is the
// checkpoint, with the chain's state; else that is the caller's to add.
func (r *Reader) Position() Position {
	if r.at == r.begun.Tail && r.number == r.begun.Number {
		return r.begun
	}
	return Position{Tail: r.at, Number: r.number}
}

// Next returns the next item, of kind Nothing where there is none to be had now.
//
// From one position it always returns the same items, also to a capture that comes back after a crash. Errors match
// ErrFault, after which the ring is of no use, or ErrCorrupt, which stays until the engine makes another ring.
func (r *Reader) Next() (item Item, err error) {
	if r.broken != nil {
		return Item{}, r.broken
	}
	err = guarded(r.ring.mem, func() error {
		item, err = r.next()
		return err
	})
	return item, err
}

func (r *Reader) next() (Item, error) {
	for {
		if r.held {
			if r.cutOutstanding() {
				return Item{}, nil
			}
			r.held = false
		}
		if r.cutOutstanding() && r.cut.first == r.number+1 {
			return r.tellCut(), nil // told by a capture before this one
		}
		if r.at == r.head {
			item, more, err := r.look()
			if !more {
				return item, err
			}
		}
		if r.at > r.head || r.head-r.at > r.ring.size || r.at%frameAlign != 0 {
			return r.jump()
		}
		f := r.ring.frameAt(r.at)
		if f.commit == frameReserved {
			r.block()
			return Item{}, nil
		}
		if !r.possible(f) {
			return r.jump()
		}
		switch f.kind {
		case kindPad:
			r.at += frameSize(f.length)
		case kindGap:
			if item, ok := r.gapFrame(f); ok {
				return item, nil
			}
		default:
			return r.event(f), nil
		}
	}
}

// possible says whether the engine can have written f here.
//
// A number that is in a frame was stored in the header before the frame was committed, or marked torn. So one beyond the
// header's is a forgery, told as corrupt before it makes every true number after it look old.
func (r *Reader) possible(f frame) bool {
	toEnd := r.ring.size - r.at%r.ring.size
	if frameSize(f.length) > min(toEnd, r.head-r.at) || f.commit > frameTorn {
		return false
	}
	if f.kind == kindPad {
		return f.commit == frameCommitted && frameHeaderSize+uint64(f.length) == toEnd
	}
	if f.number > r.top {
		r.top = r.ring.h.number.Load()
	}
	if f.number > min(r.top, maxNumber) {
		return false
	}
	switch f.kind {
	case kindGap:
		return f.commit == frameCommitted && f.length <= maxGapPayload
	case kindEvent:
		return f.number > r.number && uint64(f.length) <= r.ring.size/8
	}
	return false
}

func (r *Reader) event(f frame) Item {
	at := timeOf(f.timeUS)
	if f.number != r.number+1 {
		// The engine leaves no number out without a gap frame.
		return r.gap(f.number-1, at, at, Corrupt)
	}
	if f.commit == frameTorn {
		r.at += frameSize(f.length)
		return r.gap(f.number, at, at, Torn)
	}
	// Copied while another may write: what comes out is one version of it, in bounds, and that is all.
	r.buf = append(r.buf[:0], r.ring.payload(r.at, f)...)
	r.at += frameSize(f.length)
	r.number = f.number
	return Item{Kind: Event, Number: f.number, Time: at, Payload: r.buf}
}

// gap accounts for every number up to last.
func (r *Reader) gap(last uint64, from, to time.Time, cause Cause) Item {
	item := Item{Kind: Gap, First: r.number + 1, Last: last, From: from, To: to, Cause: cause}
	r.number = last
	return item
}

// look asks the engine's header for more. more says that there are frames to read.
//
// The order of the three loads matters. A session stores a frame's head before its number, and a lost number's gap
// before it; a gap it drops only after head has moved over the gap's frame. So a number seen first, that neither the gap
// nor a frame below the head seen last accounts for, is a hole.
func (r *Reader) look() (item Item, more bool, err error) {
	number := r.ring.h.number.Load()
	open, readable := r.ring.openGap()
	r.head = r.ring.head()
	r.top = number
	if number+1 < r.number || number > maxNumber { // by one it can lag: the gap is stored before the number
		return Item{}, false, r.corrupt("its number went from %d to %d", r.number, number)
	}
	if r.head != r.at {
		return Item{}, true, nil
	}
	if !readable || r.cutOutstanding() {
		return Item{}, false, nil
	}
	missing := r.number + 1
	switch {
	case open.last >= missing && open.first <= missing && open.last <= r.ring.h.number.Load()+1:
		return r.makeCut(cut{first: missing, last: open.last, fromUS: max(r.beginOf(open), 1), toUS: open.toUS}), false, nil
	case number >= missing:
		return r.makeCut(corruptCut(missing, number)), false, nil
	}
	return Item{}, false, nil
}

// jump gives up what lies between here and the engine: where one frame cannot be read, none after it can be found.
func (r *Reader) jump() (Item, error) {
	if r.cutOutstanding() {
		return Item{}, nil // the cut's place is taken: this one waits for the checkpoint
	}
	number := r.ring.h.number.Load() // before head: what comes between the two shows as a hole later
	r.head = r.ring.head()
	if number <= r.number || number > maxNumber {
		return Item{}, r.corrupt("what lies at offset %d after number %d is no frame, and the last number is %d", r.at, r.number, number)
	}
	return r.makeCut(corruptCut(r.number+1, number)), nil
}

func (r *Reader) corrupt(format string, args ...any) error {
	return fault.As(fault.Corrupted, fmt.Errorf("%w: %s; restart the database server with the file removed", ErrCorrupt,
		fmt.Sprintf(format, args...)))
}

// block notes that the reader waits for a writer.
func (r *Reader) block() {
	if r.blockedSince.IsZero() || r.blockedAt != r.at {
		r.blockedAt, r.blockedSince = r.at, time.Now()
	}
}

// Blocked says since when the reader waits for the writer of one frame, which has its number and has not finished; zero
// when it does not. A writer takes microseconds, unless it was stopped.
func (r *Reader) Blocked() time.Time {
	if r.blockedAt != r.at {
		return time.Time{}
	}
	return r.blockedSince
}
