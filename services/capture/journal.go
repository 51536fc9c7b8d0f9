package capture

import (
	"context"
	"time"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/capture/internal/link"
	"github.com/weir-das/weir/services/capture/internal/ring"
	"github.com/weir-das/weir/services/capture/internal/transit"
)

const (
	// journalEvery is how often the journal is asked where it stands: so exactly is
	// known what is lost when NATS loses its data.
	journalEvery = 2 * time.Second
	journalWait  = 5 * time.Second
)

// journey follows what was acknowledged on its way through the journal, and tells
// what is lost when another journal is found in its place. It belongs to the
// goroutine of followJournal, one at a time; what it keeps lies in the ring.
type journey struct {
	transit transit.Transit
	// told says of each loss whether the notifier has it. Until then the ring
	// keeps what was known before: a capture that comes after this one tells it.
	told []func() bool
}

// followJournal asks until ctx ends.
func (s *station) followJournal(ctx context.Context, r *ring.Ring) {
	tick := time.NewTicker(journalEvery)
	defer tick.Stop()
	for {
		s.askJournal(ctx, r)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// askJournal asks once. A crypto that is away, or of before, answers nothing: what
// is known stays so.
func (s *station) askJournal(ctx context.Context, r *ring.Ring) {
	status, err := r.Status() // before the question: what is durable now is in the answer's journal
	if err != nil {
		return
	}
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, journalWait)
	defer cancel()
	answer, err := s.crypto.GetJournal(ctx, &cryptov1.GetJournalRequest{})
	if err != nil || answer.GetMadeAt() == nil {
		s.log.Debug("crypto does not say where the journal stands", obs.KeyErr, fault.FromStatus(err))
		return
	}
	j := &s.journey
	for _, l := range j.transit.Heard(status.Epoch, status.Durable, asked, transit.Answer{
		Made: answer.GetMadeAt().AsTime().Truncate(time.Microsecond), First: answer.GetFirst(), Last: answer.GetLast(),
	}) {
		s.log.Error("NATS has lost the journal; what it had acknowledged and Kinesis does not have is lost, at most these numbers: weir verify says which",
			obs.KeyEpoch, l.Epoch, "first", l.First, "last", l.Last)
		j.told = append(j.told, s.teller.JournalLost(l.Epoch, l.First, l.Last, l.From, l.To))
	}
	for len(j.told) > 0 && j.told[0]() {
		j.told = j.told[1:]
	}
	if len(j.told) > 0 {
		return
	}
	k := j.transit.Known(status.Epoch)
	known := &controlv1.KnownJournal{MadeUs: k.Made.UnixMicro(), Delivered: k.Delivered}
	if !k.DeliveredAt.IsZero() {
		known.DeliveredUs = k.DeliveredAt.UnixMicro()
	}
	if err := s.keep(r, nil, known); err != nil {
		s.log.Debug("writing into the ring what is known of the journal", obs.KeyErr, err) // supervise says why
	}
}

// resumeJournal goes on with what a capture before this one knew.
func (s *station) resumeJournal(epoch uint64, known *controlv1.KnownJournal) {
	s.mu.Lock()
	s.known = known
	s.mu.Unlock()
	if known.GetMadeUs() == 0 {
		return
	}
	k := transit.Known{Made: time.UnixMicro(known.GetMadeUs()), Delivered: known.GetDelivered()}
	if us := known.GetDeliveredUs(); us != 0 {
		k.DeliveredAt = time.UnixMicro(us)
	}
	s.journey.transit.Resume(epoch, k)
}

// keep writes into the ring's settings what is wanted and what is known of the
// journal; nil leaves either as it was.
func (s *station) keep(r *ring.Ring, desired *controlv1.Desired, known *controlv1.KnownJournal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if desired != nil {
		s.wanted = desired
	}
	if known != nil {
		s.known = known
	}
	settings, err := link.Encode(s.wanted, s.known)
	if err != nil || string(settings) == s.kept || s.wanted == nil {
		return err
	}
	if err := r.SetSettings(settings); err != nil {
		return err
	}
	s.kept = string(settings)
	return nil
}
