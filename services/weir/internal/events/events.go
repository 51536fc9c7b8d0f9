// Package events is `weir events`: what the notifier keeps about the audit
// itself, as a command.
//
// Before: a person or a script.
// Next: services/notifier, over gRPC.
package events

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/weir/internal/connect"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

// Command is `weir events`.
type Command struct {
	List List `cmd:"" help:"List what happened to the audit itself: started, stopped, lost, returned."`
}

// List is `weir events list`.
type List struct {
	Source        string        `placeholder:"ID" help:"Only this cluster's or instance's."`
	Last          time.Duration `placeholder:"DURATION" help:"Only the last so long, such as 1h. The default is all that is kept: 14 days."`
	JSON          bool          `help:"Print the events as JSON."`
	connect.Flags `embed:""`
}

// Help is shown by --help.
func (List) Help() string {
	return `Examples:
  weir events list
  weir events list --source dev-1 --last 1h --json`
}

// pageSize is the most that notifier gives at once.
const pageSize = 1000

// Run lists the events.
func (c List) Run(ctx context.Context, s terminal.Streams) error {
	file, err := c.Resolve()
	if err != nil {
		return err
	}
	conn, err := file.Notifier()
	if err != nil {
		return err
	}
	defer conn.Close()
	in := &notifierv1.ListEventsRequest{SourceId: c.Source, PageSize: pageSize}
	if c.Last > 0 {
		in.Since = timestamppb.New(time.Now().Add(-c.Last))
	}
	all := &notifierv1.ListEventsResponse{}
	for {
		pageCtx, cancel := context.WithTimeout(ctx, connect.Patience)
		out, err := notifierv1.NewNotifierServiceClient(conn).ListEvents(pageCtx, in)
		cancel()
		if err != nil {
			return connect.Explain("listing events", err)
		}
		all.Events = append(all.Events, out.GetEvents()...)
		if in.PageToken = out.GetNextPageToken(); in.PageToken == "" {
			break
		}
	}
	if c.JSON {
		return connect.PrintJSON(s.Out, all)
	}
	var rows [][]string
	for _, e := range all.GetEvents() {
		rows = append(rows, []string{e.GetOccurredAt().AsTime().Format("2006-01-02 15:04:05.000Z"), e.GetEventId(), e.GetSourceId(), e.GetMessage()})
	}
	return terminal.Table(s.Out, []string{"TIME", "EVENT", "SOURCE", "MESSAGE"}, rows)
}
