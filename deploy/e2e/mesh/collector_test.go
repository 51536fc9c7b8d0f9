package mesh_test

import (
	"context"
	"net"
	"sync"
	"testing"

	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlptrace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// collector is an OpenTelemetry collector that keeps what it is sent.
type collector struct {
	tracepb.UnimplementedTraceServiceServer

	mu    sync.Mutex
	spans []span
	all   []string // every request, as JSON
}

// span is one with the name of the service that made it.
type span struct {
	service string
	*otlptrace.Span
}

// startCollector serves a collector until the test ends, and returns its URL.
func startCollector(t *testing.T) (*collector, string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, server := &collector{}, grpc.NewServer()
	tracepb.RegisterTraceServiceServer(server, c)
	metricspb.RegisterMetricsServiceServer(server, metricsOf{c: c})
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("collector: %v", err)
		}
	})
	return c, "http://" + lis.Addr().String()
}

func (c *collector) keep(request proto.Message) error {
	text, err := protojson.Marshal(request)
	c.all = append(c.all, string(text))
	return err
}

// Export takes traces.
func (c *collector) Export(_ context.Context, r *tracepb.ExportTraceServiceRequest) (*tracepb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range r.GetResourceSpans() {
		name := ""
		for _, attribute := range resource.GetResource().GetAttributes() {
			if attribute.GetKey() == "service.name" {
				name = attribute.GetValue().GetStringValue()
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, span{name, s})
			}
		}
	}
	return &tracepb.ExportTraceServiceResponse{}, c.keep(r)
}

// metricsOf is the collector's other service, whose method has the same name.
type metricsOf struct {
	metricspb.UnimplementedMetricsServiceServer
	c *collector
}

// Export takes metrics.
func (m metricsOf) Export(_ context.Context, r *metricspb.ExportMetricsServiceRequest) (*metricspb.ExportMetricsServiceResponse, error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	return &metricspb.ExportMetricsServiceResponse{}, m.c.keep(r)
}
