package proof

import (
	"iter"
	"slices"
	"time"
)

// run is a range of numbers, and what is known of its ends.
type run struct {
	first, last  uint64
	since, until time.Time // of the first and of the last number; zero where unknown
}

// runs is a set of numbers as ranges: sorted, none touching the next.
type runs []run

// at is the index of the first range that ends at n or later.
func (r runs) at(n uint64) int {
	i, _ := slices.BinarySearchFunc(r, n, func(x run, n uint64) int {
		switch {
		case x.last < n:
			return -1
		case x.last > n:
			return 1
		}
		return 0
	})
	return i
}

// add puts a range into the set and returns how many of its numbers were there.
func (r *runs) add(x run) (already uint64) {
	already = r.count(x.first, x.last)
	i := r.at(x.first - min(x.first, 1)) // one that ends right before x touches it
	j := i
	for ; j < len(*r) && (*r)[j].first <= x.last+1; j++ {
		old := (*r)[j]
		// Who has the outer end has its time; of equals, the one who knows.
		if old.first < x.first || old.first == x.first && !old.since.IsZero() {
			x.first, x.since = old.first, old.since
		}
		if old.last > x.last || old.last == x.last && !old.until.IsZero() {
			x.last, x.until = old.last, old.until
		}
	}
	*r = slices.Replace(*r, i, j, x)
	return already
}

// within yields the parts of the set from first to last.
func (r runs) within(first, last uint64) iter.Seq[run] {
	return func(yield func(run) bool) {
		for i := r.at(first); i < len(r) && r[i].first <= last; i++ {
			x := r[i]
			if x.first < first {
				x.first, x.since = first, time.Time{}
			}
			if x.last > last {
				x.last, x.until = last, time.Time{}
			}
			if !yield(x) {
				return
			}
		}
	}
}

// count is how many numbers from first to last are in the set.
func (r runs) count(first, last uint64) (n uint64) {
	for x := range r.within(first, last) {
		n += x.last - x.first + 1
	}
	return n
}

// holes yields what is not in the set from first to last; since and until are
// those of the neighbours.
func (r runs) holes(first, last uint64) iter.Seq[run] {
	return func(yield func(run) bool) {
		if first > last {
			return
		}
		next := first
		var before time.Time
		if i := r.at(first); first > 1 && i > 0 && r[i-1].last == first-1 {
			before = r[i-1].until
		}
		for x := range r.within(first, last) {
			if x.first > next && !yield(run{first: next, last: x.first - 1, since: before, until: x.since}) {
				return
			}
			next, before = x.last+1, x.until
		}
		if next <= last {
			yield(run{first: next, last: last, since: before})
		}
	}
}
