package faults_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/faults"
)

// full says whether every fault is to happen, for as long as the suite promises:
// `make faults`. The short form is a few of them, and a storm.
func full() bool { return os.Getenv("WEIR_FAULTS") == "full" }

// seed is WEIR_FAULTS_SEED, or one that changes with every full run and never
// with a short one.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := uint64(1)
	if full() {
		s = uint64(time.Now().UnixNano())
	}
	if text := os.Getenv("WEIR_FAULTS_SEED"); text != "" {
		var err error
		if s, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("WEIR_FAULTS_SEED: %v", err)
		}
	}
	t.Logf("seed %d: WEIR_FAULTS_SEED=%d repeats this", s, s)
	return s
}

// Whatever breaks, alone or with others: nothing is lost untold, and weir verify
// says what the database itself recorded.
func TestFaults(t *testing.T) {
	if !full() {
		w := faults.Start(t, faults.Options{Mode: "async"})
		rnd := rand.New(rand.NewPCG(seed(t), 0))
		w.Storm(5, 500*time.Millisecond, rnd)
		w.Check()
		t.Run("tampering is named", func(t *testing.T) { tamperingIsNamed(t, w) })
		return
	}
	for _, mode := range []string{"async", "sync"} {
		t.Run(mode, func(t *testing.T) {
			s := seed(t)
			t.Run("one at a time", func(t *testing.T) {
				w := faults.Start(t, faults.Options{Mode: mode})
				for _, f := range faults.All() {
					if !t.Run(f.Name, func(t *testing.T) {
						w.In(t)
						w.Break(f, 10*time.Second, rand.New(rand.NewPCG(s, 1)))
						w.Check()
					}) {
						return // what comes after a broken mesh says nothing
					}
				}
			})
			for i := range uint64(5) {
				t.Run("storm "+strconv.FormatUint(i, 10), func(t *testing.T) {
					w := faults.Start(t, faults.Options{Mode: mode})
					w.Storm(20, 3*time.Second, rand.New(rand.NewPCG(s, 2+i)))
					w.Check()
					t.Run("tampering is named", func(t *testing.T) { tamperingIsNamed(t, w) })
				})
			}
		})
	}
}

// No part has any room left: the spool's disk is full, and crypto dead, or the
// journal's disk full too. What is lost then is told, exactly, and nothing else is.
func TestFullDisks(t *testing.T) {
	modes, some, hold := []string{"async", "sync"}, faults.Full(), 10*time.Second
	if !full() {
		modes, some, hold = modes[:1], some[1:], 0
	}
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			w := faults.Start(t, faults.Options{Mode: mode, Spool: true})
			for _, f := range some {
				if !t.Run(f.Name, func(t *testing.T) {
					w.In(t)
					w.Break(f, hold, nil)
					w.CheckLoss()
				}) {
					return // what comes after a broken mesh says nothing
				}
			}
		})
	}
}
