package ring

import (
	"sync/atomic"
	"time"
)

// Sleep naps until a frame can be read, a session or Wake rings the bell, or d is over. awake is looked at once this
// reader is known to sleep; where it says true there is no nap. What it looks at must change before whoever changes it
// looks whether the reader sleeps, so that one of the two sees the other: Wake does, and a session that waits does
// (engine/ring/ring_wait.c).
//
// The calling goroutine's thread sleeps in the kernel and keeps its processor for some microseconds at least. That is
// what makes it the fastest way to be woken by another process, and a reason to have no other work on that thread.
func (r *Reader) Sleep(d time.Duration, awake func() bool) error {
	return r.sleep(&r.ring.h.captureSleeps, d, func() bool { return r.readable() || awake() })
}

// Nap is a Sleep that only Wake ends, and the end of d: sessions write and wait, and do not ring.
func (r *Reader) Nap(d time.Duration, awake func() bool) error {
	return r.sleep(&r.ring.naps, d, awake)
}

// sleep tells by flag that the reader sleeps.
func (r *Reader) sleep(flag *atomic.Uint32, d time.Duration, awake func() bool) error {
	if r.broken != nil {
		return r.broken
	}
	return guarded(r.ring.mem, func() error {
		bell := r.ring.h.bell.Load()
		flag.Store(1)
		if !awake() {
			futexSleep(&r.ring.h.bell, bell, d)
		}
		flag.Store(0)
		return nil
	})
}

// Wake ends the Sleep or Nap of this ring's reader, from another goroutine.
func (r *Ring) Wake() {
	// A ring that cannot be touched any more is the reader's to notice.
	_ = guarded(r.mem, func() error {
		if r.h.captureSleeps.Load() != 0 || r.naps.Load() != 0 {
			r.h.bell.Add(1)
			futexWakeAll(&r.h.bell)
		}
		return nil
	})
}

// Waiting is how many sessions wait for one of the numbers first to last, or for one of the same group.
func (r *Ring) Waiting(first, last uint64) (sessions int) {
	if last < first {
		return 0
	}
	// As above: a ring that cannot be touched has nobody worth hurrying for.
	_ = guarded(r.mem, func() error {
		for i := range min(last-first+1, waitGroups) {
			sessions += int(r.h.waitGroups[(last-i)%waitGroups].waiters.Load())
		}
		return nil
	})
	return sessions
}
