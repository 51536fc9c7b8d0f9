package dev

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	capturev1 "github.com/weir-das/weir/proto/gen/weir/capture/v1"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	publisherv1 "github.com/weir-das/weir/proto/gen/weir/publisher/v1"
	"github.com/weir-das/weir/services/capture"
	"github.com/weir-das/weir/services/control"
	"github.com/weir-das/weir/services/crypto"
	"github.com/weir-das/weir/services/notifier"
	"github.com/weir-das/weir/services/publisher"
)

// The usual ports of the first service; the others follow in the order of services.
const (
	usualGRPC    = 7701
	usualMetrics = 7711
)

// base is what every service's configuration begins with.
type base struct {
	name string
	rpc  rpc.ServerConfig
	tls  rpc.TLS
	obs  obs.Config
	lis  net.Listener
}

// services are the five.
type services struct{ control, capture, crypto, publisher, notifier base }

// openServices opens the services' ports, so that each can be told of the
// others before any of them runs.
func (m *mesh) openServices() (s services, err error) {
	for i, p := range []struct {
		name    string
		base    *base
		address *string
		serves  grpc.ServiceDesc
		callers []string // beside health and reflection, which all of Weir may call
	}{
		{"control", &s.control, &m.file.GRPC.Control, controlv1.ControlService_ServiceDesc, []string{"capture.weir", "client.weir"}},
		{"capture", &s.capture, &m.file.GRPC.Capture, capturev1.CaptureService_ServiceDesc, []string{"control.weir", "client.weir"}},
		{"crypto", &s.crypto, &m.file.GRPC.Crypto, cryptov1.CryptoService_ServiceDesc, []string{"capture.weir", "control.weir"}},
		{"publisher", &s.publisher, &m.file.GRPC.Publisher, publisherv1.PublisherService_ServiceDesc, []string{"control.weir", "client.weir"}},
		{"notifier", &s.notifier, &m.file.GRPC.Notifier, notifierv1.NotifierService_ServiceDesc, []string{"capture.weir", "control.weir", "publisher.weir", "client.weir"}},
	} {
		asked := 0
		if m.GRPCPort != 0 {
			asked = m.GRPCPort + i
		}
		lis, err := listen(p.name, asked, usualGRPC+i)
		if err != nil {
			return s, err
		}
		metrics, err := choose(p.name+"'s metrics", 0, usualMetrics+i)
		if err != nil {
			return s, err
		}
		*p.address = lis.Addr().String()
		*p.base = base{
			name: p.name,
			rpc:  rpc.ServerConfig{Allow: map[string][]string{p.serves.ServiceName: p.callers}, Grace: 5 * time.Second},
			tls:  certs.TLS(m.dir.certs(), p.name),
			obs:  obs.Config{MetricsListen: address(metrics), LogLevel: m.LogLevel},
			lis:  lis,
		}
		m.metrics = append(m.metrics, address(metrics))
	}
	return s, nil
}

// startServices starts all but capture. Each knocks until those it needs
// answer, so the order is that of the stop, reversed.
func (m *mesh) startServices(s services) {
	jc := func(b base) journal.Config { return journal.Config{URL: m.file.NATSURL, TLS: b.tls, Replicas: 1} }
	m.start(s.notifier, func(ctx context.Context, b base, log *slog.Logger) error {
		return notifier.Run(ctx, notifier.Config{RPC: b.rpc, TLS: b.tls, Obs: b.obs, Listener: b.lis, Journal: jc(b)}, log)
	})
	m.start(s.publisher, func(ctx context.Context, b base, log *slog.Logger) error {
		return publisher.Run(ctx, publisher.Config{
			RPC: b.rpc, TLS: b.tls, Obs: b.obs, Listener: b.lis, Journal: jc(b),
			KinesisEndpoint: m.file.AWSEndpoint, Region: region, Notifier: m.file.GRPC.Notifier,
		}, log)
	})
	m.start(s.crypto, func(ctx context.Context, b base, log *slog.Logger) error {
		return crypto.Run(ctx, crypto.Config{
			RPC: b.rpc, TLS: b.tls, Obs: b.obs, Listener: b.lis, Journal: jc(b),
			KMSEndpoint: m.file.AWSEndpoint, Region: region, SigningKeyFile: m.dir.signing(), SpoolKeyFile: m.spool.keyFile,
		}, log)
	})
	m.start(s.control, func(ctx context.Context, b base, log *slog.Logger) error {
		return control.Run(ctx, control.Config{
			RPC: b.rpc, TLS: b.tls, Obs: b.obs, Listener: b.lis, Journal: jc(b),
			Publisher: m.file.GRPC.Publisher, Crypto: m.file.GRPC.Crypto, Notifier: m.file.GRPC.Notifier,
		}, log)
	})
}

// startCapture starts capture, which needs its instance registered.
func (m *mesh) startCapture(b base) {
	m.start(b, func(ctx context.Context, b base, log *slog.Logger) error {
		cfg := capture.Config{
			RPC: b.rpc, TLS: b.tls, Obs: b.obs, Listener: b.lis,
			RingFile: m.ring, ClusterID: clusterID, InstanceID: instanceID,
			Control: m.file.GRPC.Control, Crypto: m.file.GRPC.Crypto, Notifier: m.file.GRPC.Notifier,
			ServerHost: "127.0.0.1", Spool: m.spool.config,
		}
		if m.PgauditLog != "" {
			cfg.PgauditLog.Pattern = filepath.Join(m.PgauditLog, "*.csv*")
		}
		return capture.Run(ctx, cfg, log)
	})
}

func (m *mesh) start(b base, run func(context.Context, base, *slog.Logger) error) {
	log := m.log.of(b.name)
	m.parts.start(b.name, func(ctx context.Context) error { return run(ctx, b, log) })
}
