package notice_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/capture/internal/notice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run starts a teller that hears to n; stop ends it well.
func run(n *notifier) (t *notice.Teller, stop func()) {
	t = notice.New(n, "orders", "db1", slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = t.Run(ctx) }()
	return t, func() { cancel(); <-done }
}

// only returns the window of that cause.
func (n *notifier) only(t *testing.T, cause notifierv1.Cause) *notifierv1.Window {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	var found *notifierv1.Window
	for _, w := range n.windows {
		if w.GetCause() == cause {
			if found != nil {
				t.Fatalf("two windows: %v and %v, want one", found, w)
			}
			found = w
		}
	}
	if found == nil {
		t.Fatalf("no window of %v in %v", cause, n.windows)
	}
	return found
}

// A server that crashes again and again is gone once, until it stays.
func TestAnEngineThatComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNotifier()
		teller, stop := run(n)
		defer stop()
		teller.Attached(7, 0, 0)
		gone := time.Now()
		var back time.Time
		for starts := range uint64(4) {
			teller.Lost(7, starts, "crashed")
			rest(time.Second)
			back = time.Now()
			teller.Returned(7, starts+1, "")
			rest(3 * time.Second)
			if w := n.only(t, notifierv1.Cause_CAUSE_ENGINE_GONE); !w.GetOpen() {
				t.Errorf("closed %v after it was back", time.Since(back))
			}
		}
		rest(10 * time.Second)
		w := n.only(t, notifierv1.Cause_CAUSE_ENGINE_GONE)
		if w.GetOpen() || !w.GetBegin().AsTime().Equal(gone) || !w.GetEnd().AsTime().Equal(back) || !w.GetLowerBound() {
			t.Errorf("window = %v, want it from %v to %v, of a count that is not known", w, gone, back)
		}
	})
}

// A capture that comes to a server that is back closes what the one before
// opened; to one that is gone still, it goes on with it.
func TestTheNextCaptureGoesOn(t *testing.T) {
	for name, still := range map[string]bool{"back": false, "gone still": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNotifier()
				teller, stop := run(n)
				teller.Attached(7, 0, 0)
				teller.Lost(7, 3, "gone")
				rest(time.Second)
				stop()
				teller, stop = run(n)
				defer stop()
				teller.Attached(7, 0, 0)
				if still {
					teller.Lost(7, 3, "gone")
				}
				rest(time.Minute)
				if w := n.only(t, notifierv1.Cause_CAUSE_ENGINE_GONE); w.GetOpen() != still {
					t.Errorf("window = %v, want open %v", w, still)
				}
			})
		})
	}
}

func TestPossibleLossIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNotifier()
		teller, stop := run(n)
		defer stop()
		teller.Attached(7, 0, 0)
		teller.Restored(7, time.Now(), 10) // of nothing
		from := time.Now()
		teller.Degraded(7, from, 10)
		rest(time.Minute)
		teller.Degraded(7, from, 14)
		rest(time.Minute)
		teller.Restored(7, time.Now(), 17)
		end := time.Now()
		rest(time.Minute)
		w := n.only(t, notifierv1.Cause_CAUSE_RELEASED)
		if w.GetOpen() || w.GetCount() != 7 || !w.GetBegin().AsTime().Equal(from) || !w.GetEnd().AsTime().Equal(end) || w.GetLowerBound() {
			t.Errorf("window = %v, want 7 let go, from %v to %v", w, from, end)
		}
	})
}

// Events without a number are told by the ring's own count, once, whoever
// counted before: windows that follow each other add up to it.
func TestEventsWithoutANumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNotifier()
		look := func(teller *notice.Teller, total uint64, seconds int) {
			for range seconds {
				teller.Unnumbered(7, total, time.Now())
				rest(time.Second)
			}
		}
		teller, stop := run(n)
		teller.Attached(7, 0, 0)
		look(teller, 0, 10)
		before := time.Now().Add(-time.Second)
		look(teller, 3, 3)
		look(teller, 5, 3)
		first := n.only(t, notifierv1.Cause_CAUSE_UNNUMBERED)
		if !first.GetOpen() || !first.GetBegin().AsTime().Equal(before) {
			t.Errorf("window = %v, want it open since %v", first, before)
		}
		stop()
		teller, stop = run(n) // the next capture finds more
		teller.Attached(7, 0, 0)
		look(teller, 9, 20)
		stop()
		teller, stop = run(n) // and the one after it nothing new
		defer stop()
		teller.Attached(7, 0, 0)
		look(teller, 9, 20)
		teller.Attached(8, 0, 0)
		look(teller, 11, 20) // of the epoch that is over
		n.mu.Lock()
		defer n.mu.Unlock()
		sum := uint64(0)
		for id, w := range n.windows {
			if w.GetOpen() || w.GetFirst() != 0 || w.GetLowerBound() || w.GetCause() != notifierv1.Cause_CAUSE_UNNUMBERED || w.GetEpoch() != 7 {
				t.Errorf("window %s = %v, want it closed, exact and without numbers", id, w)
			}
			sum += w.GetCount()
		}
		if sum != 9 || len(n.windows) != 2 {
			t.Errorf("%d windows count %d, want two that count 9", len(n.windows), sum)
		}
	})
}

