package pipeline

import (
	"runtime"
	"time"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
)

// In synchronous mode somebody waits, so nothing here does: the pipeline is
// woken by the session, and by the acknowledgement, and a record is closed for
// the sessions that wait and not for a time or a size.
//
// How large a record gets then follows the load, as with a database's own group
// commit: while one is on its way to the journal's disk, the sessions that end
// meanwhile fill the next, and it is closed when the one before is acknowledged.
// To send each at once would be no faster for a single session and slower for
// many: the journal syncs one write after the other, and each record costs a
// sync, whatever its size.

const (
	// syncInFlight is how many records may be on their way when another is closed
	// for a session that waits.
	syncInFlight = 1
	// syncPatience is how long a record on its way keeps the next from being
	// closed: one that a slow replica has must not hold up what others could take.
	syncPatience = 10 * time.Millisecond
)

// synchronous says whether sessions wait for their records.
func (p *pipeline) synchronous() bool {
	return p.wanted.GetRecording() && p.wanted.GetMode() == controlv1.StreamMode_STREAM_MODE_SYNC
}

// hurried says whether the open record is to be closed for the sake of a session
// that waits for something in it.
func (p *pipeline) hurried(now time.Time) bool {
	return p.synchronous() && p.open != nil &&
		(len(p.window.records) < syncInFlight || now.Sub(p.sent) >= syncPatience) &&
		p.cfg.Ring.Awaited(p.open.first, p.open.through)
}

// sleep waits for an event, for a session that waits or for an acknowledgement.
// Sessions that do not wait ring no bell: their events wait for the nap to be over.
func (p *pipeline) sleep() error {
	// The thread is about to sleep with its processor: whoever carries the record
	// that was closed just now goes first.
	runtime.Gosched()
	return p.reader.Sleep(maxNap, func() bool {
		return len(p.outbox.Results()) > 0 || p.hurried(time.Now())
	})
}
