// Package notice tells the notifier what becomes of the audit: that records are
// lost, or may be, that the engine or the ring is gone, that somebody tampers.
// A notifier that is away is told later, with the true times.
//
// The one idea: what has a begin and an end is a window, and losses are counted
// by the ring, not by this process. One window of loss is open at a time, and
// its count is the epoch's total less what the total was when it opened. Both
// lie where a crash does not reach: the total beside the ring's tail, the rest
// with the notifier. So a capture that comes back asks which windows are open,
// goes on with them, and if the ring counted more than anybody was told, tells
// that too.
//
// Nothing here is on the path of an event: to tell is to change a few words under
// a lock. What waits is bounded, and merged before it is dropped.
//
// Before: the station and the pipeline, which see it.
// Next: services/notifier, which keeps and delivers it.
package notice

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

const (
	// quiet is how long nothing may have been lost before a window closes. What
	// is lost again sooner belongs to the same window.
	quiet = 5 * time.Second
	// maxLength is when a window of a loss that does not end is closed and
	// followed by another, so that its count is told.
	maxLength = time.Hour
)

// Teller delivers what it is told. Make it with New, then Run it. All methods
// return at once and may be called by several goroutines.
type Teller struct {
	notifier   notifierv1.NotifierServiceClient
	clusterID  string
	instanceID string
	log        *slog.Logger
	wake       chan struct{} // of size 1: there is something to send

	// mu guards all below. Never held across a call.
	mu     sync.Mutex
	outbox outbox

	epoch      uint64 // the one that is read; 0 before the first
	attached   time.Time
	loss       account
	unnumbered unnumbered
	spooled    []spooled
	absences   map[notifierv1.Cause]*absence
	notices    map[string]*item // the notices that have not been sent, by what they say
	heir       heir
}

// New returns a teller for one instance of a cluster.
func New(notifier notifierv1.NotifierServiceClient, clusterID, instanceID string, log *slog.Logger) *Teller {
	return &Teller{
		notifier: notifier, clusterID: clusterID, instanceID: instanceID, log: log,
		wake:     make(chan struct{}, 1),
		absences: make(map[notifierv1.Cause]*absence),
		notices:  make(map[string]*item),
		heir:     heir{own: make(map[string]bool)},
	}
}

// Attached tells which epoch is read from now on, from which number, and how
// many of the numbers before it the ring counts as lost. What was told of
// another epoch's losses is over.
func (t *Teller) Attached(epoch, number, lost uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.isBack(notifierv1.Cause_CAUSE_RING_UNREADABLE, now)
	if epoch == t.epoch {
		return
	}
	t.abandon(now)
	t.spooled = append(t.spooled, t.loss.spooled...) // nobody counts it any more
	t.epoch, t.attached = epoch, now
	t.loss = account{total: lost, durable: number}
	t.forgetUnnumbered(epoch)
	t.heir.number, t.heir.lost = number, lost
	t.inherit()
	t.settleSpooled(now)
}

// abandon ends what was told of an epoch of which nothing more will be read.
func (t *Teller) abandon(now time.Time) {
	if it := t.loss.open; it != nil {
		it.window.LowerBound = t.loss.uncounted()
		t.close(it, it.window.GetEnd().AsTime())
		t.loss.open = nil
	}
	if a := t.absences[notifierv1.Cause_CAUSE_RELEASED]; a != nil {
		a.item.window.LowerBound = true
		t.closeAbsence(notifierv1.Cause_CAUSE_RELEASED, now)
	}
}

// window returns a new window that is open. what names it among those of its
// epoch and cause.
func (t *Teller) window(epoch uint64, cause notifierv1.Cause, what string, begin time.Time) *notifierv1.Window {
	return &notifierv1.Window{
		Id:        fmt.Sprintf("%s/%d/%s/%s", t.instanceID, epoch, CauseName(cause), what),
		ClusterId: t.clusterID, InstanceId: t.instanceID, Epoch: epoch, Cause: cause,
		Begin: timestamppb.New(begin), End: timestamppb.New(begin), Open: true,
	}
}

// ring wakes Run.
func (t *Teller) ring() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Run delivers until ctx ends, and then tries for a moment what is left: windows
// in which nothing happens any more close, the others are left to the next capture.
func (t *Teller) Run(ctx context.Context) error {
	tick := time.NewTicker(quiet / 10)
	defer tick.Stop()
	s := sender{teller: t}
	for {
		s.deliver(ctx)
		select {
		case <-ctx.Done():
			t.closeWhatIsOver(time.Now().Add(quiet))
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWait)
			defer cancel()
			s.deliverLast(last)
			return nil
		case <-t.wake:
		case <-tick.C:
			t.closeWhatIsOver(time.Now())
		}
	}
}

// closeWhatIsOver closes the windows in which nothing has happened for a while.
func (t *Teller) closeWhatIsOver(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settle(now)
	t.settleUnnumbered(now)
	t.settleSpooled(now)
	for cause, a := range t.absences {
		if !a.back.IsZero() && now.Sub(a.back) >= quiet {
			t.closeAbsence(cause, a.back)
		}
	}
}
