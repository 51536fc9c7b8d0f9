//go:build bench

package bench_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
)

var (
	rounds    = flag.Int("rounds", 5, "interleaved rounds")
	stallRate = flag.Int("stall-rate", 1000, "select-only transactions a second while a process is stopped")
)

const (
	stallBefore = time.Second
	stallFor    = 10 * time.Second
	stallAfter  = time.Second
)

// TestStall measures what sessions notice when a process of the mesh stands
// still for ten seconds and then catches up: p99 of select-only at a fixed
// rate. Undisturbed and disturbed runs are interleaved; what counts is the
// median of the rounds, and it may be a tenth worse.
func TestStall(t *testing.T) {
	m := mesh.Start(t, mesh.Options{})
	m.MustPgbench("-i", "-q", "-s", "4")
	m.MustPgbench("-S", "-n", "-c", "4", "-T", "3")
	m.Settle(t)

	who := []string{"", mesh.Capture, mesh.Crypto, mesh.NATS}
	p99 := map[string][]time.Duration{}
	for round := range *rounds {
		for i := range who {
			name := who[(i+round)%len(who)]
			p99[name] = append(p99[name], stallOnce(t, m, name))
			m.Durable(t)
		}
	}
	base := median(p99[""])
	fmt.Printf("\n| stopped for %v | p99 of each round | median | against undisturbed |\n|---|---|---|---|\n", stallFor)
	for _, name := range who {
		label := name
		if label == "" {
			label = "nobody"
		}
		got := median(p99[name])
		ratio := float64(got) / float64(base)
		fmt.Printf("| %s | %v | %v | %+.1f %% |\n", label, p99[name], got, 100*(ratio-1))
		if ratio > 1.10 {
			t.Errorf("with %s stopped the p99 is %v, undisturbed it is %v", label, got, base)
		}
	}
	m.Settle(t)
}

// stallOnce runs the load for twelve seconds and stops name for ten of them.
func stallOnce(t *testing.T, m *mesh.Mesh, name string) time.Duration {
	t.Helper()
	prefix := m.Path("stall")
	total := stallBefore + stallFor + stallAfter
	done := make(chan string, 1)
	go func() {
		out, err := m.Pgbench(context.Background(), "-S", "-n", "-c", "4", "-M", "prepared", "-R", strconv.Itoa(*stallRate),
			"-T", strconv.Itoa(int(total.Seconds())), "-l", "--log-prefix="+prefix)
		if err != nil {
			out += err.Error()
		} else {
			out = ""
		}
		done <- out
	}()
	time.Sleep(stallBefore)
	if name != "" {
		m.Signal(name, syscall.SIGSTOP)
	}
	time.Sleep(stallFor)
	if name != "" {
		m.Signal(name, syscall.SIGCONT)
	}
	if problem := <-done; problem != "" {
		t.Fatal(problem)
	}
	return p99Of(t, prefix)
}

// p99Of reads and removes pgbench's per-transaction logs.
func p99Of(t *testing.T, prefix string) time.Duration {
	t.Helper()
	all := readLatencies(t, prefix)
	slices.Sort(all)
	return all[len(all)*99/100]
}

// readLatencies reads and removes them.
func readLatencies(t *testing.T, prefix string) []time.Duration {
	t.Helper()
	files, err := filepath.Glob(prefix + ".*")
	if err != nil || len(files) == 0 {
		t.Fatalf("pgbench left no log: %v", err)
	}
	var all []time.Duration
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			// client, transaction, latency in µs, …
			us, err := strconv.ParseInt(strings.Fields(line)[2], 10, 64)
			if err != nil {
				t.Fatalf("%s: %q: %v", file, line, err)
			}
			all = append(all, time.Duration(us)*time.Microsecond)
		}
		os.Remove(file)
	}
	if len(all) == 0 {
		t.Fatal("pgbench ran no transaction")
	}
	return all
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
