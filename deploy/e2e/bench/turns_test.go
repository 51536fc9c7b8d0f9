//go:build bench

package bench_test

import (
	"bytes"
	"math"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/weir-das/weir/pkg/postgres"
)

const (
	// turn is how long one server's pgbench runs before the next one's: so short
	// that a machine whose speed drifts within seconds slows all of them alike.
	turn = 250 * time.Millisecond
	// rest lies between two turns, for what the last one left to do.
	rest = 50 * time.Millisecond
	// connecting is how much longer the first turn is, which connects all clients.
	connecting = time.Second
)

// load is a pgbench that runs against one server while it has its turn, and is
// stopped (SIGSTOP) while others have theirs.
type load struct {
	cmd    *exec.Cmd
	out    bytes.Buffer
	began  time.Time
	active time.Duration
}

// takeTurns runs a cell against several servers, one at a time and for seconds
// each, in turns, and returns the transactions a second of each.
func takeTurns(t *testing.T, servers []*postgres.Server, c cell, extra ...[]string) []float64 {
	t.Helper()
	turns := int(math.Ceil(float64(*seconds) / turn.Seconds()))
	all := time.Duration(len(servers)) * (connecting + time.Duration(turns)*(turn+rest))
	loads := make([]*load, len(servers))
	for i, pg := range servers {
		args := append(c.args(int(all.Seconds())), pg.DSN("postgres", "postgres"))
		if extra != nil {
			args = append(extra[i], args...)
		}
		loads[i] = &load{cmd: exec.Command(filepath.Join(pg.BinDir(), "pgbench"), args...)}
		loads[i].start(t)
	}
	for n := range turns - 1 {
		for i := range loads {
			loads[(i+n)%len(loads)].run(t, turn)
		}
	}
	tps := make([]float64, len(loads))
	for i, l := range loads {
		tps[i] = l.end(t, all)
	}
	return tps
}

// start starts pgbench and gives it its first turn.
func (l *load) start(t *testing.T) {
	t.Helper()
	l.cmd.Stdout, l.cmd.Stderr = &l.out, &l.out
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	l.began = time.Now()
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	moveTo(t, databaseHalf, l.cmd.Process.Pid)
	l.stopAfter(t, l.began, turn+connecting)
}

func (l *load) run(t *testing.T, d time.Duration) {
	t.Helper()
	at := time.Now()
	if err := l.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatalf("pgbench ended before its time: %v\n%s", err, l.out.Bytes())
	}
	l.stopAfter(t, at, d)
}

func (l *load) stopAfter(t *testing.T, at time.Time, d time.Duration) {
	t.Helper()
	time.Sleep(time.Until(at.Add(d)))
	if err := l.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatalf("pgbench ended before its time: %v\n%s", err, l.out.Bytes())
	}
	l.active += time.Since(at)
	time.Sleep(rest)
}

var (
	processedLine  = regexp.MustCompile(`actually processed: ([0-9]+)`)
	connectionLine = regexp.MustCompile(`initial connection time = ([0-9.]+) ms`)
)

// end lets pgbench go on, once its time is over, and returns its transactions a
// second of all its turns.
func (l *load) end(t *testing.T, all time.Duration) float64 {
	t.Helper()
	// Its time counts from when it was connected.
	time.Sleep(time.Until(l.began.Add(all + connecting)))
	l.cmd.Process.Signal(syscall.SIGCONT)
	if err := l.cmd.Wait(); err != nil {
		t.Fatalf("pgbench: %v\n%s", err, l.out.Bytes())
	}
	connected := connectionLine.FindSubmatch(l.out.Bytes())
	if connected == nil {
		t.Fatalf("pgbench did not say how long it connected:\n%s", l.out.Bytes())
	}
	ms, _ := strconv.ParseFloat(string(connected[1]), 64)
	return transactions(t, l.out.String()) / (l.active.Seconds() - ms/1000)
}

func transactions(t *testing.T, out string) float64 {
	t.Helper()
	m := processedLine.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("pgbench did not say how many transactions: %s", out)
	}
	n, _ := strconv.ParseFloat(m[1], 64)
	return n
}
