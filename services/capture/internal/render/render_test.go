package render_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/das"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	"github.com/weir-das/weir/services/capture/internal/render"
)

var testConfig = render.Config{ServerVersion: "15.20", ServerHost: "db1.example.com"}

const testNumber = 42

// simpleSelect is what the engine writes for most statements.
func simpleSelect() *activityv1.Activity {
	at := time.Date(2026, 3, 4, 5, 6, 7, 890_123_000, time.UTC)
	return &activityv1.Activity{
		Kind:      activityv1.Kind_KIND_STATEMENT,
		StartedAt: timestamppb.New(at), EndedAt: timestamppb.New(at.Add(1500 * time.Microsecond)),
		Session: &activityv1.Session{
			Pid: 18251, BackendStartedAt: timestamppb.New(time.Unix(0x5ce5f7f0, 0)),
			UserName: []byte("app"), DatabaseName: []byte("shop"), RemoteHost: []byte("10.0.0.204"), RemotePort: []byte("49804"),
			ApplicationName: []byte("pgbench"), ServerHost: []byte("10.0.12.39"),
		},
		StatementId: 6, SubstatementId: 1, Class: activityv1.Class_CLASS_READ, Command: "SELECT",
		Objects: []*activityv1.Object{{Type: activityv1.ObjectType_OBJECT_TYPE_TABLE, Name: "public.pgbench_accounts"}},
		Text:    &activityv1.Text{Kept: []byte("SELECT abalance FROM pgbench_accounts WHERE aid = 4711;")},
		Rows:    proto.Uint64(1),
	}
}

func marshal(t interface{ Fatal(...any) }, a *activityv1.Activity) []byte {
	payload, err := proto.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// renderOne renders an event and checks what holds for every one of them.
func renderOne(t testing.TB, a *activityv1.Activity) ([]das.Event, []das.Truncation) {
	t.Helper()
	out, count, truncated, err := render.New(testConfig).Append([]byte("["), testNumber, marshal(t, a))
	if err != nil {
		t.Fatalf("Append = %v", err)
	}
	var events []das.Event
	if err := json.Unmarshal(append(out, ']'), &events); err != nil {
		t.Fatalf("Append gave no list: %v\n%.2000s", err, out)
	}
	if len(events) != count {
		t.Fatalf("Append says %d elements, there are %d", count, len(events))
	}
	if len(out)-1 > render.MaxBytes {
		t.Fatalf("Append gave %d bytes, want at most %d", len(out)-1, render.MaxBytes)
	}
	return events, truncated
}

func TestSimpleSelect(t *testing.T) {
	out, count, truncated, err := render.New(testConfig).Append([]byte("before,"), testNumber, marshal(t, simpleSelect()))
	want := `before,{"startTime":"2026-03-04 05:06:07.890123+00","logTime":"2026-03-04 05:06:07.891623+00","statementId":6,` +
		`"substatementId":1,"objectType":"TABLE","command":"SELECT","objectName":"public.pgbench_accounts","databaseName":"shop",` +
		`"dbUserName":"app","remoteHost":"10.0.0.204","remotePort":"49804","sessionId":"5ce5f7f0.474b","rowCount":1,` +
		`"commandText":"SELECT abalance FROM pgbench_accounts WHERE aid = 4711;","paramList":[],"pid":18251,` +
		`"clientApplication":"pgbench","exitCode":null,"class":"READ","serverVersion":"15.20","serverType":"PostgreSQL",` +
		`"serviceName":"PostgreSQL","serverHost":"10.0.12.39","netProtocol":"TCP","dbProtocol":"Postgres 3.0","type":"record","errorMessage":null}`
	if err != nil || count != 1 || len(truncated) != 0 {
		t.Errorf("Append = %d elements, %v, %v; want 1, none, nil", count, truncated, err)
	}
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Errorf("Append (-want +got):\n%s", diff)
	}
}

