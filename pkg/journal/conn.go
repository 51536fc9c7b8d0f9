package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
)

// ServerName is the name that a NATS server's certificate must carry, whatever
// address it is reached at.
const ServerName = "nats.weir"

// Conn is a connection to NATS. It reconnects for ever; while it is down every
// publish fails at once rather than be buffered, because a buffered record
// would be acknowledged to nobody and sent twice.
type Conn struct {
	name string
	log  *slog.Logger
	nc   *nats.Conn
	js   jetstream.JetStream

	// mu guards last.
	mu   sync.Mutex
	last string // the state that was logged last
}

// Connect connects as the service called name ("crypto") and returns once it is
// connected, or with NotReady when ctx ends before. The permissions come from
// the certificate; name only has to match it, since it is part of the inbox.
// log may be nil. The certificate files are read again at every reconnection.
func Connect(ctx context.Context, cfg Config, name string, log *slog.Logger) (*Conn, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fault.As(fault.Invalid, fmt.Errorf("journal configuration: %w", err))
	}
	c := &Conn{name: name, log: orDiscard(log).With(obs.KeyPeer, "nats")}
	up := make(chan struct{}, 1)
	connected := func(nc *nats.Conn) {
		c.connected(nc)
		select {
		case up <- struct{}{}:
		default:
		}
	}
	opts := []nats.Option{
		nats.Name("weir " + name),
		nats.CustomInboxPrefix("_INBOX." + name),
		nats.Timeout(5 * time.Second),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectBufSize(-1),
		nats.ReconnectWait(200 * time.Millisecond),
		nats.ReconnectJitter(300*time.Millisecond, 300*time.Millisecond),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(connected),
		nats.ReconnectHandler(connected), // also the first time, if it was not the first try
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.changed("disconnected", err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			if !errors.Is(err, nats.ErrNoServers) { // the next try says why
				c.changed("cannot connect", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			c.log.Error("NATS reports an error", obs.KeyErr, err)
		}),
	}
	if _, secure := cfg.servers(); secure {
		conf, err := cfg.TLS.ClientConfig(ServerName, c.log)
		if err != nil {
			return nil, fault.As(fault.Invalid, fmt.Errorf("journal configuration: %w", err))
		}
		opts = append(opts, nats.Secure(conf))
	}
	nc, err := nats.Connect(cfg.URL, opts...)
	if err != nil {
		return nil, fault.As(fault.Invalid, fmt.Errorf("connecting to NATS: %w", err))
	}
	c.nc = nc
	c.js, err = jetstream.New(nc,
		jetstream.WithPublishAsyncTimeout(ackWait),
		jetstream.WithDefaultTimeout(apiWait))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("opening JetStream: %w", err)
	}
	if nc.IsConnected() {
		return c, nil
	}
	select {
	case <-up:
		return c, nil
	case <-ctx.Done():
		nc.Close()
		return nil, fault.As(fault.NotReady, fmt.Errorf("connecting to NATS: %w", errors.Join(ctx.Err(), c.lastState())))
	}
}

// NATS is the connection itself, JetStream the client on it.
func (c *Conn) NATS() *nats.Conn { return c.nc }

// JetStream is the JetStream client on the connection.
func (c *Conn) JetStream() jetstream.JetStream { return c.js }

// Close ends the connection. What is in flight fails as NotReady.
func (c *Conn) Close() { c.nc.Close() }

// Ready says whether the connection is up.
func (c *Conn) Ready() bool { return c.nc.IsConnected() }

// checkPayload returns an error that says what to change when the server does
// not take a record of the largest size. It is not the record's fault, so it is
// never Invalid.
func checkPayload(nc *nats.Conn) error {
	if !nc.IsConnected() {
		return fault.As(fault.NotReady, errors.New("not connected to NATS"))
	}
	if have := nc.MaxPayload(); have < minPayload {
		return fmt.Errorf("NATS server %s takes messages of %d bytes, a sealed record needs %d: set max_payload in the server's configuration to 1MB or more (2MB recommended)",
			nc.ConnectedServerName(), have, minPayload)
	}
	return nil
}

// connected logs the change of state, and looks at the new server's limits: a
// cluster's servers need not agree.
func (c *Conn) connected(nc *nats.Conn) {
	if c.changed("connected", nil) {
		c.log.Info("journal connection is up", "server", nc.ConnectedUrlRedacted())
	}
	if err := checkPayload(nc); err != nil {
		c.log.Error("NATS server is not fit for the journal", obs.KeyErr, err)
	}
}

// changed remembers a state and says whether it is a new one. It logs one that
// is bad, once, however often the client reports it.
func (c *Conn) changed(state string, err error) bool {
	full := state
	if err != nil {
		full += ": " + err.Error()
	}
	c.mu.Lock()
	same := c.last == full
	c.last = full
	c.mu.Unlock()
	if !same && err != nil {
		c.log.Warn("journal connection is down", "state", state, obs.KeyErr, err)
	}
	return !same
}

func (c *Conn) lastState() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == "" {
		return nil
	}
	return errors.New(c.last)
}
