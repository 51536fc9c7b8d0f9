// Package publisher moves sealed records from the journal to Kinesis, and owns
// the Kinesis streams.
//
// It has no state: the cursor is the journal's, which deletes a record when
// Kinesis has it. Any number of replicas share the work; a record taken by one
// that dies is delivered to another. It cannot read what it moves.
//
// Before: pkg/journal, filled by services/crypto. Next: Kinesis and its consumers,
// `weir tail` among them.
package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	publisherv1 "github.com/weir-das/weir/proto/gen/weir/publisher/v1"
	"github.com/weir-das/weir/services/publisher/internal/kinesis"
	"github.com/weir-das/weir/services/publisher/internal/relay"
)

// Run relays until ctx ends. It returns nil after a clean drain: what was being
// put is settled, the rest is in the journal.
func Run(ctx context.Context, cfg Config, log *slog.Logger) (err error) {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	cfg = cfg.withDefaults()
	tel, err := obs.Setup(ctx, cfg.Obs, "publisher", log)
	if err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, tel.Shutdown(stopping))
	}()

	client, err := kinesis.New(ctx, cfg.KinesisEndpoint, cfg.Region, log)
	if err != nil {
		return err
	}
	tells := newTeller(nil, log)
	if cfg.Notifier != "" {
		notifier, err := rpc.Dial(cfg.Notifier, "notifier.weir", cfg.TLS, tel)
		if err != nil {
			return err
		}
		defer notifier.Close()
		tells.notifier = notifierv1.NewNotifierServiceClient(notifier)
	}
	conn, err := journal.Connect(ctx, cfg.Journal, "publisher", log)
	if err != nil {
		return endedEarly(ctx, err)
	}
	defer conn.Close()
	jrn, err := journal.Open(ctx, conn, cfg.Journal)
	if err != nil {
		return endedEarly(ctx, err)
	}

	mover, err := relay.New(jrn, &remaking{Client: client, log: log, told: tells.remade}, relay.Limits{
		Bytes: cfg.MemoryBytes, LaneBytes: cfg.StreamBytes, Workers: cfg.Workers, Linger: cfg.Linger,
	}, log, tel)
	if err != nil {
		return err
	}

	server, err := rpc.NewServer(cfg.RPC, cfg.TLS, log, tel)
	if err != nil {
		return err
	}
	publisherv1.RegisterPublisherServiceServer(server, &handler{journal: jrn, kinesis: client, relay: mover})

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		mover.Run(ctx)
		return nil
	})
	group.Go(func() error {
		tells.run(ctx)
		return nil
	})
	group.Go(func() error {
		jrn.Keep(ctx)
		return nil
	})
	group.Go(func() error {
		if cfg.Listener != nil {
			return server.ServeListener(ctx, cfg.Listener)
		}
		return server.Serve(ctx)
	})
	return group.Wait()
}

// endedEarly is nil when it was told to stop before it had started.
func endedEarly(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
