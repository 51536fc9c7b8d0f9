package events

import (
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// NoAccount stands in ARNs where nobody said whose they are.
const NoAccount = "000000000000"

// ARN is what the event is about, as RDS would name it.
func ARN(region, account string, e *notifierv1.Event) string {
	kind := "cluster"
	if e.GetSourceType() == sourceInstance {
		kind = "db"
	}
	return "arn:aws:rds:" + region + ":" + account + ":" + kind + ":" + e.GetSourceId()
}

// Extra is what RDS's events do not have: the key by which a receiver knows one
// that comes twice, and the window in figures.
type Extra struct {
	IdempotencyKey string
	Epoch          uint64          `json:",omitempty"`
	Number         uint64          `json:",omitempty"`
	Window         json.RawMessage `json:",omitempty"`
	EpochEnd       json.RawMessage `json:",omitempty"`
}

// ExtraOf is an event's.
func ExtraOf(e *notifierv1.Event) Extra {
	x := Extra{IdempotencyKey: e.GetIdempotencyKey(), Epoch: e.GetEpoch(), Number: e.GetNumber()}
	opts := protojson.MarshalOptions{UseProtoNames: true}
	// What was decoded can be encoded: its texts are valid UTF-8.
	if w := e.GetWindow(); w != nil {
		x.Window, _ = opts.Marshal(w)
	}
	if end := e.GetEpochEnd(); end != nil {
		x.EpochEnd, _ = opts.Marshal(end)
	}
	return x
}
