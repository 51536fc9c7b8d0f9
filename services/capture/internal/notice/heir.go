package notice

import (
	"cmp"
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

const (
	// kept and listed are the notifier's: how long a window that has closed is
	// kept, and how many windows are listed at most.
	kept   = 14 * 24 * time.Hour
	listed = 1000
)

// heir takes over what the captures before this one told.
type heir struct {
	asked, done  bool
	windows      []*notifierv1.Window // of this instance, as the notifier has them
	own          map[string]bool      // the windows that this capture told before it could ask
	number, lost uint64               // the ring's at the time of Attached
}

// inherit asks, once, for what the notifier keeps. It returns false while the
// notifier is away. One that is there and cannot read (NATS is down) holds up
// nothing: what is told now stands beside what was told before.
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
	t.heir.asked, t.heir.windows = true, answer.GetWindows()
	t.inherit()
	return true
}

// inherit goes on with the windows that are open, once both the ring and the
// notifier have been read. It wants mu held, as all below.
func (t *Teller) inherit() {
	h := &t.heir
	if !h.asked || t.epoch == 0 || h.done {
		return
	}
	h.done = true
	var losses []*notifierv1.Window // of this epoch
	for _, w := range h.windows {
		ours := w.GetEpoch() == t.epoch
		switch {
		case h.own[w.GetId()]:
		case ours && isLoss(w.GetCause()):
			losses = append(losses, w)
		case ours && w.GetCause() == notifierv1.Cause_CAUSE_UNNUMBERED:
			t.inheritUnnumbered(w)
		case !w.GetOpen(), w.GetCause() == notifierv1.Cause_CAUSE_CAPTURE_SILENT: // the latter is control's
		case isLoss(w.GetCause()), w.GetCause() == notifierv1.Cause_CAUSE_UNNUMBERED:
			t.closeKept(w, true, w.GetEnd().AsTime())
		case w.GetCause() == notifierv1.Cause_CAUSE_RELEASED && !ours, t.absences[w.GetCause()] != nil:
			t.closeKept(w, w.GetLowerBound() || !ours, t.attached)
		default:
			// Gone still, or back: whoever knows says so, and if nobody does it is back.
			t.absences[w.GetCause()] = &absence{item: t.takeOver(w), back: t.attached}
		}
	}
	t.inheritLosses(losses, len(h.windows) >= listed)
	h.windows, h.own = nil, nil
}

// inheritLosses holds what was told of this epoch's losses against the ring's
// count, and tells what no window has: a capture may have died before it could.
func (t *Teller) inheritLosses(losses []*notifierv1.Window, cut bool) {
	slices.SortStableFunc(losses, func(a, b *notifierv1.Window) int { return cmp.Compare(a.GetLostBefore(), b.GetLostBefore()) })
	born := time.UnixMicro(int64(t.epoch))
	last := &notifierv1.Window{End: timestamppb.New(born)} // the window before the place that is looked at
	counted := uint64(0)
	if len(losses) > 0 && (cut || t.attached.Sub(born) >= kept) {
		counted = losses[0].GetLostBefore() // what came before has been forgotten
	}
	for i, w := range losses {
		if w.GetLostBefore() > counted {
			t.untold(counted, w.GetLostBefore()-counted, last, max(w.GetFirst(), 1)-1, w.GetBegin().AsTime())
		}
		next := &notifierv1.Window{First: t.heir.number + 1, LostBefore: t.heir.lost, Begin: timestamppb.New(t.attached)}
		if i+1 < len(losses) {
			next = losses[i+1]
		}
		switch {
		case !w.GetOpen():
		case w.GetLostBefore()+w.GetCount() < counted:
			// Its losses went into another window, of a capture that could not know of it.
			t.closeKept(w, false, w.GetEnd().AsTime())
		default:
			t.goOn(w, next, i+1 == len(losses))
		}
		counted = max(counted, w.GetLostBefore()+w.GetCount())
		last = w
	}
	if t.heir.lost > counted {
		t.untold(counted, t.heir.lost-counted, last, t.heir.number, t.attached)
	}
}

// untold tells of a loss that no capture lived to tell, between the window
// before it and a number and a time.
func (t *Teller) untold(before, count uint64, after *notifierv1.Window, last uint64, end time.Time) {
	w := t.lossWindow(notifierv1.Cause_CAUSE_UNTOLD, after.GetLast()+1, before, after.GetEnd().AsTime())
	w.Last, w.Count = max(last, w.First), count
	t.close(t.put(w), end)
}

// goOn continues a window of loss that was left open. What the ring counted
// before the next one, and nobody told, belongs to it.
func (t *Teller) goOn(w, next *notifierv1.Window, newest bool) {
	if counted := w.GetLostBefore() + w.GetCount(); next.GetLostBefore() > counted {
		w.Count += next.GetLostBefore() - counted
		w.Last, w.End = max(w.GetLast(), w.GetFirst(), next.GetFirst()-1), next.GetBegin()
	}
	a := &t.loss
	switch { // it goes on only where nothing was counted in between
	case newest && a.open == nil && a.total == t.heir.lost:
		a.open = t.takeOver(w)
		a.opened, a.heard = time.Now(), time.Now()
		a.through = max(a.through, w.GetFirst())
	case newest && a.open != nil && !a.open.tried && a.open.window.GetLostBefore() == t.heir.lost && a.open.window.GetCause() == w.GetCause():
		mine := a.open.window
		mine.Id, mine.First, mine.Begin, mine.LostBefore = w.GetId(), w.GetFirst(), w.GetBegin(), w.GetLostBefore()
		mine.Count, mine.Last = a.total-min(a.total, mine.GetLostBefore()), max(mine.GetLast(), w.GetLast())
		a.open.version++
	default:
		t.closeKept(w, false, w.GetEnd().AsTime())
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
