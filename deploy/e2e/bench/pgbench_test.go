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
	"syscall"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	"github.com/weir-das/weir/pkg/postgres"
)

var (
	scale   = flag.Int("scale", 128, "pgbench's scale: at least four times the clients")
	seconds = flag.Int("seconds", 5, "how long each cell runs")
	cells   = flag.String("cells", "", "run only cells that match this pattern: \"select simple 8\"")
)

// cell is one workload.
type cell struct {
	script  string // select or tpcb
	mode    string // simple or prepared
	clients int
}

func (c cell) String() string { return fmt.Sprintf("%s %s %d", c.script, c.mode, c.clients) }

func (c cell) args() []string {
	args := []string{"-n", "-M", c.mode, "-c", strconv.Itoa(c.clients), "-j", strconv.Itoa(min(c.clients, 2)), "-T", strconv.Itoa(*seconds)}
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

// audits are what is compared: each starts a server on the same data, runs the
// cells, and ends it.
var audits = []string{"none", "pgaudit", "weir, sink", "weir, mesh"}

// TestPgbench measures what auditing costs. Every round runs every audit on the
// same database, one after the other, in an order that turns; the median of the
// rounds counts.
func TestPgbench(t *testing.T) {
	b := &board{t: t, dir: scratch(t), tps: map[string]map[string][]float64{}}
	b.fill()
	for round := range *rounds {
		for i := range audits {
			b.run(audits[(i+round)%len(audits)])
		}
	}
	b.print()
}

// board is the database and the results so far.
type board struct {
	t   *testing.T
	dir string
	tps map[string]map[string][]float64 // by audit, by cell
}

// settings are the same for every audit.
var settings = map[string]string{
	"shared_buffers": "2GB", "max_wal_size": "8GB", "checkpoint_timeout": "1h", "autovacuum": "off", "max_connections": "100",
}

func (b *board) options() postgres.Options {
	o := postgres.Options{Dir: filepath.Join(b.dir, "postgres"), Settings: map[string]string{}}
	for k, v := range settings {
		o.Settings[k] = v
	}
	return o
}

// start starts a server on the database that fill made.
func (b *board) start(o postgres.Options) *postgres.Server {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	pg, err := postgres.Start(ctx, o)
	if err != nil {
		b.t.Fatal(err)
	}
	return pg
}

func (b *board) fill() {
	pg := b.start(b.options())
	defer pg.Stop(postgres.Fast)
	b.pgbench(pg, "-i", "-q", "-s", strconv.Itoa(*scale))
}

// run measures every cell under one audit.
func (b *board) run(audit string) {
	o := b.options()
	switch audit {
	case "none":
		pg := b.start(o)
		b.measure(audit, pg)
		b.stop(pg)
	case "pgaudit":
		o.Settings["shared_preload_libraries"] = "pgaudit"
		o.Settings["pgaudit.log"] = "all"
		o.Settings["logging_collector"] = "on"
		o.Settings["log_destination"] = "csvlog"
		o.Settings["log_directory"] = "audit"
		pg := b.start(o)
		b.measure(audit, pg)
		b.stop(pg)
		os.RemoveAll(filepath.Join(b.dir, "postgres", "data", "audit"))
	case "weir, sink":
		o.Module, o.RingFile = filepath.Join(binDir, "weir.so"), "/dev/shm/"+filepath.Base(b.dir)+".ring"
		defer os.Remove(o.RingFile)
		pg := b.start(o)
		sink := exec.Command(filepath.Join(binDir, "ringsink"), o.RingFile)
		sink.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		sink.Stderr = os.Stderr
		if err := sink.Start(); err != nil {
			b.t.Fatal(err)
		}
		b.measure(audit, pg)
		sink.Process.Signal(syscall.SIGTERM)
		sink.Wait()
		b.stop(pg)
	case "weir, mesh":
		b.t.Run("mesh", func(t *testing.T) { b.underMesh(t, audit, o) })
	}
}

func (b *board) underMesh(t *testing.T, audit string, o postgres.Options) {
	m := mesh.Start(t, mesh.Options{NoServer: true, NoStream: true})
	o.Module, o.RingFile = m.Module(), m.Ring()
	pg := b.start(o)
	defer b.stop(pg)
	m.MustWeir("stream", "start", "--cluster", "test", "--kms-key", m.KMSKeyID, "--mode", "async", "--wait")
	b.measure(audit, pg)
	n, err := m.Numbers()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("mesh: %d events, %d of them lost and told\n", n.Number, n.Lost)
}

func (b *board) stop(pg *postgres.Server) {
	b.t.Helper()
	if err := pg.Stop(postgres.Fast); err != nil {
		b.t.Fatal(err)
	}
}

var tpsLine = regexp.MustCompile(`tps = ([0-9.]+)`)

func (b *board) measure(audit string, pg *postgres.Server) {
	b.t.Helper()
	// Reads what the last server's end threw out of memory.
	b.pgbench(pg, "-n", "-S", "-c", "4", "-j", "2", "-T", "3")
	for _, c := range allCells(b.t) {
		m := tpsLine.FindStringSubmatch(b.pgbench(pg, c.args()...))
		if m == nil {
			b.t.Fatal("pgbench printed no tps")
		}
		tps, _ := strconv.ParseFloat(m[1], 64)
		if b.tps[audit] == nil {
			b.tps[audit] = map[string][]float64{}
		}
		b.tps[audit][c.String()] = append(b.tps[audit][c.String()], tps)
		fmt.Printf("%-12s %-20s %10.0f tps\n", audit, c, tps)
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
	fmt.Printf("\n| median of %d rounds, tps | %s | %s | %s | %s |\n|---|---|---|---|---|\n", *rounds, audits[0], audits[1], audits[2], audits[3])
	for _, c := range allCells(b.t) {
		fmt.Printf("| %s, %s, %d clients |", c.script, c.mode, c.clients)
		base := middle(b.tps["none"][c.String()])
		for _, audit := range audits {
			tps := middle(b.tps[audit][c.String()])
			fmt.Printf(" %.0f (%.0f %%) |", tps, 100*tps/base)
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
