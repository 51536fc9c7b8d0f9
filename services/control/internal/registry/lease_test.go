package registry_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-das/weir/services/control/internal/registry"
	"github.com/weir-das/weir/services/control/internal/registry/registrytest"
)

// leader counts those who work at the same time.
type leader struct {
	t       *testing.T
	working atomic.Int32
	terms   chan string // who began
}

func (l *leader) work(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		if n := l.working.Add(1); n != 1 {
			l.t.Errorf("%s works beside %d others", name, n-1)
		}
		defer l.working.Add(-1)
		l.terms <- name
		<-ctx.Done()
		return nil
	}
}

// lead starts a replica and returns what stops it.
func (l *leader) lead(reg *registry.Registry, name string) (stop func()) {
	ctx, cancel := context.WithCancel(l.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := reg.Lead(ctx, name, l.work(name)); err != nil {
			l.t.Errorf("Lead(%s) = %v, want nil when it is stopped", name, err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	l.t.Cleanup(stop)
	return stop
}

func (l *leader) next(within time.Duration) string {
	l.t.Helper()
	select {
	case name := <-l.terms:
		return name
	case <-time.After(within):
		l.t.Fatalf("nobody leads after %v", within)
		return ""
	}
}

func TestOneReplicaLeadsAndHandsOver(t *testing.T) {
	nats := registrytest.Start(t)
	opts := registry.Options{LeaseTTL: 4 * time.Second}
	l := &leader{t: t, terms: make(chan string, 10)}
	stopA := l.lead(nats.Open(opts), "a")
	if got := l.next(5 * time.Second); got != "a" {
		t.Fatalf("leader = %s, want a", got)
	}
	l.lead(nats.Open(opts), "b")
	select {
	case got := <-l.terms:
		t.Fatalf("%s began while a leads", got)
	case <-time.After(3 * opts.LeaseTTL / 2): // longer than a lease that nobody renews
	}
	stopA()
	// Handed over, not lapsed.
	if got := l.next(opts.LeaseTTL - time.Second); got != "b" {
		t.Errorf("leader after a has stopped = %s, want b", got)
	}
}

// A leader that cannot renew ends before its lease does, and leads again when
// the server is back.
func TestALeaderWithoutAServerEnds(t *testing.T) {
	nats := registrytest.Start(t)
	opts := registry.Options{LeaseTTL: 2 * time.Second}
	l := &leader{t: t, terms: make(chan string, 10)}
	l.lead(nats.Open(opts), "a")
	l.next(5 * time.Second)
	nats.Stop()
	stopped := time.Now()
	for l.working.Load() > 0 {
		if time.Since(stopped) > opts.LeaseTTL {
			t.Fatalf("still working %v after the last renewal can have succeeded", time.Since(stopped))
		}
		time.Sleep(10 * time.Millisecond)
	}
	nats.Restart()
	if got := l.next(20 * time.Second); got != "a" {
		t.Errorf("leader after the restart = %s, want a", got)
	}
}

// What a dead replica holds lapses by the server's clock.
func TestTheLeaseOfTheDeadLapses(t *testing.T) {
	nats := registrytest.Start(t)
	opts := registry.Options{LeaseTTL: 2 * time.Second}
	dead, living := nats.Open(opts), nats.Open(opts)
	if err := dead.TakeLease(t.Context(), "dead"); err != nil {
		t.Fatalf("TakeLease = %v", err)
	}
	taken := time.Now()
	l := &leader{t: t, terms: make(chan string, 10)}
	l.lead(living, "living")
	l.next(opts.LeaseTTL + 3*time.Second)
	if held := time.Since(taken); held < opts.LeaseTTL-100*time.Millisecond {
		t.Errorf("the lease was taken over after %v, want %v at least", held, opts.LeaseTTL)
	}
}