// An epoch that was read to its end is an event; what was not is lost, at least.
func TestTheEndOfAnEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNotifier()
		teller, stop := run(n)
		defer stop()
		seen := time.Now()
		rest(time.Second)
		teller.EpochEnded(notice.EpochEnd{Epoch: 5, Number: 30, Durable: 30, LastSeen: seen, Ended: time.Now()})
		teller.EpochEnded(notice.EpochEnd{Epoch: 6, Number: 40, Durable: 25, LowerBound: true, LastSeen: seen, Ended: time.Now()})
		teller.Attached(7, 0, 0)
		rest(time.Minute)
		w := n.only(t, notifierv1.Cause_CAUSE_RING_GONE)
		if w.GetOpen() || w.GetEpoch() != 6 || w.GetFirst() != 26 || w.GetLast() != 40 || w.GetCount() != 15 || !w.GetLowerBound() || !w.GetBegin().AsTime().Equal(seen) {
			t.Errorf("window = %v, want 26 to 40 of epoch 6, at least", w)
		}
		for epoch, last := range map[uint64]uint64{5: 30, 6: 40} {
			e := n.events[fmt.Sprintf("db1/%d/ended", epoch)]
			if e.GetKind() != notifierv1.EventKind_EVENT_KIND_EPOCH_ENDED || e.GetEpochEnd().GetLast() != last || e.GetEpochEnd().GetLowerBound() != (epoch == 6) {
				t.Errorf("end of epoch %d = %v", epoch, e)
			}
		}
	})
}

// What a spool lost is told at once: of the epoch that is read as its other losses,
// open until it is counted; of another, or with no ring to read, as a whole.
func TestWhatTheSpoolLost(t *testing.T) {
	for name, c := range map[string]struct{ attached, before, open bool }{
		"before the ring": {true, true, true}, "of the epoch that is read": {true, false, true}, "no ring": {false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNotifier()
				teller, stop := run(n)
				defer stop()
				at := time.Now()
				lost := func() {
					teller.SpoolLost(7, 11, 20, at)
					teller.SpoolLost(6, 30, 39, at)
				}
				if c.before {
					lost()
					rest(time.Second)
				}
				if c.attached {
					teller.Attached(7, 50, 0) // the ring has forgotten them: they were stored
				}
				if !c.before {
					lost()
				}
				rest(4 * time.Second)
				n.mu.Lock()
				defer n.mu.Unlock()
				for id, w := range n.windows {
					open := c.open && w.GetEpoch() == 7
					if w.GetOpen() != open || !open && (w.GetCount() != 10 || w.GetLast() != w.GetFirst()+9) || !w.GetBegin().AsTime().Equal(at) || w.GetCause() != notifierv1.Cause_CAUSE_REFUSED {
						t.Errorf("%s = %v", id, w)
					}
				}
				if len(n.windows) != 2 {
					t.Errorf("%d windows, want one for each epoch", len(n.windows))
				}
			})
		})
	}
}

// Another ring is there before the journal has the gap of what the spool lost: then
// nobody counts it with the losses of its epoch.
func TestWhatTheSpoolLostOutlivesItsRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNotifier()
		teller, stop := run(n)
		defer stop()
		teller.Attached(7, 50, 0)
		teller.SpoolLost(7, 11, 20, time.Now())
		teller.SpoolLost(7, 31, 40, time.Now())
		rest(time.Second)
		teller.Missing(7, 11, 20, 10, time.Now(), time.Now(), "refused")
		teller.Durable(7, 20)
		teller.Attached(8, 0, 0)
		rest(time.Minute)
		sum := uint64(0)
		for id, w := range n.windows {
			if w.GetOpen() || w.GetEpoch() != 7 {
				t.Errorf("%s = %v, want it closed", id, w)
			}
			sum += w.GetCount()
		}
		if sum != 20 || len(n.windows) != 2 {
			t.Errorf("%d windows count %d, want two that count 20: %v", len(n.windows), sum, n.windows)
		}
	})
}

