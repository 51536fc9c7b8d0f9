package capture

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/metric"

	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// observe publishes what the ring says of itself. Without a ring there is
// nothing to say, and the series end.
func (s *station) observe(tel *obs.Telemetry) error {
	lost, err := tel.Meter.Int64ObservableCounter("weir.capture.lost",
		metric.WithDescription("Numbers of this epoch that have no event: told as gaps. Alert on it."))
	if err != nil {
		return fmt.Errorf("making a metric: %w", err)
	}
	unnumbered, err := tel.Meter.Int64ObservableCounter("weir.capture.unnumbered",
		metric.WithDescription("Events of this epoch that could not even get a number. Alert on it."))
	if err != nil {
		return fmt.Errorf("making a metric: %w", err)
	}
	gauge := func(name, unit, help string) metric.Int64ObservableGauge {
		g, gaugeErr := tel.Meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(help))
		if err == nil && gaugeErr != nil {
			err = fmt.Errorf("making a metric: %w", gaugeErr)
		}
		return g
	}
	used := gauge("weir.ring.used", "By", "Bytes of events in the ring that are not durable yet.")
	size := gauge("weir.ring.size", "By", "Bytes that the ring has for events.")
	spoolUsed := gauge("weir.spool.used", "By", "Bytes of sealed records in the spool: above 0 only after an outage that the ring did not hold.")
	spoolSize := gauge("weir.spool.size", "By", "Bytes that the spool may take.")
	running := gauge("weir.engine.running", "", "1 while a server with the module runs, else 0.")
	if err != nil {
		return err
	}
	_, err = tel.Meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		if s.spool != nil {
			o.ObserveInt64(spoolUsed, s.spool.Used())
			o.ObserveInt64(spoolSize, s.spool.Limit())
		}
		status, _, ok := s.snapshot()
		if !ok {
			o.ObserveInt64(running, 0)
			return nil
		}
		o.ObserveInt64(lost, int64(s.progress.Lost.Load()))
		o.ObserveInt64(unnumbered, int64(status.Unnumbered))
		o.ObserveInt64(used, int64(status.Used()))
		o.ObserveInt64(size, int64(status.Size))
		up := int64(0)
		if status.State == ring.EngineRunning {
			up = 1
		}
		o.ObserveInt64(running, up)
		return nil
	}, lost, unnumbered, used, size, spoolUsed, spoolSize, running)
	if err != nil {
		return fmt.Errorf("making a metric: %w", err)
	}
	return nil
}
