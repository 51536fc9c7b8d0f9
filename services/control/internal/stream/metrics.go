package stream

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/weir-das/weir/services/control/internal/registry"
)

// Observe registers what an alert needs: how many streams are where
// (weir_control_streams), how many events the notifier has not recorded
// (weir_control_events_waiting), and for how long the slowest stream has been on
// its way (weir_control_oldest_transition_seconds). Every replica shows the same.
func Observe(meter metric.Meter, reg *registry.Registry, now func() time.Time) error {
	streams, err := meter.Int64ObservableGauge("weir.control.streams", metric.WithDescription("Streams, by status."))
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	waiting, err := meter.Int64ObservableGauge("weir.control.events_waiting", metric.WithDescription("Events that the notifier has not recorded yet."))
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	oldest, err := meter.Float64ObservableGauge("weir.control.oldest_transition", metric.WithUnit("s"),
		metric.WithDescription("For how long the slowest stream has been starting or stopping, 0 if none is."))
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		count := map[registry.Status]int64{registry.Stopped: 0, registry.Starting: 0, registry.Started: 0, registry.Stopping: 0}
		var notices int64
		var slowest time.Duration
		for _, c := range reg.SeenAll(func(registry.Cluster) bool { return true }) {
			count[c.Stream.Status]++
			notices += int64(len(c.Stream.Notices))
			if s := c.Stream.Status; s == registry.Starting || s == registry.Stopping {
				slowest = max(slowest, now().Sub(c.Stream.Since))
			}
		}
		for status, n := range count {
			o.ObserveInt64(streams, n, metric.WithAttributes(attribute.String("status", string(status))))
		}
		o.ObserveInt64(waiting, notices)
		o.ObserveFloat64(oldest, slowest.Seconds())
		return nil
	}, streams, waiting, oldest)
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return nil
}