func TestFields(t *testing.T) {
	text := func(s string) *activityv1.Text { return &activityv1.Text{Kept: []byte(s)} }
	for name, tt := range map[string]struct {
		change func(*activityv1.Activity)
		check  func(e das.Event) (got, want any)
	}{
		"a login's class": {
			func(a *activityv1.Activity) {
				a.Kind, a.Class = activityv1.Kind_KIND_CONNECT, activityv1.Class_CLASS_READ
			}, func(e das.Event) (any, any) { return e.Class, "MISC" },
		},
		"a login's command": {
			func(a *activityv1.Activity) { a.Kind, a.Command = activityv1.Kind_KIND_CONNECT, "" },
			func(e das.Event) (any, any) { return e.Command, "CONNECT" },
		},
		"a logout's command": {
			func(a *activityv1.Activity) { a.Kind, a.Command = activityv1.Kind_KIND_DISCONNECT, "" },
			func(e das.Event) (any, any) { return e.Command, "DISCONNECT" },
		},
		"no text": {
			func(a *activityv1.Activity) { a.Text = nil },
			func(e das.Event) (any, any) { return e.CommandText, das.Nullable[string]{} },
		},
		"an empty text": {
			func(a *activityv1.Activity) { a.Text = text("") },
			func(e das.Event) (any, any) { return e.CommandText, das.Some("") },
		},
		"no rows": {
			func(a *activityv1.Activity) { a.Rows = nil },
			func(e das.Event) (any, any) { return e.RowCount, das.Nullable[int64]{} },
		},
		"zero rows": {
			func(a *activityv1.Activity) { a.Rows = proto.Uint64(0) },
			func(e das.Event) (any, any) { return e.RowCount, das.Some(int64(0)) },
		},
		"success": {
			func(*activityv1.Activity) {},
			func(e das.Event) (any, any) {
				return []any{e.ExitCode, e.ErrorMessage}, []any{das.Nullable[string]{}, das.Nullable[string]{}}
			},
		},
		"a failure": {
			func(a *activityv1.Activity) {
				a.Sqlstate, a.ErrorMessage = "42P01", text(`relation "t" does not exist`)
			},
			func(e das.Event) (any, any) {
				return []any{e.ExitCode, e.ErrorMessage}, []any{das.Some("42P01"), das.Some(`relation "t" does not exist`)}
			},
		},
		"a clean end": {
			func(a *activityv1.Activity) {
				a.Kind, a.ExitCode = activityv1.Kind_KIND_DISCONNECT, proto.Int32(0)
			},
			func(e das.Event) (any, any) { return e.ExitCode, das.Some("0") },
		},
		"an end with a code": {
			func(a *activityv1.Activity) {
				a.Kind, a.ExitCode = activityv1.Kind_KIND_DISCONNECT, proto.Int32(-1)
			},
			func(e das.Event) (any, any) { return e.ExitCode, das.Some("-1") },
		},
		"no user": {
			func(a *activityv1.Activity) { a.Session.UserName = nil },
			func(e das.Event) (any, any) { return e.DBUserName, "" },
		},
		"no application": {
			func(a *activityv1.Activity) { a.Session.ApplicationName = nil },
			func(e das.Event) (any, any) { return e.ClientApp, das.Nullable[string]{} },
		},
		"a local socket": {
			func(a *activityv1.Activity) {
				s := a.Session
				s.LocalSocket, s.RemoteHost, s.RemotePort, s.ServerHost = true, nil, nil, nil
			},
			func(e das.Event) (any, any) {
				return []string{e.RemoteHost, e.RemotePort, e.NetProtocol, e.ServerHost}, []string{"[local]", "", "Unix", "db1.example.com"}
			},
		},
		"a background worker": {
			func(a *activityv1.Activity) {
				s := a.Session
				s.RemoteHost, s.RemotePort, s.ServerHost = nil, nil, nil
			},
			func(e das.Event) (any, any) {
				return []string{e.RemoteHost, e.RemotePort, e.NetProtocol, e.ServerHost}, []string{"", "", "", "db1.example.com"}
			},
		},
		"bind values": {
			func(a *activityv1.Activity) {
				a.Parameters = []*activityv1.Parameter{{Value: text("424")}, {IsNull: true}, {Value: text("")}, {}}
			},
			func(e das.Event) (any, any) {
				return e.ParamList, []das.Nullable[string]{das.Some("424"), {}, das.Some(""), das.Some("")}
			},
		},
		"no object": {
			func(a *activityv1.Activity) { a.Objects = nil },
			func(e das.Event) (any, any) {
				return []any{e.ObjectType, e.ObjectName}, []any{das.Nullable[string]{}, das.Nullable[string]{}}
			},
		},
		"a kind of object from the future": {
			func(a *activityv1.Activity) { a.Objects[0].Type = 99 },
			func(e das.Event) (any, any) { return e.ObjectType, das.Some("UNKNOWN") },
		},
		"bytes that are no UTF-8": {
			func(a *activityv1.Activity) { a.Text = text("a\xff\x00b") },
			func(e das.Event) (any, any) { return e.CommandText, das.Some("a�\x00b") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := simpleSelect()
			tt.change(a)
			events, truncated := renderOne(t, a)
			got, want := tt.check(events[0])
			if diff := cmp.Diff(want, got); diff != "" || len(events) != 1 || len(truncated) != 0 {
				t.Errorf("%d elements, truncated %v (-want +got):\n%s", len(events), truncated, diff)
			}
		})
	}
}

