package tail

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

// Format is how records are printed.
type Format string

// The formats that --format takes.
const (
	Text Format = "text" // a line of words for each event
	JSON Format = "json" // one event object a line, byte for byte as in the record
	DAS  Format = "das"  // one inner record a line, byte for byte
)

// Printer prints records. It may be used by several goroutines; what one call
// prints stays together.
type Printer struct {
	format     Format         // immutable
	style      terminal.Style // immutable
	heartbeats bool           // immutable
	err        io.Writer      // gaps and notices, where the format has no place for them

	mu     sync.Mutex // guards what follows
	out    *bufio.Writer
	events int64
	lost   int64
}

// NewPrinter prints to s.Out in the format given; heartbeats only if asked to.
func NewPrinter(s terminal.Streams, style terminal.Style, format Format, heartbeats bool) *Printer {
	return &Printer{
		format: format, style: style, heartbeats: heartbeats,
		out: bufio.NewWriterSize(s.Out, 64<<10), err: s.Err,
	}
}

// Record prints one record. Its errors are the writers'.
func (p *Printer) Record(rec Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	beats := 0
	for _, e := range rec.Events {
		if e.Heartbeat() {
			beats++
		}
	}
	p.events += int64(len(rec.Events) - beats)
	for _, g := range rec.Gaps {
		p.lost += int64(g.Last - g.First + 1)
	}
	switch p.format {
	case DAS:
		// A heartbeat that tells of a gap or a notice is more than a sign of life.
		if beats < len(rec.Events) || p.heartbeats || len(rec.Gaps)+len(rec.Started)+len(rec.Notices) > 0 {
			p.line(rec.Plain)
		}
	case JSON:
		p.gaps(p.err, rec.Gaps)
		p.notices(p.err, rec.Notices)
		for _, e := range rec.Events {
			if p.heartbeats || !e.Heartbeat() {
				p.line(e.JSON)
			}
		}
	default:
		p.gaps(p.out, rec.Gaps)
		p.started(rec.Started)
		p.notices(p.out, rec.Notices)
		for _, e := range rec.Events {
			switch {
			case !e.Heartbeat():
				fmt.Fprintln(p.out, e.view.line(p.style))
			case p.heartbeats:
				fmt.Fprintln(p.out, p.style.Paint(terminal.Dim, rec.Arrived.UTC().Format(timeOfDay)+"  heartbeat"))
			}
		}
	}
	return p.out.Flush()
}

// line writes b as one line. Only white space between tokens can hold a line
// feed in JSON, and only a foreign writer puts it there.
func (p *Printer) line(b []byte) {
	if bytes.ContainsAny(b, "\n\r") {
		var c bytes.Buffer
		if json.Compact(&c, b) == nil {
			b = c.Bytes()
		}
	}
	p.out.Write(b) // a bufio.Writer keeps its error for Flush
	p.out.WriteByte('\n')
}

func (p *Printer) gaps(w io.Writer, gaps []das.Gap) {
	for _, g := range gaps {
		fmt.Fprintln(w, p.style.Paint(terminal.Red, fmt.Sprintf("gap: %s lost, numbers %d to %d, between %s and %s: %s",
			count(int64(g.Last-g.First+1), "event"), g.First, g.Last,
			das.AppendTime(nil, g.From), das.AppendTime(nil, g.To), terminal.OneLine(g.Cause))))
	}
}

// notices prints what the engine noticed about the audit itself.
func (p *Printer) notices(w io.Writer, notices []das.Notice) {
	for _, n := range notices {
		who := "the engine"
		if n.DBUserName != "" {
			who = n.DBUserName
		}
		fmt.Fprintln(w, p.style.Paint(terminal.Red, fmt.Sprintf("notice: %s: %s, number %d, %s, session %s of %s", terminal.OneLine(n.Kind),
			terminal.OneLine(n.Subject), n.N, das.AppendTime(nil, n.Time), terminal.OneLine(n.SessionID), terminal.OneLine(who))))
	}
}

// started prints statements that have begun: each is printed again at its end.
func (p *Printer) started(started []das.Started) {
	for _, s := range started {
		v := view{
			LogTime: string(das.AppendTime(nil, s.StartTime)), User: s.DBUserName, Database: s.DatabaseName,
			Class: s.Class, Command: s.Command, Object: "still runs", Text: s.CommandText.Value,
		}
		fmt.Fprintln(p.out, v.line(p.style))
	}
}

// Events is how many events were in the records, hidden heartbeats not
// counted, and how many the records say were lost.
func (p *Printer) Events() (events, lost int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.events, p.lost
}

// count says "1 event", "2 events".
func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
