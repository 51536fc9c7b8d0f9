package verify

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/weir-das/weir/services/weir/internal/proof"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

const (
	// unsignedFor is how long a stream may run without a signature that covers
	// what it holds: several times as long as crypto takes to sign.
	unsignedFor = 2 * time.Minute
	// silentFor is how long a stream may be without a sign of life: heartbeats
	// come every second.
	silentFor = time.Minute
	// shownLosses bounds what is shown of an epoch as text; JSON has more.
	shownLosses = 20
)

// answer is what the command says. Its JSON is an interface for scripts: it may
// grow, and never change.
type answer struct {
	Stream      string    `json:"stream"`
	From        time.Time `json:"from,omitzero"`
	To          time.Time `json:"to,omitzero"`
	Interrupted bool      `json:"interrupted"`
	// Locked counts records whose data key KMS does not give out.
	Locked uint64 `json:"locked"`
	// Verdict is whole, not whole or not checked; Exit is the exit code.
	Verdict string   `json:"verdict"`
	Exit    int      `json:"exit"`
	Notes   []string `json:"notes,omitempty"` // what qualifies the verdict
	*proof.Report

	checkedKey bool
	live       bool      // read to the present
	made       time.Time // when the stream was made, where it holds all since then
	why        error
}

// Verdicts on the whole.
const (
	whole    = "whole"
	notWhole = "not whole"
	unknown  = "not checked"
)

// decide makes the verdict. What was tampered with stays so, however little was
// read; a hole may be what could not be read.
func (a *answer) decide(now time.Time) {
	a.Verdict, a.Exit = whole, exitWhole
	var doubts []string
	doubt := func(format string, args ...any) { doubts = append(doubts, fmt.Sprintf(format, args...)) }
	switch {
	case a.Records == 0 && a.Locked == 0 && a.Unreadable == 0 && !a.Interrupted:
		doubt("nothing was there to check")
	case a.Records > 0 && a.Plain == a.Records:
		// Aurora's own streams have no numbers; nobody altered anything.
		a.Findings, a.Found = nil, 0
		doubt("no record has a weir object: this is no stream of Weir's, and has no numbers to check")
	}
	if a.Locked > 0 {
		doubt("%s could not be decrypted: %v", count(a.Locked, "record"), a.why)
	}
	if a.Interrupted {
		doubt("interrupted: this is what was read until then, and holes may be what was not")
	}
	if a.checkedKey {
		for _, e := range a.Epochs {
			if e.Present == 0 {
				continue
			}
			if e.Signed == 0 {
				doubt("no signature covers epoch %d of %s", e.Epoch, e.Instance)
			} else if e.Signed < e.Last && e.LastArrival.Sub(e.SignedAt) > unsignedFor {
				doubt("numbers %d to %d of epoch %d were never signed: the last signature is of %s", e.Signed+1, e.Last, e.Epoch, clock(e.SignedAt))
			}
		}
	}
	a.Notes = append(a.Notes, doubts...)
	a.silent(now)
	a.older()
	switch {
	case a.Interrupted:
		a.Verdict, a.Exit = unknown, exitUnknown
	case a.Found > 0 || !a.OK() && a.Locked == 0:
		a.Verdict, a.Exit = notWhole, exitNotWhole
	case doubts != nil:
		a.Verdict, a.Exit = unknown, exitUnknown
	}
}

// silent notes instances that have not been heard of for a while: whoever cuts
// off the end of a stream, heartbeats and all, leaves silence.
func (a *answer) silent(now time.Time) {
	if !a.live || a.Interrupted {
		return
	}
	last := map[string]time.Time{}
	for _, e := range a.Epochs {
		if e.LastArrival.After(last[e.Instance]) {
			last[e.Instance] = e.LastArrival
		}
	}
	for _, e := range a.Epochs {
		at := last[e.Instance]
		delete(last, e.Instance)
		if !at.IsZero() && now.Sub(at) > silentFor {
			a.Notes = append(a.Notes, fmt.Sprintf("no sign of life of %s since %s: its stream was stopped, or is cut off", e.Instance, clock(at)))
		}
	}
}

// older notes epochs that are older than the stream. That is so where recording was
// started while the ring was there; and where somebody deleted the stream.
func (a *answer) older() {
	for _, e := range a.Epochs {
		if !a.made.IsZero() && e.OpenBeginning && e.Began.Before(a.made) && e.First > 1 {
			a.Notes = append(a.Notes, fmt.Sprintf("this stream was made at %s, and epoch %d of %s is older: numbers before %s went elsewhere, if anywhere, "+
				"and are not judged; if a stream of that name was deleted, the notifier told it as WEIR-EVENT-0013", clock(a.made), e.Epoch, e.Instance, thousands(e.First)))
		}
	}
}

func (a *answer) json(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(a)
}

