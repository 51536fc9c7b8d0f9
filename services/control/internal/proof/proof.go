// Package proof knows whether an acknowledgement of the journal means that the
// record is on disk.
//
// Synchronous mode promises a client that the record of what it did is durable,
// and the promise is worth what the journal's servers do with a write before
// they acknowledge it. They say so themselves, and the answer holds until one of
// them restarts. So it is asked when a stream is to be synchronous, after every
// reconnection, and now and then.
//
// A stream that is synchronous when the proof fails goes on: its sessions wait
// for an acknowledgement that may be worth less than they think. Neither to let
// them run without waiting nor to stop the database is better; what is wrong is
// the stream's problem, until the servers are set right.
//
// Before: pkg/journal, which asks. Next: internal/grpcapi, which refuses and tells.
package proof

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/fault"
)

const (
	// askEvery is how often the servers are asked while all is well: one that
	// restarts in a cluster does not break our own connection.
	askEvery = 30 * time.Second
	// A proof that fails is asked for again: soon, for servers that just started
	// do not answer yet. Only from the third time on is silence a problem.
	minRetry = 500 * time.Millisecond
	maxRetry = 10 * time.Second
	patience = 3
)

// Proof is what was found last. It is safe for concurrent use.
type Proof struct {
	ask func(context.Context) error
	log *slog.Logger

	// mu guards what follows.
	mu      sync.Mutex
	problem string
	silent  int // times in a row that not all servers answered
}

// New returns a Proof that asks with ask, whose errors are marked as those of
// journal.ProveDurable are.
func New(ask func(context.Context) error, log *slog.Logger) *Proof {
	return &Proof{ask: ask, log: log}
}

// Ask asks now, and returns what stands against the proof: fault.Invalid where a
// server says that it does not sync, fault.NotReady where one does not answer.
func (p *Proof) Ask(ctx context.Context) error {
	err := p.ask(ctx)
	if ctx.Err() != nil {
		return err // nobody waited for the answer
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.problem, p.silent = "", 0
	case fault.Is(err, fault.Invalid):
		p.problem, p.silent = fmt.Sprintf("sessions wait for less than they should: %v", err), 0
	default:
		if p.silent++; p.silent >= patience {
			p.problem = fmt.Sprintf("not known whether the journal syncs every record: %v", err)
		}
	}
	return err
}

// Problem is what stood against the proof when it was asked for last; empty if
// nothing did, or nobody has asked yet.
func (p *Proof) Problem() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problem
}

// Run keeps the proof fresh until ctx ends, as long as wanted says that a stream
// rests on it.
func (p *Proof) Run(ctx context.Context, reconnected <-chan nats.Status, wanted func() bool) error {
	retry := backoff.Backoff{Min: minRetry, Max: maxRetry}
	for said := ""; ; {
		wait := askEvery
		if wanted() {
			if err := p.Ask(ctx); err != nil {
				wait = minRetry + retry.Next()
			} else {
				retry.Reset()
			}
			said = p.tell(said)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case _, open := <-reconnected:
			timer.Stop()
			if !open {
				reconnected = nil // the connection is closed for good
			}
		}
	}
}

// tell logs the problem where it is another than was said.
func (p *Proof) tell(said string) string {
	problem := p.Problem()
	switch {
	case problem == said:
	case problem == "":
		p.log.Info("the journal proves again that it syncs every record")
	default:
		p.log.Warn("synchronous streams promise more than they keep", "problem", problem)
	}
	return problem
}
