package notice

import (
	"fmt"
	"time"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

const (
	// attachWait is how long what the spool lost waits for a ring, to be told with
	// its losses if it is of the same epoch.
	attachWait = 2 * time.Second
	// maxSpooled bounds what waits so. The stream tells what is beyond it.
	maxSpooled = 64
)

// spooled is what the spool lost before any ring was there.
type spooled struct {
	epoch, first, last uint64
	from, found        time.Time
}

// SpoolLost tells that the numbers first to last of an epoch were in the spool and
// will never be delivered. Those of the epoch that is read are told as its other
// losses, and counted when the journal has their gap.
func (t *Teller) SpoolLost(epoch, first, last uint64, from time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := spooled{epoch: epoch, first: first, last: last, from: from, found: time.Now()}
	switch {
	case t.epoch != 0:
		t.tellSpooled(s)
	case len(t.spooled) < maxSpooled:
		t.spooled = append(t.spooled, s)
	}
}

// tellSpooled tells it. Of an epoch that is over nothing more is counted, so its
// window is whole at once; who tells the same again tells the same window. It wants
// mu held, as all below.
func (t *Teller) tellSpooled(s spooled) {
	if s.epoch == t.epoch {
		if len(t.loss.spooled) < maxSpooled {
			t.loss.spooled = append(t.loss.spooled, s)
		}
		t.losing(s.epoch, s.first, s.last, s.from, notifierv1.Cause_CAUSE_REFUSED)
		return
	}
	w := t.window(s.epoch, notifierv1.Cause_CAUSE_REFUSED, fmt.Sprintf("%d-spool", s.first), s.from)
	w.First, w.Last, w.Count = s.first, s.last, s.last-s.first+1
	t.close(t.put(w), s.from)
}

// settleSpooled tells what waits for a ring, if there is one now, or none comes.
func (t *Teller) settleSpooled(now time.Time) {
	if t.epoch == 0 && (len(t.spooled) == 0 || now.Sub(t.spooled[0].found) < attachWait) {
		return
	}
	for _, s := range t.spooled {
		t.tellSpooled(s)
	}
	t.spooled = nil
}
