package mesh_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// oneWindowTells checks that the notifier heard of the loss that the stream
// tells, exactly: one window, opened and closed by one event each, that counts
// what is missing and has it between its first and last number.
func oneWindowTells(t *testing.T, m *mesh.Mesh, account *mesh.Account) {
	t.Helper()
	var w *notifierv1.Window
	mesh.Eventually(t, 40*time.Second, func() error {
		answer := &notifierv1.ListWindowsResponse{}
		if err := protojson.Unmarshal([]byte(m.MustWeir("events", "windows", "--json")), answer); err != nil {
			return err
		}
		w = nil
		for _, one := range answer.GetWindows() {
			if one.GetCause() == notifierv1.Cause_CAUSE_RING_FULL {
				if w != nil {
					return fmt.Errorf("two windows: %v and %v", w, one)
				}
				w = one
			}
		}
		if w == nil || w.GetOpen() {
			return fmt.Errorf("the window has not closed: %v", answer)
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
