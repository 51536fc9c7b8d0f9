package pipeline

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-das/weir/pkg/obs"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// usualTimeout is how long a record may take where nobody said.
const usualTimeout = 5 * time.Second

// Witness hears of loss, and of possible loss: sessions told their clients of
// something before the record of it was durable. Its methods return at once.
type Witness interface {
	// Losing tells that the numbers first to through are lost, which is not on
	// the journal's disk yet.
	Losing(epoch, first, through uint64, from time.Time, cause string)
	// Missing tells that it is now, and that the ring's own count has it: count of
	// the numbers first to last have no record.
	Missing(epoch, first, last, count uint64, from, to time.Time, cause string)
	// Durable tells that all up to number is, and every loss up to it told.
	Durable(epoch, number uint64)
	// Degraded tells that it began. released counts the sessions that were let go
	// so in this epoch, before the first of these; while it lasts it is called
	// again, with those that have been let go since.
	Degraded(epoch uint64, from time.Time, released uint64)
	// Restored tells that whatever they did is durable by now, or told as lost,
	// and that sessions wait again. It is also called where nothing began: who
	// was told of it may have been told by a capture that died.
	Restored(epoch uint64, at time.Time, released uint64)
}

// health says to sessions whether what is recorded becomes durable in time, and
// to the witness what they did when it did not.
//
// A session that has waited for the time-out turns the path, so that the others
// do not wait as long in vain; so does health, which sees it though nobody waits.
// Health alone turns it back: when nothing is late any more and the journal has
// acknowledged something, which a path that is merely idle does not show.
type health struct {
	ring    *ring.Ring
	epoch   uint64
	witness Witness
	log     *slog.Logger

	acknowledged bool // something was, by this pipeline

	path    ring.Path // as it was seen last
	sync    bool
	open    bool // the witness was told that it began
	from    time.Time
	told    uint64 // sessions let go, of which the witness knows
	checked time.Time
}

// checkEvery is how often the sessions' own counts are looked at: the path is at
// every turn, for a word in the ring costs nothing.
const checkEvery = 50 * time.Millisecond

func newHealth(cfg Config) health {
	h := health{ring: cfg.Ring, epoch: cfg.Ring.Epoch(), witness: cfg.Witness, log: cfg.Log}
	// What was let go in the past and is durable by now is over; of the rest, one
	// at least is not told. A ring that cannot be read ends the pipeline soon.
	if s, err := cfg.Ring.Status(); err == nil {
		if h.told = s.Released; s.ReleasedThrough > s.Durable && s.Released > 0 {
			h.told--
		}
	}
	return h
}

// look compares how long the oldest has waited with how long it may. since is
// zero when nothing waits.
func (h *health) look(now, since time.Time, wanted *controlv1.Desired) error {
	path, err := h.ring.Path()
	if err != nil {
		return err
	}
	timeout := usualTimeout
	if d := wanted.GetSyncTimeout(); d != nil {
		timeout = d.AsDuration()
	}
	var age time.Duration
	if !since.IsZero() {
		age = now.Sub(since)
	}
	switch {
	case path != ring.PathDegraded && age > timeout:
		path = ring.PathDegraded
		err = h.ring.SetHealthy(false)
	// Half the time-out, so that a path at the very limit does not flap.
	case path != ring.PathHealthy && age <= timeout/2 && h.acknowledged:
		path = ring.PathHealthy
		err = h.ring.SetHealthy(true)
	}
	if err != nil {
		return fmt.Errorf("telling sessions of the path: %w", err)
	}
	sync := wanted.GetRecording() && wanted.GetMode() == controlv1.StreamMode_STREAM_MODE_SYNC
	turned := path != h.path || sync != h.sync
	if turned && sync {
		h.say(path, timeout, wanted.GetOnFailure())
	}
	h.path, h.sync = path, sync
	if turned || now.Sub(h.checked) >= checkEvery {
		h.checked = now
		return h.account(now, wanted, turned)
	}
	return nil
}

// say logs a change of the path while sessions depend on it.
func (h *health) say(path ring.Path, timeout time.Duration, policy controlv1.FailurePolicy) {
	switch {
	case path == ring.PathDegraded && policy == controlv1.FailurePolicy_FAILURE_POLICY_FAIL_OPERATION:
		h.log.Warn("records do not become durable in time: statements are refused", "timeout", timeout, obs.KeyEpoch, h.epoch)
	case path == ring.PathDegraded:
		h.log.Warn("records do not become durable in time: sessions go on without waiting", "timeout", timeout, obs.KeyEpoch, h.epoch)
	case path == ring.PathHealthy && h.path == ring.PathDegraded:
		h.log.Info("records become durable in time again: sessions wait for them", obs.KeyEpoch, h.epoch)
	}
}

// account tells the witness. A session may be let go on a path that is well, by
// a cancel; that is told too. turned says that the path or the mode is another.
func (h *health) account(now time.Time, wanted *controlv1.Desired, turned bool) error {
	s, err := h.ring.Status()
	if err != nil {
		return err
	}
	if !h.sync && !h.open {
		// Who stops waiting because nobody is to wait any more is not let go.
		h.told = s.Released
	}
	lets := h.sync && h.path == ring.PathDegraded && wanted.GetOnFailure() != controlv1.FailurePolicy_FAILURE_POLICY_FAIL_OPERATION
	if !h.open && (lets || s.Released != h.told) {
		h.open, h.from = true, now
		if s.Released != h.told && s.ReleasedAt.Before(now) {
			h.from = s.ReleasedAt
		}
		h.log.Warn("possible loss began: sessions are let go before their records are durable",
			obs.KeyEpoch, h.epoch, "from", h.from, "released", s.Released)
		h.witness.Degraded(h.epoch, h.from, h.told)
	}
	if h.open && s.Released != h.told {
		h.witness.Degraded(h.epoch, h.from, s.Released)
	}
	h.told = s.Released
	switch {
	case h.open && !lets && s.Durable >= s.ReleasedThrough:
		h.open = false
		h.log.Info("possible loss is over: what they did is durable", obs.KeyEpoch, h.epoch, "released", s.Released)
		h.witness.Restored(h.epoch, now, s.Released)
	case turned && !h.open && h.path == ring.PathHealthy:
		h.witness.Restored(h.epoch, now, s.Released)
	}
	return nil
}
