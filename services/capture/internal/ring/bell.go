package ring

import "time"

// Sleep naps until a frame can be read, a session or Wake rings the bell, or d is over. awake is looked at once this
// reader is known to sleep; where it says true there is no nap. What it looks at must change before whoever changes it
// looks whether the reader sleeps, so that one of the two sees the other: Wake does, and a session that waits does
// (engine/ring/ring_wait.c).
//
// The calling goroutine's thread sleeps in the kernel and keeps its processor for some microseconds at least. That is
// what makes it the fastest way to be woken by another process, and a reason to have no other work on that thread.
func (r *Reader) Sleep(d time.Duration, awake func() bool) error {
	if r.broken != nil {
		return r.broken
	}
	return guarded(r.ring.mem, func() error {
		h := r.ring.h
		bell := h.bell.Load()
		h.captureSleeps.Store(1)
		if !r.readable() && !awake() {
			futexSleep(&h.bell, bell, d)
		}
		h.captureSleeps.Store(0)
		return nil
	})
}

// Wake ends the Sleep of this ring's reader, from another goroutine.
func (r *Ring) Wake() {
	// A ring that cannot be touched any more is the reader's to notice.
	_ = guarded(r.mem, func() error {
		if r.h.captureSleeps.Load() != 0 {
			r.h.bell.Add(1)
			futexWakeAll(&r.h.bell)
		}
		return nil
	})
}

// Awaited says whether a session waits for one of the numbers first to last, or for one of the same group.
func (r *Ring) Awaited(first, last uint64) (awaited bool) {
	if last < first {
		return false
	}
	// As above: a ring that cannot be touched has nobody worth hurrying for.
	_ = guarded(r.mem, func() error {
		for i := range min(last-first+1, waitGroups) {
			if r.h.waitGroups[(last-i)%waitGroups].waiters.Load() != 0 {
				awaited = true
				break
			}
		}
		return nil
	})
	return awaited
}
