// Package obs is what a service tells about itself: metrics, traces and the operational log.
//
// A Telemetry belongs to one service and nothing in it is global, so that several services in one process (weir dev, the
// mesh tests) each count and trace for themselves. Metrics are served for Prometheus at /metrics; metrics and traces go
// to an OpenTelemetry collector when an endpoint is set. Neither may hold statement text, and nothing here is the audit
// record: losing all of it loses no event.
//
// Before: pkg/service, which makes the log. Next: pkg/rpc, which traces every call.
package obs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/attribute"
	prometheusexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
	nooptrace "go.opentelemetry.io/otel/trace/noop"
)

// scope names our instruments in OpenTelemetry.
const scope = "github.com/weir-das/weir"

// Config says where telemetry goes. The zero value logs at info and exports nothing.
type Config struct {
	MetricsListen string `koanf:"metrics_listen" help:"host:port that serves Prometheus metrics at /metrics; empty: none"`
	OTLPEndpoint  string `koanf:"otlp_endpoint" help:"URL of an OpenTelemetry collector (gRPC), such as http://collector:4317; empty: OTEL_EXPORTER_OTLP_ENDPOINT, or none"`
	LogLevel      string `koanf:"log_level" default:"info" help:"debug, info, warn or error"`
}

// Validate reports every problem at once.
func (c Config) Validate() error {
	var errs []error
	if c.MetricsListen != "" {
		if _, _, err := net.SplitHostPort(c.MetricsListen); err != nil {
			errs = append(errs, fmt.Errorf("metrics_listen: %q is no host:port", c.MetricsListen))
		}
	}
	if c.OTLPEndpoint != "" {
		u, err := url.Parse(c.OTLPEndpoint)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			errs = append(errs, fmt.Errorf("otlp_endpoint: %q, want a URL such as http://collector:4317", c.OTLPEndpoint))
		}
	}
	if _, err := parseLevel(c.LogLevel); err != nil {
		errs = append(errs, fmt.Errorf("log_level: %w", err))
	}
	return errors.Join(errs...)
}

// Telemetry is one service's tracer and meter. All of it is safe for concurrent use.
type Telemetry struct {
	Tracer         trace.Tracer
	Meter          metric.Meter
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
	Propagator     propagation.TextMapPropagator // W3C trace context
	Log            *slog.Logger                  // for what happens outside any request

	addr net.Addr
	// stop holds what Shutdown does, in the order in which it was set up.
	stop []func(context.Context) error
}

// Discard returns a Telemetry that keeps nothing, for tests. It needs no Shutdown.
func Discard() *Telemetry {
	return newTelemetry(nooptrace.NewTracerProvider(), noopmetric.NewMeterProvider(), slog.New(slog.DiscardHandler))
}

func newTelemetry(tp trace.TracerProvider, mp metric.MeterProvider, log *slog.Logger) *Telemetry {
	return &Telemetry{
		Tracer: tp.Tracer(scope), Meter: mp.Meter(scope),
		TracerProvider: tp, MeterProvider: mp,
		Propagator: propagation.TraceContext{},
		Log:        log,
	}
}

// Setup starts the telemetry of one service. The caller owes it a Shutdown. An unreachable collector is no error: it is
// logged once when it goes away and once when it is back.
func Setup(ctx context.Context, cfg Config, service string, log *slog.Logger) (*Telemetry, error) {
	if cfg.OTLPEndpoint == "" {
		cfg.OTLPEndpoint = os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("setting up telemetry: %w", err)
	}
	res := resource.NewSchemaless(attribute.String("service.name", service),
		attribute.String("service.namespace", "weir"), attribute.String("service.version", version()))

	tel := newTelemetry(nooptrace.NewTracerProvider(), noopmetric.NewMeterProvider(), log)
	if err := tel.start(ctx, cfg, res); err != nil {
		return nil, fmt.Errorf("setting up telemetry: %w", errors.Join(err, tel.Shutdown(ctx)))
	}
	return tel, nil
}

// start replaces t's providers by those that cfg asks for. What it has started when it fails is in t.stop.
func (t *Telemetry) start(ctx context.Context, cfg Config, res *resource.Resource) error {
	readers := []sdkmetric.Option{sdkmetric.WithResource(res)}
	hurry := func(shutdown func(context.Context) error) func(context.Context) error { return shutdown }
	if cfg.MetricsListen != "" {
		registry := prometheus.NewRegistry()
		registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
		reader, err := prometheusexporter.New(prometheusexporter.WithRegisterer(registry), prometheusexporter.WithoutScopeInfo(),
			prometheusexporter.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes))
		if err != nil {
			return err
		}
		lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.MetricsListen)
		if err != nil {
			return fmt.Errorf("metrics_listen: %w", err)
		}
		t.addr = lis.Addr()
		t.stop = append(t.stop, serveMetrics(lis, registry, t.Log))
		readers = append(readers, sdkmetric.WithReader(reader))
	}
	if cfg.OTLPEndpoint != "" {
		e, err := otlp(ctx, cfg.OTLPEndpoint, res, t.Log)
		if err != nil {
			return fmt.Errorf("otlp_endpoint: %w", err)
		}
		hurry = e.hurry
		t.stop = append(t.stop, hurry(e.tp.Shutdown))
		t.TracerProvider, t.Tracer = e.tp, e.tp.Tracer(scope)
		readers = append(readers, sdkmetric.WithReader(e.reader))
	}
	if len(readers) > 1 {
		mp := sdkmetric.NewMeterProvider(readers...)
		t.stop = append(t.stop, hurry(mp.Shutdown))
		t.MeterProvider, t.Meter = mp, mp.Meter(scope)
	}
	return nil
}

// MetricsAddr is where /metrics is served, nil if it is not.
func (t *Telemetry) MetricsAddr() net.Addr { return t.addr }

// Shutdown sends what is waiting and stops. It returns when everything has stopped; once ctx has ended, that no longer
// waits for anybody.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	stop := t.stop
	t.stop = nil
	var errs []error
	for _, f := range stop {
		errs = append(errs, f(ctx))
	}
	return errors.Join(errs...)
}

// serveMetrics answers on lis until the function it returns is called, which waits for the server to end.
func serveMetrics(lis net.Listener, registry *prometheus.Registry, log *slog.Logger) func(context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics endpoint stopped", KeyErr, err)
		}
	}()
	return func(ctx context.Context) error {
		err := srv.Shutdown(ctx)
		if err != nil {
			err = errors.Join(err, srv.Close())
		}
		<-done
		return err
	}
}

// version is the module's version, or "devel".
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}
