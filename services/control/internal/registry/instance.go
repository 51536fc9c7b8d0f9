package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
)

// An instance's id is unique among all clusters, and no write spans two keys.
// So an id is claimed first, under a key of its own that names the cluster and
// the new resource id, and then written into its cluster's document. Who dies
// in between leaves a claim that nothing stands behind; it is taken over once
// it is older than any call that may still be at work on it.
const (
	defaultClaimGrace = time.Minute
	claimBudget       = 20 * time.Second
)

// AddInstance registers an instance in a cluster and gives it its resource id.
// It returns a fault.Conflict if the id is taken, in whichever cluster.
func (r *Registry) AddInstance(ctx context.Context, clusterID, id string) (Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, claimBudget)
	defer cancel()
	if _, err := r.load(ctx, clusterID); err != nil {
		return Instance{}, err
	}
	in := Instance{ID: id, ResourceID: newResourceID(instancePrefix)}
	if err := r.claim(ctx, clusterID, in); err != nil {
		return Instance{}, err
	}
	_, err := r.Change(ctx, clusterID, func(c *Cluster) error {
		i, taken := c.find(id)
		if taken {
			return fault.As(fault.Conflict, fmt.Errorf("instance %s: the id is taken in cluster %s", id, clusterID))
		}
		if len(c.Instances) >= maxInstances {
			return fault.As(fault.Invalid, fmt.Errorf("cluster %s: has %d instances, no more than %d are supported", clusterID, len(c.Instances), maxInstances))
		}
		c.Instances = slices.Insert(c.Instances, i, in)
		return nil
	})
	if err != nil {
		if !fault.Is(err, fault.NotReady) { // else the write may have been made
			r.unclaim(ctx, in)
		}
		return Instance{}, err
	}
	return in, nil
}

// claim takes the instance's id for the cluster, or says who has it.
func (r *Registry) claim(ctx context.Context, clusterID string, in Instance) error {
	doing := "claiming instance id " + in.ID
	mine := []byte(clusterID + "/" + in.ResourceID)
	_, err := r.control.Create(ctx, instanceKeys+in.ID, mine)
	if err == nil {
		return nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return unavailable(doing, err)
	}
	e, err := r.control.Get(ctx, instanceKeys+in.ID)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return fault.As(fault.Conflict, fmt.Errorf("instance %s: the id is being given up, try again", in.ID))
	case err != nil:
		return unavailable(doing, err)
	}
	holder, resourceID, _ := strings.Cut(string(e.Value()), "/")
	taken := fault.As(fault.Conflict, fmt.Errorf("instance %s: the id is taken in cluster %s", in.ID, holder))
	c, err := r.load(ctx, holder)
	if err != nil && !fault.Is(err, fault.Invalid) { // Invalid: that cluster is gone
		return err
	}
	if has, ok := c.Instance(in.ID); ok && has.ResourceID == resourceID {
		return taken
	}
	if time.Since(e.Created()) < r.claimGrace {
		return fault.As(fault.Conflict, fmt.Errorf("instance %s: the id is being taken in cluster %s; if that comes to nothing it is free in %v", in.ID, holder, r.claimGrace))
	}
	_, err = r.control.Update(ctx, instanceKeys+in.ID, mine, e.Revision())
	switch {
	case errors.Is(err, jetstream.ErrKeyRevisionMismatch):
		return taken
	case err != nil:
		return unavailable(doing, err)
	}
	return nil
}

// RemoveInstance forgets an instance, unless may objects.
func (r *Registry) RemoveInstance(ctx context.Context, clusterID, id string, may func(Cluster, Instance) error) error {
	var gone Instance
	_, err := r.Change(ctx, clusterID, func(c *Cluster) error {
		i, ok := c.find(id)
		if !ok {
			return UnknownInstance(clusterID, id)
		}
		gone = c.Instances[i]
		if err := may(*c, gone); err != nil {
			return err
		}
		c.Instances = slices.Delete(c.Instances, i, i+1)
		return nil
	})
	if err != nil {
		return err
	}
	r.forget(ctx, gone)
	return nil
}

// UnknownInstance is the error about an instance that is not there.
func UnknownInstance(clusterID, id string) error {
	return fault.As(fault.Invalid, fmt.Errorf("instance %s: not registered in cluster %s", id, clusterID))
}

// forget tidies up after an instance that its cluster no longer names.
func (r *Registry) forget(ctx context.Context, in Instance) {
	r.unclaim(ctx, in)
	if err := r.reports.Purge(ctx, in.ResourceID); err != nil {
		r.log.Warn("report of a deleted instance stays behind", obs.KeyInstance, in.ID, obs.KeyErr, err)
	}
}

// unclaim gives an id back, if it is still claimed for this very instance.
// It is allowed to fail: see claim.
func (r *Registry) unclaim(ctx context.Context, in Instance) {
	e, err := r.control.Get(ctx, instanceKeys+in.ID)
	if err == nil {
		if !strings.HasSuffix(string(e.Value()), "/"+in.ResourceID) {
			return // taken over
		}
		err = r.control.Purge(ctx, instanceKeys+in.ID, jetstream.LastRevision(e.Revision()))
	}
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		r.log.Warn("claim on an instance id stays behind", obs.KeyInstance, in.ID, obs.KeyErr, err)
	}
}
