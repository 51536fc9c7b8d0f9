package notice

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// unnumbered is what is known of the events that could not even get a number,
// because the ring's lock was not to be had. The stream cannot tell of them: they
// leave no hole. The ring counts them, and the windows with the notifier say how
// many of these were told.
type unnumbered struct {
	counted uint64    // of the ring's count, in windows
	since   time.Time // at this time it was no more
	open    *item     // the window that is open; nil when there is none
	grown   time.Time // when the count was seen to grow last
}

// Unnumbered tells how many events of the epoch could not get a number, as the
// ring counts them at that time. It is to be called again and again: what has
// grown is lost.
func (t *Teller) Unnumbered(epoch, total uint64, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := &t.unnumbered
	if epoch != t.epoch || !t.heir.done { // until then nobody knows how many were told
		return
	}
	if total <= u.counted {
		u.since = at
		return
	}
	if u.open == nil {
		w := t.window(epoch, notifierv1.Cause_CAUSE_UNNUMBERED, fmt.Sprint(u.counted), u.since)
		w.LostBefore = u.counted
		u.open = t.put(w)
	}
	w := u.open.window
	if at.Before(w.GetBegin().AsTime()) {
		at = w.GetBegin().AsTime()
	}
	w.Count, w.End = total-w.GetLostBefore(), timestamppb.New(at)
	u.counted, u.since, u.grown = total, at, time.Now()
	u.open.version++
	t.ring()
}

// inheritUnnumbered takes over what the captures before this one told of this
// epoch. It wants mu held, as all below.
func (t *Teller) inheritUnnumbered(w *notifierv1.Window) {
	u := &t.unnumbered
	if counted := w.GetLostBefore() + w.GetCount(); counted >= u.counted {
		u.counted = counted
		u.since = later(u.since, w.GetEnd().AsTime())
	}
	if w.GetOpen() {
		u.open, u.grown = t.takeOver(w), time.Now()
	}
}

// settleUnnumbered closes the window when nothing has been added for a while.
func (t *Teller) settleUnnumbered(now time.Time) {
	if u := &t.unnumbered; u.open != nil && now.Sub(u.grown) >= quiet {
		t.close(u.open, u.open.window.GetEnd().AsTime())
		u.open = nil
	}
}

// forgetUnnumbered ends what was told of an epoch, and begins with another.
func (t *Teller) forgetUnnumbered(epoch uint64) {
	if u := &t.unnumbered; u.open != nil {
		t.close(u.open, u.open.window.GetEnd().AsTime())
	}
	t.unnumbered = unnumbered{since: time.UnixMicro(int64(epoch))}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
