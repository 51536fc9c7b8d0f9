package events_test

import (
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/services/notifier/internal/events"
)

// What a later version wrote is read for what this one knows of it.
func TestDecodeLeavesOutWhatItDoesNotKnow(t *testing.T) {
	e, err := events.Decode([]byte(`{"eventId":"WEIR-EVENT-0009","kind":99,"somethingNew":{"a":[1]}}`), 1)
	if err != nil || e.GetEventId() != "WEIR-EVENT-0009" || e.GetKind() != 99 {
		t.Errorf("Decode = %v, %v, want what is known", e, err)
	}
}

func FuzzDecode(f *testing.F) {
	good, err := protojson.Marshal(event(1, "orders"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"eventId":`))
	f.Add([]byte(`{"occurredAt":"9999-99-99T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := events.Decode(in, 1)
		if err != nil {
			if !fault.Is(err, fault.Corrupted) {
				t.Fatalf("Decode(%q) = %v, want it marked corrupted", in, err)
			}
			return
		}
		out, err := protojson.Marshal(e)
		if err != nil {
			t.Fatalf("Marshal(Decode(%q)) = %v", in, err)
		}
		if again, err := events.Decode(out, 1); err != nil || !proto.Equal(again, e) {
			t.Fatalf("round trip of %q: %v, %v, want %v", in, again, err, e)
		}
	})
}
