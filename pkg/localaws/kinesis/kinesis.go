// Package kinesis is a small Kinesis Data Streams in memory: the calls that producers, the aws command line, Terraform and
// KCL-style readers make, answered and refused as AWS does.
//
// The one idea: nothing happens in the background. A stream's state, its retention and its throughput windows are worked
// out from the clock when somebody calls, so there is nothing to start, to wait for or to stop.
//
// It is not durable (all is lost with the process) and not meant for production. Enhanced fan-out and resource policies
// are not there. Memory is bounded: when the records of all streams reach Options.MaxBytes, puts are refused as throttled
// (ProvisionedThroughputExceededException) until retention or a deletion makes room; nothing that was accepted is dropped
// before its time.
//
// Before: services/publisher puts records. Next: `weir tail` and other consumers get them.
package kinesis

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-das/weir/pkg/localaws/inject"
	"github.com/weir-das/weir/pkg/localaws/internal/operation"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
	"github.com/weir-das/weir/pkg/localaws/kinesis/place"
)

// Options say how the service behaves. Zero values are AWS's behaviour, with no delay in changes of state.
type Options struct {
	Region, AccountID string
	// MaxBytes bounds the records of all streams together.
	MaxBytes int64
	// StateDelay is how long CREATING, UPDATING and DELETING last.
	StateDelay time.Duration
	// ShardLimit is how many open shards the account may have; ON_DEMAND streams are not counted.
	ShardLimit int
	// Throttle enforces 1 MiB and 1,000 records a second and shard.
	Throttle bool
	// CheckKey says whether a KMS key can be used, as an error with a Kinesis type if not. Nil: any can.
	CheckKey func(keyID string) error
}

// Service is the endpoint. It may be used concurrently.
type Service struct {
	opt       Options
	set       operation.Set
	iterators place.Iterators

	used  atomic.Int64 // bytes of all records
	lives atomic.Uint64
	swept atomic.Int64 // unix seconds of the last sweep

	mu      sync.RWMutex // guards the map; a stream's mu may be taken while it is held, never the other way round
	streams map[string]*stream
}

// New makes a service without streams.
func New(opt Options) *Service {
	s := &Service{opt: opt, iterators: place.NewIterators(), streams: map[string]*stream{}}
	s.set.Operations = s.operations()
	return s
}

// FailPut injects a fault into PutRecords and PutRecord, or into the operations it names, and returns the function that
// removes it.
func (s *Service) FailPut(f inject.Fault) (remove func()) {
	if len(f.Operations) == 0 {
		f.Operations = []string{"PutRecords", "PutRecord"}
	}
	return s.set.Faults.Add(f)
}

// Fail injects a fault into all operations, or those it names.
func (s *Service) Fail(f inject.Fault) (remove func()) { return s.set.Faults.Add(f) }

// ClearFaults removes all injected faults.
func (s *Service) ClearFaults() { s.set.Faults.Clear() }

// Knows says whether op is an operation.
func (s *Service) Knows(op string) bool { return s.set.Knows(op) }

// Call carries out an operation it knows and writes its answer; or returns the error the client gets.
func (s *Service) Call(ctx context.Context, op string, body wire.Value, cbor bool, out *wire.Writer) error {
	return s.set.Call(ctx, op, body, cbor, out)
}

// Bytes is what the records of all streams take.
func (s *Service) Bytes() int64 { return s.used.Load() }
