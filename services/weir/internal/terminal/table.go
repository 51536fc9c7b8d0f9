package terminal

import (
	"fmt"
	"io"
	"strings"
)

// Table prints rows below headings, each column as wide as its widest cell.
// Cells are printed as OneLine makes them.
func Table(w io.Writer, headings []string, rows [][]string) error {
	width := make([]int, len(headings))
	cells := append([][]string{headings}, rows...)
	for i, row := range cells {
		safe := make([]string, len(row))
		for c, s := range row {
			safe[c] = OneLine(s)
			width[c] = max(width[c], Columns(safe[c]))
		}
		cells[i] = safe
	}
	for _, row := range cells {
		var b strings.Builder
		for c, s := range row {
			b.WriteString(s)
			b.WriteString(strings.Repeat(" ", width[c]-Columns(s)+2))
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}
