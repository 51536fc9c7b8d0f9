// Package terminal is what the commands know of the place they print to: how
// wide it is, whether it shows colours, and how to print text that a stranger
// wrote without letting him move the cursor.
//
// Before: the commands of services/weir.
// Next: nobody; a person reads it.
package terminal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Streams is where a command prints: what was asked for to Out, everything
// else to Err, so that a pipe gets clean output.
type Streams struct {
	Out io.Writer
	Err io.Writer
}

// Failure is an error that ends the command with a code of its own. Where Err
// is nil, everything was said already.
type Failure struct {
	Code int
	Err  error
}

func (f *Failure) Error() string {
	if f.Err == nil {
		return fmt.Sprintf("exit code %d", f.Code)
	}
	return f.Err.Error()
}

func (f *Failure) Unwrap() error { return f.Err }

// Style is how to print on one writer.
type Style struct {
	// Color is true where colour sequences are understood and wanted.
	Color bool
	// Width in columns; 0 is as wide as need be: a file or a pipe.
	Width int
}

// StyleOf looks at what w is. The environment's NO_COLOR turns colours off.
func StyleOf(w io.Writer) Style {
	f, ok := w.(*os.File)
	if !ok {
		return Style{}
	}
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return Style{}
	}
	s := Style{Color: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", Width: int(ws.Col)}
	if s.Width == 0 {
		s.Width = 80 // a terminal that does not say
	}
	return s
}

// Gone reports that err is a write to a pipe whose reader has gone: `head` has
// seen enough. A connection that broke is something else.
func Gone(err error) bool {
	var write *fs.PathError
	return errors.As(err, &write) && errors.Is(write.Err, unix.EPIPE)
}

// Color is one of the sixteen that every terminal has.
type Color int

// The colours and weights that the commands use.
const (
	Bold    Color = 1
	Dim     Color = 2
	Red     Color = 31
	Green   Color = 32
	Yellow  Color = 33
	Blue    Color = 34
	Magenta Color = 35
	Cyan    Color = 36
)

// Paint returns s in colour where the style has colours.
func (st Style) Paint(c Color, s string) string {
	if !st.Color || s == "" {
		return s
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", int(c), s)
}

// OneLine makes s safe to print within a line: runs of white space become one
// space, and everything that could steer a terminal is written out. The text
// of a statement is in the hands of whoever sent it.
func OneLine(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	space := false
	for i, r := range s {
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
			continue
		case space:
			b.WriteByte(' ')
			space = false
		}
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r < 0x80 && unicode.IsControl(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		case !unicode.IsPrint(r): // C1 controls, and the marks that turn the direction of writing
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// plain reports that s is printable ASCII without runs of spaces: nearly always.
func plain(s string) bool {
	before := byte(' ') // a space at the beginning is dropped too
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == ' ' && before == ' ' {
			return false
		}
		before = s[i]
	}
	return before != ' ' || s == ""
}

// Fit shortens s to at most width columns, with an ellipsis where something
// is missing. A width of 0 fits everything.
func Fit(s string, width int) string {
	if width <= 0 || len(s) <= width {
		return s
	}
	columns, keep := 0, 0
	for i, r := range s {
		if columns < width { // room for this rune's predecessors and the ellipsis
			keep = i
		}
		if columns += columnsOf(r); columns > width {
			return s[:keep] + "…"
		}
	}
	return s
}

// Columns is how many columns s takes.
func Columns(s string) int {
	n := 0
	for _, r := range s {
		n += columnsOf(r)
	}
	return n
}

// columnsOf knows the blocks that East Asian writing and emoji fill twice as
// wide. A mark that combines counts as one: a line that ends early is no harm.
func columnsOf(r rune) int {
	switch {
	case r < 0x1100:
		return 1
	case r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3,
		r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60,
		r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1faff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	default:
		return 1
	}
}
