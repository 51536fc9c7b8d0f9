package ring

import (
	"math"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

// maxGapPayload is more than a weir.activity.v1.Gap needs.
const maxGapPayload = 128

// span is the gap that has no frame yet.
type span struct {
	first, last  uint64
	fromUS, toUS uint64
}

// openGap reads it. ok is false while a session changes it, or died doing so.
func (r *Ring) openGap() (s span, ok bool) {
	sequence := r.h.gapSequence.Load()
	s = span{first: r.h.gapFirst.Load(), last: r.h.gapLast.Load(), fromUS: r.h.gapFromUS.Load(), toUS: r.h.gapToUS.Load()}
	return s, sequence&1 == 0 && r.h.gapSequence.Load() == sequence
}

// Losing says which number was lost first of those that have no frame yet, and
// when. ok is false where none is, or a session is just changing it.
func (r *Ring) Losing() (first uint64, from time.Time, ok bool) {
	err := guarded(r.mem, func() error {
		var s span
		s, ok = r.openGap()
		first, from = s.first, timeOf(s.fromUS)
		ok = ok && s.first != 0 && s.first <= s.last
		return nil
	})
	return first, from, ok && err == nil
}

// gapFrame takes a frame in which the engine wrote down a gap. ok is false if it holds nothing that was not told.
func (r *Reader) gapFrame(f frame) (item Item, ok bool) {
	at := timeOf(f.timeUS)
	next := r.at + frameSize(f.length)
	if f.number <= r.number { // a cut told all of it
		r.at = next
		return Item{}, false
	}
	payload := append([]byte(nil), r.ring.payload(r.at, f)...)
	var g activityv1.Gap
	if err := proto.Unmarshal(payload, &g); err != nil || g.GetLast() != f.number || g.GetFirst() == 0 || g.GetFirst() > g.GetLast() {
		r.at = next
		return r.gap(f.number, at, at, Corrupt), true
	}
	s := span{first: g.GetFirst(), last: g.GetLast(), fromUS: microseconds(g.GetFrom()), toUS: microseconds(g.GetTo())}
	if s.first > r.number+1 {
		return r.gap(s.first-1, timeOf(s.fromUS), timeOf(s.fromUS), Corrupt), true
	}
	cause := RingFull
	switch g.GetCause() {
	case activityv1.GapCause_GAP_CAUSE_TORN:
		cause = Torn
	case activityv1.GapCause_GAP_CAUSE_CORRUPT:
		cause = Corrupt
	case activityv1.GapCause_GAP_CAUSE_UNREAD:
		cause = Unread
	}
	r.at = next
	return r.gap(s.last, timeOf(r.beginOf(s)), timeOf(s.toUS), cause), true
}

// beginOf is when the rest of a gap, of which a cut may have told the beginning, begins.
func (r *Reader) beginOf(s span) uint64 {
	if s.first <= r.number && r.cut.last == r.number && !r.cut.corrupt() {
		return r.cut.toUS
	}
	return s.fromUS
}

func microseconds(t *timestamppb.Timestamp) uint64 {
	if t.GetSeconds() < 0 || t.GetSeconds() > lastUS/1_000_000 || t.GetNanos() < 0 {
		return 0
	}
	return uint64(t.GetSeconds())*1_000_000 + uint64(t.GetNanos())/1000
}

// cut is a gap that was told before its end was known: the part of an open gap that the reader saw when it had read
// everything else, or everything up to the head when a frame could not be read. Where such a gap ends is chance, so it is
// written into the ring before it is told, and a capture that comes back tells the same one. The ring has a place for one
// cut; the next is made when a checkpoint covers it.
type cut struct {
	first, last  uint64
	fromUS, toUS uint64 // fromUS is 0 in a corrupt one, which has the time of its discovery alone
}

func corruptCut(first, last uint64) cut {
	return cut{first: first, last: last, toUS: uint64(time.Now().UnixMicro())}
}

func (c cut) corrupt() bool { return c.fromUS == 0 }

// loadCut reads the cut; one that is half-written was not told, and is none.
func (r *Ring) loadCut() cut {
	c := cut{first: r.h.cutFirst.Load(), last: r.h.cutLast.Load(), fromUS: r.h.cutFromUS.Load(), toUS: r.h.cutToUS.Load()}
	if r.h.cutSequence.Load()&1 != 0 || c.first == 0 || c.first > c.last || c.last == math.MaxUint64 {
		return cut{}
	}
	return c
}

// cutOutstanding says whether no checkpoint covers the cut yet.
func (r *Reader) cutOutstanding() bool { return r.cut.last > r.ring.last.Load().Number }

// makeCut writes the cut down, and tells it.
func (r *Reader) makeCut(c cut) Item {
	h := r.ring.h
	sequence := h.cutSequence.Load() | 1
	h.cutSequence.Store(sequence)
	h.cutFirst.Store(c.first)
	h.cutLast.Store(c.last)
	h.cutFromUS.Store(c.fromUS)
	h.cutToUS.Store(c.toUS)
	h.cutSequence.Store(sequence + 1)
	r.cut = c
	return r.tellCut()
}

// tellCut tells the cut, which begins at the next number. After a corrupt one the reader goes on at the head, wherever
// that is by then; so nothing more comes out until a checkpoint has made that place the one to come back to.
func (r *Reader) tellCut() Item {
	if r.cut.corrupt() {
		r.head = r.ring.head()
		r.at = r.head
		r.held = true
		return r.gap(r.cut.last, timeOf(r.cut.toUS), timeOf(r.cut.toUS), Corrupt)
	}
	return r.gap(r.cut.last, timeOf(r.cut.fromUS), timeOf(r.cut.toUS), RingFull)
}
