package mesh_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	"github.com/weir-das/weir/pkg/postgres"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// theRingGoes takes the ring away from a server that is stopped, with events in
// it that nobody has but the ring: with a capture that lives and has seen them,
// and with one that is dead too, as when the host was without power. The next
// start has another epoch; the end of the one before is told, and weir verify
// knows by that what the stream cannot show.
func theRingGoes(t *testing.T, m *mesh.Mesh, w *watching) {
	for _, capture := range []string{"lives", "is dead too"} {
		t.Run("the ring goes, capture "+capture, func(t *testing.T) {
			began := time.Now()
			account, _ := m.Settle(t)
			before, err := m.Numbers()
			if err != nil {
				t.Fatal(err)
			}
			m.Kill(mesh.Crypto)
			for range 5 {
				m.Psql("postgres", "SELECT 'in the ring alone';\n")
			}
			last := reported(t, m)
			if last.Epoch != before.Epoch || last.Durable < before.Durable || last.Number < last.Durable+10 {
				t.Fatalf("control knows of %+v after %+v, want ten numbers that are not durable", last, before)
			}
			gone := time.Now()
			if capture != "lives" {
				m.Kill(mesh.Capture)
				last = known(t, m)
			}
			if err := m.Postgres.Stop(postgres.Fast); err != nil {
				t.Fatal(err)
			}
			if capture == "lives" {
				last = reported(t, m) // with what sessions said that were ending
			}
			var away *notifierv1.Window // what is missing meanwhile: the server, to a capture that lives; to another the ring
			if capture == "lives" {
				away = w.opens(t, notifierv1.Cause_CAUSE_ENGINE_GONE, gone)
			}
			if err := os.Remove(m.Ring()); err != nil {
				t.Fatal(err)
			}
			if capture != "lives" {
				m.StartProcess(mesh.Capture) // before the server, as after a reboot: it reports that it has no ring
				mesh.Eventually(t, 30*time.Second, func() error {
					want := regexp.MustCompile(fmt.Sprintf(` down \(.*\) +%d +%d `, last.Number, last.Durable))
					if out := m.MustWeir("stream", "status"); !want.MatchString(out) {
						return fmt.Errorf("control does not know how far the ring came that is gone:\n%s", out)
					}
					return nil
				})
				away = w.opens(t, notifierv1.Cause_CAUSE_RING_UNREADABLE, gone)
			}
			if err := m.Postgres.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			ended := w.await(t, "the end of the epoch", func(e *notifierv1.Event) bool { return e.GetEpochEnd().GetEpoch() == last.Epoch }).event
			if e := ended.GetEpochEnd(); e.GetLast() != last.Number || e.GetDurable() != last.Durable || e.GetLowerBound() != (capture != "lives") {
				t.Errorf("the epoch's end is told as %v, want %+v", ended, last)
			}
			loss := w.await(t, "the loss", func(e *notifierv1.Event) bool {
				return e.GetWindow().GetCause() == notifierv1.Cause_CAUSE_RING_GONE && e.GetWindow().GetEpoch() == last.Epoch && !e.GetWindow().GetOpen()
			}).event.GetWindow()
			if loss.GetFirst() != last.Durable+1 || loss.GetLast() != last.Number || loss.GetCount() != last.Number-last.Durable || !loss.GetLowerBound() {
				t.Errorf("the loss is told as %v, want at least %d to %d", loss, last.Durable+1, last.Number)
			}
			if begin, end := loss.GetBegin().AsTime(), loss.GetEnd().AsTime(); begin.Before(began) || end.Before(gone) || capture != "lives" && begin.After(gone) {
				t.Errorf("the loss is told from %v to %v, want it from when the ring was seen last, before %v", begin, end, gone)
			}
			m.StartProcess(mesh.Crypto)
			m.Psql("postgres", "SELECT 'another epoch';\n")
			if _, after := m.Settle(t); after.Epoch <= last.Epoch {
				t.Errorf("epoch %d after %d, want a later one", after.Epoch, last.Epoch)
			}
			verifiesWhatWasTold(t, m, last, uint64(len(account.Told)))
			if back := w.closes(t, away); !back.GetEnd().AsTime().After(gone) || !back.GetLowerBound() {
				t.Errorf("what was missing is told as %v, want it to end, and nobody to know what was not recorded", back)
			}
		})
	}
}

