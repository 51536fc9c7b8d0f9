// Package operation carries out the calls of one service: each is held against its schema, befallen by the faults a test
// has laid down, and done.
//
// Before: pkg/localaws has read and admitted the request. Next: the operation's own function in the service's package.
package operation

import (
	"context"
	"time"

	"github.com/weir-das/weir/pkg/localaws/inject"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

// An Operation is what one of a service's names means.
type Operation struct {
	Fields []wire.Field
	Do     func(Call, *wire.Writer) error
	// PerRecord says that single records of a call can fail, which Do then asks Call.Record about.
	PerRecord bool
}

// A Call is one request that passed its schema.
type Call struct {
	wire.Input
	Now time.Time

	unlucky func() bool
	fault   *wire.Error
}

// Record is the error the call's next record must fail with, or nil.
func (c Call) Record() *wire.Error {
	if c.unlucky == nil || !c.unlucky() {
		return nil
	}
	return c.fault
}

// A Set is a service's operations by name, which do not change, and the faults in force.
type Set struct {
	Operations map[string]Operation
	Faults     inject.Plan
}

// Knows says whether name is an operation.
func (s *Set) Knows(name string) bool { _, ok := s.Operations[name]; return ok }

// Call carries out an operation that Knows knows and writes its answer; or returns an error that is a *wire.Error.
func (s *Set) Call(ctx context.Context, name string, body wire.Value, cbor bool, out *wire.Writer) error {
	op := s.Operations[name]
	hit, faulty := s.Faults.Befall(ctx, name, op.PerRecord)
	fault := wire.Fault(hit.Code, hit.Message)
	whole := faulty && hit.Record == nil
	if whole && !hit.Lost {
		return fault
	}
	in, err := wire.Check(body, op.Fields, cbor)
	if err != nil {
		return err
	}
	c := Call{Input: in, Now: time.Now()}
	if faulty {
		c.unlucky, c.fault = hit.Record, fault
	}
	if err := op.Do(c, out); err != nil {
		return err
	}
	if whole {
		return fault
	}
	return nil
}
