package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-das/weir/pkg/fault"
)

// TakeLease takes the lease and lets it lapse, as a replica that is killed does.
func (r *Registry) TakeLease(ctx context.Context, holder string) error {
	_, err := r.takeLease(ctx, holder)
	return err
}

// Claim claims an instance's id and gets no further, as a replica that is
// killed between its two writes.
func (r *Registry) Claim(ctx context.Context, clusterID, id string) error {
	return r.claim(ctx, clusterID, Instance{ID: id, ResourceID: newResourceID(instancePrefix)})
}

// SetClaimGrace shortens what a claim without its instance is respected for.
func (r *Registry) SetClaimGrace(d time.Duration) { r.claimGrace = d }

// LoseReports deletes the bucket of reports, as the restart of a server does.
func (r *Registry) LoseReports(ctx context.Context) error {
	return r.js.DeleteKeyValue(ctx, bucketReports)
}

// Corrupt writes a document that no version of control wrote.
func (r *Registry) Corrupt(ctx context.Context, id, doc string) error {
	if _, err := r.control.Put(ctx, clusterKeys+id, []byte(doc)); err != nil {
		return fault.As(fault.NotReady, fmt.Errorf("corrupting %s: %w", id, err))
	}
	return nil
}

// Decode and Encode are the documents' codec.
var Decode = decode

// Encode encodes a document.
func (c Cluster) Encode() ([]byte, error) { return c.encode() }

// NewResourceID makes a cluster's resource id.
func NewResourceID() string { return newResourceID(clusterPrefix) }