// endsThatNobodyHeardOf takes two rings away in a row while the notifier is away.
// The capture that saw the first go is killed, and the one that learned from control
// how far the second came is killed too, each after its report of the new epoch has
// taken the place of what control knew. The third tells both ends, once.
func endsThatNobodyHeardOf(t *testing.T, m *mesh.Mesh, w *watching) {
	t.Run("two rings go, and captures before they told", func(t *testing.T) {
		account, _ := m.Settle(t)
		m.Kill(mesh.Crypto)
		m.Kill(mesh.Notifier)
		var lost []mesh.Numbers
		for range 2 {
			for range 3 {
				m.Psql("postgres", "SELECT 'in the ring alone';\n")
			}
			last := reported(t, m)
			if last.Number < last.Durable+6 {
				t.Fatalf("control knows of %+v, want six numbers that are not durable", last)
			}
			dead := len(lost) == 1
			if dead {
				m.Kill(mesh.Capture)
				last = known(t, m)
			}
			if err := m.Postgres.Stop(postgres.Fast); err != nil {
				t.Fatal(err)
			}
			if !dead {
				last = reported(t, m)
			}
			lost = append(lost, last)
			if err := os.Remove(m.Ring()); err != nil {
				t.Fatal(err)
			}
			if err := m.Postgres.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if dead {
				m.StartProcess(mesh.Capture)
			}
			mesh.Eventually(t, 30*time.Second, func() error {
				if now, err := m.Numbers(); err != nil || now.Epoch <= last.Epoch {
					return fmt.Errorf("capture reads epoch %d after %d, %v", now.Epoch, last.Epoch, err)
				}
				return nil
			})
			reported(t, m)
		}
		m.Kill(mesh.Capture)
		for _, name := range []string{mesh.Notifier, mesh.Crypto, mesh.Capture} {
			m.StartProcess(name)
		}
		for i, last := range lost {
			ended := w.await(t, "the end of an epoch", func(e *notifierv1.Event) bool { return e.GetEpochEnd().GetEpoch() == last.Epoch }).event
			if e := ended.GetEpochEnd(); e.GetLast() != last.Number || e.GetDurable() != last.Durable || e.GetLowerBound() != (i == 1) {
				t.Errorf("the epoch's end is told as %v, want %+v", ended, last)
			}
			w.await(t, "the loss", func(e *notifierv1.Event) bool {
				return e.GetWindow().GetCause() == notifierv1.Cause_CAUSE_RING_GONE && e.GetWindow().GetEpoch() == last.Epoch && !e.GetWindow().GetOpen()
			})
			var told []*notifierv1.Window
			for _, w := range windows(t, m) {
				if w.GetCause() == notifierv1.Cause_CAUSE_RING_GONE && w.GetEpoch() == last.Epoch {
					told = append(told, w)
				}
			}
			if len(told) != 1 || told[0].GetFirst() != last.Durable+1 || told[0].GetLast() != last.Number || told[0].GetCount() != last.Number-last.Durable || told[0].GetOpen() {
				t.Errorf("the loss is told as %v, want one window of %d to %d", told, last.Durable+1, last.Number)
			}
		}
		m.Psql("postgres", "SELECT 'another epoch';\n")
		m.Settle(t)
		verifiesWhatWasTold(t, m, lost[0], uint64(len(account.Told)))
	})
}

// reported waits until control knows all numbers that capture does. A session that
// is ending may add one yet.
func reported(t *testing.T, m *mesh.Mesh) (last mesh.Numbers) {
	t.Helper()
	mesh.Eventually(t, 30*time.Second, func() error {
		now, err := m.Numbers()
		if err != nil {
			return err
		}
		last = known(t, m)
		if last.Epoch != now.Epoch || last.Number != now.Number || last.Durable != now.Durable {
			return fmt.Errorf("control knows of %+v, capture says %+v", last, now)
		}
		return nil
	})
	return last
}

