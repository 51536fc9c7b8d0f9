package spool

import "time"

// lately is how long the spool counts as draining after the journal took
// something, and as full after it refused: longer than an entry takes on a path
// that works, and than the pipeline leaves a full spool alone.
const lately = 5 * time.Second

// State is what a spool does. The values are those of weir.control.v1.SpoolState.
type State int

// The states.
const (
	Empty    State = iota + 1
	Waiting        // it holds records, and the journal takes none of them
	Draining       // the journal takes them
	Full           // it refuses what comes: its limit is reached, or its disk full
)

// Status is what there is to say of a spool.
type Status struct {
	Used, Limit int64 // bytes
	Events      uint64
	Since       time.Time // when the oldest of these ended; zero when there is none
	State       State
}

// Status says where the spool stands.
func (s *Spool) Status() Status {
	out := Status{Limit: s.limit, Since: s.Oldest(), State: Waiting}
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Used = s.used
	for _, g := range s.segments {
		out.Events += g.events
	}
	switch {
	case time.Since(s.refused) < lately:
		out.State = Full
	case s.used == 0:
		out.Since, out.State = time.Time{}, Empty
	case time.Since(s.drained) < lately:
		out.State = Draining
	}
	return out
}

// noRoom notes whether the last that came found none.
func (s *Spool) noRoom(none bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused = (time.Time{}); none {
		s.refused = time.Now()
	}
}

// holds corrects what is known of a segment by what is left of it to deliver: a
// capture before this one may have delivered a part.
func (s *Spool) holds(seg *segment, parcels []*parcel) {
	events := uint64(0)
	for _, p := range parcels {
		events += p.head.GetEvents()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.events = events
}

// left notes that the journal has an entry of so many events.
func (s *Spool) left(seg *segment, events int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.events -= min(seg.events, uint64(events))
	s.drained = time.Now()
}
