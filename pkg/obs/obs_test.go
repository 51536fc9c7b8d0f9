package obs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-das/weir/pkg/obs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logBuffer is a log that a test reads while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func setup(t *testing.T, cfg obs.Config, service string) *obs.Telemetry {
	t.Helper()
	tel, err := obs.Setup(t.Context(), cfg, service, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tel.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	})
	return tel
}

func scrape(t *testing.T, tel *obs.Telemetry) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + tel.MetricsAddr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET /metrics = %v, %v", resp.Status, err)
	}
	return string(body)
}

func wantMetric(t *testing.T, body, name, value string) {
	t.Helper()
	if !regexp.MustCompile(`(?m)^` + name + `(\{[^}]*\})? ` + value + `$`).MatchString(body) {
		var got []string
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "weir_") {
				got = append(got, line)
			}
		}
		t.Errorf("no %s %s in\n%s", name, value, strings.Join(got, ""))
	}
}

// Two services in one process count for themselves, under the same names.
func TestMetricsBelongToTheirService(t *testing.T) {
	one := setup(t, obs.Config{MetricsListen: "127.0.0.1:0"}, "crypto")
	two := setup(t, obs.Config{MetricsListen: "127.0.0.1:0"}, "publisher")
	first, second := obs.NewHop(one, "seal"), obs.NewHop(two, "seal")
	first.In(3)
	first.In(4)
	first.Out(5)
	first.Oldest(func() time.Time { return time.Now().Add(-time.Hour) })
	second.In(1)

	body := scrape(t, one)
	wantMetric(t, body, "weir_seal_in_total", "7")
	wantMetric(t, body, "weir_seal_out_total", "5")
	wantMetric(t, body, "weir_seal_oldest_waiting_seconds", `360\d(\.\d+)?`)
	wantMetric(t, body, "target_info", "1")
	if !strings.Contains(body, `service_name="crypto"`) || !strings.Contains(body, "go_goroutines") {
		t.Error("metrics without the service's name, or without the runtime's")
	}
	body = scrape(t, two)
	wantMetric(t, body, "weir_seal_in_total", "1")
	wantMetric(t, body, "weir_seal_out_total", "0")
	wantMetric(t, body, "weir_seal_oldest_waiting_seconds", "0")
	if in, out := first.Counts(); in != 7 || out != 5 {
		t.Errorf("Counts = %d, %d, want 7, 5", in, out)
	}
}

func TestHopAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := obs.NewHop(obs.Discard(), "x")
		if h.Waiting() != 0 {
			t.Errorf("Waiting = %v before anybody has said", h.Waiting())
		}
		var since time.Time
		h.Oldest(func() time.Time { return since })
		if h.Waiting() != 0 {
			t.Errorf("Waiting = %v with nothing waiting", h.Waiting())
		}
		since = time.Now()
		time.Sleep(3 * time.Second)
		if h.Waiting() != 3*time.Second {
			t.Errorf("Waiting = %v, want 3s", h.Waiting())
		}
		since = time.Now().Add(time.Minute) // a clock that was set back
		if h.Waiting() != 0 {
			t.Errorf("Waiting = %v for the future, want 0", h.Waiting())
		}
	})
}

func TestSetupRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, tt := range map[string]struct {
		cfg  obs.Config
		want []string
	}{
		"port taken": {obs.Config{MetricsListen: taken.Addr().String()}, []string{"metrics_listen"}},
		// With an exporter running already when the port turns out to be taken, nothing of it may stay (goleak looks).
		"port taken late": {obs.Config{MetricsListen: taken.Addr().String(), OTLPEndpoint: "http://127.0.0.1:1"}, []string{"metrics_listen"}},
		"all wrong":       {obs.Config{MetricsListen: "7711", OTLPEndpoint: "collector:4317", LogLevel: "loud"}, []string{"metrics_listen", "otlp_endpoint", "log_level"}},
	} {
		_, err := obs.Setup(t.Context(), tt.cfg, "x", slog.New(slog.DiscardHandler))
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: Setup = %v, want %q", name, err, want)
			}
		}
	}
}

