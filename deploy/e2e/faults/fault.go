package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	"github.com/weir-das/weir/pkg/localaws/inject"
)

// Fault is one thing that breaks, and how it is mended.
type Fault struct {
	Name string
	// on is what it works on: two faults do not work on one thing at a time.
	on string
	// begin breaks it, and returns what mends it.
	begin func(w *World, rnd *rand.Rand) (mend func())
}

// All is everything that the suite breaks.
func All() []Fault {
	var all []Fault
	for _, name := range []string{mesh.NATS, mesh.Crypto, mesh.Publisher, mesh.Notifier, mesh.Control, mesh.Capture} {
		all = append(all,
			Fault{"kill -9 of " + name, name, func(w *World, _ *rand.Rand) func() {
				w.Mesh.Kill(name)
				return func() { w.Mesh.StartProcess(name) }
			}},
			Fault{"SIGSTOP of " + name, name, func(w *World, _ *rand.Rand) func() {
				w.Mesh.Signal(name, syscall.SIGSTOP)
				return func() { w.Mesh.Signal(name, syscall.SIGCONT) }
			}})
	}
	all = append(all,
		Fault{"kill -9 of a session", "PostgreSQL", func(w *World, _ *rand.Rand) func() { w.killSession(); return func() {} }},
		Fault{"kill -9 of the postmaster", "PostgreSQL", func(w *World, _ *rand.Rand) func() {
			if err := w.Mesh.Postgres.Kill(); err != nil {
				w.T.Fatal(err)
			}
			return func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				if err := w.Mesh.Postgres.Restart(ctx); err != nil {
					w.T.Fatal(err)
				}
			}
		}},
		Fault{"the disk of the journal full", mesh.NATS, func(w *World, _ *rand.Rand) func() { return w.fillJournal(64 << 10) }},
		kinesis("Kinesis throttling", func(rnd *rand.Rand) inject.Fault {
			return inject.Fault{Operations: []string{"PutRecords"}, Code: "ProvisionedThroughputExceededException", Fraction: 0.8, Seed: rnd.Uint64()}
		}),
		kinesis("Kinesis failing in part", func(rnd *rand.Rand) inject.Fault {
			return inject.Fault{Operations: []string{"PutRecords"}, Fraction: 0.5, Seed: rnd.Uint64()}
		}),
		kinesis("Kinesis refusing", func(*rand.Rand) inject.Fault { return inject.Fault{Operations: []string{"PutRecords"}} }),
		kinesis("Kinesis's answers lost", func(*rand.Rand) inject.Fault {
			return inject.Fault{Operations: []string{"PutRecords"}, Lost: true, Times: 5}
		}),
		Fault{"KMS refusing", "KMS", func(w *World, _ *rand.Rand) func() {
			return w.AWS.KMS().Fail(inject.Fault{Operations: []string{"GenerateDataKey"}, Code: "KMSInternalException"})
		}},
		Fault{"the key disabled", "KMS", func(w *World, _ *rand.Rand) func() {
			if err := w.AWS.KMS().Disable(w.Mesh.KMSKeyID); err != nil {
				w.T.Fatal(err)
			}
			return func() {
				if err := w.AWS.KMS().Enable(w.Mesh.KMSKeyID); err != nil {
					w.T.Fatal(err)
				}
			}
		}},
		Fault{"the engine's clock stepped", "clock", func(w *World, rnd *rand.Rand) func() {
			by := time.Duration(1+rnd.IntN(3600)) * time.Second
			if rnd.IntN(2) == 0 {
				by = -by
			}
			w.Clock.Step(by)
			return func() { w.Clock.Step(0) }
		}})
	for _, link := range []string{"capture to crypto", "crypto to NATS", "publisher to NATS", "crypto to KMS", "Kinesis"} {
		all = append(all, links(link)...)
	}
	return all
}

func kinesis(name string, fault func(*rand.Rand) inject.Fault) Fault {
	return Fault{name, "Kinesis", func(w *World, rnd *rand.Rand) func() { return w.AWS.Kinesis().FailPut(fault(rnd)) }}
}

