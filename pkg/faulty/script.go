package faulty

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Step is a fault that sets in after a while and ends after another.
type Step struct {
	After time.Duration // healthy before it
	Name  string        // what goes wrong
	For   time.Duration // how long

	begin, end func(*Link) // end comes before the link is healed; nil for nothing more
}

// Script is a course of faults that can be played again: the same seed, count and pace make the same script.
type Script struct {
	Seed  uint64
	Steps []Step
}

// NewScript makes up n steps from seed. The times before and during faults are at most pace, which is above 0. A test
// prints the script when it fails, and takes its seed back to repeat it.
func NewScript(seed uint64, n int, pace time.Duration) Script {
	r := rand.New(rand.NewPCG(seed, seed))
	upTo := func(d time.Duration) time.Duration { return 1 + time.Duration(r.Int64N(max(1, int64(d)))) }
	s := Script{Seed: seed}
	for range n {
		step := Step{After: upTo(pace), For: upTo(pace)}
		switch r.IntN(7) {
		case 0:
			step.Name, step.begin = "cut", (*Link).Cut
		case 1:
			step.Name, step.begin = "refuse and cut", func(l *Link) { l.Refuse(); l.Cut() }
		case 2:
			step.Name, step.begin = "stall", (*Link).Stall
		case 3:
			step.Name, step.begin = "half-open", (*Link).HalfOpen
		case 4:
			// The answers wait and are then lost: whoever asked must ask again for what has been done already.
			step.Name, step.begin, step.end = "half-open, then cut", (*Link).HalfOpen, (*Link).Cut
		case 5:
			d := upTo(pace / 10)
			step.Name, step.begin = fmt.Sprintf("delay %v", d), func(l *Link) { l.Delay(d) }
		case 6:
			rate := 1 << (12 + r.IntN(9)) // 4 KiB/s to 1 MiB/s
			step.Name, step.begin = fmt.Sprintf("slow to %d B/s", rate), func(l *Link) { l.Slow(rate) }
		}
		if r.IntN(4) == 0 {
			begin := step.begin
			step.Name, step.begin = step.Name+", dribble", func(l *Link) { l.Dribble(); begin(l) }
		}
		s.Steps = append(s.Steps, step)
	}
	return s
}

// String prints the script, one step a line.
func (s Script) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "faulty script, seed %d\n", s.Seed)
	for _, step := range s.Steps {
		fmt.Fprintf(&b, "  after %v: %s, for %v\n", step.After, step.Name, step.For)
	}
	return b.String()
}

// Play runs s on the link and leaves it healthy, also when ctx ends before the script does, which Play then reports.
func (l *Link) Play(ctx context.Context, s Script) error {
	defer l.Resume()
	wait := func(d time.Duration) error {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			return nil
		}
	}
	for _, step := range s.Steps {
		if err := wait(step.After); err != nil {
			return err
		}
		step.begin(l)
		err := wait(step.For)
		if step.end != nil {
			step.end(l)
		}
		l.Resume()
		if err != nil {
			return err
		}
	}
	return nil
}
