package notice

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// absence is something that should be there and is not: the server, a ring that
// can be read, the certainty that a session waits for its record. What comes
// back and goes again at once is one absence.
type absence struct {
	item *item
	back time.Time // since when it is there again; zero while it is not
}

// Lost tells that the engine stopped being audited. starts is the ring's count
// of starts: with the epoch it names this life of the server.
func (t *Teller) Lost(epoch, starts uint64, detail string) {
	t.isGone(notifierv1.Cause_CAUSE_ENGINE_GONE, epoch, starts, time.Now(), detail)
}

// Returned tells that the engine is audited again.
func (t *Teller) Returned(epoch, starts uint64, detail string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.isBack(notifierv1.Cause_CAUSE_ENGINE_GONE, time.Now())
}

// Interrupted tells that there is no ring to read since then, though there
// should be. epoch is the last one that was read, 0 if that is not known.
func (t *Teller) Interrupted(epoch uint64, since time.Time, why string) {
	t.isGone(notifierv1.Cause_CAUSE_RING_UNREADABLE, epoch, uint64(since.UnixMicro()), since, why)
}

// Resumed tells that a ring is read again. Attached tells it too.
func (t *Teller) Resumed(epoch uint64, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.isBack(notifierv1.Cause_CAUSE_RING_UNREADABLE, at)
}

// Degraded tells that sessions in synchronous mode go on, since then, before
// their records are durable: their loss is possible. released is the ring's
// count of waits that ended so, before the first of these. It may be called again
// while it lasts.
func (t *Teller) Degraded(epoch uint64, from time.Time, released uint64) {
	t.isGone(notifierv1.Cause_CAUSE_RELEASED, epoch, released, from, "")
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(released)
}

// Restored tells that they wait again. It is no window's end where none is open,
// so whoever comes to a path that is healthy may always call it.
func (t *Teller) Restored(epoch uint64, at time.Time, released uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(released)
	t.isBack(notifierv1.Cause_CAUSE_RELEASED, at)
}

// count brings the count of the waits that were let go up to date.
func (t *Teller) count(released uint64) {
	a := t.absences[notifierv1.Cause_CAUSE_RELEASED]
	if a == nil || released <= a.item.window.GetLostBefore()+a.item.window.GetCount() {
		return
	}
	a.item.window.Count = released - a.item.window.GetLostBefore()
	a.item.version++
	t.ring()
}

// Unwanted tells that nothing is to be recorded any more, so nothing is missing.
func (t *Teller) Unwanted() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for cause, a := range t.absences {
		end := a.back
		if end.IsZero() {
			end = time.Now()
			a.item.detail = "The stream was stopped."
		}
		t.closeAbsence(cause, end)
	}
}

func (t *Teller) isGone(cause notifierv1.Cause, epoch, what uint64, since time.Time, detail string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a := t.absences[cause]; a != nil {
		a.back = time.Time{}
		return
	}
	w := t.window(epoch, cause, fmt.Sprint(what), since)
	// What was not recorded was not numbered either: nobody can count it.
	w.LowerBound = cause != notifierv1.Cause_CAUSE_RELEASED
	if cause == notifierv1.Cause_CAUSE_RELEASED {
		w.LostBefore = what
	}
	it := t.put(w)
	it.detail = detail
	t.absences[cause] = &absence{item: it}
}

// isBack wants mu held.
func (t *Teller) isBack(cause notifierv1.Cause, at time.Time) {
	if a := t.absences[cause]; a != nil && a.back.IsZero() {
		a.back = at
	}
}

// closeAbsence wants mu held.
func (t *Teller) closeAbsence(cause notifierv1.Cause, end time.Time) {
	t.close(t.absences[cause].item, end)
	delete(t.absences, cause)
}

// Notice tells that somebody touched what the audit rests on. n is the number of
// the event that says so in the stream.
//
// What is said again before the notifier has heard it is told once, with how
// often: a session that does it in a loop must not push out what others did.
func (t *Teller) Notice(epoch, n uint64, kind, subject string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	detail := kind
	if subject != "" {
		detail += ": " + subject
	}
	if it := t.notices[detail]; it != nil {
		it.more++
		return
	}
	it := t.notify(&notifierv1.NotifyRequest{
		Kind:           notifierv1.EventKind_EVENT_KIND_SECURITY_NOTICE,
		OccurredAt:     timestamppb.New(at),
		IdempotencyKey: t.key(epoch, fmt.Sprintf("notice/%d", n)),
		Detail:         detail,
		Epoch:          epoch, Number: n,
	})
	if it != nil {
		it.says = detail
		t.notices[detail] = it
	}
}

func (t *Teller) key(epoch uint64, what string) string {
	return fmt.Sprintf("%s/%d/%s", t.instanceID, epoch, what)
}