// links are what can happen to a connection.
func links(name string) []Fault {
	var all []Fault
	for what, do := range map[string]func(*World){
		"cut":                func(w *World) { w.Links[name].Refuse(); w.Links[name].Cut() },
		"slow":               func(w *World) { w.Links[name].Slow(64 << 10) },
		"half open":          func(w *World) { w.Links[name].HalfOpen() },
		"one byte at a time": func(w *World) { w.Links[name].Dribble() },
		"stalled":            func(w *World) { w.Links[name].Stall() },
	} {
		all = append(all, Fault{fmt.Sprintf("the link %s %s", name, what), name, func(w *World, _ *rand.Rand) func() {
			do(w)
			return func() { w.Links[name].Resume(); w.Links[name].Cut() }
		}})
	}
	return all
}

// fillJournal leaves the journal's disk so many bytes.
func (w *World) fillJournal(but int64) (mend func()) {
	free := mesh.FillDisk(w.T, w.disk, but)
	return func() {
		free()
		w.Mesh.Kill(mesh.NATS) // NATS writes nothing more until it is started anew
		w.Mesh.StartProcess(mesh.NATS)
	}
}

// killSession kills a session of the workload, as the kernel's memory killer would.
func (w *World) killSession() {
	w.T.Helper()
	var pid int
	mesh.Eventually(w.T, 30*time.Second, func() error {
		out := w.Mesh.Psql("postgres", "select pid from pg_stat_activity where query like 'INSERT INTO executed%' limit 1")
		if _, err := fmt.Sscan(out, &pid); err != nil {
			return fmt.Errorf("no session of the workload: %s", out)
		}
		return nil
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		w.T.Fatal(err)
	}
}

// Progress waits until the clients have seen some statements more completed.
func (w *World) Progress() {
	w.T.Helper()
	w.completed(20)
}

// completed waits until the clients have seen so many statements more completed.
func (w *World) completed(statements int) {
	w.T.Helper()
	from := w.load.done()
	mesh.Eventually(w.T, time.Minute, func() error {
		if n := w.load.done() - from; n < statements {
			return fmt.Errorf("%d statements since", n)
		}
		return nil
	})
}

// In has failures told by a subtest.
func (w *World) In(t *testing.T) {
	before := w.T
	w.T = t
	t.Cleanup(func() { w.T = before })
}

// byName sorts, so that a seed picks the same faults every time.
func byName(all []Fault) []Fault {
	slices.SortFunc(all, func(a, b Fault) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Break lets a fault happen for so long, under load.
func (w *World) Break(f Fault, hold time.Duration, rnd *rand.Rand) {
	w.T.Helper()
	w.Progress()
	mend := f.begin(w, rnd)
	time.Sleep(hold)
	mend()
	w.Progress()
}

// Storm lets n faults happen, several at a time. What it does follows from rnd
// alone.
func (w *World) Storm(n int, hold time.Duration, rnd *rand.Rand) {
	w.T.Helper()
	type pending struct {
		Fault
		mend func()
	}
	all := byName(All())
	var open []pending
	mend := func() {
		i := rnd.IntN(len(open))
		p := open[i]
		open = append(open[:i], open[i+1:]...)
		p.mend()
		delete(w.busy, p.on)
		w.T.Logf("  mended: %s", p.Name)
	}
	w.Progress()
	for range n {
		for {
			f := all[rnd.IntN(len(all))]
			if w.busy[f.on] {
				continue
			}
			w.busy[f.on] = true
			w.T.Logf("  broken: %s", f.Name)
			open = append(open, pending{f, f.begin(w, rnd)})
			break
		}
		time.Sleep(hold/2 + time.Duration(rnd.Int64N(int64(hold))))
		for len(open) > 2 || len(open) > 0 && rnd.IntN(2) == 0 {
			mend()
		}
	}
	for len(open) > 0 {
		mend()
	}
	w.Progress()
}
