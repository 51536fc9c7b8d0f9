package terminal_test

import (
	"strings"
	"testing"

	"github.com/weir-das/weir/services/weir/internal/terminal"
)

func TestTable(t *testing.T) {
	var b strings.Builder
	err := terminal.Table(&b, []string{"ID", "PROBLEM"}, [][]string{{"größe", "a\nb"}, {"x", ""}})
	if err != nil {
		t.Fatal(err)
	}
	want := "ID     PROBLEM\ngröße  a b\nx\n"
	if b.String() != want {
		t.Errorf("Table =\n%q, want\n%q", b.String(), want)
	}
}
