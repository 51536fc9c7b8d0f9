// Package notifier keeps events about the audit itself for 14 days, and delivers
// them: a stream was started or stopped, an engine is no longer audited or is
// again, records were lost, from when to when, how many and why.
//
// Whoever tells an event is answered when it is on disk, and may tell it again
// without harm. Notifier decides nothing about what it is told and knows no
// statement. It has no state of its own, so any number of replicas may run.
//
// Before: services/control, capture and publisher, which tell events.
// Next: services/weir, which lists them, and the sinks of internal/deliver.
package notifier

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/notifier/internal/deliver"
	"github.com/weir-das/weir/services/notifier/internal/events"
	"github.com/weir-das/weir/services/notifier/internal/grpcapi"
	"github.com/weir-das/weir/services/notifier/internal/window"
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
	var kept stores
	if err := conn.WhenReady(ctx, func(ctx context.Context) (err error) {
		kept, err = openOnce(ctx, conn.JetStream(), cfg, 0)
		return err
	}); err != nil {
		return err
	}
	server, err := rpc.NewServer(cfg.RPC, cfg.TLS, log, tel)
	if err != nil {
		return err
	}
	sinks, err := deliver.Open(ctx, cfg.Sinks, conn.JetStream(), kept.letters, time.Now, log)
	if err != nil {
		return err
	}
	notifierv1.RegisterNotifierServiceServer(server, grpcapi.New(kept.events, kept.windows, kept.letters, sinks, obs.NewHop(tel, "notifier"), time.Now, log))
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		return kept.windows.Run(ctx, sweepEvery, func(err error) { log.Warn("windows cannot be swept", obs.KeyErr, err) })
	})
	work.Go(func() error { return sinks.Run(ctx) })
	work.Go(func() error {
		// The stores go on with what is made again: they know it by its name.
		conn.Keep(ctx, []string{events.StreamName, events.LetterStream, window.StreamName}, func(ctx context.Context, gone []journal.Gone) error {
			again, cancel := context.WithTimeout(ctx, againWait)
			defer cancel()
			after := uint64(0)
			if i := slices.IndexFunc(gone, func(g journal.Gone) bool { return g.Stream == events.StreamName }); i >= 0 {
				after = gone[i].Last
			}
			_, err := openOnce(again, conn.JetStream(), cfg, after)
			return err
		})
		return nil
	})
	work.Go(func() error {
		if cfg.Listener != nil {
			return server.ServeListener(ctx, cfg.Listener)
		}
		return server.Serve(ctx)
	})
	return work.Wait()
}

// sweepEvery is how often a replica looks for what another one left half told.
const sweepEvery = 15 * time.Second

// stores is all that is kept.
type stores struct {
	events  *events.Store
	windows *window.Store
	letters *events.DeadLetters
}

// againWait bounds one try to make again what NATS has lost.
const againWait = 5 * time.Second

// openOnce opens what is kept, and makes what is missing. after is the last
// sequence of events that were lost, if any were.
func openOnce(ctx context.Context, js jetstream.JetStream, cfg Config, after uint64) (s stores, err error) {
	options := events.Options{Replicas: cfg.Journal.Replicas, MaxBytes: cfg.MaxBytes, After: after}
	if s.events, err = events.Open(ctx, js, options); err != nil {
		return s, err
	}
	if s.letters, err = events.OpenDeadLetters(ctx, js, options); err != nil {
		return s, err
	}
	tell := func(ctx context.Context, w *notifierv1.Window, detail string) error {
		_, _, err := s.events.Keep(ctx, events.OfWindow(w, detail))
		return err
	}
	s.windows, err = window.Open(ctx, js, window.Options{Replicas: options.Replicas, MaxBytes: options.MaxBytes}, tell, time.Now)
	return s, err
}
