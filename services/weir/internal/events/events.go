// Package events is `weir events`: what the notifier keeps about the audit
// itself, as a command.
//
// Before: a person or a script.
// Next: services/notifier, over gRPC.
package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/weir/internal/cluster"
	"github.com/weir-das/weir/services/weir/internal/connect"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

// Command is `weir events`.
type Command struct {
	List        List        `cmd:"" default:"withargs" help:"List what happened to the audit itself: started, stopped, interrupted, lost, and back. The default."`
	Windows     Windows     `cmd:"" help:"List the windows of loss, and of interruption."`
	DeadLetters DeadLetters `cmd:"" help:"List the events that could not be delivered to a sink, or deliver them once more."`
}

// dial connects to the notifier.
func dial(flags connect.Flags) (notifierv1.NotifierServiceClient, *grpc.ClientConn, error) {
	file, err := flags.Resolve()
	if err != nil {
		return nil, nil, err
	}
	conn, err := file.Notifier()
	if err != nil {
		return nil, nil, err
	}
	return notifierv1.NewNotifierServiceClient(conn), conn, nil
}

// List is `weir events list`, or `weir events` alone.
type List struct {
	Watch         bool          `help:"Go on with what happens, until Ctrl-C."`
	Source        string        `placeholder:"ID" help:"Only this cluster's or instance's."`
	Since         string        `placeholder:"TIME" help:"Only from this time on (2026-11-23T09:47:00Z), or only the last so long (1h). The default is all that is kept: 14 days."`
	Last          time.Duration `hidden:"" help:"The last so long: --since with a duration."`
	Format        string        `enum:"text,json" default:"text" help:"json: one event a line, as weir verify --events reads it."`
	JSON          bool          `help:"Print one JSON object with all events."`
	connect.Flags `embed:""`
}

// Help is shown by --help.
func (List) Help() string {
	return `Examples:
  weir events
  weir events --source dev-1 --since 1h --watch
  weir events --format json > events.jsonl`
}

// pageSize is the most that notifier gives at once.
const pageSize = 1000

// Run lists the events, and watches if asked to.
func (c List) Run(ctx context.Context, s terminal.Streams) error {
	since, err := c.since(time.Now())
	if err != nil {
		return err
	}
	if c.Watch && c.JSON {
		return errors.New("--json prints one object, which a watch never ends: use --format json")
	}
	notifier, conn, err := dial(c.Flags)
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.Watch {
		return c.watch(ctx, s.Out, notifier, since)
	}
	all := &notifierv1.ListEventsResponse{}
	in := &notifierv1.ListEventsRequest{SourceId: c.Source, PageSize: pageSize, Since: since}
	for {
		pageCtx, cancel := context.WithTimeout(ctx, connect.Patience)
		out, err := notifier.ListEvents(pageCtx, in)
		cancel()
		if err != nil {
			return connect.Explain("listing events", err)
		}
		all.Events = append(all.Events, out.GetEvents()...)
		if in.PageToken = out.GetNextPageToken(); in.PageToken == "" {
			break
		}
	}
	switch {
	case c.JSON:
		return connect.PrintJSON(s.Out, all)
	case c.Format == "json":
		for _, e := range all.GetEvents() {
			if err := printLine(s.Out, e); err != nil {
				return err
			}
		}
		return nil
	}
	var rows [][]string
	for _, e := range all.GetEvents() {
		rows = append(rows, row(e))
	}
	return terminal.Table(s.Out, []string{"TIME", "EVENT", "SOURCE", "MESSAGE"}, rows)
}

// since reads --since and --last.
func (c List) since(now time.Time) (*timestamppb.Timestamp, error) {
	switch {
	case c.Last > 0:
		return timestamppb.New(now.Add(-c.Last)), nil
	case c.Since == "":
		return nil, nil
	}
	if d, err := time.ParseDuration(c.Since); err == nil && d > 0 {
		return timestamppb.New(now.Add(-d)), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, c.Since); err == nil {
			return timestamppb.New(t), nil
		}
	}
	return nil, fmt.Errorf("--since %q: want a time, such as 2026-11-23T09:47:00Z, or how long ago, such as 1h", c.Since)
}

// watch prints events as they are recorded. A notifier that goes away is waited
// for: nothing is left out, and nothing comes twice.
func (c List) watch(ctx context.Context, out io.Writer, notifier notifierv1.NotifierServiceClient, since *timestamppb.Timestamp) error {
	if since == nil {
		since = timestamppb.New(time.Unix(0, 0)) // all that is kept
	}
	in := &notifierv1.WatchEventsRequest{SourceId: c.Source, Since: since}
	for {
		heard, err := c.follow(ctx, out, notifier, in)
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C is how a watch ends
		case terminal.Gone(err):
			return err
		case !heard && in.GetResumeToken() == "":
			return connect.Explain("watching events", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// follow prints one watch until it breaks. heard says that it was set up.
func (c List) follow(ctx context.Context, out io.Writer, notifier notifierv1.NotifierServiceClient, in *notifierv1.WatchEventsRequest) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := notifier.WatchEvents(ctx, in)
	if err != nil {
		return false, err
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return heard, err
		}
		heard = true
		if e := answer.GetEvent(); e != nil {
			if err := c.print(out, e); err != nil {
				return heard, err
			}
			in.ResumeToken = answer.GetResumeToken()
		}
	}
}

func (c List) print(out io.Writer, e *notifierv1.Event) error {
	if c.Format == "json" {
		return printLine(out, e)
	}
	r := row(e)
	_, err := fmt.Fprintf(out, "%s  %s  %s  %s\n", r[0], r[1], r[2], terminal.OneLine(r[3]))
	return err
}

func row(e *notifierv1.Event) []string {
	return []string{e.GetOccurredAt().AsTime().Format("2006-01-02 15:04:05.000Z"), e.GetEventId(), e.GetSourceId(), e.GetMessage()}
}

// printLine prints an event as one line of JSON.
func printLine(out io.Writer, e *notifierv1.Event) error {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(e)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil { // protojson varies its white space on purpose
		return err
	}
	b.WriteByte('\n')
	_, err = out.Write(b.Bytes())
	return err
}

// Windows is `weir events windows`.
type Windows struct {
	Instance      string `placeholder:"ID" help:"Only this instance's."`
	Open          bool   `help:"Only those that are open."`
	JSON          bool   `help:"Print them as JSON."`
	connect.Flags `embed:""`
}

// Run lists them.
func (c Windows) Run(ctx context.Context, s terminal.Streams) error {
	notifier, conn, err := dial(c.Flags)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, connect.Patience)
	defer cancel()
	out, err := notifier.ListWindows(ctx, &notifierv1.ListWindowsRequest{InstanceId: c.Instance, OpenOnly: c.Open})
	if err != nil {
		return connect.Explain("listing windows", err)
	}
	if c.JSON {
		return connect.PrintJSON(s.Out, out)
	}
	return cluster.PrintWindows(s.Out, out.GetWindows(), len(out.GetWindows()))
}
