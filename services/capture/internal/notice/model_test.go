package notice_test

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/capture/internal/notice"
)

// gap is a loss as it truly was.
type gap struct {
	first, last uint64
	from, to    time.Time
	cause       string
}

// world is a ring, the capture that reads it, and the notifier that hears.
type world struct {
	t        *testing.T
	rng      *rand.Rand
	notifier *notifier

	epoch        uint64
	number, lost uint64 // of the ring's checkpoint
	gaps         []gap

	teller *notice.Teller
	stop   func()
}

// start starts a capture, which knows nothing but what lies in the ring.
func (w *world) start() {
	w.teller = notice.New(w.notifier, "orders", "db1", slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.teller.Run(ctx) }()
	w.stop = func() { cancel(); <-done }
	w.teller.Attached(w.epoch, w.number, w.lost)
}

// restart ends the capture and starts another. One that is killed tells nothing more.
func (w *world) restart(kill bool) {
	if kill {
		w.notifier.mu.Lock()
		away := w.notifier.away
		w.notifier.away = true
		w.notifier.mu.Unlock()
		w.stop()
		w.notifier.set(away, w.notifier.unkept)
	} else { // well: the notifier is there, though it may lose an answer
		w.notifier.set(false, false)
		lose := w.notifier.losing(func() bool { return false })
		w.stop()
		w.notifier.losing(lose)
	}
	rest(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
	w.start()
}

// lose loses some numbers. early is how long before they can be counted that is
// seen. In the end the checkpoint moves, and then the capture tells, unless it
// dies in between.
func (w *world) lose(early, died bool) {
	g := gap{first: w.number + 1 + w.rng.Uint64N(5), from: time.Now(), cause: []string{"ring_full", "torn", "corrupt", "refused"}[w.rng.IntN(4)]}
	rest(time.Duration(w.rng.IntN(1500)) * time.Millisecond)
	g.last, g.to = g.first+w.rng.Uint64N(20), time.Now()
	if early {
		w.teller.Losing(w.epoch, g.first, g.last, g.from, g.cause)
		rest(time.Duration(w.rng.IntN(9000)) * time.Millisecond)
	}
	w.number, w.lost = g.last, w.lost+g.last-g.first+1
	w.gaps = append(w.gaps, g)
	if died {
		w.restart(true)
		return
	}
	w.teller.Missing(w.epoch, g.first, g.last, g.last-g.first+1, g.from, g.to, g.cause)
	w.teller.Durable(w.epoch, w.number)
}

func (w *world) step(kills bool) {
	switch w.rng.IntN(12) {
	case 0, 1, 2, 3, 4:
		w.lose(w.rng.IntN(3) == 0, kills && w.rng.IntN(4) == 0)
	case 5:
		w.number += w.rng.Uint64N(100)
		w.teller.Durable(w.epoch, w.number)
	case 6, 7:
		rest(time.Duration(w.rng.IntN(12000)) * time.Millisecond)
	case 8:
		w.notifier.set(true, false)
	case 9:
		w.notifier.set(false, w.rng.IntN(2) == 0)
	case 10:
		w.notifier.set(false, false)
	case 11:
		w.restart(kills && w.rng.IntN(2) == 0)
	}
}

// Whatever happens, and in whichever order: every window that opens closes, once;
// the windows' counts are the ring's; every loss lies in the numbers and the time
// of exactly one window. Where no capture was killed their begins and ends are
// those of their first and last losses, to the microsecond.
func TestWindowsAreWhatWasLost(t *testing.T) {
	for name, kills := range map[string]bool{"captures end well": false, "captures are killed": true} {
		t.Run(name, func(t *testing.T) {
			first := uint64(time.Now().UnixNano())
			for seed := first; seed < first+150 && !t.Failed(); seed++ {
				synctest.Test(t, func(t *testing.T) {
					rng := rand.New(rand.NewPCG(seed, 3))
					w := &world{t: t, rng: rng, notifier: newNotifier(), epoch: uint64(time.Now().UnixMicro())}
					answers := rand.New(rand.NewPCG(seed, 4)) // another goroutine's
					w.notifier.losing(func() bool { return answers.IntN(5) == 0 })
					rest(time.Second)
					w.start()
					for range 40 {
						w.step(kills)
					}
					w.notifier.losing(func() bool { return false })
					w.notifier.set(false, false)
					rest(time.Minute)
					w.stop()
					w.check(kills)
					if t.Failed() {
						t.Logf("seed %d", seed)
					}
				})
			}
		})
	}
}

func (w *world) check(kills bool) {
	w.t.Helper()
	var all []*notifierv1.Window
	for id, win := range w.notifier.windows {
		if win.GetOpen() {
			w.t.Errorf("%s never closed", id)
		}
		if w.notifier.openings[id] != 1 {
			w.t.Errorf("%s opened %d times", id, w.notifier.openings[id])
		}
		all = append(all, win)
	}
	slices.SortFunc(all, func(a, b *notifierv1.Window) int { return cmp.Compare(a.GetLostBefore(), b.GetLostBefore()) })
	counted := uint64(0)
	for _, win := range all {
		if win.GetLostBefore() != counted || win.GetLowerBound() {
			w.t.Errorf("%s begins to count at %d, want %d, exactly", win.GetId(), win.GetLostBefore(), counted)
		}
		counted += win.GetCount()
	}
	if counted != w.lost {
		w.t.Errorf("the windows count %d, the ring %d", counted, w.lost)
	}
	rest := w.gaps
	for _, win := range all {
		var mine []gap
		for n := uint64(0); len(rest) > 0 && n < win.GetCount(); rest = rest[1:] {
			mine = append(mine, rest[0])
			n += rest[0].last - rest[0].first + 1
		}
		if len(mine) == 0 && kills && win.GetCount() == 0 {
			continue // opened before its loss was counted, by a capture of which the next could not hear in time
		}
		if len(mine) == 0 {
			w.t.Errorf("%s is about nothing", win.GetId())
			continue
		}
		a, z := mine[0], mine[len(mine)-1]
		begin, end := win.GetBegin().AsTime(), win.GetEnd().AsTime()
		if win.GetFirst() > a.first || win.GetLast() < z.last || begin.After(a.from) || end.Before(z.to) {
			w.t.Errorf("%s is %d to %d, %v to %v; its losses were %d to %d, %v to %v", win.GetId(), win.GetFirst(), win.GetLast(), begin, end, a.first, z.last, a.from, z.to)
		}
		if !kills && (win.GetFirst() != a.first || win.GetLast() != z.last || !begin.Equal(a.from) || !end.Equal(z.to)) {
			w.t.Errorf("%s is %d to %d, %v to %v; want exactly %d to %d, %v to %v", win.GetId(), win.GetFirst(), win.GetLast(), begin, end, a.first, z.last, a.from, z.to)
		}
		for i, g := range mine {
			if !kills && notice.CauseName(win.GetCause()) != g.cause {
				w.t.Errorf("%s is %v, its loss %d is %s", win.GetId(), win.GetCause(), i, g.cause)
			}
		}
	}
}
