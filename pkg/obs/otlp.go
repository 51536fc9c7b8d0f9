package obs

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// exporters send to one collector. Their life ends when Shutdown's context does: the SDK would go on trying, behind the
// back of whoever has waited long enough.
type exporters struct {
	life context.Context
	end  context.CancelFunc
	tp   *sdktrace.TracerProvider
	// reader belongs to the meter provider, which shuts it down.
	reader sdkmetric.Reader
}

// otlp makes exporters to the collector at endpoint. Neither connects before it has something to send.
func otlp(ctx context.Context, endpoint string, res *resource.Resource, log *slog.Logger) (*exporters, error) {
	spans, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(endpoint))
	if err != nil {
		return nil, err
	}
	metrics, err := otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpointURL(endpoint))
	if err != nil {
		return nil, errors.Join(err, spans.Shutdown(ctx))
	}
	e := &exporters{}
	e.life, e.end = context.WithCancel(context.WithoutCancel(ctx))
	e.tp = sdktrace.NewTracerProvider(sdktrace.WithResource(res),
		sdktrace.WithBatcher(spanExporter{spans, &reach{life: e.life, log: log, what: "traces"}}))
	e.reader = sdkmetric.NewPeriodicReader(metricExporter{metrics, &reach{life: e.life, log: log, what: "metrics"}})
	return e, nil
}

// hurry runs shutdown, which may be of the tracer or the meter provider, to its end. When ctx ends first, exports under
// way are given up, so that the end is near.
func (e *exporters) hurry(shutdown func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		defer context.AfterFunc(ctx, e.end)()
		return shutdown(context.WithoutCancel(ctx))
	}
}

// reach runs exports and logs when the collector goes away or comes back. The SDK would hand every failed export to a global error handler,
// once per interval for as long as the collector is away.
type reach struct {
	life context.Context // exports end with it
	log  *slog.Logger
	what string
	away atomic.Bool
}

// try runs one export. Its error is told here and goes no further.
func (r *reach) try(ctx context.Context, export func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()
	switch err := export(ctx); {
	case err != nil && !r.away.Swap(true):
		r.log.Warn("telemetry collector unreachable", "export", r.what, KeyErr, err)
	case err == nil && r.away.Swap(false):
		r.log.Info("telemetry collector reachable again", "export", r.what)
	}
	return nil
}

type spanExporter struct {
	sdktrace.SpanExporter
	reach *reach
}

func (e spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	return e.reach.try(ctx, func(ctx context.Context) error { return e.SpanExporter.ExportSpans(ctx, spans) })
}

type metricExporter struct {
	sdkmetric.Exporter
	reach *reach
}

func (e metricExporter) Export(ctx context.Context, m *metricdata.ResourceMetrics) error {
	return e.reach.try(ctx, func(ctx context.Context) error { return e.Exporter.Export(ctx, m) })
}
