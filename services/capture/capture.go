// Package capture turns what a database server does into records on their way
// to the journal. One capture stands beside each server and reads the ring that
// the engine module writes.
//
// It holds no state worth saving: what is not on the journal's disk is still in
// the ring, or sealed in the spool where it has one; the chain's state is in the
// ring, and so are what control wanted last and what the journal had handed on.
// Kill it and start it again.
//
// Before: engine/postgres and engine/ring, inside the server, or where it has no
// module internal/pgauditlog.
// Next: internal/ring, then internal/pipeline, and so on to services/crypto.
package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	"github.com/weir-das/weir/pkg/service"
	capturev1 "github.com/weir-das/weir/proto/gen/weir/capture/v1"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/capture/internal/link"
	"github.com/weir-das/weir/services/capture/internal/notice"
	"github.com/weir-das/weir/services/capture/internal/spool"
)

// Run captures until ctx ends. It returns nil after a clean drain: what was
// read is on the journal's disk, what was not is in the ring.
func Run(ctx context.Context, cfg Config, log *slog.Logger) (err error) {
	cfg = cfg.withDefaults()
	if err := service.Undumpable(); err != nil {
		return err
	}
	// In synchronous mode a thread sleeps on the ring's bell and keeps one of Go's
	// processors for up to 10 ms: with one alone nothing else would run meanwhile.
	if runtime.GOMAXPROCS(0) < 2 {
		runtime.GOMAXPROCS(2)
	}
	tel, err := obs.Setup(ctx, cfg.Obs, "capture", log)
	if err != nil {
		return err
	}
	defer shutdown(tel, log)

	control, err := rpc.Dial(cfg.Control, "control.weir", cfg.TLS, tel)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	defer control.Close()
	crypto, err := rpc.Dial(cfg.Crypto, "crypto.weir", cfg.TLS, tel)
	if err != nil {
		return fmt.Errorf("crypto: %w", err)
	}
	defer crypto.Close()
	notifier, err := rpc.Dial(cfg.Notifier, "notifier.weir", cfg.TLS, tel)
	if err != nil {
		return fmt.Errorf("notifier: %w", err)
	}
	defer notifier.Close()

	s := &station{
		cfg:    cfg,
		crypto: cryptov1.NewCryptoServiceClient(crypto),
		teller: notice.New(notifierv1.NewNotifierServiceClient(notifier), cfg.ClusterID, cfg.InstanceID, log),
		hop:    obs.NewHop(tel, "capture"),
		tracer: tel.Tracer,
		log:    log,
	}
	s.epochs.teller = s.teller
	s.link = link.New(controlv1.NewControlServiceClient(control), cfg.ClusterID, cfg.InstanceID, s.report, &s.epochs, log)
	s.link.Unknown = s.teller.Unknown
	s.hop.Oldest(s.oldest)
	if cfg.Spool.Dir != "" {
		if s.spool, err = spool.Open(cfg.Spool.Dir, cfg.Spool.MaxBytes, log); err != nil {
			return err
		}
		s.epochs.spool = s.spool
		s.spool.Losing = s.teller.SpoolLost
		defer func() { err = errors.Join(err, s.spool.Close()) }()
	}
	if err := s.observe(tel); err != nil {
		return err
	}
	if s.cfg.ServerHost == "" {
		if s.cfg.ServerHost, err = os.Hostname(); err != nil {
			return fmt.Errorf("server_host is empty and the host has no name: %w", err)
		}
	}

	follower, err := s.follow()
	if err != nil {
		return err
	}
	defer func() {
		if err := follower.close(); err != nil {
			log.Warn("closing the followed log", obs.KeyErr, err)
		}
	}()

	server, err := rpc.NewServer(cfg.RPC, cfg.TLS, log, tel)
	if err != nil {
		return err
	}
	capturev1.RegisterCaptureServiceServer(server, &statusServer{station: s})

	// Whoever watches and reports outlives the station: control learns that
	// the ring was drained.
	outer, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, outer := errgroup.WithContext(outer)
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	g.Go(func() error { return s.link.Run(outer) })
	g.Go(func() error { return s.teller.Run(outer) })
	if s.spool != nil {
		// Also without a ring: what is in the spool has no need of one.
		g.Go(func() error { return s.spool.KeepKey(outer, s.crypto) })
		g.Go(func() error { return s.spool.Drain(outer, s.crypto, s.hop.Out) })
	}
	g.Go(func() error {
		if cfg.Listener != nil {
			return server.ServeListener(outer, cfg.Listener)
		}
		return server.Serve(outer)
	})
	g.Go(func() error {
		defer stop()
		return s.run(inner)
	})
	g.Go(func() error {
		// A ring that nobody writes into any more is nothing to go on with.
		defer cancel()
		return follower.run(inner)
	})
	g.Go(func() error {
		// A server that cannot listen ends the station too.
		<-outer.Done()
		cancel()
		return nil
	})
	return g.Wait()
}

func shutdown(tel *obs.Telemetry, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := tel.Shutdown(ctx); err != nil {
		log.Warn("telemetry not flushed", obs.KeyErr, err)
	}
}
