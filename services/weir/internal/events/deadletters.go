package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/weir/internal/connect"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

// DeadLetters is `weir events dead-letters`.
type DeadLetters struct {
	Sink          string `placeholder:"NAME" help:"Only this sink's."`
	Retry         bool   `help:"Deliver them once more; what is taken is a dead letter no longer."`
	JSON          bool   `help:"Print the answer as JSON."`
	connect.Flags `embed:""`
}

// Help is shown by --help.
func (DeadLetters) Help() string {
	return `An event that a sink refused too often, or for too long, is a dead letter for 14 days; the event itself is kept where all events are. When the receiver works again, --retry brings it what it missed.

Examples:
  weir events dead-letters
  weir events dead-letters --sink siem --retry`
}

// retryLimit bounds a retry of all: each may take a receiver's time-out.
const retryLimit = 5 * time.Minute

// Run lists them, or has them delivered.
func (c DeadLetters) Run(ctx context.Context, s terminal.Streams) error {
	notifier, conn, err := dial(c.Flags)
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.Retry {
		return c.retry(ctx, s, notifier)
	}
	all := &notifierv1.ListDeadLettersResponse{}
	in := &notifierv1.ListDeadLettersRequest{Sink: c.Sink, PageSize: pageSize}
	for {
		pageCtx, cancel := context.WithTimeout(ctx, connect.Patience)
		out, err := notifier.ListDeadLetters(pageCtx, in)
		cancel()
		if err != nil {
			return connect.Explain("listing dead letters", err)
		}
		all.DeadLetters = append(all.DeadLetters, out.GetDeadLetters()...)
		if in.PageToken = out.GetNextPageToken(); in.PageToken == "" {
			break
		}
	}
	if c.JSON {
		return connect.PrintJSON(s.Out, all)
	}
	var rows [][]string
	for _, l := range all.GetDeadLetters() {
		rows = append(rows, []string{
			l.GetGivenUpAt().AsTime().Format("2006-01-02 15:04:05Z"), l.GetSink(), l.GetEvent().GetEventId(), l.GetEvent().GetSourceId(),
			fmt.Sprint(l.GetAttempts()), l.GetLastError(),
		})
	}
	return terminal.Table(s.Out, []string{"GIVEN UP", "SINK", "EVENT", "SOURCE", "TRIED", "LAST ERROR"}, rows)
}

// retry has them delivered once more. It is an error where a sink refuses still.
func (c DeadLetters) retry(ctx context.Context, s terminal.Streams, notifier notifierv1.NotifierServiceClient) error {
	ctx, cancel := context.WithTimeout(ctx, retryLimit)
	defer cancel()
	out, err := notifier.RetryDeadLetters(ctx, &notifierv1.RetryDeadLettersRequest{Sink: c.Sink})
	if err != nil {
		return connect.Explain("delivering dead letters", err)
	}
	var left []error
	var rows [][]string
	for _, r := range out.GetSinks() {
		rows = append(rows, []string{r.GetSink(), fmt.Sprint(r.GetDelivered()), fmt.Sprint(r.GetLeft())})
		if r.GetLeft() > 0 {
			left = append(left, fmt.Errorf("%d dead letters of %s are left: %s", r.GetLeft(), r.GetSink(), r.GetLastError()))
		}
	}
	if c.JSON {
		err = connect.PrintJSON(s.Out, out)
	} else {
		err = terminal.Table(s.Out, []string{"SINK", "DELIVERED", "LEFT"}, rows)
	}
	return errors.Join(append(left, err)...)
}
