package pipeline_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/weir-das/weir/pkg/das"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

// What Aurora has no field for travels in the record of its event.
func TestDetails(t *testing.T) {
	b := newBench(t, 8<<20)
	as := func(role string) {
		var a activityv1.Activity
		if err := proto.Unmarshal(b.payload(), &a); err != nil {
			t.Fatal(err)
		}
		a.Session.EffectiveUserName = []byte(role)
		payload, err := proto.Marshal(&a)
		if err != nil {
			t.Fatal(err)
		}
		b.engine.Put(payload, time.Now())
	}
	want := map[uint64]string{}
	for n := uint64(1); n <= 3000; n++ {
		role := ""
		if n%3 == 0 {
			role = "app"
			want[n] = role
		}
		as(role)
	}
	stop := b.run(time.Second)
	b.waitDurable()
	stop()
	if events, lost := b.account(); len(events) != 3000 || len(lost) != 0 {
		t.Fatalf("%d numbers and %d lost, want 3000 and none", len(events), len(lost))
	}
	got := map[uint64]string{}
	for _, sealed := range b.crypto.Journal() {
		r, err := das.ParseRecord(sealed.GetPlaintext())
		if err != nil {
			t.Fatal(err)
		}
		in := map[uint64]bool{}
		for _, n := range r.Weir.Numbers {
			in[n] = true
		}
		for _, d := range r.Weir.Details {
			if !in[d.N] {
				t.Errorf("a record without number %d has its detail", d.N)
			}
			got[d.N] = d.EffectiveUserName
		}
		if n := len(sealed.GetPlaintext()); n > 600<<10 {
			t.Errorf("a record of %d bytes", n)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("details (-want +got):\n%s", diff)
	}
}