// An INSERT … SELECT has an element for each table, with the command it saw.
func TestElementPerObject(t *testing.T) {
	a := simpleSelect()
	a.Command, a.Class = "INSERT", activityv1.Class_CLASS_WRITE
	a.Objects = []*activityv1.Object{
		{Type: activityv1.ObjectType_OBJECT_TYPE_TABLE, Name: "public.a", Command: "SELECT", Class: activityv1.Class_CLASS_READ},
		{Type: activityv1.ObjectType_OBJECT_TYPE_VIEW, Name: "public.b"},
		{Type: activityv1.ObjectType_OBJECT_TYPE_FUNCTION, Name: "public.f", Command: "EXECUTE", Class: activityv1.Class_CLASS_FUNCTION},
	}
	events, _ := renderOne(t, a)
	var got []string
	for _, e := range events {
		got = append(got, strings.Join([]string{e.ObjectType.Value, e.ObjectName.Value, e.Command, e.Class, strconv.FormatUint(e.StatementID, 10)}, " "))
	}
	want := []string{"TABLE public.a SELECT READ 6", "VIEW public.b INSERT WRITE 6", "FUNCTION public.f EXECUTE FUNCTION 6"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("elements (-want +got):\n%s", diff)
	}
}

// Where no object saw the statement's own command, the statement has an element of its own.
func TestElementOfItself(t *testing.T) {
	function := &activityv1.Object{Type: activityv1.ObjectType_OBJECT_TYPE_FUNCTION, Name: "f", Command: "EXECUTE", Class: activityv1.Class_CLASS_FUNCTION}
	called := &activityv1.Object{Type: activityv1.ObjectType_OBJECT_TYPE_FUNCTION, Name: "f"}
	read := &activityv1.Object{Type: activityv1.ObjectType_OBJECT_TYPE_TABLE, Name: "t", Command: "SELECT", Class: activityv1.Class_CLASS_READ}
	deleted := &activityv1.Object{Type: activityv1.ObjectType_OBJECT_TYPE_TABLE, Name: "t", Command: "DELETE", Class: activityv1.Class_CLASS_WRITE}
	copied := &activityv1.Object{Type: activityv1.ObjectType_OBJECT_TYPE_TABLE, Name: "t"}
	for _, tt := range []struct {
		command string
		class   activityv1.Class
		objects []*activityv1.Object
		want    []string
	}{
		{"SELECT", activityv1.Class_CLASS_READ, []*activityv1.Object{function}, []string{"SELECT READ ", "EXECUTE FUNCTION f"}},
		{"CALL", activityv1.Class_CLASS_FUNCTION, []*activityv1.Object{function}, []string{"CALL FUNCTION ", "EXECUTE FUNCTION f"}},
		{"EXECUTE", activityv1.Class_CLASS_FUNCTION, []*activityv1.Object{called}, []string{"EXECUTE FUNCTION f"}},
		{"ALTER TABLE", activityv1.Class_CLASS_DDL, []*activityv1.Object{read, read}, []string{"ALTER TABLE DDL ", "SELECT READ t", "SELECT READ t"}},
		{"COPY", activityv1.Class_CLASS_READ, []*activityv1.Object{copied}, []string{"COPY READ t"}},
		{"SELECT", activityv1.Class_CLASS_READ, []*activityv1.Object{deleted, function}, []string{"DELETE WRITE t", "EXECUTE FUNCTION f"}},
	} {
		a := simpleSelect()
		a.Command, a.Class, a.Objects = tt.command, tt.class, tt.objects
		events, _ := renderOne(t, a)
		var got []string
		for _, e := range events {
			got = append(got, strings.Join([]string{e.Command, e.Class, e.ObjectName.Value}, " "))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: elements (-want +got):\n%s", tt.command, diff)
		}
	}
}

