package backoff_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-das/weir/pkg/backoff"
)

func TestCeilingDoublesUpToMax(t *testing.T) {
	const low, high = 10 * time.Millisecond, 75 * time.Millisecond
	ceilings := []time.Duration{10, 20, 40, 75, 75, 75}
	largest := make([]time.Duration, len(ceilings))
	for range 2000 {
		b := backoff.Backoff{Min: low, Max: high}
		for i := range ceilings {
			largest[i] = max(largest[i], b.Next())
		}
	}
	// 2,000 draws leave a chance of 0.9^2000 that none comes within a tenth of its ceiling.
	for i, c := range ceilings {
		c *= time.Millisecond
		if largest[i] > c || largest[i] < c*9/10 {
			t.Errorf("wait %d: largest of 2000 = %v, want just under %v", i+1, largest[i], c)
		}
	}
}

func TestNextStaysInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := backoff.Backoff{
			Min: time.Duration(rapid.Int64Range(-5, math.MaxInt64).Draw(t, "min")),
			Max: time.Duration(rapid.Int64Range(-5, math.MaxInt64).Draw(t, "max")),
		}
		bound := b.Max
		if bound <= 0 {
			bound = max(b.Min, 5*time.Second)
		}
		for i := range 80 {
			if rapid.IntRange(0, 9).Draw(t, "reset") == 0 {
				b.Reset()
			}
			if d := b.Next(); d <= 0 || d > bound {
				t.Fatalf("%+v: wait %d = %v, want in (0, %v]", b, i, d, bound)
			}
		}
	})
}

func TestResetStartsAgain(t *testing.T) {
	b := backoff.Backoff{Min: time.Millisecond, Max: time.Hour}
	for range 40 {
		b.Next()
	}
	b.Reset()
	if d := b.Next(); d > time.Millisecond {
		t.Errorf("Next after Reset = %v, want at most 1ms", d)
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backoff.Backoff{Min: time.Hour, Max: time.Hour}
		start := time.Now()
		if err := b.Wait(t.Context()); err != nil {
			t.Errorf("Wait = %v", err)
		}
		if d := time.Since(start); d <= 0 || d > time.Hour {
			t.Errorf("Wait took %v, want in (0, 1h]", d)
		}

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start = time.Now()
		if err := b.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait(cancelled) = %v, want context.Canceled", err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("Wait(cancelled) took %v, want none", d)
		}
	})
}
