package notice

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// account counts what is lost of one epoch. total follows the ring's own count,
// so a window's count is right whoever counted its beginning.
type account struct {
	total   uint64    // numbers without a record, up to durable
	durable uint64    // up to it every loss is in total
	through uint64    // up to it losses are known, of which not all are in total
	refused uint64    // up to it records were refused after all, which is not in total; 0: none
	spooled []spooled // of these what the spool lost
	open    *item     // the window that is open; nil when there is none
	opened  time.Time
	heard   time.Time // when a loss was told last
}

// Losing tells that numbers are being lost that nobody can count yet, because
// the way to the journal is shut or their gap has not been read: the first of
// them, and the last that may be of them. It opens the window before the end is known.
//
// What is refused may have been taken for good before: of the numbers that the
// spool had, those up to the ring's tail. It counts as known when it is durable.
func (t *Teller) Losing(epoch, first, through uint64, from time.Time, cause string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.losing(epoch, first, through, from, causeOf(cause))
}

// losing wants mu held.
func (t *Teller) losing(epoch, first, through uint64, from time.Time, why notifierv1.Cause) {
	switch {
	case epoch != t.epoch:
		return
	case why == notifierv1.Cause_CAUSE_REFUSED:
		t.loss.refused = max(t.loss.refused, through)
	case through <= max(t.loss.through, t.loss.durable):
		return // known, or counted by now
	default:
		t.loss.through = through
	}
	t.loss.heard = time.Now()
	if t.loss.open == nil {
		t.openLoss(first, from, why)
	}
}

// Missing tells that count of the numbers first to last have no record, which the
// journal has on its disk: the ring's count up to last has them. The others have a
// record, or were told. Losses come in the order of their numbers, once each.
func (t *Teller) Missing(epoch, first, last, count uint64, from, to time.Time, cause string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if epoch != t.epoch || count == 0 {
		return
	}
	a, why := &t.loss, causeOf(cause)
	if a.open != nil && a.open.window.GetCount() > 0 && a.open.window.GetCause() != why {
		t.closeLoss()
	}
	if a.open == nil {
		t.openLoss(first, from, why)
	}
	w := a.open.window
	if w.GetCount() == 0 { // what was guessed when it opened is known now
		if why != notifierv1.Cause_CAUSE_REFUSED || w.GetCause() != why { // of that it was known before
			w.Begin = timestamppb.New(from)
		}
		w.First, w.Cause = first, why
	}
	a.total += count
	a.durable = max(a.durable, last)
	a.heard = time.Now()
	w.First, w.Last = min(w.First, first), max(w.Last, last)
	w.Count = a.total - min(w.LostBefore, a.total)
	if to.After(w.GetEnd().AsTime()) || w.Count == count {
		w.End = timestamppb.New(to)
	}
	a.open.version++
	t.ring()
}

// Durable tells that every loss up to number has been told.
func (t *Teller) Durable(epoch, number uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if epoch != t.epoch {
		return
	}
	t.loss.durable = max(t.loss.durable, number)
	if number >= t.loss.refused {
		t.loss.refused = 0
	}
	t.loss.spooled = slices.DeleteFunc(t.loss.spooled, func(s spooled) bool { return s.last <= number })
}

// openLoss wants mu held, as all below.
func (t *Teller) openLoss(first uint64, from time.Time, cause notifierv1.Cause) {
	w := t.lossWindow(cause, first, t.loss.total, from)
	t.loss.open, t.loss.opened, t.loss.heard = t.put(w), time.Now(), time.Now()
}

// lossWindow returns a window that begins with a number when so many were lost
// before: together they name it, also for a capture that comes to it anew.
func (t *Teller) lossWindow(cause notifierv1.Cause, first, before uint64, begin time.Time) *notifierv1.Window {
	w := t.window(t.epoch, cause, fmt.Sprintf("%d-%d", first, before), begin)
	w.First, w.LostBefore = first, before
	return w
}

// settle closes the window if what it is about is over and counted.
func (t *Teller) settle(now time.Time) {
	a := &t.loss
	if a.open == nil || a.uncounted() {
		return
	}
	if now.Sub(a.heard) >= quiet || now.Sub(a.opened) >= maxLength {
		t.closeLoss()
	}
}

// uncounted says whether losses are known that are not in total.
func (a *account) uncounted() bool { return a.durable < a.through || a.refused > 0 }

func (t *Teller) closeLoss() {
	t.close(t.loss.open, t.loss.open.window.GetEnd().AsTime())
	t.loss.open = nil
}

// EpochEnd is what is known of an epoch that is over.
type EpochEnd struct {
	Epoch      uint64
	Number     uint64    // the last number known to have been given
	Durable    uint64    // up to it all is on the journal's disk, or told
	LowerBound bool      // numbers beyond Number may have been given
	LastSeen   time.Time // when Number was the last
	Ended      time.Time // when it was over, at the latest
	Detail     string
}

// EpochEnded tells that no number of an epoch will be given any more, and where
// it was not read to its end, that the rest is lost. To tell the same again does
// no harm. The returned function says whether the notifier has recorded it.
func (t *Teller) EpochEnded(e EpochEnd) (told func() bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	items := []*item{t.notify(&notifierv1.NotifyRequest{
		Kind:           notifierv1.EventKind_EVENT_KIND_EPOCH_ENDED,
		OccurredAt:     timestamppb.New(e.Ended),
		IdempotencyKey: t.key(e.Epoch, "ended"),
		Detail:         e.Detail,
		Epoch:          e.Epoch, Number: e.Number,
		EpochEnd: &notifierv1.EpochEnd{Epoch: e.Epoch, Last: e.Number, Durable: e.Durable, LowerBound: e.LowerBound},
	})}
	told = func() bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		return !slices.ContainsFunc(items, func(it *item) bool { return it.pushedOut || slices.Contains(t.outbox.items, it) })
	}
	if e.Durable >= e.Number && !e.LowerBound {
		return told
	}
	w := t.window(e.Epoch, notifierv1.Cause_CAUSE_RING_GONE, fmt.Sprint(e.Durable+1), e.LastSeen)
	w.LowerBound = true
	if e.Durable < e.Number {
		w.First, w.Last, w.Count = e.Durable+1, e.Number, e.Number-e.Durable
	}
	it := t.put(w)
	it.detail = e.Detail
	t.close(it, e.Ended)
	items = append(items, it)
	return told
}

// CauseName is a cause as people read it, and as a gap of the stream has it.
func CauseName(c notifierv1.Cause) string {
	return strings.ToLower(strings.TrimPrefix(c.String(), "CAUSE_"))
}

// causeOf is the reverse; what it does not know is corrupt.
func causeOf(name string) notifierv1.Cause {
	if c := notifierv1.Cause_value["CAUSE_"+strings.ToUpper(name)]; c != 0 {
		return notifierv1.Cause(c)
	}
	return notifierv1.Cause_CAUSE_CORRUPT
}

// isLoss says whether windows of this cause count numbers of an epoch.
func isLoss(c notifierv1.Cause) bool {
	switch c {
	case notifierv1.Cause_CAUSE_RING_FULL, notifierv1.Cause_CAUSE_TORN, notifierv1.Cause_CAUSE_CORRUPT,
		notifierv1.Cause_CAUSE_REFUSED, notifierv1.Cause_CAUSE_UNTOLD:
		return true
	}
	return false
}
