package faults_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/weir-das/weir/deploy/e2e/faults"
)

// The disk itself: what was synced is there after the power was cut, what was
// not is gone.
func TestPowerForgetsWhatWasNotSynced(t *testing.T) {
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