func (a *answer) text(w io.Writer, style terminal.Style) error {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s: %s%s", a.Stream, count(a.Records, "record"), period(a.From, a.To))
	for _, e := range a.Epochs {
		a.epoch(line, style, e)
	}
	if a.Found > 0 {
		line("\n%s", style.Paint(terminal.Red, "Tampered with:"))
	}
	for _, f := range a.Findings {
		where := f.Source.String()
		if f.Epoch != 0 {
			where += fmt.Sprintf(", epoch %d", f.Epoch)
		}
		if f.First != 0 {
			where += ", " + numbers(f.First, f.Last)
		}
		line("  %s: %s (%s)", f.Kind, terminal.OneLine(f.Detail), where)
	}
	if n := a.Found - uint64(len(a.Findings)); n > 0 {
		line("  and %d more", n)
	}
	line("")
	for _, n := range a.Notes {
		line("%s", style.Paint(terminal.Yellow, terminal.OneLine(n)))
	}
	line("%s", style.Paint(map[string]terminal.Color{whole: terminal.Green, notWhole: terminal.Red, unknown: terminal.Yellow}[a.Verdict], a.conclusion()))
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *answer) epoch(line func(string, ...any), style terminal.Style, e proof.Epoch) {
	color := terminal.Red
	if e.Verdict == proof.Complete || e.Verdict == proof.Told {
		color = terminal.Green
	}
	extent := "no numbers"
	if e.First <= e.Last {
		extent = numbers(e.First, e.Last)
		if e.OpenBeginning {
			extent += " (the beginning is open)"
		}
	}
	line("\n%s epoch %d, begun %s\n  %s: %s", e.Instance, e.Epoch, clock(e.Began), extent, style.Paint(color, e.Verdict))
	told := e.Lost - e.LostUntold
	if e.Lost > 0 {
		line("  %s there, %s lost and told, %s missing untold", thousands(e.Present), thousands(told), thousands(e.LostUntold))
	}
	shown := uint64(0)
	for i, l := range e.Losses {
		if i == shownLosses {
			break
		}
		shown += l.Count()
		cause := l.Cause
		if cause != "" {
			cause = ", " + terminal.OneLine(cause)
		}
		when := ""
		switch {
		case !l.Since.IsZero() && !l.Until.IsZero():
			when = fmt.Sprintf(", between %s and %s", clock(l.Since), clock(l.Until))
		case !l.Since.IsZero():
			when = ", after " + clock(l.Since)
		case !l.Until.IsZero():
			when = ", before " + clock(l.Until)
		}
		line("    %s%s%s; told: %s", numbers(l.First, l.Last), when, cause, l.Told)
	}
	if rest := e.Lost - min(shown, e.Lost); rest > 0 {
		line("    and %s more", thousands(rest))
	}
	if e.Repeated > 0 {
		list := make([]string, 0, 3)
		for _, r := range e.Repeats[:min(3, len(e.Repeats))] {
			list = append(list, numbers(r.First, r.Last))
		}
		if len(e.Repeats) > len(list) {
			list = append(list, "…")
		}
		line("  %s came again, byte for byte the same: %s", thousands(e.Repeated), strings.Join(list, ", "))
	}
	switch {
	case e.Checkpoints > 0 && !a.checkedKey:
		line("  %s, whose signatures were not checked (--public-key)", count(e.Checkpoints, "signed checkpoint"))
	case e.Signed > 0:
		line("  signed up to number %s, at %s", thousands(e.Signed), clock(e.SignedAt))
	}
	if !e.LastArrival.IsZero() {
		line("  last sign of life %s", clock(e.LastArrival))
	}
}

func (a *answer) conclusion() string {
	var present, told, untold uint64
	for _, e := range a.Epochs {
		present += e.Present
		untold += e.LostUntold
		told += e.Lost - e.LostUntold
	}
	switch a.Verdict {
	case unknown:
		return "Not checked, or not all of it."
	case notWhole:
		return fmt.Sprintf("NOT WHOLE: %s missing that nobody told of, %s of tampering.", count(untold, "number"), count(a.Found, "sign"))
	}
	if told > 0 {
		return fmt.Sprintf("Whole: %s there, %s lost and told.", count(present, "number"), thousands(told))
	}
	return fmt.Sprintf("Whole: %s, none missing.", count(present, "number"))
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000Z") }

func period(from, to time.Time) string {
	s := ""
	if !from.IsZero() {
		s += " from " + clock(from)
	}
	if !to.IsZero() {
		s += " to " + clock(to)
	}
	return s
}

func numbers(first, last uint64) string {
	if first == last {
		return "number " + thousands(first)
	}
	return fmt.Sprintf("numbers %s to %s", thousands(first), thousands(last))
}

func count(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return thousands(n) + " " + noun + "s"
}

// thousands writes n with commas between groups of three digits.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