// known is what control was told last.
func known(t *testing.T, m *mesh.Mesh) mesh.Numbers {
	t.Helper()
	var status struct {
		Instances []struct {
			Report struct {
				Epoch, Number, Durable uint64 `json:",string"`
			}
		}
	}
	out := m.MustWeir("stream", "status", "--json")
	// Before it may stand that a service does not answer.
	if err := json.Unmarshal([]byte(out[max(strings.Index(out, "{"), 0):]), &status); err != nil || len(status.Instances) != 1 {
		t.Fatalf("weir stream status: %v\n%s", err, out)
	}
	r := status.Instances[0].Report
	return mesh.Numbers{Epoch: r.Epoch, Number: r.Number, Durable: r.Durable}
}

// verdict is what weir verify says of an epoch.
type verdict struct {
	Epoch      uint64
	Verdict    string
	Lost       uint64
	LostUntold uint64 `json:"lost_untold"`
	Losses     []struct{ Cause, Told string }
}

// verifiesWhatWasTold holds the stream against the notifier, against what weir
// events exports of it, and against an export from which somebody took the loss.
// inStream is what the stream itself tells as lost.
func verifiesWhatWasTold(t *testing.T, m *mesh.Mesh, ended mesh.Numbers, inStream uint64) {
	t.Helper()
	export := m.MustWeir("events", "--format", "json")
	untold := strings.Join(slices.Collect(func(yield func(string) bool) {
		for line := range strings.Lines(export) {
			if !strings.Contains(line, "CAUSE_RING_GONE") && !yield(line) {
				return
			}
		}
	}), "")
	file := func(name, text string) string {
		if err := os.WriteFile(m.Path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return m.Path(name)
	}
	lost := inStream + ended.Number - ended.Durable
	alone := verdict{Verdict: "complete"}
	if inStream > 0 {
		alone = verdict{Verdict: "loss, told", Lost: inStream}
	}
	for _, c := range []struct {
		what, events string
		exit         int
		want         verdict
	}{
		{"nobody", "", 0, alone},
		{"the notifier", m.Addr(mesh.Notifier), 0, verdict{Verdict: "loss, told", Lost: lost}},
		{"its events", file("events.jsonl", export), 0, verdict{Verdict: "loss, told", Lost: lost}},
		{"its events in one", file("events.json", m.MustWeir("events", "--json")), 0, verdict{Verdict: "loss, told", Lost: lost}},
		{"its windows", file("windows.json", m.MustWeir("events", "windows", "--json")), 0, alone},
		{"its events without the loss", file("untold.jsonl", untold), 1, verdict{Verdict: "loss, untold", Lost: lost, LostUntold: lost - inStream}},
	} {
		args := []string{"verify", "--format", "json", "--patience", "0s"} // all has settled
		if c.events != "" {
			args = append(args, "--events", c.events)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		out, _ := m.Weir(ctx, args...)
		cancel()
		var answer struct {
			Exit   int
			Epochs []verdict
		}
		if err := json.Unmarshal([]byte(out[max(strings.Index(out, "{"), 0):]), &answer); err != nil {
			t.Fatalf("weir %v: %v\n%s", args, err, out)
		}
		i := slices.IndexFunc(answer.Epochs, func(v verdict) bool { return v.Epoch == ended.Epoch })
		if i < 0 || answer.Exit != c.exit {
			t.Errorf("asking %s, weir verify ends with %d, want %d:\n%s", c.what, answer.Exit, c.exit, out)
			continue
		}
		got := answer.Epochs[i]
		if got.Verdict != c.want.Verdict || got.Lost != c.want.Lost || got.LostUntold != c.want.LostUntold {
			t.Errorf("asking %s, weir verify says %+v of epoch %d, want %+v", c.what, got, ended.Epoch, c.want)
		}
		if c.want.Lost == lost && c.exit == 0 && (got.Losses[0].Cause != "ring_gone" || got.Losses[0].Told != "by the notifier") {
			t.Errorf("asking %s, weir verify names %+v, want the notifier and its cause", c.what, got.Losses)
		}
	}
}
