// Package registry keeps what is wanted: clusters, their instances and their
// activity streams, as documents in a JetStream key-value bucket that every
// control replica reads and writes.
//
// The one idea: a cluster is one document, and a document changes only by
// compare-and-swap on its revision. Whatever has to change together (what is
// wanted, where the stream is, which events are still to be told) lies in one
// document and so changes together or not at all; a replica that worked on an
// old revision finds out when it writes.
//
// Three buckets:
//
//	WEIR_CONTROL  file    clusters.<cluster id>       the documents
//	                      resources.<resource id>     the cluster id behind a resource id
//	                      instances.<instance id>     which cluster has taken an instance's id
//	WEIR_LEASE    file    reconciler                  which replica acts, for a few seconds
//	WEIR_REPORTS  memory  <instance resource id>      what a capture last said
//
// Reports come every second from every instance and are worth nothing after a
// restart, so they never touch a disk. The package decides nothing: what may
// become of a stream is package stream's.
//
// Before: services/control/internal/grpcapi, which validates what people ask for.
// Next: services/control/internal/stream, which makes it so.
package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-das/weir/pkg/fault"
)

// The buckets' names. NATS permissions are written against them.
const (
	bucketControl = "WEIR_CONTROL"
	bucketLease   = "WEIR_LEASE"
	bucketReports = "WEIR_REPORTS"
)

// reportTTL is when a report that nobody renewed or deleted is dropped; it
// bounds what a report that arrives just after its instance's deletion leaves.
const reportTTL = 7 * 24 * time.Hour

// Options say how the buckets are made.
type Options struct {
	Replicas int           // of every bucket; 1 where it is 0
	LeaseTTL time.Duration // how long a dead replica's lease is respected
}

// Registry is one replica's access to the buckets. It is safe for concurrent use.
type Registry struct {
	// Immutable after Open.
	opts       Options
	claimGrace time.Duration
	log        *slog.Logger
	js         jetstream.JetStream

	control jetstream.KeyValue
	lease   jetstream.KeyValue
	reports jetstream.KeyValue

	// Of Run, after Open: when the bucket that is mirrored was made, and since when it
	// is missing.
	made, missing time.Time

	// mu guards what Run mirrors and who follows it. Never held across I/O.
	mu        sync.Mutex
	mirror    map[string]Cluster // by cluster id; each at the newest revision seen
	complete  bool               // true once every cluster has been seen
	followers map[*follower]struct{}
	// incarnation counts the buckets that were mirrored.
	incarnation int
}

// Open makes the buckets where they are missing.
func Open(ctx context.Context, js jetstream.JetStream, opts Options, log *slog.Logger) (*Registry, error) {
	if opts.Replicas == 0 {
		opts.Replicas = 1
	}
	r := &Registry{
		opts:       opts,
		claimGrace: defaultClaimGrace,
		log:        log,
		js:         js,
		mirror:     make(map[string]Cluster),
		followers:  make(map[*follower]struct{}),
	}
	for _, b := range []struct {
		kv  *jetstream.KeyValue
		cfg jetstream.KeyValueConfig
	}{
		{&r.control, r.controlConfig()},
		{&r.lease, r.leaseConfig()},
		{&r.reports, r.reportsConfig()},
	} {
		kv, err := r.open(ctx, b.cfg)
		if err != nil {
			return nil, fault.As(fault.NotReady, fmt.Errorf("opening bucket %s: %w", b.cfg.Bucket, err))
		}
		*b.kv = kv
	}
	if err := r.renew(ctx); err != nil { // made a moment ago, or long there
		return nil, fault.As(fault.NotReady, err)
	}
	return r, nil
}

func (r *Registry) controlConfig() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket: bucketControl, Description: "Weir: clusters, instances, streams",
		Storage: jetstream.FileStorage, History: 5, Replicas: r.opts.Replicas,
	}
}

func (r *Registry) leaseConfig() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket: bucketLease, Description: "Weir: which control replica acts",
		Storage: jetstream.FileStorage, TTL: r.opts.LeaseTTL, Replicas: r.opts.Replicas,
	}
}

// open makes a bucket, or brings the one there is up to date. It never takes
// replicas away: somebody may have added them by hand.
func (r *Registry) open(ctx context.Context, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	switch stream, err := r.js.Stream(ctx, "KV_"+cfg.Bucket); {
	case err == nil:
		cfg.Replicas = max(cfg.Replicas, stream.CachedInfo().Config.Replicas)
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, err
	}
	return r.js.CreateOrUpdateKeyValue(ctx, cfg)
}

// unavailable marks what JetStream says when it cannot serve. Nothing may be
// concluded from it: a write that ended so may have been made.
func unavailable(doing string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fault.As(fault.NotReady, fmt.Errorf("%s: the registry did not answer in time: %w", doing, err))
	}
	return fault.As(fault.NotReady, fmt.Errorf("%s: %w", doing, err))
}
