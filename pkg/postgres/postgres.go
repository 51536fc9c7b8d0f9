// Package postgres runs a private PostgreSQL server for `weir dev`, tests and
// benches.
//
// The one idea: the server belongs to the process that started it. It listens
// on loopback alone, runs as an unprivileged user when that process is root,
// and is told to stop by the kernel when the process dies, however it dies.
// The data directory outlives it and is taken up again by the next Start.
//
// It installs nothing: the programs are those of the machine. It is not a way
// to run a database anybody depends on.
//
// Before: services/weir (dev), tests and benches, which choose the options.
// Next: services/capture/engine/postgres, the module the server loads.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Options says what to run, and as whom. Only Dir is required.
type Options struct {
	// Dir holds the data directory, the log and a copy of the module. It is
	// made where it is missing. When the caller is root its parents are made
	// traversable (mode o+x), for the server has to reach it.
	Dir string
	// BinDir is where postgres and initdb are; empty looks them up.
	BinDir string
	// Module is the path of weir.so. It is copied into Dir, where the server
	// can read it. Empty runs the server without it.
	Module string
	// RingFile and RingSize (bytes) become weir.ring_file and weir.ring_size;
	// empty and 0 leave the module's defaults. Unused without Module.
	RingFile string
	RingSize int64
	// Settings are lines of postgresql.conf. A shared_preload_libraries here
	// is loaded before the module.
	Settings map[string]string
	// HBA replaces pg_hba.conf; empty trusts loopback and the local socket.
	HBA string
	// Port on 127.0.0.1; 0 takes a free one, kept over restarts.
	Port int
	// User is the system user that runs the server when the caller is root:
	// postgres, else nobody, where it is empty.
	User string
}

// Mode is how a server is asked to stop.
type Mode string

// The three ways PostgreSQL knows.
const (
	Smart     Mode = "smart"     // wait until every session has gone
	Fast      Mode = "fast"      // end the sessions, write a checkpoint
	Immediate Mode = "immediate" // end at once; recovers at the next start
)

// startTimeout bounds initdb and each start. Crash recovery of a test's or a
// laptop's database is far below it.
const startTimeout = 60 * time.Second

// Server is one running, or stopped, private server. Its methods are for one
// goroutine at a time.
type Server struct {
	options Options
	user    account
	binDir  string
	port    int
	// socketDir is apart from Dir, whose path may be too long for a socket.
	socketDir string

	// process is nil while the server is stopped.
	process *process
}

// Start makes the data directory where there is none, starts the server and
// returns once it takes connections. An error carries the end of the server's
// log. The server lives until Stop, Kill or the end of this process; ctx
// bounds the start alone.
func Start(ctx context.Context, options Options) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	s := &Server{options: options, port: options.Port}
	var err error
	if s.options.Dir, err = filepath.Abs(options.Dir); err != nil {
		return nil, fmt.Errorf("resolving %s: %w", options.Dir, err)
	}
	if s.binDir, err = findBinDir(options.BinDir); err != nil {
		return nil, err
	}
	if s.user, err = findAccount(options.User); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.socketDir))
	}
	return s, nil
}

// DSN is the URL of a database for a role, over loopback.
func (s *Server) DSN(user, db string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(user),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:     "/" + db,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Port is the port on 127.0.0.1.
func (s *Server) Port() int { return s.port }

// SocketDir is the directory of the local socket; it goes with Stop and Kill
// and is made again by Restart.
func (s *Server) SocketDir() string { return s.socketDir }

// BinDir is where the server's programs, psql and pgbench among them, are.
func (s *Server) BinDir() string { return s.binDir }

// LogFile is the server's log.
func (s *Server) LogFile() string { return filepath.Join(s.options.Dir, "log") }

// PID is the postmaster's, 0 while the server is stopped.
func (s *Server) PID() int {
	if s.process == nil {
		return 0
	}
	return s.process.pid
}

// Stop asks the server to stop and returns when it has. A stopped server stays
// stopped without an error.
func (s *Server) Stop(mode Mode) error {
	signals := map[Mode]syscall.Signal{Smart: syscall.SIGTERM, Fast: syscall.SIGINT, Immediate: syscall.SIGQUIT}
	signal, known := signals[mode]
	if !known {
		return fmt.Errorf("stopping PostgreSQL: unknown mode %q", mode)
	}
	if s.process == nil {
		return nil
	}
	err := s.process.stop(signal)
	s.process = nil
	return errors.Join(err, os.RemoveAll(s.socketDir))
}

// Kill ends the postmaster with SIGKILL and returns when every process of the
// server has gone. The children notice by themselves, as after any such death;
// one that does not within a few seconds is killed too.
func (s *Server) Kill() error {
	if s.process == nil {
		return nil
	}
	err := s.process.kill()
	s.process = nil
	return errors.Join(err, os.RemoveAll(s.socketDir))
}

// Restart stops the server if it runs and starts it on the same port with the
// same data. After Kill this is the start after a crash.
func (s *Server) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := s.Stop(Fast); err != nil {
		return err
	}
	return s.start(ctx)
}

// Set changes one line of postgresql.conf from the next start on; an empty
// value takes it back to the server's default.
func (s *Server) Set(name, value string) {
	settings := make(map[string]string, len(s.options.Settings)+1)
	for k, v := range s.options.Settings {
		settings[k] = v
	}
	settings[name] = value
	if value == "" {
		delete(settings, name)
	}
	s.options.Settings = settings
}

// logTail is the end of the server's log since offset, for an error.
func (s *Server) logTail(offset int64) string {
	const most = 4 << 10
	text, err := os.ReadFile(s.LogFile())
	if err != nil || int64(len(text)) < offset {
		return ""
	}
	text = text[offset:]
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return strings.TrimSpace(string(text))
}