func TestMalformed(t *testing.T) {
	good := marshal(t, simpleSelect())
	changed := func(change func(*activityv1.Activity)) []byte {
		a := simpleSelect()
		change(a)
		return marshal(t, a)
	}
	for name, payload := range map[string][]byte{
		"nothing":                  nil,
		"a tag and no more":        {0x0a},
		"a length beyond the end":  append(slices.Clone(good), 0x52, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"a varint without an end":  append(slices.Clone(good), 0x28, 0xff),
		"field number zero":        append(slices.Clone(good), 0x00, 0x00),
		"no kind":                  changed(func(a *activityv1.Activity) { a.Kind = 0 }),
		"no session":               changed(func(a *activityv1.Activity) { a.Session = nil }),
		"no beginning":             changed(func(a *activityv1.Activity) { a.StartedAt = nil }),
		"no end":                   changed(func(a *activityv1.Activity) { a.EndedAt = nil }),
		"a year of five digits":    changed(func(a *activityv1.Activity) { a.EndedAt.Seconds = 253_402_300_800 }),
		"a time before the years":  changed(func(a *activityv1.Activity) { a.StartedAt.Seconds = math.MinInt64 }),
		"nanoseconds below zero":   changed(func(a *activityv1.Activity) { a.StartedAt.Nanos = -1 }),
		"rows beyond counting":     changed(func(a *activityv1.Activity) { a.Rows = proto.Uint64(math.MaxUint64) }),
		"a hash that is too short": changed(func(a *activityv1.Activity) { a.Text.Length, a.Text.Sha256 = 100, []byte{1} }),
	} {
		dst := []byte("kept")
		out, count, truncated, err := render.New(testConfig).Append(dst, testNumber, payload)
		if !errors.Is(err, render.ErrMalformed) || string(out) != "kept" || count != 0 || truncated != nil {
			t.Errorf("Append of %s = %q, %d, %v, %v; want ErrMalformed", name, out, count, truncated, err)
		}
	}
}

// Field numbers and wire types that are not known are skipped: an engine may
// be newer than capture.
func TestUnknownFields(t *testing.T) {
	good := marshal(t, simpleSelect())
	r := render.New(testConfig)
	want, _, _, _ := r.Append(nil, testNumber, good)
	newer := append(slices.Clone(good), 0xc0, 0x3e, 0x01) // field 1000, a varint
	newer = append(newer, 0x45, 1, 2, 3, 4)               // field 8, four bytes
	got, _, _, err := r.Append(nil, testNumber, newer)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("Append with unknown fields = %s, %v; want %s", got, err, want)
	}
}

func TestEncodings(t *testing.T) {
	for _, tt := range []struct{ encoding, in, want string }{
		{"", "é", "é"},
		{"UTF8", "é€", "é€"},
		{"SQL_ASCII", "é\xe9", "é�"},
		{"MULE_INTERNAL", "a\xe9", "a�"},
		{"no such", "a\xe9", "a�"},
		{"LATIN1", "caf\xe9 \xa4", "café ¤"},
		{"LATIN9", "caf\xe9 \xa4", "café €"},
		{"WIN1252", "\x80 \x93x\x94", "€ “x”"},
		{"WIN1251", "\xcf\xf0\xe8\xe2\xe5\xf2", "Привет"},
		{"KOI8R", "\xf0\xd2\xc9\xd7\xc5\xd4", "Привет"},
		{"EUC_JP", "\xc6\xfc\xcb\xdc\x8f\xb0\xa1", "日本丂"},
		{"EUC_KR", "\xc7\xd1\xb1\xdb", "한글"},
		{"EUC_CN", "\xd6\xd0\xce\xc4", "中文"},
		{"GB18030", "\x81\x30\x84\x36", "¥"},
		{"EUC_JP", "\xc6", "�"},
		{"WIN1252", "\x81", "�"},
	} {
		a := simpleSelect()
		a.Session.Encoding = tt.encoding
		a.Session.UserName = []byte(tt.in)
		a.Text.Kept = []byte("-- " + tt.in)
		a.ErrorMessage = &activityv1.Text{Kept: []byte(tt.in + "!")}
		a.Parameters = []*activityv1.Parameter{{Value: &activityv1.Text{Kept: []byte(tt.in)}}}
		events, truncated := renderOne(t, a)
		e := events[0]
		got := []string{e.DBUserName, e.CommandText.Value, e.ErrorMessage.Value, e.ParamList[0].Value}
		want := []string{tt.want, "-- " + tt.want, tt.want + "!", tt.want}
		if diff := cmp.Diff(want, got); diff != "" || len(truncated) != 0 {
			t.Errorf("%s %q: truncated %v (-want +got):\n%s", tt.encoding, tt.in, truncated, diff)
		}
	}
}

