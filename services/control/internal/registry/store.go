package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
)

const (
	clusterKeys  = "clusters."
	resourceKeys = "resources."
	instanceKeys = "instances."
)

// maxSwaps bounds how often one change is tried against others that win.
const maxSwaps = 30

// Create registers a cluster and gives it its resource id. It returns a
// fault.Conflict if the id is taken.
func (r *Registry) Create(ctx context.Context, id, engine string, now time.Time) (Cluster, error) {
	doing := fmt.Sprintf("registering cluster %s", id)
	c := Cluster{
		Version:    docVersion,
		ID:         id,
		ResourceID: newResourceID(clusterPrefix),
		Engine:     engine,
		CreatedAt:  now,
	}
	c.Stream = Stream{Status: Stopped, Since: now, KinesisStream: "aws-rds-das-" + c.ResourceID}
	doc, err := c.encode()
	if err != nil {
		return Cluster{}, err
	}
	// The index first: one that points nowhere is harmless, a cluster that
	// cannot be found by its resource id is not.
	if _, err := r.control.Put(ctx, resourceKeys+c.ResourceID, []byte(id)); err != nil {
		return Cluster{}, unavailable(doing, err)
	}
	c.Revision, err = r.control.Create(ctx, clusterKeys+id, doc)
	switch {
	case errors.Is(err, jetstream.ErrKeyExists):
		if err := r.control.Purge(ctx, resourceKeys+c.ResourceID); err != nil {
			r.log.Warn("index of a cluster that was not made stays behind", "resource", c.ResourceID, obs.KeyErr, err)
		}
		return Cluster{}, fault.As(fault.Conflict, fmt.Errorf("cluster %s: the id is taken", id))
	case err != nil:
		return Cluster{}, unavailable(doing, err)
	}
	return c, nil
}

// Get returns the cluster with that id or resource id, or a fault.Invalid.
func (r *Registry) Get(ctx context.Context, id string) (Cluster, error) {
	if !IsClusterResourceID(id) {
		return r.load(ctx, id)
	}
	unknown := fault.As(fault.Invalid, fmt.Errorf("cluster %s: not registered", id))
	e, err := r.control.Get(ctx, resourceKeys+id)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return Cluster{}, unknown
	case err != nil:
		return Cluster{}, unavailable("reading the cluster of "+id, err)
	}
	c, err := r.load(ctx, string(e.Value()))
	if err != nil {
		return Cluster{}, err
	}
	if c.ResourceID != id { // the name has gone to another cluster since
		return Cluster{}, unknown
	}
	return c, nil
}

func (r *Registry) load(ctx context.Context, id string) (Cluster, error) {
	e, err := r.control.Get(ctx, clusterKeys+id)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return Cluster{}, fault.As(fault.Invalid, fmt.Errorf("cluster %s: not registered", id))
	case err != nil:
		return Cluster{}, unavailable("reading cluster "+id, err)
	}
	return decode(e.Key(), e.Value(), e.Revision())
}

// List returns all clusters, by id.
func (r *Registry) List(ctx context.Context) ([]Cluster, error) {
	w, err := r.control.Watch(ctx, clusterKeys+"*", jetstream.IgnoreDeletes())
	if err != nil {
		return nil, unavailable("listing clusters", err)
	}
	defer stopWatch(w)
	var all []Cluster
	for {
		select {
		case <-ctx.Done():
			return nil, unavailable("listing clusters", ctx.Err())
		case e, ok := <-w.Updates():
			if !ok {
				return nil, unavailable("listing clusters", jetstream.ErrConnectionClosed)
			}
			if e == nil { // everything that was there has been seen
				slices.SortFunc(all, func(a, b Cluster) int { return strings.Compare(a.ID, b.ID) })
				return all, nil
			}
			c, err := decode(e.Key(), e.Value(), e.Revision())
			if err != nil {
				return nil, err
			}
			all = append(all, c)
		}
	}
}

// Change makes change on the newest revision of a cluster and returns what is
// kept then. Where another replica was faster it is made again on what that
// one wrote, so change must be a function of the cluster alone. A change that
// changes nothing writes nothing. An error of change is returned as it is;
// fault.Conflict says that others won every time.
func (r *Registry) Change(ctx context.Context, id string, change func(*Cluster) error) (Cluster, error) {
	wait := backoff.Backoff{Min: 5 * time.Millisecond, Max: 200 * time.Millisecond}
	for range maxSwaps {
		old, err := r.load(ctx, id)
		if err != nil {
			return Cluster{}, err
		}
		c := old.clone()
		if err := change(&c); err != nil {
			return Cluster{}, err
		}
		was, err := old.encode()
		if err != nil {
			return Cluster{}, err
		}
		doc, err := c.encode()
		if err != nil {
			return Cluster{}, err
		}
		if bytes.Equal(was, doc) {
			return c, nil
		}
		rev, err := r.control.Update(ctx, clusterKeys+id, doc, old.Revision)
		switch {
		case errors.Is(err, jetstream.ErrKeyRevisionMismatch):
			if err := wait.Wait(ctx); err != nil {
				return Cluster{}, unavailable("changing cluster "+id, err)
			}
		case err != nil:
			return Cluster{}, unavailable("changing cluster "+id, err)
		default:
			c.Revision = rev
			return c, nil
		}
	}
	return Cluster{}, fault.As(fault.Conflict, fmt.Errorf("cluster %s: changed by others %d times in a row", id, maxSwaps))
}

// Delete forgets a cluster and its instances, unless may objects to what is
// the newest revision at that moment.
func (r *Registry) Delete(ctx context.Context, id string, may func(Cluster) error) error {
	doing := "deleting cluster " + id
	wait := backoff.Backoff{Min: 5 * time.Millisecond, Max: 200 * time.Millisecond}
	for range maxSwaps {
		c, err := r.load(ctx, id)
		if err != nil {
			return err
		}
		if err := may(c); err != nil {
			return err
		}
		err = r.control.Delete(ctx, clusterKeys+id, jetstream.LastRevision(c.Revision))
		switch {
		case errors.Is(err, jetstream.ErrKeyRevisionMismatch):
			if err := wait.Wait(ctx); err != nil {
				return unavailable(doing, err)
			}
			continue
		case err != nil:
			return unavailable(doing, err)
		}
		// The cluster is gone. What follows only tidies: an index that points
		// nowhere and a claim without its instance are seen as such.
		if err := r.control.Purge(ctx, resourceKeys+c.ResourceID); err != nil {
			r.log.Warn("index of a deleted cluster stays behind", obs.KeyCluster, id, obs.KeyErr, err)
		}
		for _, in := range c.Instances {
			r.forget(ctx, in)
		}
		return nil
	}
	return fault.As(fault.Conflict, fmt.Errorf("cluster %s: changed by others %d times in a row", id, maxSwaps))
}
