package proof

import (
	"slices"
	"time"
)

// Window is a loss as the notifier told it.
type Window struct {
	Epoch       uint64
	First, Last uint64
	// LowerBound says that more may be lost: the end of an epoch is not known
	// after a loss of power.
	LowerBound bool
	Begin, End time.Time
	Cause      string
}

// Ledger is everything that the notifier told.
type Ledger struct {
	windows map[uint64][]Window // by epoch, in the order of First
}

// NewLedger makes a ledger of windows in any order.
func NewLedger(windows []Window) *Ledger {
	l := &Ledger{windows: map[uint64][]Window{}}
	for _, w := range windows {
		if w.First == 0 || w.Last < w.First && !w.LowerBound {
			continue // it names no numbers: it tells of time, not of loss
		}
		l.windows[w.Epoch] = append(l.windows[w.Epoch], w)
	}
	for _, list := range l.windows {
		slices.SortFunc(list, func(a, b Window) int { return int(a.First) - int(b.First) })
	}
	return l
}

// told says whether all of a range was told, and the cause of its beginning.
func (l *Ledger) told(epoch, first, last uint64) (cause string, ok bool) {
	next := first
	for _, w := range l.windows[epoch] {
		if w.First > next {
			break
		}
		end := w.Last
		if w.LowerBound {
			end = maxNumber
		}
		if end < next {
			continue
		}
		if cause == "" {
			cause = w.Cause
		}
		if end >= last {
			return cause, true
		}
		next = end + 1
	}
	return "", false
}
