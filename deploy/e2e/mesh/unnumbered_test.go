package mesh_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// withoutANumber holds the ring's lock, as a session does that stands still with
// it, or somebody who has the server's account. What happens then gets no number,
// so the stream shows no hole: the ring's count of it is told all the same.
func withoutANumber(t *testing.T, m *mesh.Mesh, w *watching) {
	m.Settle(t)
	ring, err := os.OpenFile(m.Ring(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	const place = 128 // engine/ring/ring.h
	lock := func(pid int) {
		if _, err := ring.WriteAt(binary.LittleEndian.AppendUint32(nil, uint32(pid)), place); err != nil {
			t.Fatal(err)
		}
	}
	before, err := m.Numbers()
	if err != nil {
		t.Fatal(err)
	}
	locked := time.Now()
	lock(os.Getpid())
	m.Psql("postgres", "SELECT 'nobody will know';\n")
	m.Eventually(30*time.Second, func() error { // the session ends after psql
		n, err := m.Numbers()
		if err == nil && n.Unnumbered < 3 {
			err = fmt.Errorf("%d without a number, want a login, a statement and a disconnect", n.Unnumbered)
		}
		return err
	})
	lock(0)
	open := w.opens(t, notifierv1.Cause_CAUSE_UNNUMBERED, locked)
	// A watch outlives the notifier that it watches.
	m.Kill(mesh.Notifier)
	m.StartProcess(mesh.Notifier)
	closed := w.closes(t, open)
	after, err := m.Numbers()
	if err != nil {
		t.Fatal(err)
	}
	if after.Number != before.Number || before.Unnumbered != 0 {
		t.Errorf("from %+v to %+v, want no number given", before, after)
	}
	if closed.GetCount() != after.Unnumbered || closed.GetFirst() != 0 || closed.GetLowerBound() {
		t.Errorf("the window is %v, want it to count %d and to name no number", closed, after.Unnumbered)
	}
	m.Eventually(30*time.Second, func() error { // a report comes every second
		want := fmt.Sprintf("without a number of test-1: %d events", after.Unnumbered)
		if out := m.MustWeir("stream", "status"); !strings.Contains(out, want) {
			return fmt.Errorf("weir stream status does not say %q:\n%s", want, out)
		}
		return nil
	})
	m.Psql("postgres", "SELECT 'with a number again';\n")
	m.Settle(t)
	out := m.MustWeir("verify", "--events", m.Addr(mesh.Notifier))
	if want := fmt.Sprintf("%d events of epoch %d got no number", after.Unnumbered, after.Epoch); !strings.Contains(out, want) {
		t.Errorf("weir verify does not say %q:\n%s", want, out)
	}
}
