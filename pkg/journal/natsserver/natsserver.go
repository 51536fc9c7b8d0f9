// Package natsserver runs the journal's NATS server inside a process, for `weir
// dev` and for tests, and writes the configuration that a separate server needs
// for the same promises.
//
// One idea: there is one configuration text. The embedded server parses what
// deploy/config/nats.conf holds, with other paths, so what tests prove of the one
// holds for the other: every write synced, TLS 1.3 with client certificates, and
// one user per service, mapped from its certificate's name, who may touch only
// its own subjects. Architecture §6 speaks of an account per role; the services
// share one account and differ by permissions instead, because JetStream's
// streams belong to an account and crypto and publisher meet in one stream.
//
// Only importers of this package link nats-server.
//
// Before: nothing. Next: pkg/journal.
package natsserver

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/weir-das/weir/pkg/rpc"
)

// Options of an embedded server.
type Options struct {
	Dir      string  // where the journal lies; it is kept between starts
	Port     int     // on loopback; 0 takes a free one
	TLS      rpc.TLS // the server's certificate, and the CA of the services'
	MaxBytes int64   // file storage in all; 0 means 64 GiB
	// LazySync leaves out sync_interval: always, as a server set up by hand may.
	// Tests of the durability proof need it; nothing else does.
	LazySync bool
	// MaxPayload is max_payload; 0 means 2 MB.
	MaxPayload int
	Name       string       // of the server; empty means nats
	Cluster    *Cluster     // nil: it stands alone
	Log        *slog.Logger // may be nil
}

// startWait bounds how long a server may take to recover its streams.
const startWait = 30 * time.Second

// Server is a running NATS server.
type Server struct {
	s    *server.Server
	port int
}

// Start starts a server on loopback and returns when it takes connections.
func Start(o Options) (*Server, error) {
	if err := o.TLS.Validate(); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if o.Dir == "" {
		return nil, errors.New("dir: empty")
	}
	port := o.Port
	if port == 0 {
		port = server.RANDOM_PORT
	}
	text := Configuration(Settings{
		Name:       cmp.Or(o.Name, "nats"),
		Listen:     net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		Dir:        o.Dir,
		TLS:        o.TLS,
		MaxBytes:   o.MaxBytes,
		LazySync:   o.LazySync,
		MaxPayload: o.MaxPayload,
		Cluster:    o.Cluster,
	})
	opts := &server.Options{}
	if err := opts.ProcessConfigString(text); err != nil {
		return nil, fmt.Errorf("configuring the NATS server: %w", err)
	}
	opts.NoSigs, opts.NoLog = true, o.Log == nil
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("making the NATS server: %w", err)
	}
	if o.Log != nil {
		s.SetLoggerV2(logger{o.Log}, false, false, false)
	}
	s.Start()
	if !s.ReadyForConnections(startWait) {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, errors.New("starting the NATS server: not ready in 30 s")
	}
	if !s.JetStreamEnabled() {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("starting the NATS server: JetStream is not available in %s", o.Dir)
	}
	return &Server{s, s.Addr().(*net.TCPAddr).Port}, nil
}

// URL is what clients connect to.
func (s *Server) URL() string { return fmt.Sprintf("tls://127.0.0.1:%d", s.port) }

// Port is the port it listens on, or did.
func (s *Server) Port() int { return s.port }

// Stop ends the server and returns when it has ended. What it acknowledged is
// on disk whether it is stopped or killed.
func (s *Server) Stop() {
	s.s.Shutdown()
	s.s.WaitForShutdown()
}

// logger passes the server's own log on. Info and below say nothing that an
// operator of Weir needs.
type logger struct{ log *slog.Logger }

func (l logger) Noticef(format string, v ...any) {}
func (l logger) Debugf(format string, v ...any)  {}
func (l logger) Tracef(format string, v ...any)  {}
func (l logger) Warnf(format string, v ...any)   { l.log.Warn("nats", "message", line(format, v)) }
func (l logger) Errorf(format string, v ...any)  { l.log.Error("nats", "message", line(format, v)) }
func (l logger) Fatalf(format string, v ...any)  { l.log.Error("nats", "message", line(format, v)) }

func line(format string, v []any) string { return strings.TrimSpace(fmt.Sprintf(format, v...)) }
