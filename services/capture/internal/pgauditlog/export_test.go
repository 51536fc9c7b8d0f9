package pgauditlog

import (
	"time"

	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

// What the tests reach beside Open and Run.
var (
	Fields = fields
	Redact = redact
)

// MaxRecord is the limit of a record.
const MaxRecord = maxRecord

// Parse is what a log tells, record by record; errors are in the place of what is none.
func Parse(log []byte, json bool, zone *time.Location) (list []*activityv1.Activity, errs []error) {
	p := parser{json: json, zone: zone}
	for len(log) > 0 {
		split := splitter{json: json}
		length := split.end(log)
		if length < 0 {
			length = len(log)
		}
		record := trimEnd(log[:length])
		e, err := p.parse(record)
		var a *activityv1.Activity
		if err == nil {
			a, err = e.activity()
		}
		if err != nil {
			errs = append(errs, err)
			if keep := resume(record); !json && keep > 0 {
				length = keep
			}
		}
		if a != nil {
			list = append(list, a)
		}
		log = log[length:]
	}
	return list, errs
}

// End is the end of the first record, however the bytes come in.
func End(log []byte, json bool, pieces int) int {
	split := splitter{json: json}
	at := 0
	for at < len(log) {
		piece := log[at:min(at+pieces, len(log))]
		if end := split.end(piece); end >= 0 {
			return at + end
		}
		at += len(piece)
	}
	return -1
}

// Back puts the position in the ring back to what was kept earlier, as if the process had died before it was kept anew.
func (f *Follower) Back(kept []byte) error { return f.ring.Keep(kept) }

// KeptBytes is what is kept.
func (f *Follower) KeptBytes() ([]byte, error) { return f.ring.Kept() }