// Names are in the server's encoding too, though the schema calls them strings.
func TestNameThatIsNoUTF8(t *testing.T) {
	a := simpleSelect()
	a.Session.Encoding = "LATIN1"
	a.Objects[0].Name = "public.placeholder"
	payload := bytes.Replace(marshal(t, a), []byte("placeholder"), []byte("stra\xdfe_1234"), 1)
	out, _, _, err := render.New(testConfig).Append(nil, testNumber, payload)
	if err != nil || !bytes.Contains(out, []byte(`"objectName":"public.straße_1234"`)) {
		t.Errorf("Append = %s, %v", out, err)
	}
}

func hashOf(s string) das.Hash { return sha256.Sum256([]byte(s)) }

// What the engine did not keep is said with the length and the hash it saw.
func TestEngineTruncation(t *testing.T) {
	sum := hashOf("whatever the engine saw")
	cut := func(s string) *activityv1.Text {
		return &activityv1.Text{Kept: []byte(s), Length: 99_000, Sha256: sum[:]}
	}
	a := simpleSelect()
	a.Text, a.ErrorMessage = cut("SELECT 'aaa"), cut("error")
	a.Parameters = []*activityv1.Parameter{{Value: &activityv1.Text{Kept: []byte("1")}}, {Value: cut("22")}}
	a.ParametersOmitted, a.ObjectsOmitted = 5, 3
	events, truncated := renderOne(t, a)
	want := []das.Truncation{
		{N: testNumber, Field: "commandText", Length: 99_000, SHA256: sum},
		{N: testNumber, Field: "errorMessage", Length: 99_000, SHA256: sum},
		{N: testNumber, Field: "paramList[1]", Length: 99_000, SHA256: sum},
		{N: testNumber, Field: "paramList", Length: 7},
		{N: testNumber, Field: das.FieldElements, Length: 4},
	}
	if diff := cmp.Diff(want, truncated); diff != "" {
		t.Errorf("truncated (-want +got):\n%s", diff)
	}
	if e := events[0]; e.CommandText.Value != "SELECT 'aaa" || e.ErrorMessage.Value != "error" || len(e.ParamList) != 2 {
		t.Errorf("the event is %+v", e)
	}
}

func manyObjects(n int) []*activityv1.Object {
	var objects []*activityv1.Object
	for i := range n {
		objects = append(objects, &activityv1.Object{Type: activityv1.ObjectType_OBJECT_TYPE_TABLE, Name: fmt.Sprintf("public.t%d", i)})
	}
	return objects
}

func params(n, size int) []*activityv1.Parameter {
	var ps []*activityv1.Parameter
	for i := range n {
		ps = append(ps, &activityv1.Parameter{Value: &activityv1.Text{Kept: bytes.Repeat([]byte{byte('a' + i%26)}, size)}})
	}
	return ps
}

