package control_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	"github.com/weir-das/weir/pkg/service"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/control"
	"github.com/weir-das/weir/services/control/internal/registry/registrytest"
	"github.com/weir-das/weir/services/control/internal/stream/streamtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mesh is what control lives in: NATS, and the services that it calls.
type mesh struct {
	t     *testing.T
	nats  *registrytest.NATS
	world *streamtest.World
	cfg   control.Config // of every replica
}

// deployed reads what compose gives the service, with other certificates.
func deployed(t *testing.T, dir string) control.Config {
	t.Helper()
	cfg, err := service.Load[control.Config]("control", filepath.Join("..", "..", "deploy", "config", "control.yaml"))
	if err != nil {
		t.Fatalf("Load(deploy/config/control.yaml) = %v", err)
	}
	cfg.TLS, cfg.Journal.TLS = certs.TLS(dir, "control"), certs.TLS(dir, "control")
	if err := cfg.Validate(); err != nil {
		t.Errorf("deploy/config/control.yaml: %v", err)
	}
	return cfg
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	m := &mesh{t: t, nats: registrytest.Start(t), world: streamtest.New()}
	cfg := deployed(t, m.nats.Certs)
	cfg.Journal = m.nats.Config("control")
	cfg.Obs.MetricsListen = ""
	cfg.RPC.Grace = 5 * time.Second
	cfg.LiveFor, cfg.InstanceWait, cfg.LeaseTTL, cfg.Poll = 2*time.Second, 2*time.Second, time.Second, 20*time.Millisecond
	cfg.Publisher, cfg.Crypto, cfg.Notifier = m.peer("publisher"), m.peer("crypto"), m.peer("notifier")
	m.cfg = cfg
	return m
}

// peer serves the world under one service's certificate, to control alone.
func (m *mesh) peer(name string) (addr string) {
	cfg := rpc.ServerConfig{Grace: time.Second, Allow: map[string][]string{
		"weir.publisher.v1.PublisherService": {"control.weir"},
		"weir.notifier.v1.NotifierService":   {"control.weir"},
		"weir.crypto.v1.CryptoService":       {"control.weir"},
	}}
	s, err := rpc.NewServer(cfg, certs.TLS(m.nats.Certs, name), slog.New(slog.DiscardHandler), obs.Discard())
	if err != nil {
		m.t.Fatalf("NewServer(%s) = %v", name, err)
	}
	m.world.Register(s)
	return m.serve(s.ServeListener)
}

// serve runs a server on loopback until the test ends.
func (m *mesh) serve(run func(context.Context, net.Listener) error) (addr string) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatalf("Listen = %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, lis) }()
	m.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			m.t.Errorf("server = %v, want nil", err)
		}
	})
	return lis.Addr().String()
}

// replica is one control.
type replica struct {
	m    *mesh
	addr string
	stop func() // waits until it has stopped, cleanly; may be called again
}

// replica starts one more control.
func (m *mesh) replica() *replica {
	m.t.Helper()
	cfg := m.cfg
	var err error
	if cfg.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		m.t.Fatalf("Listen = %v", err)
	}
	r := &replica{m: m, addr: cfg.Listener.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- control.Run(ctx, cfg, slog.New(slog.NewTextHandler(m.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})))
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				m.t.Errorf("Run = %v, want nil after a clean stop", err)
			}
		case <-time.After(20 * time.Second):
			m.t.Errorf("Run has not returned 20 s after its end")
		}
	})
	m.t.Cleanup(r.stop)
	return r
}

// as returns a client under a name.
func (r *replica) as(name string) controlv1.ControlServiceClient {
	r.m.t.Helper()
	conn, err := rpc.Dial(r.addr, "control.weir", certs.TLS(r.m.nats.Certs, name), obs.Discard())
	if err != nil {
		r.m.t.Fatalf("Dial as %s = %v", name, err)
	}
	r.m.t.Cleanup(func() { conn.Close() })
	return controlv1.NewControlServiceClient(conn)
}

// capture follows an instance at some replica as a capture does, until stop.
func (r *replica) capture(cluster, instance string) (stop func()) {
	client := r.as("capture")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	reports := make(chan *controlv1.Desired, 1)
	wg.Go(func() {
		defer close(reports)
		for ctx.Err() == nil { // as often as it takes: replicas come and go
			w, err := client.WatchInstance(ctx, &controlv1.WatchInstanceRequest{ClusterId: cluster, InstanceId: instance})
			for err == nil {
				var resp *controlv1.WatchInstanceResponse
				if resp, err = w.Recv(); err == nil {
					reports <- resp.GetDesired()
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		var number, generation uint64
		for {
			select {
			case d, ok := <-reports:
				if !ok {
					return
				}
				if generation = d.GetGeneration(); d.GetRecording() {
					number += 10
				}
			case <-tick.C:
			}
			// A control that is away hears it the next time.
			_, _ = client.ReportInstance(ctx, &controlv1.ReportInstanceRequest{ClusterId: cluster, InstanceId: instance, Report: &controlv1.InstanceReport{
				Generation: generation, EngineRunning: true, EngineVersion: "PostgreSQL 15.20", Epoch: 1, Number: number, Durable: number,
			}})
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	r.m.t.Cleanup(stop)
	return stop
}

// cluster registers a cluster with instances.
func (r *replica) cluster(id string, instances ...string) *controlv1.Cluster {
	r.m.t.Helper()
	client := r.as("client")
	if _, err := client.CreateCluster(r.m.t.Context(), &controlv1.CreateClusterRequest{ClusterId: id, Engine: "postgres"}); err != nil {
		r.m.t.Fatalf("CreateCluster(%s) = %v", id, err)
	}
	for _, in := range instances {
		if _, err := client.CreateInstance(r.m.t.Context(), &controlv1.CreateInstanceRequest{ClusterId: id, InstanceId: in}); err != nil {
			r.m.t.Fatalf("CreateInstance(%s) = %v", in, err)
		}
	}
	resp, err := client.GetCluster(r.m.t.Context(), &controlv1.GetClusterRequest{ClusterId: id})
	if err != nil {
		r.m.t.Fatalf("GetCluster(%s) = %v", id, err)
	}
	return resp.GetCluster()
}

func (r *replica) start(id string) {
	r.m.t.Helper()
	_, err := r.as("client").StartStream(r.m.t.Context(), startOf(id))
	if err != nil {
		r.m.t.Fatalf("StartStream(%s) = %v", id, err)
	}
}

func startOf(id string) *controlv1.StartStreamRequest {
	return &controlv1.StartStreamRequest{ClusterId: id, Mode: controlv1.StreamMode_STREAM_MODE_ASYNC, KmsKeyId: "alias/audit"}
}

// until waits for a stream to be as ok wants it.
func (r *replica) until(id, what string, ok func(*controlv1.GetStreamResponse) bool) *controlv1.GetStreamResponse {
	r.m.t.Helper()
	client := r.as("client")
	var last *controlv1.GetStreamResponse
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		resp, err := client.GetStream(r.m.t.Context(), &controlv1.GetStreamRequest{ClusterId: id})
		if err != nil {
			r.m.t.Fatalf("GetStream(%s) = %v", id, err)
		}
		if last = resp; ok(resp) {
			return resp
		}
	}
	r.m.t.Fatalf("stream of %s is not %s after 20 s: %v", id, what, last)
	return nil
}

func (r *replica) untilStatus(id string, want controlv1.StreamStatus) *controlv1.GetStreamResponse {
	r.m.t.Helper()
	return r.until(id, want.String(), func(s *controlv1.GetStreamResponse) bool { return s.GetStream().GetStatus() == want })
}
