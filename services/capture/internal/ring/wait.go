package ring

import (
	"context"
	"math"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	futexWait = 0
	futexWake = 1

	// longestNap bounds how late a Wait sees that its context has ended.
	longestNap = 50 * time.Millisecond
)

// Wait naps until there may be something to read, at most for d, or until ctx ends. While it naps, a session that waits
// for its record to be durable rings the bell; other sessions do not, which is why a nap is short.
func (r *Reader) Wait(ctx context.Context, d time.Duration) error {
	if r.broken != nil {
		return r.broken
	}
	return guarded(r.ring.mem, func() error {
		h := r.ring.h
		deadline := time.Now().Add(d)
		for left := d; left > 0 && ctx.Err() == nil; left = time.Until(deadline) {
			bell := h.bell.Load()
			h.captureSleeps.Store(1)
			// Looked at after the flag was set: a session that commits later than this look sees the flag.
			if !r.readable() {
				futexSleep(&h.bell, bell, min(left, longestNap))
			}
			h.captureSleeps.Store(0)
			if h.bell.Load() != bell || r.readable() {
				break
			}
		}
		return ctx.Err()
	})
}

// readable says whether Next would find a whole frame.
func (r *Reader) readable() bool {
	return !r.held && r.ring.head() != r.at && r.at%frameAlign == 0 && r.ring.frameAt(r.at).commit != frameReserved
}

// wake wakes the sessions that wait for one of the numbers after from, up to through. A session waits in the group of its
// number, so that an acknowledgement wakes those it concerns and few others; where nobody waits it costs a look.
//
// The caller has stored what they wait for. A session first says that it waits and then looks at that, so either it sees
// the store or this sees the session: see engine/ring/ring_wait.c.
func (r *Ring) wake(from, through uint64) {
	if through <= from {
		return
	}
	for i := range min(through-from, waitGroups) {
		group := &r.h.waitGroups[(through-i)%waitGroups]
		if group.waiters.Load() != 0 {
			group.futex.Add(1)
			futexWakeAll(&group.futex)
		}
	}
}

// wakeAll has every session that waits look again at what it waits for.
func (r *Ring) wakeAll() { r.wake(0, waitGroups) }

// futexSleep returns when the word is woken, is not value, or d is over. The futex is shared between processes, so it is
// not a private one.
func futexSleep(word *atomic.Uint32, value uint32, d time.Duration) {
	timeout := unix.NsecToTimespec(d.Nanoseconds())
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait, uintptr(value),
		uintptr(unsafe.Pointer(&timeout)), 0, 0)
}

func futexWakeAll(word *atomic.Uint32) {
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, math.MaxInt32, 0, 0, 0)
}
