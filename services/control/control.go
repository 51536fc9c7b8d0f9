// Package control keeps what is wanted: which clusters there are, whose activity
// is streamed and how. Captures watch it; people change it.
//
// Control is never on the path of an event. Without it everything runs on as it
// was told last; only changes wait. It keeps nothing in memory that another
// replica does not have, so any number of them may run: each answers calls, and
// one at a time, chosen by a lease, carries streams from one status to the next.
//
// It does not decide who people are: that is the certificates' and the
// allow-list's.
//
// Before: services/weir, the command line.
// Next: services/capture, which does what is wanted.
package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	publisherv1 "github.com/weir-das/weir/proto/gen/weir/publisher/v1"
	"github.com/weir-das/weir/services/control/internal/grpcapi"
	"github.com/weir-das/weir/services/control/internal/proof"
	"github.com/weir-das/weir/services/control/internal/registry"
	"github.com/weir-das/weir/services/control/internal/stream"
	"github.com/weir-das/weir/services/control/internal/watchdog"
)

// Run keeps the registry and carries streams until ctx ends. It returns nil
// after a clean stop.
func Run(ctx context.Context, cfg Config, log *slog.Logger) (err error) {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	cfg = cfg.withDefaults()
	tel, err := obs.Setup(ctx, cfg.Obs, "control", log)
	if err != nil {
		return err
	}
	defer func() {
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if flushErr := tel.Shutdown(flush); flushErr != nil {
			log.Warn("telemetry was not flushed", obs.KeyErr, flushErr)
		}
	}()

	crypto, err := rpc.Dial(cfg.Crypto, "crypto.weir", cfg.TLS, tel)
	if err != nil {
		return err
	}
	defer crypto.Close()
	publisher, err := rpc.Dial(cfg.Publisher, "publisher.weir", cfg.TLS, tel)
	if err != nil {
		return err
	}
	defer publisher.Close()
	notifier, err := rpc.Dial(cfg.Notifier, "notifier.weir", cfg.TLS, tel)
	if err != nil {
		return err
	}
	defer notifier.Close()

	conn, err := journal.Connect(ctx, cfg.Journal, "control", log)
	if err != nil {
		return err
	}
	defer conn.Close()
	var reg *registry.Registry
	if err := conn.WhenReady(ctx, func(ctx context.Context) (err error) {
		reg, err = registry.Open(ctx, conn.JetStream(), registry.Options{Replicas: cfg.Journal.Replicas, LeaseTTL: cfg.LeaseTTL}, log)
		return err
	}); err != nil {
		return err
	}
	limits := stream.Limits{LiveFor: cfg.LiveFor, InstanceWait: cfg.InstanceWait}
	reconciler := stream.New(reg, publisherv1.NewPublisherServiceClient(publisher), notifierv1.NewNotifierServiceClient(notifier),
		limits, cfg.Poll, time.Now, log)

	dog := watchdog.New(reg, notifierv1.NewNotifierServiceClient(notifier), cfg.SilentAfter, log)
	if err := stream.Observe(tel.Meter, reg, time.Now); err != nil {
		return err
	}

	server, err := rpc.NewServer(cfg.RPC, cfg.TLS, log, tel)
	if err != nil {
		return err
	}
	durable := proof.New(func(ctx context.Context) error { return journal.ProveDurable(ctx, conn) }, log)
	controlv1.RegisterControlServiceServer(server, grpcapi.New(reg, cryptov1.NewCryptoServiceClient(crypto), durable, limits, time.Now, log))

	// The mirror outlives the server, for calls that are still open read it.
	mirror, stopMirror := context.WithCancel(context.WithoutCancel(ctx))
	defer stopMirror()
	var mirrored errgroup.Group
	mirrored.Go(func() error { return reg.Run(mirror) })
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		return reg.Lead(ctx, holder(), func(ctx context.Context) error {
			both, ctx := errgroup.WithContext(ctx)
			both.Go(func() error { return reconciler.Run(ctx) })
			both.Go(func() error { return dog.Run(ctx) })
			return both.Wait()
		})
	})
	work.Go(func() error {
		reconnected := conn.NATS().StatusChanged(nats.CONNECTED)
		defer conn.NATS().RemoveStatusListener(reconnected)
		return durable.Run(ctx, reconnected, func() bool { return stream.AnySync(reg) })
	})
	work.Go(func() error {
		if cfg.Listener != nil {
			return server.ServeListener(ctx, cfg.Listener)
		}
		return server.Serve(ctx)
	})
	err = work.Wait()
	stopMirror()
	return errors.Join(err, mirrored.Wait())
}

// holder names this process in the lease: the host for people, the rest so that
// no two processes have the same.
func holder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return host + " " + rand.Text()
}
