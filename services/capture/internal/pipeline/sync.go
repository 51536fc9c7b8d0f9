package pipeline

import (
	"runtime"
	"time"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
)

// In synchronous mode somebody waits, so nothing here does: a record is closed
// for the sessions that wait and not for a time or a size.
//
// How large a record gets then follows the load, as with a database's own group
// commit: while one is on its way to the journal's disk, the sessions that end
// meanwhile fill the next, and it is closed when the one before is acknowledged.
// To send each at once would be no faster for a single session and slower for
// many: the journal syncs one write after the other, and each record costs a
// sync, whatever its size.
//
// It costs processor time too, in five processes. Where all processors are busy
// the sessions pay for that, so there a record waits, for milliseconds, until
// most of the sessions that write these days are in it: they have to wait for
// the processors in any case.

const (
	// syncInFlight is how many records may be on their way when another is closed
	// for a session that waits.
	syncInFlight = 1
	// syncPatience is how long a record on its way keeps the next from being
	// closed: one that a slow replica has must not hold up what others could take.
	syncPatience = 10 * time.Millisecond
	// gatherFor is how long a record waits on a busy machine, at most.
	gatherFor = 10 * time.Millisecond
	// While a record is on its way, or waits for more, the pipeline only naps:
	// sessions need not wake it, for it would not close the next. What they wrote
	// meanwhile is read after a nap, and not all at once at the end.
	flightNap = 3 * time.Millisecond
	gatherNap = time.Millisecond
)

// synchronous says whether sessions wait for their records.
func (p *pipeline) synchronous() bool {
	return p.wanted.GetRecording() && p.wanted.GetMode() == controlv1.StreamMode_STREAM_MODE_SYNC
}

// hurried says whether the open record is to be closed for the sake of the
// sessions that wait for something in it.
func (p *pipeline) hurried(now time.Time) bool {
	if !p.synchronous() || p.open == nil || len(p.window.records) >= syncInFlight && now.Sub(p.sent) < syncPatience {
		return false
	}
	waiting := p.cfg.Ring.Waiting(p.open.first, p.open.through)
	if waiting == 0 {
		return false
	}
	if 2*waiting >= p.crowd.size() || !p.load.busy() {
		return true
	}
	if p.gathering.IsZero() {
		p.gathering = now
	}
	return now.Sub(p.gathering) >= gatherFor
}

// sleep waits for an event, for a session that waits or for an acknowledgement.
// Sessions that do not wait ring no bell: their events wait for the nap to be over.
func (p *pipeline) sleep() error {
	// The thread is about to sleep with its processor: whoever carries the record
	// that was closed just now goes first.
	runtime.Gosched()
	settled := func() bool { return len(p.outbox.Results()) > 0 }
	switch {
	case !p.gathering.IsZero():
		return p.reader.Nap(gatherNap, settled)
	case len(p.window.records) > 0:
		return p.reader.Nap(flightNap, settled)
	}
	return p.reader.Sleep(maxNap, func() bool {
		return settled() || p.hurried(time.Now()) || !p.gathering.IsZero()
	})
}
