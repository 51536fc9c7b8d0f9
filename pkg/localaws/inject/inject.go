// Package inject is how a test makes a local service of AWS misbehave: faults laid down beforehand, drawn from a seed,
// counted.
//
// Before: a test, through a service's Fail or (*kinesis.Service).FailPut. Next: pkg/localaws asks it about every call.
package inject

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A Fault is one kind of misbehaviour. The zero value refuses every call with InternalFailure, for ever.
type Fault struct {
	// Operations it befalls ("PutRecords"); empty means all of the service's.
	Operations []string
	// After is how many calls are let through first: 2 fails the third.
	After int
	// Times is how many calls it then befalls; 0 means all until it is removed.
	Times int
	// Fraction, when above 0, fails single records of a PutRecords instead of the whole call, each with this probability
	// (1: all). Operations without records fail whole with this probability.
	Fraction float64
	// Seed makes Fraction's draws repeatable.
	Seed uint64
	// Code is AWS's error type: "InternalFailure" when empty, "ProvisionedThroughputExceededException",
	// "AccessDeniedException", …
	Code string
	// Message replaces a general text.
	Message string
	// Delay is waited for before the call is answered, failed or not.
	Delay time.Duration
	// DelayOnly lets the call go on after Delay.
	DelayOnly bool
	// Lost carries the call out and fails it all the same: what a client sees whose answer was lost on the way. It must
	// expect duplicates.
	Lost bool
}

// A Hit is a fault that befalls the call at hand.
type Hit struct {
	Fault
	// Record says whether the next record of this call fails; nil when the whole call does.
	Record func() bool
}

// Plan is a service's faults in force. The zero value has none. It may be used concurrently.
type Plan struct {
	mu     sync.Mutex
	faults []*armed
}

type armed struct {
	Fault
	seen, done int
	rng        *rand.Rand
}

// Add puts a fault in force and returns the function that removes it.
func (p *Plan) Add(f Fault) (remove func()) {
	if f.Code == "" {
		f.Code = "InternalFailure"
	}
	if f.Message == "" {
		f.Message = "injected by a test"
	}
	a := &armed{Fault: f, rng: rand.New(rand.NewPCG(f.Seed, 0x9e3779b97f4a7c15))}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, a)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.faults = slices.DeleteFunc(p.faults, func(b *armed) bool { return a == b })
	}
}

// Clear removes all faults.
func (p *Plan) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// Next counts a call of operation op and says which fault befalls it, if any: the first added that applies. perRecord says
// whether op can fail by record.
func (p *Plan) Next(op string, perRecord bool) (Hit, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.faults {
		if len(a.Operations) > 0 && !slices.Contains(a.Operations, op) {
			continue
		}
		if a.seen++; a.seen <= a.After || a.Times > 0 && a.done >= a.Times {
			continue
		}
		h := Hit{Fault: a.Fault}
		if a.Fraction > 0 {
			if perRecord {
				h.Record = func() bool {
					p.mu.Lock()
					defer p.mu.Unlock()
					return a.rng.Float64() < a.Fraction
				}
			} else if a.rng.Float64() >= a.Fraction {
				continue
			}
		}
		a.done++
		return h, true
	}
	return Hit{}, false
}

// Befall is Next, and waits for the fault's delay. What it returns is still to be done to the call: nothing where the fault
// was the delay alone.
func (p *Plan) Befall(ctx context.Context, op string, perRecord bool) (Hit, bool) {
	h, hit := p.Next(op, perRecord)
	if hit && h.Delay > 0 {
		select {
		case <-time.After(h.Delay):
		case <-ctx.Done():
		}
	}
	return h, hit && !h.DelayOnly
}