// What the spool lost of the epoch that is read is counted once, and its window
// does not close before that, however long it takes.
func TestWhatTheSpoolLostIsCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNotifier()
		teller, stop := run(n)
		defer stop()
		teller.Attached(7, 50, 3)
		at := time.Now()
		teller.SpoolLost(7, 11, 20, at)
		rest(time.Minute)
		teller.SpoolLost(7, 11, 20, at) // read again
		teller.Durable(7, 15)
		rest(time.Minute)
		if w := n.only(t, notifierv1.Cause_CAUSE_REFUSED); !w.GetOpen() {
			t.Errorf("window = %v, want it open until it is counted", w)
		}
		teller.Missing(7, 11, 20, 10, time.Now(), time.Now(), "refused")
		teller.Durable(7, 20)
		rest(time.Minute)
		if w := n.only(t, notifierv1.Cause_CAUSE_REFUSED); w.GetOpen() || w.GetCount() != 10 || !w.GetBegin().AsTime().Equal(at) || w.GetLowerBound() {
			t.Errorf("window = %v, want it closed, of 10, since %v", w, at)
		}
	})
}

// A session that does the same a thousand times is told of now and then, with
// how often, and pushes out nothing.
func TestNoticesThatRepeatAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNotifier()
		n.away = true
		teller, stop := run(n)
		defer stop()
		teller.Attached(7, 0, 0)
		at := time.Now()
		teller.Notice(7, 1, "setting", "weir.mode", at)
		for i := range uint64(10_000) {
			teller.Notice(7, 2+i, "load", "evil.so", at)
		}
		n.set(false, false)
		rest(30 * time.Second)
		first, second := n.events["db1/7/notice/1"], n.events["db1/7/notice/2"]
		if len(n.events) != 2 || first.GetDetail() != "setting: weir.mode" || second.GetDetail() != "load: evil.so (and 9999 more times)" || !second.GetOccurredAt().AsTime().Equal(at) || second.GetNumber() != 2 {
			t.Errorf("events = %v, want one of each", n.events)
		}
	})
}

// While the notifier is away for long, losses are told together, none is forgotten.
func TestWhatWaitsIsBoundedAndExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNotifier()
		teller, stop := run(n)
		defer stop()
		teller.Attached(7, 0, 0)
		rest(time.Second)
		n.set(true, false)
		number := uint64(0)
		begun := time.Now()
		for range 3000 {
			number += 2
			teller.Missing(7, number, number, 1, time.Now(), time.Now(), "torn")
			teller.Durable(7, number)
			rest(10 * time.Second)
		}
		n.set(false, false)
		rest(time.Minute)
		sum, earliest := uint64(0), time.Now()
		for id, w := range n.windows {
			if w.GetOpen() || !strings.HasPrefix(id, "db1/7/torn/") {
				t.Errorf("window = %v, want it closed", w)
			}
			sum += w.GetCount()
			if b := w.GetBegin().AsTime(); b.Before(earliest) {
				earliest = b
			}
		}
		if sum != 3000 || len(n.windows) > 512 || !earliest.Equal(begun) {
			t.Errorf("%d windows count %d from %v, want at most 512 that count 3000 from %v", len(n.windows), sum, earliest, begun)
		}
	})
}

// What is told while the notifier cannot record it is told again until it can.
func TestUnrecordedIsToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNotifier()
		n.unkept = true
		teller, stop := run(n)
		defer stop()
		teller.Attached(7, 0, 0)
		teller.Notice(7, 1, "load", "a.so", time.Now())
		teller.Lost(7, 1, "gone")
		rest(time.Minute)
		if n.heard < 10 || len(n.events)+len(n.windows) != 0 {
			t.Errorf("heard %d times, want it told again and again, both of them", n.heard)
		}
		n.set(false, false)
		rest(10 * time.Second)
		if len(n.events) != 1 || len(n.windows) != 1 {
			t.Errorf("events %v, windows %v, want one each", n.events, n.windows)
		}
	})
}