// collector is an OpenTelemetry collector that remembers what it was sent.
type collector struct {
	tracepb.UnimplementedTraceServiceServer
	refuse        atomic.Bool // answers with an error that is not tried again
	mu            sync.Mutex
	spans, values []string
}

func (c *collector) Export(_ context.Context, r *tracepb.ExportTraceServiceRequest) (*tracepb.ExportTraceServiceResponse, error) {
	if c.refuse.Load() {
		return nil, status.Error(codes.PermissionDenied, "not today")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range r.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				c.spans = append(c.spans, fmt.Sprintf("%s %v", s.Name, rs.Resource.Attributes))
			}
		}
	}
	return &tracepb.ExportTraceServiceResponse{}, nil
}

// metricsOf is the collector's other service, whose method has the same name.
type metricsOf struct {
	metricspb.UnimplementedMetricsServiceServer
	c *collector
}

func (m metricsOf) Export(_ context.Context, r *metricspb.ExportMetricsServiceRequest) (*metricspb.ExportMetricsServiceResponse, error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	for _, rm := range r.ResourceMetrics {
		for _, sm := range rm.ScopeMetrics {
			for _, v := range sm.Metrics {
				m.c.values = append(m.c.values, v.Name)
			}
		}
	}
	return &metricspb.ExportMetricsServiceResponse{}, nil
}

// startCollector serves a collector until the test ends, and returns its URL.
func startCollector(t *testing.T) (*collector, string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, srv := &collector{}, grpc.NewServer()
	tracepb.RegisterTraceServiceServer(srv, c)
	metricspb.RegisterMetricsServiceServer(srv, metricsOf{c: c})
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	t.Cleanup(func() { srv.Stop(); <-served })
	return c, "http://" + lis.Addr().String()
}

func TestCollectorGetsTracesAndMetrics(t *testing.T) {
	c, url := startCollector(t)
	for name, cfg := range map[string]obs.Config{"configured": {OTLPEndpoint: url}, "environment": {}} {
		t.Run(name, func(t *testing.T) {
			if name == "environment" {
				t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
			}
			c.mu.Lock()
			c.spans, c.values = nil, nil
			c.mu.Unlock()
			tel, err := obs.Setup(t.Context(), cfg, "crypto", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			obs.NewHop(tel, "seal").In(1)
			_, span := tel.Tracer.Start(t.Context(), "sealing")
			span.End()
			if err := tel.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown = %v", err)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if got := strings.Join(c.spans, " "); !strings.Contains(got, "sealing") || !strings.Contains(got, "crypto") {
				t.Errorf("spans = %q, want sealing by crypto", got)
			}
			if got := strings.Join(c.values, " "); !strings.Contains(got, "weir.seal.in") || !strings.Contains(got, "weir.seal.oldest_waiting") {
				t.Errorf("metrics = %q, want those of the hop", got)
			}
		})
	}
}

