package tail

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/weir-das/weir/services/weir/internal/terminal"
)

// timeOfDay is what a terminal shows: the day is today.
const timeOfDay = "15:04:05.000"

// view is what a line shows of an event. Engines differ in the types of
// their fields, so they are taken as they come.
type view struct {
	Type     string `json:"type"`
	LogTime  string `json:"logTime"`
	User     string `json:"dbUserName"`
	Database string `json:"databaseName"`
	Class    string `json:"class"`
	Command  string `json:"command"`
	Object   string `json:"objectName"`
	Text     string `json:"commandText"`
	Error    string `json:"errorMessage"`
	Rows     scalar `json:"rowCount"`
	Exit     scalar `json:"exitCode"`
	Params   []any  `json:"paramList"`
}

// scalar is a JSON string or number as text; empty for null.
type scalar string

// UnmarshalJSON takes what is no object and no list.
func (s *scalar) UnmarshalJSON(b []byte) error {
	switch {
	case bytes.Equal(b, []byte("null")):
		return nil
	case b[0] == '"':
		return json.Unmarshal(b, (*string)(s))
	case b[0] == '{' || b[0] == '[':
		return fmt.Errorf("%.16s, want a string or a number", b)
	}
	*s = scalar(b)
	return nil
}

// failed reports that the statement or login did not succeed. MySQL writes 0
// and an empty message where all went well.
func (e view) failed() bool {
	return e.Error != "" || len(e.Exit) == 5 && e.Exit != "00000"
}

// line is the event on one line: when, who, what, on what, with what outcome,
// and the statement, shortened to the width.
func (e view) line(st terminal.Style) string {
	when := e.LogTime
	if day, clock, ok := strings.Cut(when, " "); st.Width > 0 && ok && len(day) == 10 && len(clock) > len(timeOfDay) {
		when = clock[:len(timeOfDay)]
	}
	var b strings.Builder
	columns := 0
	column := func(c terminal.Color, width int, s string) {
		s = terminal.OneLine(s)
		if st.Width > 0 {
			s = terminal.Fit(s, max(st.Width-columns, width, 12))
		}
		pad := max(width-terminal.Columns(s), 0)
		columns += terminal.Columns(s) + pad + 2
		if c != 0 {
			s = st.Paint(c, s)
		}
		b.WriteString(s)
		b.WriteString(strings.Repeat(" ", pad+2))
	}
	column(terminal.Dim, 0, when)
	column(0, 16, orDash(e.User)+"@"+orDash(e.Database))
	column(colorOf(e.Class), 8, e.Class)
	column(terminal.Bold, 8, e.Command)
	if e.Object != "" {
		column(terminal.Cyan, 0, e.Object)
	}
	switch {
	case e.failed():
		column(terminal.Red, 0, strings.TrimSpace(string(e.Exit)+" "+e.Error))
	case e.Rows == "1":
		column(terminal.Dim, 0, "1 row")
	case e.Rows != "":
		column(terminal.Dim, 0, string(e.Rows)+" rows")
	}
	text := terminal.OneLine(e.Text)
	if len(e.Params) > 0 {
		text += "  [" + terminal.OneLine(strings.Join(e.params(), ", ")) + "]"
	}
	if room := st.Width - columns; st.Width == 0 {
		b.WriteString(text)
	} else if room > 0 {
		b.WriteString(terminal.Fit(text, room))
	}
	return strings.TrimRight(b.String(), " ")
}

// params are the bind values as words.
func (e view) params() []string {
	words := make([]string, len(e.Params))
	for i, p := range e.Params {
		if words[i] = "NULL"; p != nil {
			words[i] = fmt.Sprint(p)
		}
	}
	return words
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// colorOf gives what changes data a louder colour than what reads it.
func colorOf(class string) terminal.Color {
	switch class {
	case "READ", "MAIN":
		return terminal.Green
	case "WRITE":
		return terminal.Yellow
	case "DDL":
		return terminal.Magenta
	case "ROLE":
		return terminal.Red
	case "FUNCTION":
		return terminal.Blue
	default:
		return terminal.Dim
	}
}