// One event never renders to more than MaxBytes; what is cut is said, is the
// beginning of what there was, and leaves as much as there is room for.
func TestLimit(t *testing.T) {
	const big = render.MaxBytes
	for name, tt := range map[string]struct {
		change   func(*activityv1.Activity)
		fields   []string // that are said to be cut
		elements int
		first    func(das.Event) int // bytes kept in the first element …
		min, max int                 // … between these
	}{
		"a text that just fits": {
			func(a *activityv1.Activity) { a.Text.Kept = bytes.Repeat([]byte("x"), big-1000) },
			nil, 1, func(e das.Event) int { return len(e.CommandText.Value) }, big - 1000, big - 1000,
		},
		"a text too long": {
			func(a *activityv1.Activity) { a.Text.Kept = bytes.Repeat([]byte("é"), big) },
			[]string{"commandText"}, 1, func(e das.Event) int { return len(e.CommandText.Value) }, big - 1000, big,
		},
		"a text that grows": {
			func(a *activityv1.Activity) { a.Text.Kept = bytes.Repeat([]byte{1}, big/2) },
			[]string{"commandText"}, 1, func(e das.Event) int { return 6 * len(e.CommandText.Value) }, big - 1000, big,
		},
		"a text in another encoding": {
			func(a *activityv1.Activity) {
				a.Session.Encoding, a.Text.Kept = "EUC_JP", bytes.Repeat([]byte("\xa6\xa1"), 3*big)
			},
			[]string{"commandText"}, 1, func(e das.Event) int { return len(e.CommandText.Value) }, big - 1000, big,
		},
		"an error message too long": {
			func(a *activityv1.Activity) {
				a.ErrorMessage = &activityv1.Text{Kept: bytes.Repeat([]byte("e"), 2*big)}
			},
			[]string{"errorMessage"}, 1, func(e das.Event) int { return len(e.ErrorMessage.Value) }, big/8 - 1000, big / 8,
		},
		"one value too long": {
			func(a *activityv1.Activity) { a.Parameters = params(1, 2*big) },
			[]string{"paramList[0]"}, 1, func(e das.Event) int { return len(e.ParamList[0].Value) }, big - 1000, big,
		},
		"values too many": {
			func(a *activityv1.Activity) { a.Parameters = params(1000, 1000) },
			[]string{"paramList", "paramList[522]"}, 1, func(e das.Event) int { return 1000 * len(e.ParamList) }, big - 2500, big,
		},
		"text and values": {
			func(a *activityv1.Activity) {
				a.Text.Kept, a.Parameters = bytes.Repeat([]byte("x"), 2*big), params(1000, 1000)
			},
			[]string{"commandText", "paramList", "paramList[195]"}, 1, func(e das.Event) int { return len(e.CommandText.Value) }, big*5/8 - 1000, big * 5 / 8,
		},
		"a text of the first of many": {
			func(a *activityv1.Activity) {
				a.Text.Kept, a.Objects = bytes.Repeat([]byte("x"), 200_000), manyObjects(100)
			},
			[]string{"commandText"}, 100, func(e das.Event) int { return len(e.CommandText.Value) }, 200_000, 200_000,
		},
		"objects too many": {
			func(a *activityv1.Activity) { a.Objects = manyObjects(5000) },
			[]string{"commandText", das.FieldElements}, 858, func(e das.Event) int { return len(e.CommandText.Value) }, 55, 55,
		},
		"names too long": {
			func(a *activityv1.Activity) {
				long := strings.Repeat("n", big)
				s := a.Session
				s.UserName, s.DatabaseName, s.ApplicationName = []byte(long), []byte(long), []byte(long)
				s.RemoteHost, s.RemotePort, s.ServerHost = []byte(long), []byte(long), []byte(long)
				a.Command, a.Sqlstate, a.Objects[0].Name = long, long, long
			},
			[]string{"clientApplication", "command", "databaseName", "dbUserName", "exitCode", "objectName", "remoteHost", "remotePort", "serverHost"},
			1, func(e das.Event) int { return len(e.DBUserName) + len(e.ObjectName.Value) + len(e.Command) }, 512 + 1024 + 128, 512 + 1024 + 128,
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := simpleSelect()
			tt.change(a)
			events, truncated := renderOne(t, a)
			var fields []string
			for _, m := range truncated {
				fields = append(fields, m.Field)
				if m.N != testNumber {
					t.Errorf("%s is of number %d, want %d", m.Field, m.N, testNumber)
				}
				switch m.Field {
				case "commandText":
					if m.Length != uint64(len(a.Text.Kept)) || m.SHA256 != hashOf(string(a.Text.Kept)) {
						t.Errorf("commandText has %d bytes, hash %v; want %d", m.Length, m.SHA256, len(a.Text.Kept))
					}
				case das.FieldElements:
					if m.Length != uint64(len(a.Objects)) {
						t.Errorf("there were %d objects, want %d", m.Length, len(a.Objects))
					}
				case "paramList":
					if m.Length != uint64(len(a.Parameters)) {
						t.Errorf("there were %d values, want %d", m.Length, len(a.Parameters))
					}
				}
			}
			slices.Sort(fields)
			if diff := cmp.Diff(tt.fields, fields); diff != "" {
				t.Errorf("truncated (-want +got):\n%s", diff)
			}
			if n := len(events); n < tt.elements-tt.elements/50 || n > tt.elements+tt.elements/50 {
				t.Errorf("%d elements, want about %d", n, tt.elements)
			}
			if n := tt.first(events[0]); n < tt.min || n > tt.max {
				t.Errorf("the first element keeps %d, want %d to %d", n, tt.min, tt.max)
			}
		})
	}
}

