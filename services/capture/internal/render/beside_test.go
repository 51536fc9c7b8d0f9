package render_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-das/weir/pkg/das"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	"github.com/weir-das/weir/services/capture/internal/render"
)

// started is a statement that the engine says has begun.
func started() *activityv1.Activity {
	a := simpleSelect()
	a.Kind, a.Rows, a.Objects = activityv1.Kind_KIND_STARTED, nil, nil
	return a
}

// noticed is a notice of a session.
func noticed(kind activityv1.NoticeKind, subject string) *activityv1.Activity {
	a := simpleSelect()
	return &activityv1.Activity{
		Kind: activityv1.Kind_KIND_NOTICE, StartedAt: a.StartedAt, EndedAt: a.EndedAt, Session: a.Session,
		Notice: &activityv1.Notice{Kind: kind, Subject: subject},
	}
}

func TestBeside(t *testing.T) {
	r := render.New(testConfig)
	check := func(what string, a *activityv1.Activity, want string) {
		t.Helper()
		out, count, truncated, err := r.Append([]byte("before "), testNumber, marshal(t, a))
		if err != nil || count != 0 || len(truncated) != 0 {
			t.Errorf("Append of %s = %d elements, %v, %v; want none", what, count, truncated, err)
		}
		if diff := cmp.Diff("before "+want, string(out)); diff != "" {
			t.Errorf("Append of %s (-want +got):\n%s", what, diff)
		}
	}
	check("a statement that began", started(), `{"n":42,"sessionId":"5ce5f7f0.474b","statementId":6,"substatementId":1,`+
		`"startTime":"2026-03-04 05:06:07.890123+00","class":"READ","command":"SELECT",`+
		`"commandText":"SELECT abalance FROM pgbench_accounts WHERE aid = 4711;","dbUserName":"app","databaseName":"shop"}`)
	if s, n := r.Beside(); s == nil || n != nil || s.Command != "SELECT" {
		t.Errorf("Beside() = %v, %v; want the statement alone", s, n)
	}
	for kind, want := range map[activityv1.NoticeKind]string{
		activityv1.NoticeKind_NOTICE_KIND_HOOK_REPLACED: das.NoticeHookReplaced, activityv1.NoticeKind_NOTICE_KIND_MESSAGES_REPLACED: das.NoticeMessagesReplaced,
		activityv1.NoticeKind_NOTICE_KIND_LIBRARY_LOADED: das.NoticeLibraryLoaded, activityv1.NoticeKind_NOTICE_KIND_SETTING_CHANGED: das.NoticeSettingChanged,
		activityv1.NoticeKind_NOTICE_KIND_RING_REMOVED: das.NoticeRingRemoved, activityv1.NoticeKind_NOTICE_KIND_BREAK_GLASS: das.NoticeBreakGlass,
		activityv1.NoticeKind_NOTICE_KIND_SESSION_CRASHED: das.NoticeSessionCrashed, activityv1.NoticeKind_NOTICE_KIND_GUARD_SILENT: das.NoticeGuardSilent, 4711: das.NoticeUnknown,
	} {
		check(want, noticed(kind, "it's \"this\""), `{"n":42,"time":"2026-03-04 05:06:07.891623+00","kind":"`+want+
			`","subject":"it's \"this\"","sessionId":"5ce5f7f0.474b","dbUserName":"app"}`)
	}
	// What the caller keeps does not change with the next event.
	_, kept := r.Beside()
	was := *kept
	check("another", noticed(activityv1.NoticeKind_NOTICE_KIND_BREAK_GLASS, strings.Repeat("x", 13)), `{"n":42,"time":"2026-03-04 05:06:07.891623+00",`+
		`"kind":"break_glass","subject":"xxxxxxxxxxxxx","sessionId":"5ce5f7f0.474b","dbUserName":"app"}`)
	if *kept != was {
		t.Errorf("a notice that was kept became %v, was %v", *kept, was)
	}
	if _, count, _, err := r.Append(nil, testNumber, marshal(t, simpleSelect())); err != nil || count != 1 {
		t.Fatalf("Append of an event = %d, %v", count, err)
	}
	if s, n := r.Beside(); s != nil || n != nil {
		t.Errorf("Beside() = %v, %v after an event, want nothing", s, n)
	}
}

// A long text is cut with its length, so that a record of a few such still fits.
func TestBesideIsBounded(t *testing.T) {
	a := started()
	a.Text.Kept = bytes.Repeat([]byte("\x01"), 1<<20)
	a.Session.UserName = bytes.Repeat([]byte("\x01"), 1<<10)
	r := render.New(testConfig)
	out, _, truncated, err := r.Append(nil, testNumber, marshal(t, a))
	if err != nil || len(out) > 80<<10 {
		t.Fatalf("Append = %d bytes, %v; want at most 80 KiB", len(out), err)
	}
	want := map[string]uint64{"commandText": 1 << 20, "dbUserName": 1 << 10}
	for _, cut := range truncated {
		if cut.N != testNumber || want[cut.Field] != cut.Length {
			t.Errorf("cut: %v, want one of %v", cut, want)
		}
		delete(want, cut.Field)
	}
	if len(want) > 0 {
		t.Errorf("not said to be cut: %v", want)
	}
	n := noticed(activityv1.NoticeKind_NOTICE_KIND_LIBRARY_LOADED, strings.Repeat("\x01", 1<<20))
	if out, _, truncated, err = r.Append(nil, testNumber, marshal(t, n)); err != nil || len(out) > 10<<10 || len(truncated) != 1 {
		t.Errorf("Append of a notice = %d bytes, %v, %v; want at most 10 KiB and one cut", len(out), truncated, err)
	}
}

// checkBeside holds for whatever renders to no list element: it reads back as what it says it is.
func checkBeside(t *testing.T, out, payload []byte) {
	t.Helper()
	r := render.New(testConfig)
	if _, _, _, err := r.Append(nil, testNumber, payload); err != nil {
		t.Fatal(err)
	}
	var back []byte
	switch s, n := r.Beside(); {
	case s != nil && n == nil:
		parsed, err := das.ParseStarted(out)
		if err != nil {
			t.Fatalf("ParseStarted(%s): %v", out, err)
		}
		back = parsed.Append(nil)
	case n != nil && s == nil:
		parsed, err := das.ParseNotice(out)
		if err != nil {
			t.Fatalf("ParseNotice(%s): %v", out, err)
		}
		back = parsed.Append(nil)
	default:
		t.Fatalf("no elements, and beside the list %v and %v", s, n)
	}
	if !bytes.Equal(back, out) {
		t.Fatalf("read back and rendered again:\n%s\nwas\n%s", back, out)
	}
}
