package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/weir/internal/connect"
	"github.com/weir-das/weir/services/weir/internal/proof"
)

// told is what the notifier told, of one that runs or from an export.
type told struct {
	asked   bool // somebody was
	windows []*notifierv1.Window
	ends    []*notifierv1.Event // of epochs
	notes   []string            // what was told that no number shows
	client  notifierv1.NotifierServiceClient
	close   func() error // nil where there is nothing to close
}

// told asks before the stream is read: what had been delivered when an epoch
// ended is there, or on its way.
func (c Command) told(ctx context.Context) (told, error) {
	if c.Events == "" {
		return told{}, nil
	}
	text, err := os.ReadFile(c.Events)
	switch {
	case err == nil:
		t, err := parseExport(text)
		if err != nil {
			return told{}, fmt.Errorf("--events %s: %w", c.Events, err)
		}
		return t, nil
	case !errors.Is(err, fs.ErrNotExist):
		return told{}, fmt.Errorf("--events: %w", err)
	}
	if _, _, err := net.SplitHostPort(c.Events); err != nil {
		return told{}, fmt.Errorf("--events %s: neither a file nor an address of a notifier (HOST:PORT)", c.Events)
	}
	file, err := c.Resolve()
	if err != nil {
		return told{}, err
	}
	file.GRPC.Notifier = c.Events
	conn, err := file.Notifier()
	if err != nil {
		return told{}, err
	}
	t := told{asked: true, client: notifierv1.NewNotifierServiceClient(conn), close: conn.Close}
	if err := t.askEnds(ctx); err != nil {
		return told{}, errors.Join(err, conn.Close())
	}
	return t, nil
}

// pageSize is the most that the notifier gives at once.
const pageSize = 1000

// askEnds asks which epochs have ended.
func (t *told) askEnds(ctx context.Context) error {
	in := &notifierv1.ListEventsRequest{PageSize: pageSize}
	for {
		page, cancel := context.WithTimeout(ctx, connect.Patience)
		out, err := t.client.ListEvents(page, in)
		cancel()
		if err != nil {
			return connect.Explain("asking the notifier which epochs ended", err)
		}
		for _, e := range out.GetEvents() {
			if e.GetEpochEnd() != nil {
				t.ends = append(t.ends, e)
			}
		}
		if in.PageToken = out.GetNextPageToken(); in.PageToken == "" {
			return nil
		}
	}
}

// end has the checker know of the epochs that have ended.
func (t told) end(checker *proof.Checker) {
	for _, e := range t.ends {
		checker.Ended(e.GetEpochEnd().GetEpoch(), e.GetEpochEnd().GetLast(), e.GetOccurredAt().AsTime())
	}
}

// ledger is what was told of the losses of a report's epochs; nil where nobody
// was to be asked.
func (t *told) ledger(ctx context.Context, r *proof.Report) (*proof.Ledger, error) {
	if !t.asked {
		return nil, nil
	}
	all := t.windows
	if t.client != nil {
		for _, e := range r.Epochs {
			ctx, cancel := context.WithTimeout(ctx, connect.Patience)
			out, err := t.client.ListWindows(ctx, &notifierv1.ListWindowsRequest{Epoch: e.Epoch})
			cancel()
			if err != nil {
				return nil, connect.Explain("asking the notifier what it told", err)
			}
			all = append(all, out.GetWindows()...)
		}
	}
	for _, e := range r.Epochs {
		for _, w := range all {
			if w.GetEpoch() == e.Epoch && w.GetCause() == notifierv1.Cause_CAUSE_UNNUMBERED {
				t.notes = append(t.notes, fmt.Sprintf("%s of epoch %d got no number and are lost, between %s and %s: told by the notifier",
					count(w.GetCount(), "event"), e.Epoch, clock(w.GetBegin().AsTime()), clock(w.GetEnd().AsTime())))
			}
		}
	}
	return proof.NewLedger(windows(all)), nil
}

// parseExport reads what `weir events` printed: events, one object a line or all
// in one, or windows.
func parseExport(text []byte) (told, error) {
	t := told{asked: true}
	byID := map[string]*notifierv1.Window{}
	event := func(e *notifierv1.Event) {
		if e.GetEpochEnd() != nil {
			t.ends = append(t.ends, e)
		}
		// A window is two events, and the one that closes it knows all.
		if w := e.GetWindow(); w != nil && (byID[w.GetId()] == nil || !w.GetOpen()) {
			byID[w.GetId()] = w
		}
	}
	values := 0
	for d := json.NewDecoder(bytes.NewReader(text)); ; values++ {
		var raw json.RawMessage
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return told{}, fmt.Errorf("not the JSON that weir events prints: %w", err)
		}
		if err := exported(raw, event, func(w *notifierv1.Window) { byID[w.GetId()] = w }); err != nil {
			return told{}, err
		}
	}
	if values == 0 {
		return told{}, errors.New("empty: want what `weir events --format json` printed")
	}
	for _, w := range byID {
		t.windows = append(t.windows, w)
	}
	return t, nil
}

// exported reads one object of an export.
func exported(raw json.RawMessage, event func(*notifierv1.Event), window func(*notifierv1.Window)) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return fmt.Errorf("not the JSON that weir events prints: %w", err)
	}
	has := func(some ...string) bool {
		for _, key := range some {
			if _, ok := keys[key]; ok {
				return true
			}
		}
		return false
	}
	read := func(m proto.Message) error {
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, m); err != nil {
			return fmt.Errorf("not the JSON that weir events prints: %w", err)
		}
		return nil
	}
	switch {
	case len(keys) == 0: // a list of nothing
		return nil
	case has("windows"):
		list := &notifierv1.ListWindowsResponse{}
		if err := read(list); err != nil {
			return err
		}
		for _, w := range list.GetWindows() {
			window(w)
		}
		return nil
	case has("events"):
		list := &notifierv1.ListEventsResponse{}
		if err := read(list); err != nil {
			return err
		}
		for _, e := range list.GetEvents() {
			event(e)
		}
		return nil
	case has("event_id", "eventId"):
		e := &notifierv1.Event{}
		if err := read(e); err != nil {
			return err
		}
		event(e)
		return nil
	}
	return errors.New("not the JSON that weir events prints: an object is neither an event nor a list of events or windows")
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
