package terminal_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/weir-das/weir/services/weir/internal/terminal"
)

func TestOneLine(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"select 1", "select 1"},
		{"  select\n\t1 ;\n", "select 1 ;"},
		{"two  spaces", "two spaces"},
		{"\x1b[2J\x1b]0;title\x07", `\x1b[2J\x1b]0;title\x07`},
		{"bell\x07 and\x00zero", `bell\x07 and\x00zero`},
		{"c1 \u009b31m", `c1 \u009b31m`},
		{"right to left \u202e!", `right to left \u202e!`},
		{"bad \xff byte", `bad \xff byte`},
		{"said so: \ufffd", "said so: \ufffd"},
		{"größe 大", "größe 大"},
	} {
		if got := terminal.OneLine(c.in); got != c.want {
			t.Errorf("OneLine(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestFit(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{
		{"select", 0, "select"},
		{"select", 6, "select"},
		{"select 1", 6, "selec…"},
		{"größe", 5, "größe"},
		{"größer", 5, "größ…"},
		{"大大大", 6, "大大大"},
		{"大大大", 5, "大大…"},
		{"大大大", 4, "大…"},
		{"abc", 1, "…"},
	} {
		if got := terminal.Fit(c.in, c.width); got != c.want {
			t.Errorf("Fit(%q, %d) = %q, want %q", c.in, c.width, got, c.want)
		}
	}
}

func TestStyleOfAPipeIsPlain(t *testing.T) {
	var b bytes.Buffer
	if got := terminal.StyleOf(&b); got != (terminal.Style{}) {
		t.Errorf("StyleOf(buffer) = %+v, want the zero style", got)
	}
	if got := (terminal.Style{}).Paint(terminal.Red, "x"); got != "x" {
		t.Errorf("Paint without colour = %q, want x", got)
	}
	if got := (terminal.Style{Color: true}).Paint(terminal.Red, "x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("Paint = %q", got)
	}
}

func TestGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	if _, err := w.Write([]byte("x")); !terminal.Gone(fmt.Errorf("printing: %w", err)) {
		t.Errorf("Gone(%v) = false, want true", err)
	}
	if err := (&net.OpError{Op: "write", Err: syscall.EPIPE}); terminal.Gone(err) {
		t.Errorf("Gone(%v) = true, want false: that was a connection", err)
	}
}

// Whatever a statement holds, what is printed is one line of printable runes
// no wider than asked for.
func FuzzOneLine(f *testing.F) {
	for _, s := range []string{"select 1", "a\x1b[2Jb", "\xff\xfe", "大\u202e", "  x  "} {
		f.Add(s, 10)
	}
	f.Fuzz(func(t *testing.T, s string, width int) {
		line := terminal.OneLine(s)
		if !utf8.ValidString(line) {
			t.Fatalf("OneLine(%q) = %q, not UTF-8", s, line)
		}
		for _, r := range line {
			if !unicode.IsPrint(r) {
				t.Fatalf("OneLine(%q) = %q, has %U", s, line, r)
			}
		}
		if strings.Contains(line, "  ") || strings.TrimSpace(line) != line {
			t.Fatalf("OneLine(%q) = %q, has spaces to spare", s, line)
		}
		if again := terminal.OneLine(line); again != line {
			t.Fatalf("OneLine twice = %q, want %q", again, line)
		}
		if width = width % 300; width > 0 {
			if got := terminal.Columns(terminal.Fit(line, width)); got > width {
				t.Fatalf("Fit(%q, %d) takes %d columns", line, width, got)
			}
		}
	})
}
