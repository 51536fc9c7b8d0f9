package notice

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// heir takes over what the capture before this one told.
type heir struct {
	asked, done  bool
	kept         []*notifierv1.Window // of this instance, as the notifier has them
	number, lost uint64               // the ring's at the time of Attached
}

// inherit asks, once, for what the notifier keeps. It returns false while the
// notifier is away. One that is there and cannot read (NATS is down) holds up
// nothing: then what is told stands beside what was told before.
func (s *sender) inherit(ctx context.Context) bool {
	t := s.teller
	t.mu.Lock()
	asked := t.heir.asked
	t.mu.Unlock()
	if asked {
		return true
	}
	call, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	answer, err := t.notifier.ListWindows(call, &notifierv1.ListWindowsRequest{InstanceId: t.instanceID})
	if err != nil {
		return ctx.Err() == nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heir.asked, t.heir.kept = true, answer.GetWindows()
	t.inherit()
	return true
}

// inherit goes on with the windows that are open, once both the ring and the
// notifier have been read. It wants mu held.
func (t *Teller) inherit() {
	h := &t.heir
	if !h.asked || t.epoch == 0 || h.done {
		return
	}
	h.done = true
	var told, last uint64
	var toldAt time.Time
	var open *notifierv1.Window
	for _, w := range h.kept {
		ours := w.GetEpoch() == t.epoch
		if ours && isLoss(w.GetCause()) {
			told = max(told, w.GetLostBefore()+w.GetCount())
			last = max(last, w.GetLast())
			toldAt = w.GetEnd().AsTime()
		}
		switch {
		case !w.GetOpen():
		case ours && isLoss(w.GetCause()):
			if open != nil { // one that was told while nobody could say what was open
				t.closeKept(open, false, open.GetEnd().AsTime())
			}
			open = w
		case isLoss(w.GetCause()):
			t.closeKept(w, true, w.GetEnd().AsTime())
		case w.GetCause() == notifierv1.Cause_CAUSE_CAPTURE_SILENT, t.has(w.GetId()): // control's, or ours by now
		case w.GetCause() == notifierv1.Cause_CAUSE_RELEASED && !ours, t.absences[w.GetCause()] != nil:
			t.closeKept(w, w.GetLowerBound() || !ours, t.attached)
		default:
			// Gone still, or back: whoever knows says so, and if nobody does it is back.
			t.absences[w.GetCause()] = &absence{item: t.takeOver(w), back: t.attached}
		}
	}
	h.kept = nil
	untold := h.lost - min(told, h.lost)
	switch {
	case open != nil:
		t.goOn(open, untold)
	case untold > 0:
		w := t.window(t.epoch, notifierv1.Cause_CAUSE_UNTOLD, h.lost, later(toldAt, time.UnixMicro(int64(t.epoch))))
		w.First, w.Last, w.Count, w.LostBefore = last+1, h.number, untold, told
		t.close(t.put(w), t.attached)
	}
}

// goOn continues the window of loss that the last capture left open, of which
// untold is not counted.
func (t *Teller) goOn(kept *notifierv1.Window, untold uint64) {
	a := &t.loss
	if untold > 0 {
		kept.Last, kept.End = max(kept.GetLast(), t.heir.number), timestamppb.New(t.attached)
		kept.Count += untold
	}
	switch {
	case a.open == nil:
		a.open = t.takeOver(kept)
		a.opened, a.heard = time.Now(), time.Now()
	case a.open.window.GetId() == kept.GetId(), a.open.sent == 0 && a.open.window.GetCause() == kept.GetCause():
		w := a.open.window
		w.Id, w.First, w.Begin, w.LostBefore = kept.GetId(), kept.GetFirst(), kept.GetBegin(), kept.GetLostBefore()
		w.Count, w.Last = a.total-min(a.total, w.GetLostBefore()), max(w.GetLast(), kept.GetLast())
		a.open.version++
	default:
		t.closeKept(kept, false, kept.GetEnd().AsTime())
	}
}

// takeOver makes a window that the notifier has one of ours.
func (t *Teller) takeOver(w *notifierv1.Window) *item {
	it := t.put(w)
	it.sent = it.version
	return it
}

func (t *Teller) closeKept(w *notifierv1.Window, lowerBound bool, end time.Time) {
	w.LowerBound = w.GetLowerBound() || lowerBound
	t.close(t.takeOver(w), end)
}

// has says whether a window is being told by this capture already.
func (t *Teller) has(id string) bool {
	for _, it := range t.outbox.items {
		if it.window.GetId() == id {
			return true
		}
	}
	return false
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
