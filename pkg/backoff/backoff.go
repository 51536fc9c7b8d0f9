// Package backoff spaces retries: exponential growth to a ceiling, with full jitter.
//
// Full jitter (uniform between nothing and the current ceiling) spreads clients that failed together better than a fixed
// share of randomness does, and ends their queue sooner. Retry in one layer only: the client that owns the window.
//
// Before: pkg/fault, which says whether to retry. Next: the pipelines that do.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// What a zero Min or Max means.
const (
	defaultMin = 50 * time.Millisecond
	defaultMax = 5 * time.Second
)

// Backoff is the state of one retry loop. The zero value is ready to use; it is not safe for concurrent use.
type Backoff struct {
	Min time.Duration // ceiling of the first wait; 50 ms if zero
	Max time.Duration // ceiling of every wait; 5 s if zero

	ceiling time.Duration // of the next wait; 0 after a Reset
}

// Next returns how long to wait before the next try, and doubles the ceiling of the one after it.
func (b *Backoff) Next() time.Duration {
	low, high := b.Min, b.Max
	if low <= 0 {
		low = defaultMin
	}
	if high <= 0 {
		high = max(low, defaultMax)
	}
	b.ceiling = min(max(b.ceiling, low), high)
	d := rand.N(b.ceiling) + 1
	if b.ceiling > high/2 {
		b.ceiling = high
	} else {
		b.ceiling *= 2
	}
	return d
}

// Reset starts again from Min: call it when a try has succeeded.
func (b *Backoff) Reset() { b.ceiling = 0 }

// Wait sleeps for Next. It returns ctx.Err() as soon as ctx ends, nil otherwise.
func (b *Backoff) Wait(ctx context.Context) error {
	t := time.NewTimer(b.Next())
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return ctx.Err()
	}
}
