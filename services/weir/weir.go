// Package weir is the command line: `weir dev` runs the whole mesh on one
// machine, every other command is a client of a mesh.
//
// A client finds its mesh by one file, which `weir dev` writes; see
// internal/connect. Commands print what was asked for to standard output and
// everything else to standard error, and exit with 0, with 1 where something
// failed, and with 2 where they were called wrongly. `weir verify` has codes of
// its own.
//
// Before: cmd/weir, a person or a script.
// Next: internal/dev for the mesh, internal/tail for the stream.
package weir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/weir-das/weir/services/weir/internal/cluster"
	"github.com/weir-das/weir/services/weir/internal/connect"
	"github.com/weir-das/weir/services/weir/internal/dev"
	"github.com/weir-das/weir/services/weir/internal/events"
	"github.com/weir-das/weir/services/weir/internal/stream"
	"github.com/weir-das/weir/services/weir/internal/tail"
	"github.com/weir-das/weir/services/weir/internal/terminal"
	"github.com/weir-das/weir/services/weir/internal/verify"
)

// Exit codes of Main.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

const description = `Weir gives PostgreSQL what Amazon Aurora calls Database Activity Streams: every statement, login and error leaves the database as an encrypted stream.

Start with:
  weir dev     the whole mesh here, with a private PostgreSQL
  weir tail    its stream, decrypted, in another terminal`

// commands is the command tree.
type commands struct {
	Dev      dev.Command             `cmd:"" help:"Run the whole mesh here, with a private PostgreSQL, until Ctrl-C."`
	Tail     tail.Command            `cmd:"" help:"Read an activity stream and print it decrypted."`
	Verify   verify.Command          `cmd:"" help:"Check that an activity stream is whole: nothing missing untold, nothing altered."`
	Stream   stream.Command          `cmd:"" help:"Start, stop and show a cluster's activity stream."`
	Cluster  cluster.Command         `cmd:"" help:"Register, list and forget clusters."`
	Instance cluster.InstanceCommand `cmd:"" help:"Register and forget a cluster's instances."`
	Events   events.Command          `cmd:"" help:"What happened to the audit itself."`
	LocalAWS localAWSCommand         `cmd:"" name:"localaws" help:"Serve a small Kinesis and KMS here, for development."`
	Certs    certsCommand            `cmd:"" help:"Make a certificate authority for development, and its certificates."`
	Version  versionCommand          `cmd:"" help:"Print the version."`
}

// exit carries the code out of kong, which ends the process after --help.
type exit int

// Main runs one command line and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) (code int) {
	// A reader that goes away shows as an error of the write, not as a death.
	signal.Ignore(syscall.SIGPIPE)

	defer func() {
		switch p := recover().(type) {
		case nil:
		case exit:
			code = int(p)
		default:
			panic(p)
		}
	}()
	var c commands
	parser, err := kong.New(&c,
		kong.Name("weir"), kong.Description(description),
		kong.Vars{"data_dir": connect.DefaultDir()},
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ExplicitGroups([]kong.Group{{Key: "Connection", Title: "Connection (one of --connect, or the rest):"}}),
	)
	if err != nil {
		panic(err) // the tree above is wrong
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	run, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "weir: %v\n", err)
		name := "weir"
		var wrong *kong.ParseError
		if errors.As(err, &wrong) && wrong.Context.Command() != "" {
			name = wrong.Context.Selected().FullPath()
		}
		fmt.Fprintf(stderr, "Try: %s --help\n", name)
		return exitUsage
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run.BindTo(ctx, (*context.Context)(nil))
	run.Bind(terminal.Streams{Out: stdout, Err: stderr})
	err = run.Run()
	var failed *terminal.Failure
	switch {
	case errors.As(err, &failed):
		if failed.Err != nil {
			fmt.Fprintf(stderr, "weir: %v\n", failed.Err)
		}
		return failed.Code
	case err == nil || terminal.Gone(err):
		return exitOK // whoever read has seen enough
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitError // interrupted: whoever did it knows
	default:
		fmt.Fprintf(stderr, "weir: %v\n", err)
		return exitError
	}
}
