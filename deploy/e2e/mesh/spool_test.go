package mesh_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
)

// Crypto is dead for longer than the ring lasts, and capture is killed meanwhile
// and comes back while crypto is still away: with a spool no event is lost, and
// nothing of them can be read on the database's host.
func TestSpoolOutlastsTheRing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	const ring = 1 << 20
	m := mesh.Start(t, mesh.Options{RingSize: ring, Spool: dir})
	m.Eventually(30*time.Second, func() error {
		_, err := os.Stat(filepath.Join(dir, "public.key"))
		return err
	})
	m.Kill(mesh.Crypto)
	const rounds, statements, size = 24, 20, 8 << 10
	var script strings.Builder
	for range statements {
		fmt.Fprintf(&script, "SELECT length('canary%s');\n", strings.Repeat("x", size))
	}
	for round := range rounds {
		m.Psql("postgres", script.String())
		if round == rounds/2 {
			m.Kill(mesh.Capture)
			m.StartProcess(mesh.Capture)
		}
		// Each round is a sixth of the ring; four of them are more than the half from
		// which on capture spools, and leave room for the next.
		m.Eventually(60*time.Second, func() error {
			n, err := m.Numbers()
			if err == nil && n.Number-n.Stored > 4*statements {
				err = fmt.Errorf("number %d, stored %d", n.Number, n.Stored)
			}
			return err
		})
	}
	n, err := m.Numbers()
	if err != nil || n.Spooled < rounds*statements*size/20 || n.Durable >= n.Stored || n.Lost != 0 {
		t.Fatalf("with crypto away: %+v, %v", n, err)
	}
	// Capture reports every second.
	m.Eventually(30*time.Second, func() error {
		out := m.MustWeir("stream", "status")
		if !regexp.MustCompile(`spool of test-1: [0-9.]+ [KM]iB of 1 GiB, [1-9][0-9]* events since 20.*Z, waiting for the journal`).MatchString(out) {
			return fmt.Errorf("weir stream status does not show what the spool holds:\n%s", out)
		}
		return nil
	})
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil || bytes.Contains(data, []byte("canary")) {
			t.Errorf("%s: %v, or it holds clear text", f.Name(), err)
		}
	}
	m.StartProcess(mesh.Crypto)
	m.Psql("postgres", "SELECT 'back'")
	account, numbers := m.Settle(t)
	if len(account.Told) != 0 || numbers.Lost != 0 || uint64(account.Kept()) != numbers.Number {
		t.Errorf("%d events, %d told as lost, of %d numbers", account.Kept(), len(account.Told), numbers.Number)
	}
	found := 0
	for _, e := range account.All() {
		if text, _ := e.Fields["commandText"].(string); strings.Contains(text, "canary") {
			found++
		}
	}
	if found != rounds*statements {
		t.Errorf("%d statements arrived, %d were executed", found, rounds*statements)
	}
	if out := m.MustWeir("verify", "--cluster", "test"); !strings.Contains(out, "complete") {
		t.Errorf("weir verify says:\n%s", out)
	}
	m.Eventually(30*time.Second, func() error {
		n, err := m.Numbers()
		if err == nil && n.Spooled != 0 {
			err = fmt.Errorf("%d bytes are left in the spool", n.Spooled)
		}
		if out := m.MustWeir("stream", "status"); err == nil && !strings.Contains(out, "spool of test-1: empty, room for 1 GiB") {
			err = fmt.Errorf("weir stream status does not say that the spool is empty:\n%s", out)
		}
		return err
	})
	lossIsToldWhenItIsFound(t, m, dir)
}
