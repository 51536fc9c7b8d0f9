package proof

import (
	"time"
)

// epochState is what is known of one epoch. Two instances never share one.
type epochState struct {
	id       uint32 // in heads
	epoch    uint64
	instance string

	// present has what there is an item for, told what a gap of the stream
	// tells of. refused has the gaps of records that could never be sealed: the
	// chain went on as if they had been, and a capture that is killed meanwhile
	// may deliver the same numbers after all, cut into other records.
	present, told, refused runs
	repeats                runs   // what came more than once
	repeated               uint64 // how many times

	started, notices uint64 // of the numbers in present
	gaps             []Loss // what the stream told of, the first maxLosses of it

	// through is the highest number that anything speaks of, throughAt when
	// that was, and ceiling the highest one that is judged.
	through, ceiling uint64
	throughAt        time.Time
	// lowest is the first number seen; floor the last one below what is judged.
	lowest, floor uint64
	// older is the last of the holes that a stream before this one may have had.
	older uint64

	records, heartbeats uint64
	began, ended        time.Time // arrival of the first and of the last record

	signatures uint64 // that were checked and are good
	seen       uint64 // checkpoints at all
	signed     uint64 // the highest number under a good signature
	signedAt   time.Time
}

// spoken notes that something speaks of number n.
func (e *epochState) spoken(n uint64, at time.Time, judged bool) {
	if n > e.through {
		e.through, e.throughAt = n, at
	}
	if judged {
		e.ceiling = max(e.ceiling, n)
	}
}

// extent is the range of numbers that is judged.
func (e *epochState) extent() (first, last uint64) {
	return max(e.floor, e.older) + 1, e.ceiling
}

// account is everything that is not missing: there, or told in the stream.
func (e *epochState) account() runs {
	var all runs
	for _, set := range []runs{e.present, e.told, e.refused} {
		for _, x := range set {
			all.add(x)
		}
	}
	return all
}

// holes are the numbers that are neither there nor told in the stream.
func (e *epochState) holes() []run {
	var list []run
	first, last := e.extent()
	for h := range e.account().holes(first, last) {
		if h.until.IsZero() && h.last == e.through {
			h.until = e.throughAt
		}
		list = append(list, h)
	}
	return list
}
