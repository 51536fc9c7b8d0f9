//go:build bench

package bench_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	"github.com/weir-das/weir/pkg/postgres"
)

// syncClients is how many clients the throughput is measured with.
const syncClients = 32

// variant is one way to record TPC-B.
type variant struct {
	name   string
	server string   // whose database: servers run at the same time, each on its own
	mode   []string // of the stream; nil where there is none
}

// The servers: without the module, with the journal on one NATS server, and on three.
const alone, onOne, onThree = "none", "one", "three"

var variants = []variant{
	{"none", alone, nil},
	{"async", onOne, []string{"--mode", "async"}},
	{"sync, transaction", onOne, []string{"--mode", "sync", "--sync-level", "transaction", "--sync-timeout", "1m"}},
	{"sync, statement", onOne, []string{"--mode", "sync", "--sync-level", "statement", "--sync-timeout", "1m"}},
	{"sync, transaction, three peers", onThree, []string{"--mode", "sync", "--sync-level", "transaction", "--sync-timeout", "1m"}},
}

// TestSync measures what synchronous mode costs: the throughput of TPC-B with 32
// clients, and what a single client waits longer for a transaction, beside the
// time that one fdatasync takes here. Every round runs every variant, in an order
// that turns; what counts is the median over the rounds of the share of, and the
// difference to, the unaudited run beside it.
func TestSync(t *testing.T) {
	s := &syncBoard{
		board: board{t: t, dir: scratch(t)}, servers: map[string]*postgres.Server{}, meshes: map[string]*mesh.Mesh{},
		tps: map[string][]float64{}, p50: map[string][]time.Duration{},
	}
	s.fill([]string{alone, onOne, onThree})
	s.serveAll()
	s.fsync = append(s.fsync, s.measureFsync())
	for round := range *rounds {
		for i := range variants {
			s.run(variants[(i+round)%len(variants)])
		}
		s.fsync = append(s.fsync, s.measureFsync())
	}
	s.print()
	for name, m := range s.meshes {
		if n, err := m.Numbers(); err != nil || n.Released > 0 || n.Lost > 0 {
			t.Errorf("%s: %+v, %v: sessions were let go or events lost, so what was measured is not synchronous mode", name, n, err)
		}
	}
}

// syncBoard is the databases and the results so far, by variant, one for each round.
type syncBoard struct {
	board
	servers map[string]*postgres.Server
	meshes  map[string]*mesh.Mesh
	tps     map[string][]float64
	p50     map[string][]time.Duration // of one client's transactions
	fsync   []time.Duration
}

func (s *syncBoard) serveAll() {
	for _, name := range []string{alone, onOne, onThree} {
		o := s.options(name)
		if name != alone {
			m := mesh.Start(s.t, mesh.Options{NoServer: true, NoStream: true, Peers: name == onThree})
			o.Module, o.RingFile = m.Module(), m.Ring()
			s.meshes[name] = m
		}
		s.servers[name] = s.start(o)
		s.pgbench(s.servers[name], "-n", "-S", "-c", "4", "-j", "2", "-T", "5")
	}
}

// run measures a variant: TPC-B with many clients, and with one.
func (s *syncBoard) run(v variant) {
	pg := s.servers[v.server]
	if v.mode != nil {
		s.meshes[v.server].StartStream(v.mode...)
	}
	out := s.pgbench(pg, cell{"tpcb", "simple", syncClients}.args()...)
	found := tpsLine.FindStringSubmatch(out)
	if found == nil {
		s.t.Fatalf("pgbench printed no tps:\n%s", out)
	}
	tps, _ := strconv.ParseFloat(found[1], 64)
	prefix := filepath.Join(s.dir, "log")
	s.pgbench(pg, append(cell{"tpcb", "simple", 1}.args(), "-l", "--log-prefix="+prefix)...)
	all := latenciesOf(s.t, prefix)
	p50 := all[len(all)/2]
	s.tps[v.name], s.p50[v.name] = append(s.tps[v.name], tps), append(s.p50[v.name], p50)
	fmt.Printf("%-32s %8.0f tps with %d clients   p50 %v, p99 %v of one client\n", v.name, tps, syncClients, p50, all[len(all)*99/100])
}

var fdatasyncLine = regexp.MustCompile(`(?m)^\s+fdatasync\s+[0-9.]+ ops/sec\s+([0-9.]+) usecs/op`)

// measureFsync asks pg_test_fsync, in the directory of database and journal, how
// long it takes to have 8 KiB on disk.
func (s *syncBoard) measureFsync() time.Duration {
	s.t.Helper()
	file := filepath.Join(s.dir, "fsync")
	defer os.Remove(file)
	binDir, err := exec.Command("pg_config", "--bindir").Output()
	if err != nil {
		s.t.Fatalf("pg_config: %v", err)
	}
	program := filepath.Join(string(binDir[:len(binDir)-1]), "pg_test_fsync")
	out, err := exec.Command(program, "-s", "1", "-f", file).CombinedOutput()
	found := fdatasyncLine.FindSubmatch(out)
	if found == nil {
		s.t.Fatalf("pg_test_fsync tells no time of fdatasync: %v\n%s", err, out)
	}
	us, _ := strconv.ParseFloat(string(found[1]), 64)
	return time.Duration(us * float64(time.Microsecond))
}

// print prints the table of docs/benchmarks.md.
func (s *syncBoard) print() {
	base, single, fsync := s.tps[alone], s.p50[alone], median(s.fsync)
	fmt.Printf("\n%d processors, scale %d, %d clients (one for %.0f tps), %d s each, one fdatasync %v, median of %d rounds\n\n",
		runtime.NumCPU(), *scale, syncClients, middle(base)/syncClients, *seconds, fsync, *rounds)
	fmt.Printf("| TPC-B simple | tps, %d clients | of unaudited | p50, one client | added | added less 0.5 ms, in fdatasyncs |\n|---|---|---|---|---|---|\n", syncClients)
	for _, v := range variants {
		shares, added := make([]float64, *rounds), make([]time.Duration, *rounds)
		for i := range *rounds {
			shares[i], added[i] = 100*s.tps[v.name][i]/base[i], s.p50[v.name][i]-single[i]
		}
		fmt.Printf("| %s | %.0f | %.0f %% | %v | %v | %.2f |\n", v.name, middle(s.tps[v.name]), middle(shares),
			median(s.p50[v.name]), median(added), float64(median(added)-500*time.Microsecond)/float64(fsync))
	}
}

// latenciesOf reads and removes pgbench's per-transaction logs, sorted.
func latenciesOf(t *testing.T, prefix string) []time.Duration {
	t.Helper()
	all := readLatencies(t, prefix)
	slices.Sort(all)
	return all
}
