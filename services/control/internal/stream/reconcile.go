package stream

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/obs"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	publisherv1 "github.com/weir-das/weir/proto/gen/weir/publisher/v1"
	"github.com/weir-das/weir/services/control/internal/registry"
)

const (
	// maxPasses is how many clusters are worked on at a time. A pass waits for
	// nothing but calls, each of which has a deadline; but to make a Kinesis
	// stream may take a minute, for which others should not have to wait.
	maxPasses = 64
	// maxPause is how often a cluster that waits for its captures or the journal
	// is looked at, at the latest; maxFailurePause the same after an error: AWS
	// limits how often one may ask for a stream.
	maxPause        = 2 * time.Second
	maxFailurePause = 20 * time.Second
)

// Reconciler carries every cluster's stream to where it is wanted.
type Reconciler struct {
	reg       *registry.Registry
	publisher publisherv1.PublisherServiceClient
	notifier  notifierv1.NotifierServiceClient
	lim       Limits
	poll      time.Duration // between looks at a cluster that is on its way, at first
	now       func() time.Time
	log       *slog.Logger
}

// New returns a Reconciler. now is the clock of reports and documents.
func New(reg *registry.Registry, publisher publisherv1.PublisherServiceClient, notifier notifierv1.NotifierServiceClient,
	lim Limits, poll time.Duration, now func() time.Time, log *slog.Logger) *Reconciler {
	return &Reconciler{reg: reg, publisher: publisher, notifier: notifier, lim: lim, poll: poll, now: now, log: log}
}

// wish is what is asked of a stream, as far as a new pass is worth it. It leaves
// out what passes themselves write: an error's text may be new every time.
type wish struct {
	since         int64 // when the status was reached, in ns
	generation    uint64
	deleteKinesis bool
}

func wishOf(c registry.Cluster) wish {
	return wish{c.Stream.Since.UnixNano(), c.Stream.Told.Generation, c.Stream.DeleteKinesis}
}

// pace spaces the passes over one cluster.
type pace struct {
	running bool
	seen    wish // of the last pass: a new one is looked at, at once
	next    time.Time
	waiting backoff.Backoff
	failing backoff.Backoff
	failure string // the last one that was logged
}

// Run works until ctx ends and returns when the last pass has. One replica
// should run it at a time; several do no harm but work.
func (r *Reconciler) Run(ctx context.Context) error {
	wake, stop := r.reg.Follow("")
	defer stop()
	tick := time.NewTicker(r.poll)
	defer tick.Stop()

	var passes errgroup.Group
	passes.SetLimit(maxPasses)
	var mu sync.Mutex // guards paces and what they point to
	paces := make(map[string]*pace)

	for {
		mu.Lock()
		due := r.due(paces)
		for _, c := range due {
			p := paces[c.ID]
			started := passes.TryGo(func() error {
				o := r.pass(ctx, c)
				mu.Lock()
				defer mu.Unlock()
				r.schedule(ctx, c, p, o)
				return nil // logged; the next pass is its answer
			})
			if !started {
				break // the others' turn comes with the next tick
			}
			p.running, p.seen = true, wishOf(c)
		}
		mu.Unlock()
		select {
		case <-ctx.Done():
			return passes.Wait()
		case <-wake:
		case <-tick.C:
		}
	}
}

// due returns the clusters whose turn it is, and forgets those that are where
// they should be.
func (r *Reconciler) due(paces map[string]*pace) []registry.Cluster {
	unsettled := r.reg.SeenAll(func(c registry.Cluster) bool {
		return c.Stream.Status == registry.Starting || c.Stream.Status == registry.Stopping || len(c.Stream.Notices) > 0
	})
	now := time.Now()
	due := unsettled[:0]
	live := make(map[string]bool, len(unsettled))
	for _, c := range unsettled {
		live[c.ID] = true
		p := paces[c.ID]
		if p == nil {
			p = &pace{
				waiting: backoff.Backoff{Min: r.poll, Max: max(r.poll, maxPause)},
				failing: backoff.Backoff{Min: r.poll, Max: max(r.poll, maxFailurePause)},
			}
			paces[c.ID] = p
		}
		if p.running {
			continue
		}
		if wishOf(c) != p.seen {
			p.waiting.Reset()
			p.failing.Reset()
			p.next = now
		}
		if !now.Before(p.next) {
			due = append(due, c)
		}
	}
	for id, p := range paces {
		if !live[id] && !p.running {
			delete(paces, id)
		}
	}
	return due
}

// schedule says when the next pass is due, and logs an error when it is new.
func (r *Reconciler) schedule(ctx context.Context, c registry.Cluster, p *pace, o outcome) {
	p.running = false
	switch {
	case o.stepErr == nil && (o.tellErr == nil || o.onItsWay):
		p.failing.Reset()
		p.next = time.Now().Add(p.waiting.Next())
	default:
		p.next = time.Now().Add(p.failing.Next())
	}
	failure := ""
	if err := errors.Join(o.stepErr, o.tellErr); err != nil {
		failure = err.Error()
	}
	if failure != "" && failure != p.failure && ctx.Err() == nil {
		r.log.Warn("stream is held up", append(attrs(c), obs.KeyErr, failure)...)
	}
	p.failure = failure
}

// attrs are a cluster's log attributes.
func attrs(c registry.Cluster) []any {
	return []any{obs.KeyCluster, c.ID, "status", c.Stream.Status, "generation", c.Stream.Told.Generation}
}
