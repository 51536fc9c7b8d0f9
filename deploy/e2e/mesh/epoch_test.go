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
			}
			if err := m.Postgres.Stop(postgres.Fast); err != nil {
				t.Fatal(err)
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

// reported waits until control knows all numbers that there are: nobody works.
func reported(t *testing.T, m *mesh.Mesh) (last mesh.Numbers) {
	t.Helper()
	mesh.Eventually(t, 30*time.Second, func() error {
		now, err := m.Numbers()
		if err != nil {
			return err
		}
		var status struct {
			Instances []struct {
				Report struct {
					Epoch, Number, Durable uint64 `json:",string"`
				}
			}
		}
		if err := json.Unmarshal([]byte(m.MustWeir("stream", "status", "--json")), &status); err != nil {
			return err
		}
		r := status.Instances[0].Report
		last = mesh.Numbers{Epoch: r.Epoch, Number: r.Number, Durable: r.Durable}
		if r.Epoch != now.Epoch || r.Number != now.Number || r.Durable != now.Durable {
			return fmt.Errorf("control knows of %+v, capture says %+v", r, now)
		}
		return nil
	})
	return last
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
