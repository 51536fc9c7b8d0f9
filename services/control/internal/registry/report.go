package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/weir-das/weir/pkg/fault"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
)

// PutReport keeps what a capture said, in place of what it said before. Every
// replica sees it.
func (r *Registry) PutReport(ctx context.Context, in Instance, rep *controlv1.InstanceReport) error {
	b, err := proto.Marshal(rep)
	if err != nil {
		return fmt.Errorf("encoding the report of %s: %w", in.ID, err)
	}
	err = r.withBucket(ctx, r.reportsConfig(), func() error {
		_, err := r.reports.Put(ctx, in.ResourceID, b)
		return err
	})
	if err != nil {
		return unavailable("keeping the report of "+in.ID, err)
	}
	return nil
}

func (r *Registry) reportsConfig() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket: bucketReports, Description: "Weir: what captures last said",
		Storage: jetstream.MemoryStorage, TTL: reportTTL, Replicas: r.opts.Replicas,
	}
}

// Report returns what a capture last said, or nil.
func (r *Registry) Report(ctx context.Context, in Instance) (*controlv1.InstanceReport, error) {
	var e jetstream.KeyValueEntry
	err := r.withBucket(ctx, r.reportsConfig(), func() (err error) {
		e, err = r.reports.Get(ctx, in.ResourceID)
		return err
	})
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, nil
	case err != nil:
		return nil, unavailable("reading the report of "+in.ID, err)
	}
	rep := new(controlv1.InstanceReport)
	if err := proto.Unmarshal(e.Value(), rep); err != nil {
		return nil, fault.As(fault.Corrupted, fmt.Errorf("decoding the report of %s: %w", in.ID, err))
	}
	return rep, nil
}

// Reports returns what the captures of a cluster last said, by instance id.
func (r *Registry) Reports(ctx context.Context, c Cluster) (map[string]*controlv1.InstanceReport, error) {
	all := make(map[string]*controlv1.InstanceReport, len(c.Instances))
	for _, in := range c.Instances {
		rep, err := r.Report(ctx, in)
		if err != nil {
			return nil, err
		}
		if rep != nil {
			all[in.ID] = rep
		}
	}
	return all, nil
}
