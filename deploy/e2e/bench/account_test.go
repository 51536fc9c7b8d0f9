//go:build bench

package bench_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sampleHz is how often perf looks at each processor; no divisor of the timer's rate, so that the two do not march in step.
const sampleHz = 3989

// steps are what the module does with an event. A sample belongs to the first whose function is on its stack, between where
// it was taken and the server's call of the hook: what a step calls, in the server or the C library, is the step's.
var steps = []struct {
	name    string
	pattern *regexp.Regexp
}{
	{"ring put", regexp.MustCompile(`^weir_ring_put`)},
	{"names", regexp.MustCompile(`^(weir_put_(known_)?relations|weir_learn_relations|weir_put_function|weir_add_early_function|weir_name|put_listed)`)},
	{"params", regexp.MustCompile(`^(weir_put_params|put_param)`)},
	{"session block", regexp.MustCompile(`^(weir_session_|weir_put_session)`)},
	{"encode", regexp.MustCompile(`^(weir_event_|weir_put_|encode|finish|weir_redact|weir_clip)`)},
	{"messages", regexp.MustCompile(`^(put_message|weir_client_)`)},
	{"statement", nil}, // the rest: opening, numbering, closing
}

// TestAccount says where the module's time goes: nanoseconds of processor time an event and step, at 1 to 128 clients, by
// sampling every process of the server with its stack. It costs the server itself nothing but the samples.
func TestAccount(t *testing.T) {
	perf, err := exec.LookPath("perf")
	if err != nil {
		t.Fatalf("no perf: install it (Debian: linux-perf): %v", err)
	}
	b := &board{t: t, dir: scratch(t), tps: map[string]map[string][]float64{}}
	saved := settings["max_connections"]
	settings["max_connections"] = "200"
	defer func() { settings["max_connections"] = saved }()
	b.fill([]string{"weir, sink"})
	pg := b.serve("weir, sink")

	fmt.Printf("| ns an event, median of %d | clients |", *rounds)
	for _, s := range steps {
		fmt.Printf(" %s |", s.name)
	}
	fmt.Printf(" all | of the server's time |\n|---|---|%s\n", strings.Repeat("---|", len(steps)+2))
	for _, workload := range []struct {
		script, mode string
		events       float64 // a transaction
	}{{"select", "simple", 1}, {"select", "prepared", 1}, {"tpcb", "simple", 7}, {"tpcb", "prepared", 7}} {
		for _, clients := range []int{1, 8, 32, 128} {
			c := cell{workload.script, workload.mode, clients}
			if want := regexp.MustCompile(*cells); !want.MatchString(c.String()) {
				continue
			}
			var rows [][]float64
			for range *rounds {
				data := filepath.Join(b.dir, "perf.data")
				record := exec.Command(perf, "record", "--quiet", "--all-cpus", "--event", "cpu-clock", "--freq", strconv.Itoa(sampleHz), "--call-graph", "dwarf,8192",
					"--output", data, "--", filepath.Join(pg.BinDir(), "pgbench"))
				record.Args = append(append(record.Args, c.args(*seconds)...), pg.DSN("postgres", "postgres"))
				out, err := record.CombinedOutput()
				if err != nil {
					t.Fatalf("perf record: %v: %s", err, out)
				}
				rows = append(rows, account(t, perf, data, transactions(t, string(out))*workload.events))
			}
			fmt.Printf("| %s %s | %d |", c.script, c.mode, clients)
			for i := range len(steps) + 1 {
				fmt.Printf(" %.0f |", columnMedian(rows, i))
			}
			fmt.Printf(" %.1f %% |\n", columnMedian(rows, len(steps)+1))
		}
	}
}

func columnMedian(rows [][]float64, column int) float64 {
	var values []float64
	for _, row := range rows {
		values = append(values, row[column])
	}
	return middle(values)
}

// account is nanoseconds an event for each step, their sum, and its share of the server's time in percent.
func account(t *testing.T, perf, data string, events float64) []float64 {
	t.Helper()
	defer os.Remove(data)
	script := exec.Command(perf, "script", "--input", data, "--no-inline", "--comms", "postgres", "--fields", "comm,ip,sym,dso")
	out, err := script.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := script.Start(); err != nil {
		t.Fatal(err)
	}
	samples, ours := stepsOf(t, out)
	if err := script.Wait(); err != nil {
		t.Fatalf("perf script: %v", err)
	}
	if samples < 500 {
		t.Fatalf("only %d samples of the server: that says nothing", samples)
	}
	row := make([]float64, len(steps)+2)
	for i, n := range ours {
		row[i] = float64(n) / sampleHz * 1e9 / events
		row[len(steps)] += row[i]
		row[len(steps)+1] += float64(n) / float64(samples) * 100
	}
	return row
}

var frameLine = regexp.MustCompile(`^\s+[0-9a-f]+ (.*) \(([^()]*)\)$`)

// stepsOf reads stacks, innermost frame first, an empty line between two.
func stepsOf(t *testing.T, r io.Reader) (samples int, ours []int) {
	t.Helper()
	ours = make([]int, len(steps))
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	var module []string // the module's functions on this stack, up to what a hook merely lets work
	any, over := false, false
	end := func() {
		if any {
			samples++
			if len(module) > 0 {
				ours[stepOf(module)]++
			}
		}
		module, any, over = nil, false, false
	}
	for lines.Scan() {
		m := frameLine.FindStringSubmatch(lines.Text())
		switch {
		case lines.Text() == "":
			end()
		case m == nil:
		default:
			any = true
			inModule := strings.HasSuffix(m[2], "weir.so")
			if inModule && !over {
				module = append(module, m[1])
			} else if strings.HasPrefix(m[1], "standard_") || len(module) > 0 && !inModule {
				over = true
			}
		}
	}
	end()
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return samples, ours
}

func stepOf(functions []string) int {
	for i, s := range steps {
		if s.pattern == nil || slices.ContainsFunc(functions, s.pattern.MatchString) {
			return i
		}
	}
	return len(steps) - 1
}
