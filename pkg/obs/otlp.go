package obs

import (
	"context"
	"log/slog"
	"sync/atomic"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// otlp makes exporters to the collector at endpoint. Neither connects before it has something to send.
func otlp(ctx context.Context, endpoint string, res *resource.Resource, log *slog.Logger) (*sdktrace.TracerProvider, sdkmetric.Reader, error) {
	spans, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(endpoint))
	if err != nil {
		return nil, nil, err
	}
	metrics, err := otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpointURL(endpoint))
	if err != nil {
		_ = spans.Shutdown(ctx)
		return nil, nil, err
	}
	tp := sdktrace.NewTracerProvider(sdktrace.WithResource(res),
		sdktrace.WithBatcher(spanExporter{spans, &reach{log: log, what: "traces"}}))
	return tp, sdkmetric.NewPeriodicReader(metricExporter{metrics, &reach{log: log, what: "metrics"}}), nil
}

// reach logs when a collector goes away or comes back. The SDK would hand every failed export to a global error handler,
// once per interval for as long as the collector is away.
type reach struct {
	log  *slog.Logger
	what string
	away atomic.Bool
}

// seen notes the outcome of an export and swallows its error, which has been told.
func (r *reach) seen(err error) error {
	switch {
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
	return e.reach.seen(e.SpanExporter.ExportSpans(ctx, spans))
}

type metricExporter struct {
	sdkmetric.Exporter
	reach *reach
}

func (e metricExporter) Export(ctx context.Context, m *metricdata.ResourceMetrics) error {
	return e.reach.seen(e.Exporter.Export(ctx, m))
}
