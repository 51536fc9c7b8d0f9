package cluster

import (
	"fmt"
	"io"
	"time"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

// PrintWindows prints the windows that are open, and the last that closed, at
// most maxClosed of them. windows come oldest first.
func PrintWindows(w io.Writer, windows []*notifierv1.Window, maxClosed int) error {
	var rows [][]string
	closed := 0
	for i := len(windows) - 1; i >= 0; i-- {
		win := windows[i]
		if !win.GetOpen() {
			if closed++; closed > maxClosed {
				continue
			}
		}
		rows = append(rows, windowRow(win))
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "\nno loss in the last 14 days")
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return terminal.Table(w, []string{"WINDOW", "INSTANCE", "CAUSE", "BEGIN", "END", "NUMBERS", "COUNT"}, rows)
}

func windowRow(w *notifierv1.Window) []string {
	row := []string{
		"closed", w.GetInstanceId(), word(w.GetCause().String(), "CAUSE_"), moment(w.GetBegin().AsTime()), moment(w.GetEnd().AsTime()),
		"-", fmt.Sprint(w.GetCount()),
	}
	if w.GetOpen() {
		row[0], row[4] = "OPEN", "-"
	}
	if w.GetFirst() != 0 {
		row[5] = fmt.Sprintf("%d–%d", w.GetFirst(), max(w.GetLast(), w.GetFirst()))
	}
	switch {
	case w.GetOpen():
		row[6] += " so far"
	case w.GetCause() == notifierv1.Cause_CAUSE_JOURNAL_LOST:
		row[6] = "≤ " + row[6]
	case w.GetLowerBound() && w.GetCount() == 0:
		row[6] = "unknown"
	case w.GetLowerBound():
		row[6] = "≥ " + row[6]
	}
	return row
}

func moment(t time.Time) string {
	return t.UTC().Format("2006-01-02 15:04:05.000Z")
}
