// Package rpc is how services talk: gRPC over mutual TLS 1.3, with one list per server of who may call what.
//
// A server checks the DNS name in the client's certificate against the allow-list of the gRPC service called, turns the
// errors of its handlers into statuses (pkg/fault), survives their panics, and stops in an order and within a limit.
// Health and reflection are always on. A client spreads its calls over all replicas behind a DNS name. Certificates are
// files, and are read again when they change.
//
// The package never retries, and sets no deadlines: the client that owns the window does both.
//
// Before: pkg/service, which starts a process. Next: the service's own handlers, and pkg/fault for their errors.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
)

// maxMessage bounds one message in either direction, in bytes: room for the largest batch in clear (a 900 KiB sealed
// record may have been 20 times that) and far from anything that exhausts memory.
const maxMessage = 32 << 20

// What one end may send before the other has read it, in bytes, for each stream and for a connection: enough for 40 MB/s over
// a link of 100 ms. They are fixed, for grpc finds out what a link has room for by a ping with what it receives: both ends
// were woken once more for every record, while a session waits for it.
const (
	streamWindow     = 4 << 20
	connectionWindow = 8 << 20
)

// What zero durations mean.
const (
	defaultGrace            = 10 * time.Second
	defaultMaxConnectionAge = 5 * time.Minute
)

// Names returns the certificate names of everything that is part of Weir.
func Names() []string {
	return []string{
		"capture.weir", "crypto.weir", "publisher.weir", "notifier.weir", "control.weir",
		"nats.weir",
		"client.weir", // people: the command line
		"probe.weir",  // health checks
	}
}

// builtin are the services that every server has, open to all Names unless configured otherwise.
func builtin() []string {
	return []string{
		grpc_health_v1.Health_ServiceDesc.ServiceName,
		grpc_reflection_v1.ServerReflection_ServiceDesc.ServiceName,
		grpc_reflection_v1alpha.ServerReflection_ServiceDesc.ServiceName,
	}
}

// ServerConfig is the part of a service's configuration that its gRPC server needs.
type ServerConfig struct {
	Listen           string              `koanf:"listen" help:"host:port to serve gRPC on"`
	Allow            map[string][]string `koanf:"allow" help:"who may call what: gRPC service → certificate names; health and reflection are open to all of Weir if absent"`
	Grace            time.Duration       `koanf:"grace" default:"10s" help:"how long stopping waits for calls that are still open"`
	MaxConnectionAge time.Duration       `koanf:"max_connection_age" default:"5m" help:"age at which connections are asked to move, so that new replicas get their share; streams then have another grace period"`
}

// Validate reports every problem at once. An empty Listen is allowed, for servers that are given a listener.
func (c ServerConfig) Validate() error {
	var errs []error
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			errs = append(errs, fmt.Errorf("listen: %q is no host:port", c.Listen))
		}
	}
	for service, names := range c.Allow {
		if len(names) == 0 || slices.Contains(names, "") {
			errs = append(errs, fmt.Errorf("allow: %s: %q, want one name or more", service, names))
		}
	}
	if c.Grace < 0 {
		errs = append(errs, fmt.Errorf("grace: %v, want 0 (the default) or more", c.Grace))
	}
	if c.MaxConnectionAge < 0 {
		errs = append(errs, fmt.Errorf("max_connection_age: %v, want 0 (the default) or more", c.MaxConnectionAge))
	}
	return errors.Join(errs...)
}

// withDefaults returns c with its zero values replaced.
func (c ServerConfig) withDefaults() ServerConfig {
	if c.Grace == 0 {
		c.Grace = defaultGrace
	}
	if c.MaxConnectionAge == 0 {
		c.MaxConnectionAge = defaultMaxConnectionAge
	}
	allow := make(map[string][]string, len(c.Allow)+3)
	for service, names := range c.Allow {
		allow[service] = slices.Clone(names)
	}
	for _, service := range builtin() {
		if _, ok := allow[service]; !ok {
			allow[service] = Names()
		}
	}
	c.Allow = allow
	return c
}

type peerKey struct{}

// PeerName returns the certificate name under which the caller was allowed in, empty outside a handler.
func PeerName(ctx context.Context) string {
	name, _ := ctx.Value(peerKey{}).(string)
	return name
}

type drainKey struct{}

// Draining returns a channel that is closed when the server of this call begins to stop. A handler of a long stream
// selects on it, finishes what it has taken and returns; it has the grace period for that. Outside a handler the channel
// is never closed.
func Draining(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(drainKey{}).(<-chan struct{})
	return c
}
