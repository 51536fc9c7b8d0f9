package ringtest

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const futexWait, futexWake = 0, 1

// PathState is whether records become durable in time: 0 not known, 1 they do, 2 they do not.
func (w *Writer) PathState() uint32 { return w.word(offPath).Load() }

// Await waits as a session of synchronous mode does, until number is durable, and returns true then. It returns false
// where the path is not healthy, or makes it so when limit is over.
func (w *Writer) Await(number uint64, limit time.Duration) bool {
	group := uint64(offGroups + 8*(number%64))
	futex, waiters := w.word(group), w.word(group+4)
	deadline := time.Now().Add(limit)
	waiters.Add(1)
	defer waiters.Add(^uint32(0))
	for {
		value := futex.Load()
		if w.word(offSleeps).Load() != 0 {
			w.word(offBell).Add(1)
			futexCall(w.word(offBell), futexWake, 1<<30, nil)
		}
		left := time.Until(deadline)
		switch {
		case w.Durable() >= number:
			return true
		case w.PathState() == 2:
			return false
		case left <= 0:
			w.word(offPath).CompareAndSwap(1, 2)
			return false
		}
		slice := unix.NsecToTimespec(min(left, 100*time.Millisecond).Nanoseconds())
		futexCall(futex, futexWait, value, &slice)
	}
}

// Release counts a session whose client was told of number before it was durable.
func (w *Writer) Release(number uint64, at time.Time) {
	w.long(offReleasedThrough).Store(number)
	w.long(offReleasedAt).Store(uint64(at.UnixMicro()))
	w.long(offReleased).Add(1)
}

func futexCall(word *atomic.Uint32, operation, value uint32, timeout *unix.Timespec) {
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), uintptr(operation), uintptr(value),
		uintptr(unsafe.Pointer(timeout)), 0, 0)
}
