package pipeline_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/das"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

// putBeside writes a statement that began, and a notice.
func (b *bench) putBeside(text, subject string) {
	now := time.Now()
	session := &activityv1.Session{Pid: 7, BackendStartedAt: timestamppb.New(now), UserName: []byte("u"), DatabaseName: []byte("d")}
	for _, a := range []*activityv1.Activity{
		{Kind: activityv1.Kind_KIND_STARTED, Command: "SELECT", Text: &activityv1.Text{Kept: []byte(text)}},
		{Kind: activityv1.Kind_KIND_NOTICE, Notice: &activityv1.Notice{Kind: activityv1.NoticeKind_NOTICE_KIND_HOOK_REPLACED, Subject: subject}},
	} {
		a.StartedAt, a.EndedAt, a.Session = timestamppb.New(now), timestamppb.New(now), session
		payload, err := proto.Marshal(a)
		if err != nil {
			b.t.Fatal(err)
		}
		b.engine.Put(payload, now)
	}
}

// What is no Aurora event has its number and its place in the chain, and never adds to a list that Aurora's consumers read.
func TestBesideTheList(t *testing.T) {
	b := newBench(t, 1<<20)
	stop := b.run(time.Second)
	b.putBeside("select 'alone'", "first") // 1, 2
	b.waitDurable()
	b.put(3)                             // 3 to 5
	b.putBeside("select 'in'", "second") // 6, 7
	b.put(3)                             // 8 to 10
	b.waitDurable()
	stop()

	events, lost := b.account()
	if len(events) != 10 || len(lost) != 0 {
		t.Fatalf("%d numbers and %d lost, want 10 and none", len(events), len(lost))
	}
	for n, want := range map[uint64]string{
		1: `{"n":1,`, 2: `"kind":"hook_replaced","subject":"first"`, 5: `"commandText":"SELECT 3"`, 6: `"commandText":"select 'in'"`,
		7: `"subject":"second"`, 8: `"commandText":"SELECT 4"`,
	} {
		if !strings.Contains(events[n], want) {
			t.Errorf("number %d is %s, want %s in it", n, events[n], want)
		}
	}
	for _, sealed := range b.crypto.Journal() {
		r, err := das.ParseRecord(sealed.GetPlaintext())
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Weir.Numbers) == 0 && !r.IsHeartbeat() {
			t.Errorf("a record without an Aurora event has the list %s, want a heartbeat", r.Elements)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.noticed) != 2 || b.noticed[0].N != 2 || b.noticed[1].Subject != "second" {
		t.Errorf("told of %v, want both notices", b.noticed)
	}
}

// A record is closed by what travels beside its list as by the list.
func TestBesideIsBoundedTogether(t *testing.T) {
	b := newBench(t, 8<<20)
	for range 40 {
		b.putBeside(strings.Repeat("x", 48<<10), "s")
	}
	stop := b.run(time.Second)
	b.waitDurable()
	stop()
	if events, lost := b.account(); len(events) != 80 || len(lost) != 0 {
		t.Fatalf("%d numbers and %d lost, want 80 and none", len(events), len(lost))
	}
	for _, sealed := range b.crypto.Journal() {
		if n := len(sealed.GetPlaintext()); n > 600<<10 {
			t.Errorf("a record of %d bytes, want at most 512 KiB and an item", n)
		}
	}
}
