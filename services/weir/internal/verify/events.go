package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/weir/internal/connect"
	"github.com/weir-das/weir/services/weir/internal/proof"
)

// ledger asks what the notifier told: a running one, or what was exported from
// one. It returns nil where nobody is to be asked.
func (c Command) ledger(ctx context.Context, r *proof.Report) (*proof.Ledger, error) {
	if c.Events == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.Events)
	switch {
	case err == nil:
		var export notifierv1.ListWindowsResponse
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, &export); err != nil {
			return nil, fmt.Errorf("--events %s: not the JSON of the notifier's windows: %w", c.Events, err)
		}
		return proof.NewLedger(windows(export.GetWindows())), nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("--events: %w", err)
	}
	if _, _, err := net.SplitHostPort(c.Events); err != nil {
		return nil, fmt.Errorf("--events %s: neither a file nor an address of a notifier (HOST:PORT)", c.Events)
	}
	file, err := c.Resolve()
	if err != nil {
		return nil, err
	}
	file.GRPC.Notifier = c.Events
	conn, err := file.Notifier()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := notifierv1.NewNotifierServiceClient(conn)
	var all []proof.Window
	for _, e := range r.Epochs {
		ctx, cancel := context.WithTimeout(ctx, connect.Patience)
		out, err := client.ListWindows(ctx, &notifierv1.ListWindowsRequest{Epoch: e.Epoch})
		cancel()
		if err != nil {
			return nil, connect.Explain("asking the notifier what it told", err)
		}
		all = append(all, windows(out.GetWindows())...)
	}
	return proof.NewLedger(all), nil
}

func windows(list []*notifierv1.Window) []proof.Window {
	all := make([]proof.Window, 0, len(list))
	for _, w := range list {
		if w.GetCause() == notifierv1.Cause_CAUSE_RELEASED {
			continue // waits that ended early: what they waited for need not be lost
		}
		all = append(all, proof.Window{
			Epoch: w.GetEpoch(), First: w.GetFirst(), Last: w.GetLast(), LowerBound: w.GetLowerBound(),
			Begin: w.GetBegin().AsTime(), End: w.GetEnd().AsTime(),
			Cause: strings.ToLower(strings.TrimPrefix(w.GetCause().String(), "CAUSE_")),
		})
	}
	return all
}
