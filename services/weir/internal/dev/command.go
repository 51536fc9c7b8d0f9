// Package dev is `weir dev`: the whole mesh in one process, with the same
// code, the same mutual TLS and the same JetStream as a mesh of many. Kinesis
// and KMS are pkg/localaws; the database is a private PostgreSQL server with
// the engine module in it, or somebody else's whose ring is named.
//
// All that it keeps lies in one directory, so that the next start goes on
// where this one ended: clusters and streams, keys, the journal, the database.
// Kinesis alone is memory and begins empty.
//
// Before: a person, a script or a test, who waits for the ready file.
// Next: the five services' Run, and internal/tail, which shows what they do.
package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/weir-das/weir/services/weir/internal/connect"
	"github.com/weir-das/weir/services/weir/internal/stream"
	"github.com/weir-das/weir/services/weir/internal/tail"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

// Command is `weir dev`.
type Command struct {
	Data       string      `placeholder:"DIR" help:"Keep everything in this directory. The default is ${data_dir}."`
	ReadyFile  string      `placeholder:"FILE" help:"Write how to connect to this file, as one JSON object, once everything answers; it is removed at the end."`
	Ring       string      `placeholder:"FILE" help:"Capture the server that writes this ring, its weir.ring_file, instead of running a private one."`
	PgauditLog string      `name:"pgaudit-log" placeholder:"DIR" help:"Follow the csv log in this directory, of a server of your own that has pgaudit and not the module: a weaker source (docs/operations.md)."`
	RingSize   Size        `placeholder:"SIZE" help:"Size of the private server's ring. The default is 128MiB, less where there is little memory."`
	Spool      Size        `placeholder:"SIZE" help:"Keep what the ring has no room for while the path to the journal is down, sealed, in the data directory: at most this much. There is none by default."`
	Module     string      `placeholder:"FILE" help:"The engine module, weir.so. The default is the one beside this program, or beside PostgreSQL's own."`
	Quiet      bool        `short:"q" help:"Do not show the activity."`
	Format     tail.Format `enum:"text,json,das" default:"text" help:"How to show the activity: text, json or das, as weir tail does."`

	stream.Mode `embed:"" group:"The stream (as it was when the directory was used before, asynchronous at first)"`

	Port     int    `group:"Ports on 127.0.0.1 (the usual ones where they are free, else any)" placeholder:"5432" help:"PostgreSQL."`
	AWSPort  int    `group:"Ports on 127.0.0.1 (the usual ones where they are free, else any)" name:"aws-port" placeholder:"4566" help:"Kinesis and KMS."`
	NATSPort int    `group:"Ports on 127.0.0.1 (the usual ones where they are free, else any)" name:"nats-port" placeholder:"4222" help:"NATS."`
	GRPCPort int    `group:"Ports on 127.0.0.1 (the usual ones where they are free, else any)" name:"grpc-port" placeholder:"7701" help:"control; capture, crypto, publisher and notifier are on the four after it."`
	LogLevel string `enum:"debug,info,warn,error" default:"info" help:"What the services write to weir.log in the data directory: debug, info, warn or error."`
}

// Help is shown by --help.
func (Command) Help() string {
	return `Starts NATS, a small Kinesis and KMS, the five services and a PostgreSQL with the engine module, each on loopback; registers the cluster "dev" and its instance "dev-1"; starts the activity stream; says how to connect; and then shows the decrypted activity.

Ctrl-C stops it in order: the database first, then everything recorded is delivered to Kinesis, then the services. A second Ctrl-C ends it at once; what is not delivered then is at the next start. The directory can be used again, or be deleted. Kinesis is memory: what nobody has read by the end is gone.

Examples:
  weir dev
  weir dev --mode sync --sync-level transaction --on-failure continue --sync-timeout 5s
  weir dev --spool 1GiB                         outlast an outage that the ring does not (weir stream status shows it)
  weir dev --data /tmp/weir --ready-file /tmp/weir.json --quiet &
  psql "$(jq -r .postgres_dsn /tmp/weir.json)" -c 'select 1'
  weir dev --ring /dev/shm/weir.ring            a server of your own, with shared_preload_libraries = 'weir'
  weir dev --pgaudit-log /var/log/postgresql    a server of your own, with pgaudit and log_destination = 'csvlog'`
}

// private says whether the database is ours.
func (c Command) private() bool { return c.Ring == "" && c.PgauditLog == "" }

// Validate refuses what is meant for a server that there is not.
func (c Command) Validate() error {
	if c.Ring != "" && c.PgauditLog != "" {
		return errors.New("--ring and --pgaudit-log: a server has the module, or its log is followed")
	}
	if c.PgauditLog != "" && c.Mode.Mode == "sync" {
		return errors.New("--pgaudit-log: no session can be made to wait for a log; leave --mode sync out")
	}
	if c.PgauditLog != "" && (c.Module != "" || c.RingSize != 0 || c.Port != 0) {
		return errors.New("--pgaudit-log follows a server of your own; --module, --ring-size and --port are for the private one")
	}
	if c.Spool != 0 && c.Spool < leastSpool {
		return fmt.Errorf("--spool %s holds no record: want 1MiB or more", c.Spool)
	}
	if c.Ring != "" && (c.Module != "" || c.RingSize != 0 || c.Port != 0) {
		return errors.New("--ring captures a server of your own; --module, --ring-size and --port are for the private one")
	}
	return c.Mode.Validate()
}

// errHurried says that somebody did not want to wait for the orderly stop.
var errHurried = errors.New("ended at once; what was not delivered yet is delivered after the next start")

// oneSignal is how long signals count as one: timeout(1), and a terminal's
// Ctrl-C through a wrapper that passes it on, send it twice at a time.
const oneSignal = time.Second

// Run runs the mesh until the first signal, and stops it in order. A second
// signal ends it at once.
func (c Command) Run(ctx context.Context, s terminal.Streams) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	if c.Data == "" {
		c.Data = connect.DefaultDir()
	}
	if c.ReadyFile != "" {
		var err error
		if c.ReadyFile, err = filepath.Abs(c.ReadyFile); err == nil {
			_, err = os.Stat(filepath.Dir(c.ReadyFile)) // now, rather than when everything runs
		}
		if err != nil {
			return fmt.Errorf("--ready-file: %w", err)
		}
	}
	m := &mesh{Command: c, streams: s, parts: newParts()}
	done := make(chan error, 1)
	go func() { done <- m.run(ctx) }()
	var first time.Time
	for {
		select {
		case err := <-done:
			return err
		case <-signals:
			switch {
			case first.IsZero():
				first = time.Now()
			case time.Since(first) > oneSignal:
				// The process ends with this return, and the kernel tells
				// PostgreSQL so. It gets a moment to take its sessions along.
				m.killDatabase()
				return errHurried
			}
		}
	}
}