// A forged payload can ask for much; it does not get it.
func TestForged(t *testing.T) {
	a := simpleSelect()
	a.Session.UserName = bytes.Repeat([]byte{1}, 1<<16)
	a.Text.Kept = bytes.Repeat([]byte{1}, 8<<20)
	a.ErrorMessage = &activityv1.Text{Kept: bytes.Repeat([]byte{0xff}, 4<<20)}
	a.Objects = nil
	for range 3000 {
		a.Objects = append(a.Objects, &activityv1.Object{Name: strings.Repeat("\x02", 5000)})
	}
	for i := range 200_000 {
		p := &activityv1.Parameter{Value: &activityv1.Text{Kept: []byte{3}}}
		if i%3 == 0 {
			p.Value.Length = 10
		}
		a.Parameters = append(a.Parameters, p)
	}
	r, payload := render.New(testConfig), marshal(t, a)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, _, _, err := r.Append(nil, testNumber, payload); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	const most = 64 << 20
	if took := after.TotalAlloc - before.TotalAlloc; took > most {
		t.Errorf("a payload of %d bytes took %d bytes of memory, want at most %d", len(payload), took, most)
	}
	events, truncated := renderOne(t, a)
	if len(events) < 2 || len(truncated) > 64 {
		t.Errorf("%d elements, %d marks", len(events), len(truncated))
	}
	if e := events[0]; len(e.CommandText.Value) == 0 || len(e.ErrorMessage.Value) == 0 || len(e.ParamList) == 0 {
		t.Errorf("the first element lost a text: %d, %d, %d", len(e.CommandText.Value), len(e.ErrorMessage.Value), len(e.ParamList))
	}
}

func TestAllocations(t *testing.T) {
	r, payload := render.New(testConfig), marshal(t, simpleSelect())
	dst := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		if _, _, _, err := r.Append(dst, testNumber, payload); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Append allocates %v times, want 0", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	latin := simpleSelect()
	latin.Session.Encoding, latin.Text.Kept = "LATIN1", []byte("SELECT 'caf\xe9'")
	binds := simpleSelect()
	binds.Parameters = params(4, 8)
	for name, a := range map[string]*activityv1.Activity{"select": simpleSelect(), "binds": binds, "latin1": latin} {
		b.Run(name, func(b *testing.B) {
			r, payload := render.New(testConfig), marshal(b, a)
			dst := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, _, err := r.Append(dst, testNumber, payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Both names are kept: Aurora's field has the role that logged in, the detail beside it the one in force.
func TestEffectiveUser(t *testing.T) {
	a := simpleSelect()
	r := render.New(testConfig)
	for _, tt := range []struct {
		role, encoding, want string
	}{{"app", "", "app"}, {"", "", ""}, {"caf\xe9", "LATIN1", "café"}} {
		a.Session.EffectiveUserName, a.Session.Encoding = []byte(tt.role), tt.encoding
		out, _, _, err := r.Append(nil, testNumber, marshal(t, a))
		if err != nil {
			t.Fatal(err)
		}
		var want *das.Detail
		if tt.want != "" {
			want = &das.Detail{N: testNumber, EffectiveUserName: tt.want}
		}
		if diff := cmp.Diff(want, r.Detail()); diff != "" {
			t.Errorf("Detail() of %q (-want +got):\n%s", tt.role, diff)
		}
		e, err := das.ParseEvent(out)
		if err != nil || e.DBUserName != string(a.GetSession().GetUserName()) {
			t.Errorf("dbUserName %q, %v; want the login's %q", e.DBUserName, err, a.GetSession().GetUserName())
		}
	}
}
