package tail_test

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/services/weir/internal/tail"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with testdata/name.golden.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; look at it, then run with -update\ngot:\n%s\nwant:\n%s", file, got, want)
	}
}

// stock puts one of everything into the stream.
func stock(p *producer) {
	at := time.Date(2026, 1, 31, 15, 4, 5, 123456000, time.UTC)
	connected := p.event("")
	connected.Command, connected.Class, connected.RowCount, connected.CommandText = "CONNECT", "MISC", das.Nullable[int64]{}, das.Nullable[string]{}

	selected := p.event("select  *\n\tfrom orders where id = $1")
	selected.ObjectType, selected.ObjectName = das.Some("TABLE"), das.Some("public.orders")
	selected.ParamList = []das.Nullable[string]{das.Some("42"), das.Some("it's \"quoted\""), {}}

	inserted := p.event("insert into größe values ('大きい', '\x1b[2J\u202e') returning a_very_long_column_name, another_very_long_column_name")
	inserted.Command, inserted.Class, inserted.RowCount = "INSERT", "WRITE", das.Some(int64(12345))

	failed := p.event("select 1/0;")
	failed.RowCount, failed.ExitCode, failed.ErrorMessage = das.Nullable[int64]{}, das.Some("22012"), das.Some("division by zero")

	refused := p.event("")
	refused.Command, refused.Class, refused.CommandText, refused.RowCount = "CONNECT", "MISC", das.Nullable[string]{}, das.Nullable[int64]{}
	refused.DBUserName, refused.DatabaseName = "mallory", ""
	refused.ExitCode, refused.ErrorMessage = das.Some("28P01"), das.Some(`password authentication failed for user "mallory"`)

	ddl := p.event("create table t (n int)")
	ddl.Command, ddl.Class, ddl.RowCount = "CREATE TABLE", "DDL", das.Nullable[int64]{}

	p.put("a", &das.Extension{Epoch: 1, Numbers: []uint64{1, 2, 3}}, connected, selected, inserted)
	p.putHeartbeat(&das.Extension{Epoch: 1})
	p.put("a", &das.Extension{
		Epoch: 1, Numbers: []uint64{7, 8, 9},
		Gaps: []das.Gap{{First: 4, Last: 6, From: at, To: at.Add(time.Second), Cause: das.CauseRingFull}},
	}, failed, refused, ddl)
	p.putHeartbeat(&das.Extension{
		Epoch: 1, Gaps: []das.Gap{{First: 10, Last: 10, From: at, To: at, Cause: das.CauseTorn}},
	})
	p.putHeartbeat(&das.Extension{
		Epoch: 1,
		Started: []das.Started{{
			N: 11, SessionID: "697e1a15.4d2", StatementID: 3, SubstatementID: 1, StartTime: at, Class: "READ", Command: "SELECT",
			CommandText: das.Some("select pg_sleep(3600)\n-- \x1b[2J"), DBUserName: "app", DatabaseName: "shop",
		}},
		Notices: []das.Notice{
			{N: 12, Time: at, Kind: das.NoticeHookReplaced, Subject: "ExecutorRun_hook", SessionID: "697e1a15.4d2", DBUserName: "mallory"},
			{N: 13, Time: at, Kind: das.NoticeRingRemoved, Subject: "/dev/shm/\x1b[2Jweir.ring", SessionID: "697e1a15.10"},
		},
	})
}

func TestFormats(t *testing.T) {
	p := newProducer(t, 1)
	stock(p)
	for _, c := range []struct {
		name       string
		format     tail.Format
		style      terminal.Style
		heartbeats bool
	}{
		{"text", tail.Text, terminal.Style{}, false},
		{"text-terminal", tail.Text, terminal.Style{Color: true, Width: 100}, false},
		{"text-narrow", tail.Text, terminal.Style{Width: 40}, false},
		{"json", tail.JSON, terminal.Style{}, false},
		{"json-heartbeats", tail.JSON, terminal.Style{}, true},
		{"das", tail.DAS, terminal.Style{}, false},
		{"das-heartbeats", tail.DAS, terminal.Style{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			printer := tail.NewPrinter(terminal.Streams{Out: &out, Err: &errs}, c.style, c.format, c.heartbeats)
			p.read(tail.TrimHorizon, func(o *tail.Options) { o.Take = printer.Record }).end()
			golden(t, c.name, append(out.Bytes(), prefixed(errs.String())...))
			events, lost := printer.Events()
			if events != 6 || lost != 4 {
				t.Errorf("Events() = %d, %d, want 6 events and 4 lost", events, lost)
			}
		})
	}
}

// prefixed marks what went to standard error.
func prefixed(s string) string {
	if s == "" {
		return ""
	}
	return "stderr: " + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\nstderr: ") + "\n"
}

// Aurora's own records, of every engine, have a line each.
func TestAurorasSamples(t *testing.T) {
	p := newProducer(t, 1)
	samples, err := filepath.Glob(filepath.Join("testdata", "samples", "*.json"))
	if err != nil || len(samples) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	for _, s := range samples {
		b, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		p.putData("a", p.seal(bytes.TrimSpace(b)))
	}
	var out bytes.Buffer
	printer := tail.NewPrinter(terminal.Streams{Out: &out, Err: &out}, terminal.Style{}, tail.Text, false)
	r := p.read(tail.TrimHorizon, func(o *tail.Options) { o.Take = printer.Record })
	r.end()
	if len(r.refusals) > 0 {
		t.Errorf("refused %q", r.refusals)
	}
	golden(t, "samples", out.Bytes())
}

type broken struct{}

func (broken) Write([]byte) (int, error) {
	return 0, &fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}
}

func TestABrokenPipeEndsTheReading(t *testing.T) {
	p := newProducer(t, 1)
	stock(p)
	printer := tail.NewPrinter(terminal.Streams{Out: broken{}, Err: broken{}}, terminal.Style{}, tail.Text, false)
	r := p.read(tail.TrimHorizon, func(o *tail.Options) { o.Take = printer.Record })
	if err := r.wait(); !terminal.Gone(err) {
		t.Errorf("Run = %v, want EPIPE", err)
	}
}

func TestRefusalsAreToldOncePerCause(t *testing.T) {
	var out bytes.Buffer
	refusals := tail.NewRefusals(&out)
	for range 3 {
		refusals.Refuse(tail.Record{Shard: "s", Sequence: "1"}, errors.New("one"))
		refusals.Refuse(tail.Record{Shard: "s", Sequence: "2"}, errors.New("two"))
	}
	if got := strings.Count(out.String(), "\n"); got != 2 {
		t.Errorf("told %d lines, want one for each cause:\n%s", got, out.String())
	}
	for i := range 100 {
		refusals.Refuse(tail.Record{}, errors.New(strings.Repeat("x", i)))
	}
	if got := strings.Count(out.String(), "\n"); got > 22 {
		t.Errorf("told %d lines of a hundred causes, want a bound", got)
	}
}
