// Package service is the main function of every service: flags, configuration, log, signals, exit code.
//
// A service is a function Run(ctx, config, log) that returns nil after a clean drain. Main reads its configuration (a
// YAML file, then the environment), refuses what it does not know, and ends ctx on SIGINT or SIGTERM. A second signal
// ends the process at once. Nothing else in a service may exit.
//
// Before: cmd/<name>/main.go. Next: the service's Run, and pkg/rpc for its server.
package service

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"runtime/debug"
	"syscall"

	"github.com/weir-das/weir/pkg/obs"
)

// Exit codes of Main.
const (
	exitOK    = 0 // a clean drain, or --check found nothing
	exitError = 1 // run failed, or the configuration is wrong
	exitUsage = 2 // the command line is wrong
)

// Validator is a configuration that reports every problem in it at once, joined.
type Validator interface{ Validate() error }

// Main is the main function of the service called name. It does not return.
func Main[C Validator](name string, run func(context.Context, C, *slog.Logger) error) {
	os.Exit(execute(name, run, os.Args[1:], os.Stdout, os.Stderr))
}

// execute is Main without the exit, except for a second signal.
func execute[C Validator](name string, run func(context.Context, C, *slog.Logger) error, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {} // help goes to stdout when asked for, and is too long to follow an error
	file := flags.String("config", "", "")
	check := flags.Bool("check", false, "")
	showVersion := flags.Bool("version", false, "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		printHelp(stdout, name, reflect.TypeFor[C]())
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "Try: %s --help\n", name)
		return exitUsage
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "unexpected argument %q\nTry: %s --help\n", flags.Arg(0), name)
		return exitUsage
	case *showVersion:
		fmt.Fprintf(stdout, "%s %s\n", name, version())
		return exitOK
	}

	cfg, err := Load[C](name, *file)
	if !errors.Is(err, errUnreadable) {
		err = errors.Join(err, cfg.Validate())
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: the configuration is wrong:\n%v\n", name, err)
		return exitError
	}
	if *check {
		fmt.Fprintf(stdout, "%s: the configuration is good\n", name)
		return exitOK
	}

	log := obs.NewLog(stderr, logLevel(reflect.ValueOf(cfg)), name)
	ctx, stop := untilSignal(log)
	defer stop()
	log.Info("starting", "version", version())
	if err := run(ctx, cfg, log); err != nil && (ctx.Err() == nil || !errors.Is(err, context.Canceled)) {
		log.Error("stopped", obs.KeyErr, err)
		return exitError
	}
	log.Info("stopped")
	return exitOK
}

// untilSignal returns a context that ends on the first SIGINT or SIGTERM. The second one exits: whoever sends it has
// waited long enough. The function it returns gives the signals back and waits for the goroutine.
func untilSignal(log *slog.Logger) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case s := <-signals:
				if ctx.Err() != nil {
					log.Warn("second signal, exiting at once", "signal", s.String())
					os.Exit(exitError)
				}
				log.Info("stopping", "signal", s.String())
				cancel()
			case <-quit:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(quit)
		<-done
		cancel()
	}
}

// logLevel finds the obs.Config in a service's configuration, wherever it keeps it.
func logLevel(v reflect.Value) string {
	if v.Kind() != reflect.Struct {
		return ""
	}
	if c, ok := v.Interface().(obs.Config); ok {
		return c.LogLevel
	}
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() {
			continue
		}
		if level := logLevel(v.Field(i)); level != "" {
			return level
		}
	}
	return ""
}

// version is the module's version and the commit it was built from, as the Go tool recorded them.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v += " " + s.Value
		}
	}
	return v
}
