package registry

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/obs"
)

// Every capture watches its instance through some replica, and a consumer in
// JetStream for each would be thousands. So a replica has one watch on all
// documents, keeps their newest revisions in memory and wakes those who follow.

// follower is woken when a document it is interested in has changed.
type follower struct {
	clusterID string // empty: all
	wake      chan struct{}
}

// Follow returns a channel that receives after changes of the cluster, or of
// any cluster where id is empty; changes that happen while nobody receives are
// one. stop ends it.
func (r *Registry) Follow(id string) (wake <-chan struct{}, stop func()) {
	f := &follower{clusterID: id, wake: make(chan struct{}, 1)}
	r.mu.Lock()
	r.followers[f] = struct{}{}
	r.mu.Unlock()
	return f.wake, func() {
		r.mu.Lock()
		delete(r.followers, f)
		r.mu.Unlock()
	}
}

// Seen returns the newest revision of a cluster that this replica has seen. It
// may lag behind Get by the time a message takes; known is false while nothing
// is certain (not every cluster has been seen yet).
func (r *Registry) Seen(id string) (c Cluster, exists, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, exists = r.mirror[id]
	return c, exists, exists || r.complete
}

// SeenAll returns every cluster that keep accepts, as Seen does.
func (r *Registry) SeenAll(keep func(Cluster) bool) []Cluster {
	r.mu.Lock()
	defer r.mu.Unlock()
	var some []Cluster
	for _, c := range r.mirror {
		if keep(c) {
			some = append(some, c)
		}
	}
	return some
}

// Run mirrors the documents until ctx ends. A watch that breaks is made anew.
func (r *Registry) Run(ctx context.Context) error {
	wait := backoff.Backoff{Min: 50 * time.Millisecond, Max: 5 * time.Second}
	for {
		err := r.mirrorOnce(ctx, wait.Reset)
		if ctx.Err() != nil {
			return nil
		}
		r.log.Info("watch on the registry ended, watching again", obs.KeyErr, err)
		if wait.Wait(ctx) != nil {
			return nil
		}
	}
}

func (r *Registry) mirrorOnce(ctx context.Context, caughtUp func()) error {
	// The client library notices a watch that the server has forgotten by its
	// silence, after 20 s. A new connection is reason enough to ask.
	reconnected := r.js.Conn().StatusChanged(nats.CONNECTED)
	defer r.js.Conn().RemoveStatusListener(reconnected)
	if err := r.renew(ctx); err != nil {
		return err
	}
	w, err := r.control.Watch(ctx, clusterKeys+"*")
	if err != nil {
		return err
	}
	defer stopWatch(w)
	seen := make(map[string]bool)
	initial := true
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-reconnected:
			return errors.New("the connection was made anew")
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return jetstream.ErrConnectionClosed
			case e == nil:
				initial = false
				r.settle(seen)
				caughtUp()
			default:
				id := strings.TrimPrefix(e.Key(), clusterKeys)
				if initial {
					seen[id] = e.Operation() == jetstream.KeyValuePut
				}
				r.apply(id, e)
			}
		}
	}
}

// apply puts one update into the mirror.
func (r *Registry) apply(id string, e jetstream.KeyValueEntry) {
	if e.Operation() != jetstream.KeyValuePut {
		r.mu.Lock()
		defer r.mu.Unlock()
		if c, ok := r.mirror[id]; ok && c.Revision < e.Revision() {
			delete(r.mirror, id)
			r.wake(id)
		}
		return
	}
	c, err := decode(e.Key(), e.Value(), e.Revision())
	if err != nil {
		// Get says the same to whoever asks; the rest of the registry lives on.
		r.log.Error("cluster cannot be read", obs.KeyCluster, id, obs.KeyErr, err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mirror[id].Revision < c.Revision {
		r.mirror[id] = c
		r.wake(id)
	}
}

// settle ends the first part of a watch: what it did not show is gone.
func (r *Registry) settle(seen map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.mirror {
		if !seen[id] {
			delete(r.mirror, id)
			r.wake(id)
		}
	}
	r.complete = true
}

// wake wants mu held.
func (r *Registry) wake(id string) {
	for f := range r.followers {
		if f.clusterID == "" || f.clusterID == id {
			select {
			case f.wake <- struct{}{}:
			default: // it has one coming
			}
		}
	}
}

// stopWatch ends a watch and waits for its last words: the client library
// blocks for ever on a channel that nobody reads.
func stopWatch(w jetstream.KeyWatcher) {
	_ = w.Stop() // an error means that it has ended already
	for range w.Updates() {
	}
}
