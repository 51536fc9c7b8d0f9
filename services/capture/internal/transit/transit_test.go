package transit_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weir-das/weir/services/capture/internal/transit"
)

var (
	began  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	first  = transit.Answer{Made: began, First: 1}
	second = began.Add(time.Hour)
)

const epoch = 1_767_323_045_000_000

func at(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }

func answer(made time.Time, oldest, last uint64) transit.Answer {
	return transit.Answer{Made: made, First: oldest, Last: last}
}

// want holds losses against what they should be.
func want(t *testing.T, got []transit.Loss, all ...transit.Loss) {
	t.Helper()
	if len(got) != len(all) {
		t.Fatalf("losses %v, want %v", got, all)
	}
	for i, l := range got {
		if l != all[i] {
			t.Errorf("loss %+v, want %+v", l, all[i])
		}
	}
}

func TestWhatWasOnItsWayIsLost(t *testing.T) {
	var tr transit.Transit
	want(t, tr.Heard(epoch, 0, at(0), first))
	want(t, tr.Heard(epoch, 100, at(1), answer(began, 1, 10))) // up to 100 in ten records, none of them delivered
	want(t, tr.Heard(epoch, 150, at(2), answer(began, 11, 15)))
	if k := tr.Known(epoch); k.Delivered != 100 || !k.DeliveredAt.Equal(at(1)) || !k.Made.Equal(began) {
		t.Errorf("known %+v, want that all up to 100 has left", k)
	}
	want(t, tr.Heard(epoch, 180, at(3), answer(second, 1, 0)), transit.Loss{Epoch: epoch, First: 101, Last: 180, From: at(1), To: at(3)})
	// It is told once, and the next journal is followed like the first.
	want(t, tr.Heard(epoch, 180, at(4), answer(second, 1, 0)))
	want(t, tr.Heard(epoch, 200, at(5), answer(second, 1, 3)))
	want(t, tr.Heard(epoch, 200, at(6), answer(second, 4, 3)))
	want(t, tr.Heard(epoch, 200, at(7), answer(second.Add(time.Hour), 1, 0)))
}

func TestNothingWasOnItsWay(t *testing.T) {
	var tr transit.Transit
	want(t, tr.Heard(epoch, 100, at(1), answer(began, 11, 10)))
	want(t, tr.Heard(epoch, 100, at(2), answer(second, 1, 0)))
}

// The end of an epoch may be on its way when the next has begun.
func TestOfTwoEpochs(t *testing.T) {
	var tr transit.Transit
	next := uint64(at(100).UnixMicro())
	want(t, tr.Heard(epoch, 100, at(1), answer(began, 1, 10)))
	want(t, tr.Heard(next, 5, at(101), answer(began, 8, 12)))
	want(t, tr.Heard(next, 7, at(102), answer(second, 1, 0)),
		transit.Loss{Epoch: epoch, First: 1, Last: 100, From: time.UnixMicro(epoch), To: at(102)},
		transit.Loss{Epoch: next, First: 1, Last: 7, From: time.UnixMicro(int64(next)), To: at(102)})
}

// A capture that comes after the loss knows it by what the one before it kept.
func TestResume(t *testing.T) {
	var before, after transit.Transit
	before.Heard(epoch, 100, at(1), answer(began, 11, 10))
	after.Resume(epoch, before.Known(epoch))
	want(t, after.Heard(epoch, 130, at(9), answer(second, 1, 0)), transit.Loss{Epoch: epoch, First: 101, Last: 130, From: at(1), To: at(9)})
	var fresh transit.Transit
	fresh.Resume(epoch, transit.Known{}) // a capture of before, or a new ring
	want(t, fresh.Heard(epoch, 130, at(9), answer(second, 1, 0)))
}

// Whatever the journal loses is within what is told, whoever asks when, however
// long Kinesis takes nothing; and what has left it is not.
func TestBounds(t *testing.T) {
	seed := rand.Uint64()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 50 {
		var tr transit.Transit
		tr.Heard(epoch, 0, at(0), first)
		var durable, delivered uint64 // in numbers; a record has one
		made, base := began, uint64(0)
		sure := uint64(0) // all up to it had left the journal at the last question
		for i := range 2000 {
			durable += rng.Uint64N(5)
			if rng.IntN(3) == 0 && i%700 > 300 {
				delivered += rng.Uint64N(durable - delivered + 1)
			}
			if rng.IntN(500) == 0 {
				inIt := delivered // the numbers beyond are lost
				made, base = made.Add(time.Hour), durable
				losses := tr.Heard(epoch, durable, at(i), answer(made, 1, 0))
				if inIt < durable && (len(losses) != 1 || losses[0].First > inIt+1 || losses[0].Last != durable) {
					t.Fatalf("numbers %d to %d are lost, told: %v", inIt+1, durable, losses)
				}
				if len(losses) == 1 && losses[0].First <= sure {
					t.Fatalf("number %d is told, all up to %d has left", losses[0].First, sure)
				}
				delivered, sure = durable, durable
				continue
			}
			if rng.IntN(4) == 0 {
				tr.Heard(epoch, durable, at(i), answer(made, delivered-base+1, durable-base))
				if delivered == durable {
					sure = durable
				}
			}
		}
	}
}