// A collector that refuses for a day is worth two lines in the log.
func TestCollectorIsReportedOnce(t *testing.T) {
	c, url := startCollector(t)
	c.refuse.Store(true)
	var log logBuffer
	tel, err := obs.Setup(t.Context(), obs.Config{OTLPEndpoint: url}, "crypto", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	export := func() {
		_, span := tel.Tracer.Start(t.Context(), "sealing")
		span.End()
		if err := tel.TracerProvider.(interface{ ForceFlush(context.Context) error }).ForceFlush(t.Context()); err != nil {
			t.Errorf("ForceFlush = %v, want the error kept from the SDK's global handler", err)
		}
	}
	for range 3 {
		export()
	}
	c.refuse.Store(false)
	for range 3 {
		export()
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	if got := log.String(); strings.Count(got, "collector unreachable") != 1 || strings.Count(got, "reachable again") != 1 {
		t.Errorf("log = %s\nwant one line when it went away and one when it was back", got)
	}
}

func TestCollectorAway(t *testing.T) {
	var log logBuffer
	tel, err := obs.Setup(t.Context(), obs.Config{OTLPEndpoint: "http://127.0.0.1:1"}, "crypto", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatalf("Setup(collector away) = %v, want it to start", err)
	}
	_, span := tel.Tracer.Start(t.Context(), "sealing")
	span.End()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := tel.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown = %v: a collector that is away is no error", err)
	}
	if d := time.Since(began); d < 250*time.Millisecond || d > 5*time.Second {
		t.Errorf("Shutdown took %v, want it to try for 300ms", d)
	}
	if n := strings.Count(log.String(), "collector unreachable"); n != 2 {
		t.Errorf("log = %s\nwant one line for each of traces and metrics", log.String())
	}
}

func TestDiscard(t *testing.T) {
	tel := obs.Discard()
	ctx, span := tel.Tracer.Start(t.Context(), "x")
	span.End()
	obs.NewHop(tel, "x").In(1)
	if got := obs.InjectTraceparent(ctx); got != "" {
		t.Errorf("traceparent = %q from a telemetry that keeps nothing", got)
	}
	if tel.MetricsAddr() != nil {
		t.Error("Discard listens")
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

func TestNewLog(t *testing.T) {
	var buf bytes.Buffer
	log := obs.NewLog(&buf, "warn", "crypto")
	log.Info("hidden")
	log.Warn("shown", obs.KeySeq, 7)
	var line map[string]any
	if err := json.Unmarshal(buf.Bytes(), &line); err != nil {
		t.Fatalf("log = %q, want one line of JSON: %v", buf.String(), err)
	}
	if line["msg"] != "shown" || line["service"] != "crypto" || line["seq"] != 7.0 {
		t.Errorf("log = %v", line)
	}
	// /dev/null is a character device, as a terminal is; a file is not.
	file, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	obs.NewLog(file, "", "crypto").Info("x")
	if data, _ := os.ReadFile(file.Name()); !bytes.HasPrefix(data, []byte("{")) {
		t.Errorf("log in a file = %q, want JSON", data)
	}
}

func TestTraceparent(t *testing.T) {
	const header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	ctx := obs.ExtractTraceparent(t.Context(), header)
	if got := obs.InjectTraceparent(ctx); got != header {
		t.Errorf("round trip = %q, want %q", got, header)
	}
	for _, bad := range []string{"", "00-0", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"} {
		if got := obs.ExtractTraceparent(ctx, bad); trace.SpanContextFromContext(got).TraceID().String() != "4bf92f3577b34da6a3ce929d0e0e4736" {
			t.Errorf("Extract(%q) lost the trace that was there", bad)
		}
	}
}

func FuzzTraceparent(f *testing.F) {
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more")
	f.Add("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more")
	f.Add("")
	f.Fuzz(func(t *testing.T, header string) {
		ctx := obs.ExtractTraceparent(context.Background(), header)
		sc := trace.SpanContextFromContext(ctx)
		out := obs.InjectTraceparent(ctx)
		if sc.IsValid() != (out != "") {
			t.Fatalf("valid %v, but traceparent %q", sc.IsValid(), out)
		}
		if out == "" {
			return
		}
		// What we pass on means what came in, in the form of the version that we speak.
		if len(out) != 55 || !strings.HasPrefix(out, "00-") || !strings.Contains(header, sc.TraceID().String()) {
			t.Fatalf("Extract(%q), Inject = %q", header, out)
		}
		if again := obs.InjectTraceparent(obs.ExtractTraceparent(context.Background(), out)); again != out {
			t.Fatalf("round trip of %q = %q", out, again)
		}
	})
}
