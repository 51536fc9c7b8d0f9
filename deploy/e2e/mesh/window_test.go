package mesh_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// aWindowOpensBeforeItCanBeCounted shuts the way to the journal: capture lives and
// reads no further than its window, so it must see in the ring's own count that
// events are lost. The count comes when the way is open again, and then is exact.
func aWindowOpensBeforeItCanBeCounted(t *testing.T, m *mesh.Mesh, w *watching, before int) {
	t.Helper()
	m.Signal(mesh.Crypto, syscall.SIGSTOP)
	began := time.Now()
	m.MustPgbench("-n", "-c", "1", "-t", "5000", "-f", script(t, m, "SELECT 1;\n"))
	open := w.opens(t, notifierv1.Cause_CAUSE_RING_FULL, began)
	if b := open.GetBegin().AsTime(); b.Before(began) || b.After(time.Now()) || open.GetFirst() == 0 {
		t.Errorf("window = %v, want it to begin after %v, with a number", open, began)
	}
	m.Signal(mesh.Crypto, syscall.SIGCONT)
	account, _ := m.Settle(t)
	if len(account.Told) <= before {
		t.Fatal("nothing was lost: the ring was not too small, the test tests nothing")
	}
	w.closes(t, open)
	mesh.Eventually(t, 40*time.Second, func() error {
		sum := uint64(0)
		for _, w := range windows(t, m) {
			if w.GetCause() != notifierv1.Cause_CAUSE_RING_FULL {
				continue
			}
			if w.GetOpen() {
				return fmt.Errorf("still open: %v", w)
			}
			sum += w.GetCount()
		}
		if sum != uint64(len(account.Told)) {
			return fmt.Errorf("the windows count %d, the stream tells of %d", sum, len(account.Told))
		}
		return nil
	})
}

// windows are those that the notifier has.
func windows(t *testing.T, m *mesh.Mesh) []*notifierv1.Window {
	t.Helper()
	answer := &notifierv1.ListWindowsResponse{}
	if err := protojson.Unmarshal([]byte(m.MustWeir("events", "windows", "--json")), answer); err != nil {
		t.Fatal(err)
	}
	return answer.GetWindows()
}

// oneWindowTells checks that the notifier heard of the loss that the stream
// tells, exactly: one window, opened and closed by one event each, that counts
// what is missing and has it between its first and last number.
func oneWindowTells(t *testing.T, m *mesh.Mesh, account *mesh.Account) {
	t.Helper()
	var w *notifierv1.Window
	mesh.Eventually(t, 40*time.Second, func() error {
		w = nil
		all := windows(t, m)
		for _, one := range all {
			if one.GetCause() == notifierv1.Cause_CAUSE_RING_FULL {
				if w != nil {
					return fmt.Errorf("two windows: %v and %v", w, one)
				}
				w = one
			}
		}
		if w == nil || w.GetOpen() {
			return fmt.Errorf("the window has not closed: %v", all)
		}
		return nil
	})
	first, last := uint64(0), uint64(0)
	for n := range account.Told {
		if first == 0 || n < first {
			first = n
		}
		last = max(last, n)
	}
	if w.GetCount() != uint64(len(account.Told)) || w.GetFirst() != first || w.GetLast() != last || w.GetEpoch() != account.Epoch || w.GetLowerBound() {
		t.Errorf("window = %v, want %d of the numbers %d to %d of epoch %d, exactly", w, len(account.Told), first, last, account.Epoch)
	}
	ends := map[notifierv1.EventKind]int{}
	for line := range strings.Lines(m.MustWeir("events", "--format", "json")) {
		if !json.Valid([]byte(line)) || strings.Count(line, "\n") != 1 {
			t.Errorf("%q is not one object on a line", line)
		}
		e := &notifierv1.Event{}
		if err := protojson.Unmarshal([]byte(line), e); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		if e.GetWindow().GetId() == w.GetId() {
			ends[e.GetKind()]++
		}
	}
	if len(ends) != 2 || ends[notifierv1.EventKind_EVENT_KIND_LOSS_BEGAN] != 1 || ends[notifierv1.EventKind_EVENT_KIND_LOSS_ENDED] != 1 {
		t.Errorf("events of the window: %v, want that it opened and that it closed, once each", ends)
	}
	if out := m.MustWeir("stream", "status"); !strings.Contains(out, "ring_full") || !strings.Contains(out, fmt.Sprint(len(account.Told))) {
		t.Errorf("weir stream status does not show the window:\n%s", out)
	}
}
