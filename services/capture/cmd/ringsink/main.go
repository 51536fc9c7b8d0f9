// Command ringsink reads a ring and throws away what it reads, as fast as a
// capture would read it. It measures what the engine module costs by itself:
// `make bench` runs it in the place of a mesh. It must never run beside a
// capture, and the ring's lock sees to that.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/weir-das/weir/services/capture/internal/ring"
)

// nap is the pipeline's longest.
const nap = 5 * time.Millisecond

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: ringsink RINGFILE   (reads and discards until a signal; prints what it read)")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := drain(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "ringsink:", err)
		os.Exit(1)
	}
}

func drain(ctx context.Context, path string) error {
	r, err := ring.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.SetPolicy(ring.Policy{Mode: ring.ModeAsync}); err != nil {
		return err
	}
	reader := r.Reader()
	var events, lost, bytes uint64
	for ctx.Err() == nil {
		for {
			item, err := reader.Next()
			if err != nil {
				return err
			}
			if item.Kind == ring.Nothing {
				break
			}
			if item.Kind == ring.Gap {
				lost += item.Last - item.First + 1
				continue
			}
			events++
			bytes += uint64(len(item.Payload))
			// A checkpoint as often as records are acknowledged.
			if events%1000 == 0 {
				if err := r.Checkpoint(reader.Position()); err != nil {
					return err
				}
			}
		}
		if err := r.Checkpoint(reader.Position()); err != nil {
			return err
		}
		if err := reader.Wait(ctx, nap); err != nil && ctx.Err() == nil {
			return err
		}
	}
	fmt.Printf("events=%d lost=%d bytes=%d\n", events, lost, bytes)
	return nil
}
