// Package registrytest gives tests a NATS server of their own, as a deployed
// control sees it: TLS, its certificate's permissions, buckets on a disk.
//
// Before: the tests of control. Next: services/control/internal/registry.
package registrytest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/journal/natsserver"
	"github.com/weir-das/weir/services/control/internal/registry"
)

// NATS is a running server, stopped when the test ends.
type NATS struct {
	Certs string // the directory with every service's certificate

	tb     testing.TB
	opts   natsserver.Options
	server *natsserver.Server
}

// Start starts a server. It syncs lazily, for no test cuts the power.
func Start(tb testing.TB) *NATS {
	tb.Helper()
	n := &NATS{tb: tb, Certs: tb.TempDir()}
	if err := certs.Ensure(n.Certs); err != nil {
		tb.Fatalf("certs.Ensure = %v", err)
	}
	n.opts = natsserver.Options{Dir: tb.TempDir(), TLS: certs.TLS(n.Certs, "nats"), MaxBytes: 1 << 30, LazySync: true}
	n.start()
	n.opts.Port = n.server.Port()
	tb.Cleanup(func() { n.server.Stop() })
	return n
}

func (n *NATS) start() {
	var err error
	if n.server, err = natsserver.Start(n.opts); err != nil {
		n.tb.Fatalf("natsserver.Start = %v", err)
	}
}

// Stop stops the server; Restart starts it again where it was, with what it had
// on disk.
func (n *NATS) Stop() { n.server.Stop() }

// Restart starts a stopped server again.
func (n *NATS) Restart() { n.start() }

// Lose has the server start the next time with nothing on its disk.
func (n *NATS) Lose() { n.opts.Dir = n.tb.TempDir() }

// Sync makes the server sync every write, or not, from its next start on.
func (n *NATS) Sync(always bool) { n.opts.LazySync = !always }

// Config is how a service reaches the server.
func (n *NATS) Config(service string) journal.Config {
	return journal.Config{URL: n.server.URL(), TLS: certs.TLS(n.Certs, service)}
}

// Open opens a registry as one more replica of control would, and mirrors it
// until the test ends.
func (n *NATS) Open(opts registry.Options) *registry.Registry {
	n.tb.Helper()
	if opts.LeaseTTL == 0 {
		opts.LeaseTTL = 2 * time.Second
	}
	log := slog.New(slog.NewTextHandler(n.tb.Output(), nil))
	ctx, cancel := context.WithTimeout(n.tb.Context(), 10*time.Second)
	defer cancel()
	conn, err := journal.Connect(ctx, n.Config("control"), "control", log)
	if err != nil {
		n.tb.Fatalf("journal.Connect = %v", err)
	}
	reg, err := registry.Open(ctx, conn.JetStream(), opts, log)
	if err != nil {
		n.tb.Fatalf("registry.Open = %v", err)
	}
	mirror, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- reg.Run(mirror) }()
	n.tb.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			n.tb.Errorf("Run = %v, want nil when it is stopped", err)
		}
		conn.Close()
	})
	return reg
}
