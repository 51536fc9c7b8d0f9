package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/obs"
)

const leaseKey = "reconciler"

// Lead runs work while this replica holds the lease, and again whenever it gets
// it, until ctx ends. At most one replica works at a time: the lease lapses by
// the NATS server's clock alone, and work's context ends before it can lapse.
// A replica that stops hands it over at once; one that dies, after LeaseTTL.
//
// What a frozen process has already sent cannot be called back, so work must
// still be safe to do twice; the lease only makes it rare.
func (r *Registry) Lead(ctx context.Context, holder string, work func(context.Context) error) error {
	wait := backoff.Backoff{Min: r.opts.LeaseTTL / 8, Max: r.opts.LeaseTTL / 2}
	for {
		asked := time.Now()
		rev, err := r.takeLease(ctx, holder)
		switch {
		case err == nil:
			r.log.Info("leading", "holder", holder)
			err := r.hold(ctx, holder, rev, asked, work)
			r.log.Info("no longer leading", "holder", holder, obs.KeyErr, err)
			wait.Reset()
		case errors.Is(err, jetstream.ErrKeyExists):
			wait.Reset() // somebody leads: look again soon, not ever later
		case ctx.Err() == nil:
			r.log.Warn("lease cannot be asked for", obs.KeyErr, err)
		}
		if wait.Wait(ctx) != nil {
			return nil
		}
	}
}

// takeLease makes the key, or finds that an earlier try, whose answer was lost, did.
func (r *Registry) takeLease(ctx context.Context, holder string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.LeaseTTL)
	defer cancel()
	var rev uint64
	err := r.withBucket(ctx, r.leaseConfig(), func() (err error) {
		rev, err = r.lease.Create(ctx, leaseKey, []byte(holder))
		return err
	})
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return rev, err
	}
	e, getErr := r.lease.Get(ctx, leaseKey)
	if getErr != nil || string(e.Value()) != holder {
		return 0, err
	}
	return r.lease.Update(ctx, leaseKey, []byte(holder), e.Revision())
}

// hold runs work and renews the lease beside it. renewed is when the renewal
// was asked for that last succeeded: the lease cannot have been made earlier,
// so it cannot lapse before renewed+TTL.
func (r *Registry) hold(ctx context.Context, holder string, rev uint64, renewed time.Time, work func(context.Context) error) error {
	working, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	done := make(chan error, 1)
	go func() { done <- work(working) }() // awaited on every way out

	end := func(cause error) error {
		lost(cause)
		err := <-done
		r.giveUp(ctx, rev)
		return errors.Join(context.Cause(working), err)
	}
	tick := time.NewTicker(r.opts.LeaseTTL / 4)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			r.giveUp(ctx, rev)
			return err
		case <-ctx.Done():
			return end(nil)
		case <-tick.C:
		}
		asked := time.Now()
		// Three quarters of the TTL after the last renewal the work must have
		// been told to end, whatever the server is doing.
		renewCtx, cancel := context.WithDeadline(ctx, renewed.Add(r.opts.LeaseTTL*3/4))
		next, err := r.lease.Update(renewCtx, leaseKey, []byte(holder), rev)
		cancel()
		switch {
		case err == nil:
			rev, renewed = next, asked
		case errors.Is(err, jetstream.ErrKeyRevisionMismatch):
			return end(errors.New("the lease has gone to another replica"))
		case time.Since(renewed) >= r.opts.LeaseTTL/2:
			return end(fmt.Errorf("renewing the lease: %w", err))
		}
	}
}

// giveUp hands the lease over without waiting for it to lapse. The registry
// may be unreachable, or the lease another's: then it lapses, or is kept.
func (r *Registry) giveUp(ctx context.Context, rev uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.opts.LeaseTTL/4)
	defer cancel()
	if err := r.lease.Delete(ctx, leaseKey, jetstream.LastRevision(rev)); err != nil {
		r.log.Debug("lease was not given up", obs.KeyErr, err)
	}
}
