package faults_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/faults"
	"github.com/weir-das/weir/deploy/e2e/mesh"
)

// The disk itself: what was synced is there after the power was cut, what was
// not is gone.
func TestPowerForgetsWhatWasNotSynced(t *testing.T) {
	if !full() {
		t.Skip("left to make faults: it mounts a file system of its own, which takes root and /dev/fuse")
	}
	p := faults.NewPower(t)
	synced, lost, atOnce := filepath.Join(p.Dir, "d", "synced"), filepath.Join(p.Dir, "d", "lost"), filepath.Join(p.Dir, "sync")
	if err := os.Mkdir(filepath.Join(p.Dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string, flags int, sync bool) {
		t.Helper()
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND|flags, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if sync {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(synced+".new", "one", 0, true)
	if err := os.Rename(synced+".new", synced); err != nil {
		t.Fatal(err)
	}
	write(synced, "two", 0, false)
	write(lost, "three", 0, false)
	write(atOnce, "four", os.O_SYNC, false)
	holds := func(name, want string) {
		t.Helper()
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", filepath.Base(name), got, err, want)
		}
	}
	holds(synced, "onetwo")
	holds(lost, "three")
	p.Cut()
	holds(synced, "one")
	holds(lost, "")
	holds(atOnce, "four")
}

// The journal's host loses its power while no publisher runs, so that what is
// acknowledged lies on its disk alone. Everything is there that was acknowledged,
// for the journal syncs before it acknowledges; and where it does not, what it
// lost is missed.
func TestPowerLost(t *testing.T) {
	if !full() {
		t.Skip("left to make faults: it mounts a file system of its own, which takes root and /dev/fuse")
	}
	for _, mode := range []string{"async", "sync"} {
		t.Run(mode, func(t *testing.T) {
			p := faults.NewPower(t)
			w := faults.Start(t, faults.Options{Mode: mode, Power: p})
			for range 3 {
				losePower(w, p)
			}
			w.Check()
		})
	}
	t.Run("a journal that does not sync", func(t *testing.T) {
		p := faults.NewPower(t)
		w := faults.Start(t, faults.Options{Mode: "async", Power: p, Unsynced: true})
		w.Progress()
		p.Sync() // or it would lose its streams, and not only what is in them
		losePower(w, p)
		mesh.Eventually(t, time.Minute, func() error {
			v, out := w.Verify()
			for _, e := range v.Epochs {
				if v.Exit == 1 && e.LostUntold > 0 {
					t.Logf("%d numbers of %d are missed", e.LostUntold, e.Last)
					return nil
				}
			}
			return fmt.Errorf("nothing is missed:\n%s", out)
		})
	})
}

func losePower(w *faults.World, p *faults.Power) {
	w.Progress()
	w.Mesh.Kill(mesh.Publisher) // or it would still have what it has fetched
	w.Progress()
	before, err := w.Mesh.Numbers()
	if err != nil {
		w.T.Fatal(err)
	}
	mesh.Eventually(w.T, time.Minute, func() error { // the journal has acknowledged what only it has
		now, err := w.Mesh.Numbers()
		if err == nil && now.Durable < before.Number {
			err = fmt.Errorf("number %d, durable %d", before.Number, now.Durable)
		}
		return err
	})
	w.Mesh.Kill(mesh.NATS)
	p.Cut()
	w.Mesh.StartProcess(mesh.NATS)
	w.Mesh.StartProcess(mesh.Publisher)
	w.Progress()
}
