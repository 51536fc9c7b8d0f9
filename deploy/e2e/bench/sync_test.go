//go:build bench

package bench_test

import (
	"flag"
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

// variant is one way to record TPC-B, on a server of its own.
type variant struct {
	name  string
	mode  []string // of the stream; nil where there is no module
	peers bool     // the journal is on three NATS servers
}

var variants = []variant{
	{"none", nil, false},
	{"async", []string{"--mode", "async"}, false},
	{"sync, transaction", []string{"--mode", "sync", "--sync-level", "transaction", "--sync-timeout", "1m"}, false},
	{"sync, statement", []string{"--mode", "sync", "--sync-level", "statement", "--sync-timeout", "1m"}, false},
	{"sync, transaction, three peers", []string{"--mode", "sync", "--sync-level", "transaction", "--sync-timeout", "1m"}, true},
}

var only = flag.String("variants", "", "run only the variants that match this pattern, and none")

// TestSync measures what synchronous mode costs: the throughput of TPC-B with 32
// clients, and what a single client waits longer for a transaction, beside the
// time that one fdatasync takes here. In every round the variants take turns of a
// quarter of a second; what counts is the median over the rounds of the share of,
// and the difference to, the unaudited run.
func TestSync(t *testing.T) {
	want, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	variants = slices.DeleteFunc(variants, func(v variant) bool { return v.mode != nil && !want.MatchString(v.name) })
	moveTo(t, servicesHalf, os.Getpid())
	s := &syncBoard{
		board: board{t: t, dir: scratch(t)}, meshes: map[string]*mesh.Mesh{},
		tps: map[string][]float64{}, p50: map[string][]time.Duration{},
	}
	s.serveAll()
	s.fsync = append(s.fsync, s.measureFsync())
	for range *rounds {
		s.measure()
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
	servers []*postgres.Server // of variants
	meshes  map[string]*mesh.Mesh
	tps     map[string][]float64
	p50     map[string][]time.Duration // of one client's transactions
	fsync   []time.Duration
}

func (s *syncBoard) serveAll() {
	var names []string
	for _, v := range variants {
		names = append(names, v.name)
	}
	s.fill(names)
	for _, v := range variants {
		o := s.options(v.name)
		if v.mode != nil {
			m := mesh.Start(s.t, mesh.Options{NoServer: true, NoStream: true, Peers: v.peers})
			o.Module, o.RingFile = m.Module(), m.Ring()
			s.meshes[v.name] = m
		}
		pg := s.start(o)
		s.servers = append(s.servers, pg)
		moveTo(s.t, databaseHalf, pg.PID())
		if v.mode != nil {
			s.meshes[v.name].StartStream(v.mode...)
			moveTo(s.t, databaseHalf, s.meshes[v.name].PID(mesh.Capture))
		}
		s.pgbench(pg, "-n", "-S", "-c", "4", "-j", "2", "-T", "5")
	}
}

// measure runs a round: TPC-B with many clients, and with one.
func (s *syncBoard) measure() {
	tps := takeTurns(s.t, s.servers, cell{"tpcb", "simple", syncClients})
	var logs [][]string
	prefix := filepath.Join(s.dir, "log-")
	for i := range variants {
		logs = append(logs, []string{"-l", "--log-prefix=" + prefix + strconv.Itoa(i)})
	}
	takeTurns(s.t, s.servers, cell{"tpcb", "simple", 1}, logs...)
	for i, v := range variants {
		all := latenciesOf(s.t, prefix+strconv.Itoa(i))
		p50 := all[len(all)/2]
		s.tps[v.name], s.p50[v.name] = append(s.tps[v.name], tps[i]), append(s.p50[v.name], p50)
		fmt.Printf("%-32s %8.0f tps with %d clients   p50 %v of one client\n", v.name, tps[i], syncClients, p50)
	}
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
	base, single, fsync := s.tps[variants[0].name], s.p50[variants[0].name], median(s.fsync)
	where := "shared by all"
	if *apart {
		where = "half of them for database, pgbench and capture"
	}
	fmt.Printf("\n%d processors, %s, scale %d, %d clients (one for %.0f tps), %d s each, one fdatasync %v, median of %d rounds\n\n",
		runtime.NumCPU(), where, *scale, syncClients, middle(base)/syncClients, *seconds, fsync, *rounds)
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
