package obs

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
)

// traceparent is the name of the W3C header, which is also its name in NATS messages.
const traceparent = "traceparent"

// InjectTraceparent returns ctx's trace as a W3C traceparent, for a carrier that is not gRPC; empty if ctx has none.
func InjectTraceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[traceparent]
}

// ExtractTraceparent returns ctx continuing the trace that header names. A header that is empty or makes no sense is
// ignored: a trace is never worth an event.
func ExtractTraceparent(ctx context.Context, header string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceparent: header})
}
