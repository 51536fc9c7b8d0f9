//go:build bench

package bench_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	"github.com/weir-das/weir/pkg/postgres"
)

var (
	scale   = flag.Int("scale", 128, "pgbench's scale: at least four times the clients")
	seconds = flag.Int("seconds", 5, "how long each cell runs for each server and round")
	compare = flag.String("audits", "", "compare only the audits that match this pattern with none")
	cells   = flag.String("cells", "", "run only cells that match this pattern: \"select simple 8\"")
)

// cell is one workload.
type cell struct {
	script  string // select or tpcb
	mode    string // simple or prepared
	clients int
}

func (c cell) String() string { return fmt.Sprintf("%s %s %d", c.script, c.mode, c.clients) }

func (c cell) args(seconds int) []string {
	args := []string{"-n", "-M", c.mode, "-c", strconv.Itoa(c.clients), "-j", strconv.Itoa(min(c.clients, 2)), "-T", strconv.Itoa(seconds)}
	if c.script == "select" {
		args = append(args, "-S")
	}
	return args
}

func allCells(t *testing.T) (all []cell) {
	want, err := regexp.Compile(*cells)
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"select", "tpcb"} {
		for _, mode := range []string{"simple", "prepared"} {
			for _, clients := range []int{1, 8, 32} {
				if c := (cell{script, mode, clients}); want.MatchString(c.String()) {
					all = append(all, c)
				}
			}
		}
	}
	return all
}

// audits are what is compared. All their servers run at the same time, on data of
// their own, and take turns. "none, again" is the unaudited server once more, on
// another copy: what it differs by is what differences mean nothing.
var audits = []string{"none", "none, again", "pgaudit", "weir, sink", "weir, mesh"}

// TestPgbench measures what auditing costs. In every round the audits run every
// cell, by turns of a quarter of a second. What counts is the median over the
// rounds of the share of the unaudited run.
func TestPgbench(t *testing.T) {
	want, err := regexp.Compile(*compare)
	if err != nil {
		t.Fatal(err)
	}
	audits = slices.DeleteFunc(audits, func(a string) bool { return a != "none" && !want.MatchString(a) })
	b := &board{t: t, dir: scratch(t), tps: map[string]map[string][]float64{}}
	b.fill(audits)
	var servers []*postgres.Server
	for _, audit := range audits {
		servers = append(servers, b.serve(audit))
		b.tps[audit] = map[string][]float64{}
	}
	for range *rounds {
		for _, c := range allCells(t) {
			for i, tps := range takeTurns(t, servers, c) {
				b.tps[audits[i]][c.String()] = append(b.tps[audits[i]][c.String()], tps)
				fmt.Printf("%-12s %-20s %10.0f tps\n", audits[i], c, tps)
			}
		}
	}
	b.print()
}

// board is the database and the results so far.
type board struct {
	t   *testing.T
	dir string
	tps map[string]map[string][]float64 // by audit, by cell, one for each round
}

// settings are the same for every audit.
var settings = map[string]string{
	"shared_buffers": "2GB", "max_wal_size": "8GB", "checkpoint_timeout": "1h", "autovacuum": "off", "max_connections": "100",
}

func (b *board) options(audit string) postgres.Options {
	o := postgres.Options{Dir: b.home(audit), Settings: map[string]string{}}
	for k, v := range settings {
		o.Settings[k] = v
	}
	return o
}

func (b *board) home(audit string) string {
	return filepath.Join(b.dir, strings.NewReplacer(", ", "-", " ", "-").Replace(audit))
}

// start starts a server, which stops with the test.
func (b *board) start(o postgres.Options) *postgres.Server {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	pg, err := postgres.Start(ctx, o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { b.stop(pg) })
	return pg
}

// fill makes the database once, and gives each server a copy.
func (b *board) fill(audits []string) {
	pg, err := postgres.Start(context.Background(), b.options(audits[0]))
	if err != nil {
		b.t.Fatal(err)
	}
	b.pgbench(pg, "-i", "-q", "-s", strconv.Itoa(*scale))
	b.stop(pg)
	for _, audit := range audits[1:] {
		if out, err := exec.Command("cp", "-a", b.home(audits[0]), b.home(audit)).CombinedOutput(); err != nil {
			b.t.Fatalf("copying the database: %v: %s", err, out)
		}
	}
}

// serve starts the audit's server and whatever belongs to it, and reads its data into memory.
func (b *board) serve(audit string) *postgres.Server {
	b.t.Helper()
	o := b.options(audit)
	var pg *postgres.Server
	switch audit {
	case "none", "none, again":
		pg = b.start(o)
	case "pgaudit":
		o.Settings["shared_preload_libraries"] = "pgaudit"
		o.Settings["pgaudit.log"] = "all"
		o.Settings["logging_collector"] = "on"
		o.Settings["log_destination"] = "csvlog"
		o.Settings["log_directory"] = "audit"
		pg = b.start(o)
	case "weir, sink":
		o.Module, o.RingFile = filepath.Join(binDir, "weir.so"), "/dev/shm/"+filepath.Base(b.dir)+".ring"
		b.t.Cleanup(func() { os.Remove(o.RingFile) })
		pg = b.start(o)
		b.drain(o.RingFile)
	case "weir, mesh":
		pg = b.underMesh(o)
	}
	b.pgbench(pg, "-n", "-S", "-c", "4", "-j", "2", "-T", "5")
	return pg
}

// drain reads the ring and discards what it reads.
func (b *board) drain(ring string) {
	b.t.Helper()
	sink := exec.Command(filepath.Join(binDir, "ringsink"), ring)
	sink.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	sink.Stderr = os.Stderr
	if err := sink.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		sink.Process.Signal(syscall.SIGTERM)
		sink.Wait()
	})
}

func (b *board) underMesh(o postgres.Options) *postgres.Server {
	m := mesh.Start(b.t, mesh.Options{NoServer: true, NoStream: true})
	o.Module, o.RingFile = m.Module(), m.Ring()
	pg := b.start(o)
	m.MustWeir("stream", "start", "--cluster", "test", "--kms-key", m.KMSKeyID, "--mode", "async", "--wait")
	b.t.Cleanup(func() {
		n, err := m.Numbers()
		if err != nil {
			b.t.Error(err)
			return
		}
		fmt.Printf("mesh: %d events, %d of them lost and told\n", n.Number, n.Lost)
	})
	return pg
}

func (b *board) stop(pg *postgres.Server) {
	b.t.Helper()
	if err := pg.Stop(postgres.Fast); err != nil {
		b.t.Fatal(err)
	}
}

func (b *board) pgbench(pg *postgres.Server, args ...string) string {
	b.t.Helper()
	cmd := exec.Command(filepath.Join(pg.BinDir(), "pgbench"), append(args, pg.DSN("postgres", "postgres"))...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("pgbench %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// print prints the table of docs/benchmarks.md.
func (b *board) print() {
	fmt.Printf("\n| median of %d rounds, tps | %s |\n|---%s|\n", *rounds, strings.Join(audits, " | "), strings.Repeat("|---", len(audits)))
	for _, c := range allCells(b.t) {
		fmt.Printf("| %s, %s, %d clients |", c.script, c.mode, c.clients)
		base := b.tps["none"][c.String()]
		for _, audit := range audits {
			tps := b.tps[audit][c.String()]
			shares := make([]float64, len(tps))
			for i := range tps {
				shares[i] = 100 * tps[i] / base[i]
			}
			fmt.Printf(" %.0f (%.0f %%) |", middle(tps), middle(shares))
		}
		fmt.Println()
	}
}

func middle(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
