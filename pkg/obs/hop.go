package obs

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// Hop counts what one stage of the pipeline took in and passed on. Loss is in − out − waiting, so the two counters and
// the age of the oldest waiting item are all that an alert needs. Counting is one atomic addition.
type Hop struct {
	in, out atomic.Int64
	oldest  atomic.Pointer[func() time.Time]
}

// NewHop registers the metrics weir_<name>_in_total, weir_<name>_out_total and weir_<name>_oldest_waiting_seconds. The
// hop lives as long as tel does; name is a metric name in snake case, used once per Telemetry, and NewHop panics on
// another, which is a programmer's mistake.
func NewHop(tel *Telemetry, name string) *Hop {
	h := &Hop{}
	counter := func(suffix, help string, v *atomic.Int64) {
		_, err := tel.Meter.Int64ObservableCounter("weir."+name+"."+suffix, metric.WithDescription(help),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(v.Load())
				return nil
			}))
		if err != nil {
			panic(fmt.Sprintf("obs: hop %q: %v", name, err))
		}
	}
	counter("in", "Items taken in.", &h.in)
	counter("out", "Items passed on and acknowledged.", &h.out)
	_, err := tel.Meter.Float64ObservableGauge("weir."+name+".oldest_waiting", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest item that is waiting, 0 if none is."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			o.Observe(h.Waiting().Seconds())
			return nil
		}))
	if err != nil {
		panic(fmt.Sprintf("obs: hop %q: %v", name, err))
	}
	return h
}

// In counts n items taken in.
func (h *Hop) In(n int) { h.in.Add(int64(n)) }

// Out counts n items passed on.
func (h *Hop) Out(n int) { h.out.Add(int64(n)) }

// Oldest sets the function that says since when the oldest item has been waiting, the zero time for none. It is called
// at every scrape, from any goroutine.
func (h *Hop) Oldest(f func() time.Time) { h.oldest.Store(&f) }

// Counts returns what has been counted so far.
func (h *Hop) Counts() (in, out int64) { return h.in.Load(), h.out.Load() }

// Waiting returns the age of the oldest waiting item, 0 if none is waiting or nobody has said.
func (h *Hop) Waiting() time.Duration {
	f := h.oldest.Load()
	if f == nil {
		return 0
	}
	since := (*f)()
	if since.IsZero() {
		return 0
	}
	return max(0, time.Since(since))
}
