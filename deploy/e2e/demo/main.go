// Command demo goes from nothing to proof: it starts the whole mesh and a
// private PostgreSQL with `weir dev`, runs a workload with psql and pgbench,
// shows some of the decrypted events, and holds what the database executed
// against what the stream holds. It exits 0 if they agree to the number.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	bin := flag.String("bin", "bin", "where `make build` left the binaries")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	err := run(ctx, *bin)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string) (err error) {
	step("starting the mesh: five services, NATS, a local Kinesis and KMS, and a private PostgreSQL with the module")
	d, err := startDev(ctx, bin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()

	step("psql: a table, a function that updates it, a bind value, an error, a password, a login that is refused")
	if err := d.psqlWorkload(ctx); err != nil {
		return err
	}
	step("what the stream says, read with Kinesis and KMS like any consumer")
	if err := d.show(ctx); err != nil {
		return err
	}
	step(fmt.Sprintf("pgbench: TPC-B, %d clients, %d transactions each", clients, transactions))
	if err := d.pgbenchWorkload(ctx); err != nil {
		return err
	}
	step("holding the stream against the database")
	return d.compare(ctx)
}

func step(what string) { fmt.Printf("\n── %s\n", what) }
