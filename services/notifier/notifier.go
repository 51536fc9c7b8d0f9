// Package notifier keeps events about the audit itself for 14 days: a stream was
// started or stopped, an engine is no longer audited or is again.
//
// Whoever tells an event is answered when it is on disk, and may tell it again
// without harm. Notifier decides nothing about what it is told and knows no
// statement. It has no state of its own, so any number of replicas may run.
//
// Before: services/control and services/capture, which tell events.
// Next: services/weir, which lists them.
package notifier

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/notifier/internal/events"
)

// Run keeps events until ctx ends. It returns nil after a clean stop.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	tel, err := obs.Setup(ctx, cfg.Obs, "notifier", log)
	if err != nil {
		return err
	}
	defer func() {
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := tel.Shutdown(flush); err != nil {
			log.Warn("telemetry was not flushed", obs.KeyErr, err)
		}
	}()
	conn, err := journal.Connect(ctx, cfg.Journal, "notifier", log)
	if err != nil {
		return err
	}
	defer conn.Close()
	store, err := openStore(ctx, conn.JetStream(), events.Options{Replicas: cfg.Journal.Replicas, MaxBytes: cfg.MaxBytes}, log)
	if err != nil {
		return err
	}
	server, err := rpc.NewServer(cfg.RPC, cfg.TLS, log, tel)
	if err != nil {
		return err
	}
	notifierv1.RegisterNotifierServiceServer(server, events.NewServer(store, obs.NewHop(tel, "notifier"), time.Now, log))
	if cfg.Listener != nil {
		return server.ServeListener(ctx, cfg.Listener)
	}
	return server.Serve(ctx)
}

// openWait is how long a NATS that is up may take to have JetStream ready. After
// that something is wrong that waiting does not mend.
const openWait = time.Minute

// openStore tries to open the store until it can, for openWait at most.
func openStore(ctx context.Context, js jetstream.JetStream, opts events.Options, log *slog.Logger) (*events.Store, error) {
	limit, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	wait := backoff.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	for {
		opened, err := events.Open(limit, js, opts)
		if !fault.Is(err, fault.NotReady) || wait.Wait(limit) != nil {
			return opened, err
		}
		log.Warn("JetStream is not ready", obs.KeyErr, err)
	}
}
