package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-das/weir/pkg/obs"
)

// goneAfter is for how long the bucket must be missing before it is made again: a
// server that lacks it for a moment must not get an empty one in its place.
const goneAfter = 2 * time.Second

// renew sees to it that the bucket is the one that this replica mirrors. Where NATS
// has lost it, it is made again, and every replica writes back what it has in
// memory and is not there: what is wanted outlives NATS's disk as long as one
// control lives. Nothing that was deleted comes back, and nobody overwrites what
// another has written since.
func (r *Registry) renew(ctx context.Context) error {
	s, err := r.js.Stream(ctx, "KV_"+bucketControl)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if r.missing.IsZero() {
			r.missing = time.Now()
		}
		if time.Since(r.missing) < goneAfter {
			return fmt.Errorf("NATS does not have bucket %s: %w", bucketControl, err)
		}
		if _, err := r.open(ctx, r.controlConfig()); err != nil {
			return fmt.Errorf("making bucket %s again: %w", bucketControl, err)
		}
		s, err = r.js.Stream(ctx, "KV_"+bucketControl)
	}
	if err != nil {
		return fmt.Errorf("looking for bucket %s: %w", bucketControl, err)
	}
	r.missing = time.Time{}
	made := s.CachedInfo().Created
	if !r.made.IsZero() && !r.made.Equal(made) {
		if err := r.writeBack(ctx); err != nil {
			return err
		}
		r.begin()
	}
	r.made = made
	return nil
}

// begin has the mirror take whatever the bucket says: its revisions have nothing to
// do with those of the bucket before it. Whoever compares them must begin anew.
func (r *Registry) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.incarnation++
	for id, c := range r.mirror {
		c.Revision = 0
		r.mirror[id] = c
		r.wake(id)
	}
}

// Incarnation counts the buckets that this replica has mirrored. Revisions compare
// only while it is the same.
func (r *Registry) Incarnation() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.incarnation
}

// writeBack writes what this replica has seen, where nothing was ever written.
func (r *Registry) writeBack(ctx context.Context) error {
	seen := r.SeenAll(func(Cluster) bool { return true })
	r.log.Error("NATS had lost its data; what is wanted is written back from memory: see docs/operations.md, \"When NATS has lost its data\"", "clusters", len(seen))
	for _, c := range seen {
		c = c.clone()
		// In one write with the document, so that it is told once, by whoever leads.
		c.Stream.Notices = append(c.Stream.Notices, Notice{Status: Restored, Generation: c.Stream.Told.Generation, At: time.Now()})
		doc, err := c.encode()
		if err != nil {
			return err
		}
		keys := []struct{ key, value string }{{resourceKeys + c.ResourceID, c.ID}}
		for _, in := range c.Instances {
			keys = append(keys, struct{ key, value string }{instanceKeys + in.ID, c.ID + "/" + in.ResourceID})
		}
		// The document last: a cluster that is there has its indexes.
		for _, k := range append(keys, struct{ key, value string }{clusterKeys + c.ID, string(doc)}) {
			if _, err := r.control.Update(ctx, k.key, []byte(k.value), 0); err != nil && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
				return fmt.Errorf("writing %s back: %w", k.key, err)
			}
		}
		r.log.Info("written back, unless another replica was faster", obs.KeyCluster, c.ID, "status", c.Stream.Status)
	}
	return nil
}

// withBucket does what do does, in a bucket that is made anew where the server has
// lost it and what lay in it is worth nothing: what lies in memory goes with a
// single server's restart.
func (r *Registry) withBucket(ctx context.Context, cfg jetstream.KeyValueConfig, do func() error) error {
	err := do()
	if !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, jetstream.ErrNoStreamResponse) && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	if _, err := r.open(ctx, cfg); err != nil {
		return err
	}
	return do()
}
