package tail

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/weir-das/weir/pkg/das"
)

// Record is a record of the stream, opened.
type Record struct {
	Shard    string
	Sequence string
	Arrived  time.Time // at Kinesis

	// Plain is the inner record, byte for byte. It and what follows are empty
	// where the record did not open.
	Plain  []byte
	Events []Event
	Gaps   []das.Gap
	// Started and Notices are no events of an Aurora stream.
	Started []das.Started
	Notices []das.Notice
}

// Event is one element of a record's list.
type Event struct {
	JSON []byte // byte for byte
	view view
}

// Heartbeat reports that the event only says that the stream lives.
func (e Event) Heartbeat() bool { return e.view.Type == das.TypeHeartbeat }

// parse fills in what stands in Plain.
func (r *Record) parse() error {
	rec, err := das.ParseRecord(r.Plain)
	if err != nil {
		return &refusal{"the decrypted payload is no activity record", err}
	}
	events := make([]Event, len(rec.Elements))
	for i, e := range rec.Elements {
		events[i].JSON = e
		if err := json.Unmarshal(e, &events[i].view); err != nil {
			return &refusal{"an event of the record is not as an activity stream has them", fmt.Errorf("event %d: %w", i+1, err)}
		}
	}
	r.Events = events
	if rec.Weir != nil {
		r.Gaps, r.Started, r.Notices = rec.Weir.Gaps, rec.Weir.Started, rec.Weir.Notices
	}
	return nil
}
