package capture

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/capture/internal/notice"
	"github.com/weir-das/weir/services/capture/internal/ring"
	"github.com/weir-das/weir/services/capture/internal/spool"
)

// maxEnds bounds how many ends are kept, and so the report: see
// control.proto. Where more epochs than that end in a row and the notifier hears
// of none, the oldest is told by this process, and by none after it.
const maxEnds = 32

// epochs knows how far each epoch came, and tells it when another one is there:
// what was not read of a ring that is gone is lost, and nobody else can say so.
//
// What this process saw with its own eyes goes before what control was told by
// a capture before it. Until the notifier has an end, it goes with every report:
// the first report of the new epoch takes the place of all that control knew of
// the old one, and a capture that dies then must not take the end with it.
type epochs struct {
	teller *notice.Teller
	spool  *spool.Spool // nil where there is none

	mu    sync.Mutex
	known notice.EpochEnd // of the epoch that is read, or was last
	ends  []ending        // that were told, oldest first, at most maxEnds
}

// ending is an epoch's end, and whether the notifier has it.
type ending struct {
	notice.EpochEnd
	told func() bool
}

// safe is up to which number nothing of an epoch is lost with its ring: what the
// journal does not have of that the spool has.
func (e *epochs) safe(epoch, durable uint64) uint64 {
	if e.spool != nil {
		if last, pending := e.spool.Pending(epoch); pending {
			durable = max(durable, last.Number)
		}
		if m, ok := e.spool.Delivered(epoch); ok {
			durable = max(durable, m.Number)
		}
	}
	return durable
}

// seen follows the ring.
func (e *epochs) seen(s ring.Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known = notice.EpochEnd{Epoch: s.Epoch, Number: s.Number, Durable: e.safe(s.Epoch, s.Durable), LowerBound: true, LastSeen: time.Now()}
}

// end is called when nothing more is read from r. Where no server is left and
// the header can be read, that is the truth for good.
func (e *epochs) end(r *ring.Ring) {
	s, err := r.Status()
	if err != nil {
		return
	}
	e.seen(s)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known.LowerBound = s.State == ring.EngineRunning
}

// begin is called when a ring is there.
func (e *epochs) begin(epoch uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known.Epoch == 0 || e.known.Epoch == epoch {
		return
	}
	end := e.known
	end.Ended, end.Detail = endOf(end, epoch), "The server has another ring."
	e.known = notice.EpochEnd{}
	e.tell(end)
}

// Over is called with what a capture last said of an epoch that is not the
// one that is there now.
func (e *epochs) Over(last *controlv1.InstanceReport) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if slices.ContainsFunc(e.ends, func(was ending) bool { return was.Epoch == last.GetEpoch() }) {
		return
	}
	seen := last.GetReportedAt()
	if last.GetSeenAt() != nil {
		seen = last.GetSeenAt()
	}
	end := notice.EpochEnd{
		Epoch: last.GetEpoch(), Number: last.GetNumber(), Durable: e.safe(last.GetEpoch(), last.GetDurable()), LowerBound: true,
		LastSeen: seen.AsTime(),
		Detail:   "The ring went while no capture saw it; this is what the last one had reported.",
	}
	end.Number = max(end.Number, end.Durable) // the spool may know more
	end.Ended = endOf(end, e.known.Epoch)
	e.tell(end)
}

// Again is called with the ends that a capture before this one told. They are
// told as that one did, so that the notifier knows them if it has them.
func (e *epochs) Again(ends []*controlv1.EndedEpoch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, end := range ends {
		e.tell(notice.EpochEnd{
			Epoch: end.GetEpoch(), Number: end.GetNumber(), Durable: end.GetDurable(), LowerBound: end.GetLowerBound(),
			LastSeen: end.GetSeenAt().AsTime(), Ended: end.GetEndedAt().AsTime(), Detail: end.GetDetail(),
		})
	}
}

// Untold returns the ends that the notifier may not have.
func (e *epochs) Untold() []*controlv1.EndedEpoch {
	e.mu.Lock()
	defer e.mu.Unlock()
	var untold []*controlv1.EndedEpoch
	for _, end := range e.ends {
		if end.told() {
			continue
		}
		untold = append(untold, &controlv1.EndedEpoch{
			Epoch: end.Epoch, Number: end.Number, Durable: end.Durable, LowerBound: end.LowerBound,
			SeenAt: timestamppb.New(end.LastSeen), EndedAt: timestamppb.New(end.Ended), Detail: end.Detail,
		})
	}
	return untold
}

// tell wants mu held.
func (e *epochs) tell(end notice.EpochEnd) {
	e.ends = append(e.ends, ending{end, e.teller.EpochEnded(end)})
	if len(e.ends) > maxEnds {
		oldest := max(0, slices.IndexFunc(e.ends, func(end ending) bool { return end.told() }))
		e.ends = slices.Delete(e.ends, oldest, oldest+1)
	}
}

// endOf is when an epoch was over: when the next one began, whose name is that time.
func endOf(end notice.EpochEnd, next uint64) time.Time {
	if began := time.UnixMicro(int64(next)); began.After(end.LastSeen) && began.Before(time.Now()) {
		return began
	}
	return time.Now()
}

// lossWatch sees losses to which the pipeline has not come: while the way to the
// journal is shut, it reads no further than its window.
type lossWatch struct {
	lost, number uint64
	at           time.Time
	again        bool
}

func (w *lossWatch) look(s *station, r *ring.Ring, status ring.Status) {
	now := time.Now()
	grown := status.Lost > w.lost
	if w.at.IsZero() { // what was lost before this capture came is told when it is read, or has been
		w.number, w.at = status.Durable, now
		grown = status.Lost > r.Reader().Position().Lost
	}
	// Once more after the last growth: the number was read before the count.
	if grown || w.again {
		first, from, ok := r.Losing()
		if !ok {
			first, from = w.number+1, w.at
		}
		s.teller.Losing(status.Epoch, first, status.Number, from, ring.RingFull.String())
	}
	w.again = grown
	w.lost, w.number, w.at = status.Lost, status.Number, now
}

// ringPatience is how long a ring may be missing before that is told: a server
// that is restarted makes one.
const ringPatience = 3 * time.Second

// absentRing tells that there is no ring to read though there should be.
type absentRing struct{ since time.Time }

func (a *absentRing) look(s *station, why error) {
	desired, _ := s.link.Desired()
	switch {
	case desired == nil:
	case !desired.GetRecording():
		s.teller.Unwanted()
		*a = absentRing{}
	case a.since.IsZero():
		a.since = time.Now()
	case time.Since(a.since) >= ringPatience:
		detail := "There is no ring to read."
		if why != nil {
			detail = why.Error()
		}
		s.teller.Interrupted(0, a.since, detail)
	}
}
