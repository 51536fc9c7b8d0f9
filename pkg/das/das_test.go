package das_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weir-das/weir/pkg/das"
)

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// compact is the record of a sample without the white space that the
// documentation puts between its fields. It keeps their order.
func compact(t testing.TB, sample []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, sample); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// documented returns the inner record of a documented sample, which shows it
// decrypted, in the place of its ciphertext.
func documented(t testing.TB, name string) []byte {
	t.Helper()
	var outer struct {
		Events json.RawMessage `json:"databaseActivityEvents"`
	}
	if err := json.Unmarshal(readFile(t, name), &outer); err != nil {
		t.Fatal(err)
	}
	return compact(t, outer.Events)
}

var documentedSamples = []string{"apg-1.1-connect.json", "apg-1.1-create-table.json", "apg-1.1-select.json"}

// What Aurora documents is what we write: the same keys, types and order.
func TestDocumentedSamples(t *testing.T) {
	for _, name := range documentedSamples {
		want := documented(t, name)
		record, err := das.ParseRecord(want)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		event, err := das.ParseEvent(record.Elements[0])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := das.AppendRecord(nil, record.ClusterID, record.InstanceID, event.Append(nil), nil)
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestEventFields(t *testing.T) {
	e := das.Event{
		StartTime:   time.Date(2026, 1, 2, 3, 4, 5, 6_999, time.FixedZone("", 3600)),
		LogTime:     time.Date(2026, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		StatementID: math.MaxUint64, SubstatementID: 2, Command: "INSERT",
		ObjectType: das.Some("TABLE"), ObjectName: das.Some(`public."odd ""name"`),
		RowCount: das.Some(int64(0)), CommandText: das.Some("insert\tinto \"t\"\nvalues ($1, '\x00\x1f\\é\xff😀')"),
		ParamList: []das.Nullable[string]{das.Some("1"), {}, das.Some("")},
		PID:       4711, ExitCode: das.Some("23505"), Class: "WRITE", Type: das.TypeRecord,
		ErrorMessage: das.Some("duplicate key"),
	}
	want := `{"startTime":"2026-01-02 02:04:05.000006+00","logTime":"2026-12-31 23:59:59.999999+00",` +
		`"statementId":18446744073709551615,"substatementId":2,"objectType":"TABLE","command":"INSERT",` +
		`"objectName":"public.\"odd \"\"name\"","databaseName":"","dbUserName":"","remoteHost":"","remotePort":"",` +
		`"sessionId":"","rowCount":0,"commandText":"insert\tinto \"t\"\nvalues ($1, '\u0000\u001f\\é�😀')",` +
		`"paramList":["1",null,""],"pid":4711,"clientApplication":null,"exitCode":"23505","class":"WRITE",` +
		`"serverVersion":"","serverType":"","serviceName":"","serverHost":"","netProtocol":"","dbProtocol":"",` +
		`"type":"record","errorMessage":"duplicate key"}`
	if diff := cmp.Diff(want, string(e.Append(nil))); diff != "" {
		t.Errorf("Append (-want +got):\n%s", diff)
	}
	if viaJSON, err := json.Marshal(e); err != nil || string(viaJSON) != want {
		t.Errorf("json.Marshal = %s, %v; want what Append gives", viaJSON, err)
	}
}

// The event of 2019's capture has no startTime and no errorMessage.
func TestParseVersion10(t *testing.T) {
	record, err := das.ParseRecord(readFile(t, "apg-1.0-insert-with-params.lab-2019.json"))
	if err != nil {
		t.Fatal(err)
	}
	event, err := das.ParseEvent(record.Elements[0])
	if err != nil {
		t.Fatal(err)
	}
	if !event.StartTime.IsZero() || event.ErrorMessage.Valid || len(event.ParamList) != 4 || event.ParamList[3] != das.Some("-2770") {
		t.Errorf("ParseEvent = %+v", event)
	}
}

func TestParseExitCode(t *testing.T) {
	for in, want := range map[string]das.Nullable[string]{
		`{"exitCode":null}`: {}, `{}`: {}, `{"exitCode":0}`: das.Some("0"), `{"exitCode":"42P01"}`: das.Some("42P01"),
	} {
		if e, err := das.ParseEvent([]byte(in)); err != nil || e.ExitCode != want {
			t.Errorf("ParseEvent(%s).ExitCode = %v, %v; want %v", in, e.ExitCode, err, want)
		}
	}
	if _, err := das.ParseEvent([]byte(`{"exitCode":{}}`)); err == nil {
		t.Error("ParseEvent took an object as exitCode")
	}
}

// Aurora's captured record comes out as it went in, to the byte.
func TestOuterIsAuroras(t *testing.T) {
	want := bytes.TrimSpace(readFile(t, "captured-apg-outer-record.json"))
	outer, err := das.ParseOuter(want)
	if err != nil {
		t.Fatal(err)
	}
	got := das.AppendOuter(nil, outer.Version, outer.Events, outer.Key)
	if !bytes.Equal(got, want) {
		t.Fatalf("AppendOuter gave\n%s\nwant\n%s", got, want)
	}
	if n := das.OuterLen(outer.Version, len(outer.Events), len(outer.Key)); n != len(got) {
		t.Errorf("OuterLen = %d, want %d", n, len(got))
	}
}

func TestHeartbeat(t *testing.T) {
	want := compact(t, readFile(t, "apg-heartbeat.inferred.json"))
	got := das.AppendHeartbeat(nil, "cluster-753QANBMP5KBJZOKGK76IZWZRE", "db-FZJTMYKCXQBUUZ6VLU7NW3ITCM", nil)
	if !bytes.Equal(got, want) {
		t.Fatalf("AppendHeartbeat = %s, want %s", got, want)
	}
	record, err := das.ParseRecord(got)
	if err != nil || !record.IsHeartbeat() || record.Weir != nil {
		t.Fatalf("ParseRecord = %+v, %v; want a heartbeat", record, err)
	}
	if e, err := das.ParseEvent(record.Elements[0]); err != nil || e.Type != das.TypeHeartbeat {
		t.Fatalf("ParseEvent = %+v, %v; want a heartbeat", e, err)
	}
}

func testExtension() *das.Extension {
	at := time.Date(2026, 5, 6, 7, 8, 9, 1000, time.UTC)
	return &das.Extension{
		Epoch: 1_767_225_600_000_000, Numbers: []uint64{5, 5, 9},
		Gaps:      []das.Gap{{First: 6, Last: 8, From: at, To: at.Add(time.Second), Cause: das.CauseRingFull}},
		Prev:      das.Hash{1},
		Last:      das.Hash{31: 0xfe},
		Truncated: []das.Truncation{{N: 5, Field: "commandText", Length: 1 << 21, SHA256: das.Hash{0xab}}, {N: 9, Field: "paramList", Length: 70_000}},
		Details:   []das.Detail{{N: 5, EffectiveUserName: "app"}, {N: 9, EffectiveUserName: `a"b`}},
		Started: []das.Started{{
			N: 10, SessionID: "5ce5f7f0.474b", StatementID: 4, SubstatementID: 1, StartTime: at, Class: "READ", Command: "SELECT",
			CommandText: das.Some("select pg_sleep(60)"), DBUserName: "app", DatabaseName: "shop",
		}, {N: 11, StartTime: at}},
		Notices: []das.Notice{
			{N: 12, Time: at, Kind: das.NoticeHookReplaced, Subject: "ExecutorRun_hook", SessionID: "5ce5f7f0.474b", DBUserName: "mallory"},
			{N: 13, Time: at, Kind: das.NoticeRingRemoved, Subject: "/dev/shm/weir.ring"},
		},
	}
}

func TestExtension(t *testing.T) {
	ext := testExtension()
	list := []byte(`{"type":"record","a": 1},{"type":"record","b":[1,2]},{"type":"record"}`)
	got := das.AppendRecord(nil, "cluster-A", "db-B", list, ext)
	want := `{"type":"DatabaseActivityMonitoringRecord","clusterId":"cluster-A","instanceId":"db-B","databaseActivityEventList":[` + string(list) + `],` +
		`"weir":{"v":1,"epoch":1767225600000000,"n":[5,5,9],` +
		`"gaps":[{"first":6,"last":8,"from":"2026-05-06 07:08:09.000001+00","to":"2026-05-06 07:08:10.000001+00","cause":"ring_full"}],` +
		`"prev":"01` + strings.Repeat("0", 62) + `","last":"` + strings.Repeat("0", 62) + `fe",` +
		`"truncated":[{"n":5,"field":"commandText","length":2097152,"sha256":"ab` + strings.Repeat("0", 62) + `"},{"n":9,"field":"paramList","length":70000}],` +
		`"details":[{"n":5,"effectiveUserName":"app"},{"n":9,"effectiveUserName":"a\"b"}],` +
		`"started":[{"n":10,"sessionId":"5ce5f7f0.474b","statementId":4,"substatementId":1,"startTime":"2026-05-06 07:08:09.000001+00",` +
		`"class":"READ","command":"SELECT","commandText":"select pg_sleep(60)","dbUserName":"app","databaseName":"shop"},` +
		`{"n":11,"sessionId":"","statementId":0,"substatementId":0,"startTime":"2026-05-06 07:08:09.000001+00",` +
		`"class":"","command":"","commandText":null,"dbUserName":"","databaseName":""}],` +
		`"notices":[{"n":12,"time":"2026-05-06 07:08:09.000001+00","kind":"hook_replaced","subject":"ExecutorRun_hook","sessionId":"5ce5f7f0.474b","dbUserName":"mallory"},` +
		`{"n":13,"time":"2026-05-06 07:08:09.000001+00","kind":"ring_removed","subject":"/dev/shm/weir.ring","sessionId":"","dbUserName":""}]}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Fatalf("AppendRecord (-want +got):\n%s", diff)
	}
	record, err := das.ParseRecord(got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ext, record.Weir); diff != "" {
		t.Errorf("ParseRecord (-want +got):\n%s", diff)
	}
	if joined := bytes.Join(record.Elements, []byte(",")); !bytes.Equal(joined, list) {
		t.Errorf("elements are %s, want the bytes %s", joined, list)
	}
	if gap := ext.Gaps[0].Append(nil); len(record.GapObjects) != 1 || !bytes.Equal(record.GapObjects[0], gap) {
		t.Errorf("gap objects are %s, want %s", record.GapObjects, gap)
	}
	for i := range ext.Started {
		if want := ext.Started[i].Append(nil); !bytes.Equal(record.StartedObjects[i], want) {
			t.Errorf("started object %s, want %s", record.StartedObjects[i], want)
		}
	}
	for i := range ext.Notices {
		if want := ext.Notices[i].Append(nil); !bytes.Equal(record.NoticeObjects[i], want) {
			t.Errorf("notice object %s, want %s", record.NoticeObjects[i], want)
		}
	}
	empty := das.AppendHeartbeat(nil, "c", "d", &das.Extension{Epoch: 1})
	if want := `"weir":{"v":1,"epoch":1,"n":[],"prev":"`; !bytes.Contains(empty, []byte(want)) || bytes.Count(empty, []byte("[")) != 2 {
		t.Errorf("a heartbeat's extension is %s", empty)
	}
	if record, err := das.ParseRecord(empty); err != nil || record.Weir == nil || record.Weir.Epoch != 1 || record.Weir.Through.Valid {
		t.Errorf("ParseRecord(%s) = %+v, %v", empty, record, err)
	}
	signed := &das.Checkpoint{Epoch: 1, N: 7, Hash: das.Hash{9}, At: time.Date(2026, 5, 6, 7, 8, 9, 1000, time.UTC), Instance: "d", Algorithm: "Ed25519", KeyID: "k", Signature: []byte{1, 2, 3}}
	beat := das.AppendHeartbeat(nil, "c", "d", &das.Extension{Epoch: 1, Checkpoint: signed})
	if record, err := das.ParseRecord(beat); err != nil || !cmp.Equal(record.Weir.Checkpoint, signed) {
		t.Errorf("ParseRecord(%s) = %+v, %v, want the checkpoint %+v", beat, record, err, signed)
	}
	if want := "weir checkpoint v1\ncluster\nd\n1\n7\n09" + strings.Repeat("0", 62) + "\n2026-05-06 07:08:09.000001+00\n"; string(signed.Text("cluster")) != want {
		t.Errorf("Text = %q, want %q", signed.Text("cluster"), want)
	}
	for _, n := range []uint64{0, 42} {
		beat := das.AppendHeartbeat(nil, "c", "d", &das.Extension{Epoch: 1, Through: das.Some(n)})
		if record, err := das.ParseRecord(beat); err != nil || record.Weir.Through != das.Some(n) || !bytes.Contains(beat, fmt.Appendf(nil, `"n":[],"through":%d,"prev"`, n)) {
			t.Errorf("ParseRecord(%s) = %+v, %v", beat, record, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	inner := func(list, weir string) string {
		return `{"type":"DatabaseActivityMonitoringRecord","clusterId":"c","instanceId":"d","databaseActivityEventList":` + list + weir + `}`
	}
	for name, in := range map[string]string{
		"nothing":             ``,
		"no object":           `[]`,
		"null":                `null`,
		"the outer type":      strings.Replace(inner(`[]`, ``), "Record", "Records", 1),
		"no list":             inner(`null`, ``),
		"a list of text":      inner(`"[]"`, ``),
		"another spelling":    strings.Replace(inner(`[]`, ``), "clusterId", "CLUSTERID", 1),
		"two records":         inner(`[]`, ``) + inner(`[]`, ``),
		"too few numbers":     inner(`[{},{}]`, `,"weir":{"v":1,"n":[1]}`),
		"no numbers":          inner(`[{}]`, `,"weir":{"v":1,"n":[]}`),
		"another version":     inner(`[]`, `,"weir":{"v":2,"n":[]}`),
		"a short hash":        inner(`[]`, `,"weir":{"v":1,"n":[],"prev":"00"}`),
		"a gap from zero":     inner(`[]`, `,"weir":{"v":1,"n":[],"gaps":[{"first":0,"last":1}]}`),
		"a gap the wrong way": inner(`[]`, `,"weir":{"v":1,"n":[],"gaps":[{"first":2,"last":1}]}`),
		"started without n":   inner(`[]`, `,"weir":{"v":1,"n":[],"started":[{"command":"SELECT"}]}`),
		"a notice without n":  inner(`[]`, `,"weir":{"v":1,"n":[],"notices":[{"kind":"x"}]}`),
		"a notice's time":     inner(`[]`, `,"weir":{"v":1,"n":[],"notices":[{"n":1,"time":"now"}]}`),
		"a gap's wrong time":  inner(`[]`, `,"weir":{"v":1,"n":[],"gaps":[{"first":2,"last":2,"from":"2026-01-01T00:00:00Z"}]}`),
	} {
		if r, err := das.ParseRecord([]byte(in)); err == nil {
			t.Errorf("ParseRecord of %s = %+v, want an error", name, r)
		}
	}
	for name, in := range map[string]string{
		"an inner record": inner(`[]`, ``),
		"no key":          `{"type":"DatabaseActivityMonitoringRecords","version":"1.1","databaseActivityEvents":"AA=="}`,
		"events in clear": string(readFile(t, "apg-1.1-connect.json")),
		"a line break":    `{"type":"DatabaseActivityMonitoringRecords","version":"1.1","databaseActivityEvents":"AA\n==","key":"AA=="}`,
		"loose bits":      `{"type":"DatabaseActivityMonitoringRecords","version":"1.1","databaseActivityEvents":"AB==","key":"AA=="}`,
	} {
		if o, err := das.ParseOuter([]byte(in)); err == nil {
			t.Errorf("ParseOuter of %s = %+v, want an error", name, o)
		}
	}
	if _, err := das.ParseOuter(make([]byte, das.MaxOuter+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("ParseOuter of too much = %v, want the limit", err)
	}
	if _, err := das.ParseRecord(make([]byte, das.MaxRecord+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("ParseRecord of too much = %v, want the limit", err)
	}
}

func TestTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first, last := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
		in := time.Unix(rapid.Int64Range(first.Unix(), last.Unix()).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanos"))
		got := string(das.AppendTime(nil, in))
		if want := in.UTC().Format("2006-01-02 15:04:05.000000") + "+00"; got != want {
			t.Fatalf("AppendTime(%v) = %s, want %s", in, got, want)
		}
		back, err := das.ParseTime(got)
		if err != nil || !back.Equal(in.Truncate(time.Microsecond)) {
			t.Fatalf("ParseTime(%s) = %v, %v; want %v", got, back, err, in)
		}
	})
	for _, s := range []string{"", "2026-01-01 00:00:00+00", "2026-01-01 00:00:00.000000+01", "2026-01-01T00:00:00.000000+00", "2026-13-01 00:00:00.000000+00", "2026-01-01 00:00:00.00000+000"} {
		if got, err := das.ParseTime(s); err == nil {
			t.Errorf("ParseTime(%q) = %v, want an error", s, got)
		}
	}
}

// checkString holds for every string: its JSON is valid, reads back as the same
// string with U+FFFD for what was not UTF-8, and Fit agrees with its length.
func checkString(t interface{ Fatalf(string, ...any) }, s string, limit int) {
	got := das.AppendString(nil, s)
	var back string
	if !utf8.Valid(got) {
		t.Fatalf("AppendString(%q) = %q, which is not UTF-8", s, got)
	}
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatalf("AppendString(%q) = %s: %v", s, got, err)
	}
	if want := string([]rune(s)); back != want {
		t.Fatalf("AppendString(%q) reads as %q, want %q", s, back, want)
	}
	if n := das.StringLen(s); n != len(got)-2 {
		t.Fatalf("StringLen(%q) = %d, want %d", s, n, len(got)-2)
	}
	n := das.Fit(s, limit)
	if n < 0 || n > len(s) || n < len(s) && utf8.ValidString(s) && !utf8.ValidString(s[:n]) {
		t.Fatalf("Fit(%q, %d) = %d", s, limit, n)
	}
	if size := len(das.AppendString(nil, s[:n])) - 2; size > limit {
		t.Fatalf("Fit(%q, %d) = %d, which renders to %d bytes", s, limit, n, size)
	}
	if n < len(s) {
		_, next := utf8.DecodeRuneInString(s[n:])
		if size := len(das.AppendString(nil, s[:n+next])) - 2; size <= limit {
			t.Fatalf("Fit(%q, %d) = %d, one character more is %d bytes", s, limit, n, size)
		}
	}
}

func TestString(t *testing.T) {
	for b := range 256 {
		checkString(t, "a"+string([]byte{byte(b)})+"b", 4)
	}
	// Only what must be escaped is: anything else would not be Aurora's bytes.
	if got := string(das.AppendString(nil, "</é\u2028\x7f>&'")); got != "\"</é\u2028\x7f>&'\"" {
		t.Errorf("AppendString escapes too much: %q", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "s")
		checkString(t, s, rapid.IntRange(0, 64).Draw(t, "limit"))
	})
}

func genNullable(name string) *rapid.Generator[das.Nullable[string]] {
	return rapid.Custom(func(t *rapid.T) das.Nullable[string] {
		if rapid.Bool().Draw(t, name+" null") {
			return das.Nullable[string]{}
		}
		return das.Some(rapid.String().Draw(t, name))
	})
}

func TestEventRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) string { return rapid.String().Draw(t, name) }
		null := func(name string) das.Nullable[string] { return genNullable(name).Draw(t, name) }
		at := func(name string) time.Time {
			return time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(t, name)).UTC()
		}
		in := das.Event{
			StartTime: at("start"), LogTime: at("log"),
			StatementID: rapid.Uint64().Draw(t, "statement"), SubstatementID: rapid.Uint64().Draw(t, "substatement"),
			ObjectType: null("object type"), Command: text("command"), ObjectName: null("object name"),
			DatabaseName: text("database"), DBUserName: text("user"), RemoteHost: text("host"), RemotePort: text("port"),
			SessionID: text("session"), CommandText: null("text"), PID: rapid.Int64().Draw(t, "pid"),
			ParamList: rapid.SliceOf(genNullable("param")).Draw(t, "params"),
			ClientApp: null("app"), ExitCode: null("exit"), Class: text("class"), ServerVersion: text("version"),
			ServerType: text("type"), ServiceName: text("service"), ServerHost: text("server"), NetProtocol: text("net"),
			DBProtocol: text("db"), Type: das.TypeRecord, ErrorMessage: null("error"),
		}
		if rapid.Bool().Draw(t, "rows") {
			in.RowCount = das.Some(rapid.Int64().Draw(t, "row count"))
		}
		rendered := in.Append(nil)
		out, err := das.ParseEvent(rendered)
		if err != nil {
			t.Fatalf("ParseEvent(%s): %v", rendered, err)
		}
		if diff := cmp.Diff(in, out); diff != "" {
			t.Fatalf("round trip (-want +got):\n%s", diff)
		}
	})
}

func FuzzString(f *testing.F) {
	f.Add("select 1", 3)
	f.Add("\x00\xff\"é😀\xf0\x9f", 9)
	f.Fuzz(func(t *testing.T, s string, limit int) { checkString(t, s, limit&0xffff) })
}

func FuzzParseOuter(f *testing.F) {
	f.Add(readFile(f, "captured-apg-outer-record.json"))
	f.Add(readFile(f, "apg-1.1-select.json"))
	f.Fuzz(func(t *testing.T, in []byte) {
		outer, err := das.ParseOuter(in)
		if err != nil {
			return
		}
		again, err := das.ParseOuter(das.AppendOuter(nil, outer.Version, outer.Events, outer.Key))
		if diff := cmp.Diff(outer, again); err != nil || diff != "" {
			t.Fatalf("round trip: %v\n%s", err, diff)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	for _, name := range documentedSamples {
		f.Add(documented(f, name))
	}
	f.Add(das.AppendRecord(nil, "c", "d", []byte(`{},{},{}`), testExtension()))
	f.Add(das.AppendHeartbeat(nil, "c", "d", &das.Extension{Gaps: testExtension().Gaps}))
	f.Fuzz(func(t *testing.T, in []byte) {
		record, err := das.ParseRecord(in)
		if err != nil {
			return
		}
		rendered := das.AppendRecord(nil, record.ClusterID, record.InstanceID, bytes.Join(record.Elements, []byte(",")), record.Weir)
		again, err := das.ParseRecord(rendered)
		if err != nil {
			t.Fatalf("ParseRecord(%s): %v", rendered, err)
		}
		if record.Weir != nil {
			for i := range record.Weir.Gaps {
				record.GapObjects[i] = record.Weir.Gaps[i].Append(nil)
			}
			for i := range record.Weir.Started {
				record.StartedObjects[i] = record.Weir.Started[i].Append(nil)
			}
			for i := range record.Weir.Notices {
				record.NoticeObjects[i] = record.Weir.Notices[i].Append(nil)
			}
			if len(record.Weir.Numbers) == 0 {
				record.Weir.Numbers, again.Weir.Numbers = nil, nil
			}
		}
		if diff := cmp.Diff(record, again); diff != "" {
			t.Fatalf("round trip (-want +got):\n%s", diff)
		}
	})
}

func FuzzParseEvent(f *testing.F) {
	for _, name := range documentedSamples {
		record, err := das.ParseRecord(documented(f, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(record.Elements[0])
	}
	f.Add([]byte(`{"type":"heartbeat","paramList":[null,"a"],"exitCode":1e3}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		event, err := das.ParseEvent(in)
		if err != nil {
			return
		}
		rendered := event.Append(nil)
		again, err := das.ParseEvent(rendered)
		if err != nil {
			t.Fatalf("ParseEvent(%s): %v", rendered, err)
		}
		if event.ParamList == nil {
			event.ParamList = again.ParamList[:0]
		}
		if diff := cmp.Diff(event, again); diff != "" {
			t.Fatalf("round trip (-want +got):\n%s", diff)
		}
	})
}

func BenchmarkEvent(b *testing.B) {
	record, err := das.ParseRecord(documented(b, "apg-1.1-select.json"))
	if err != nil {
		b.Fatal(err)
	}
	event, err := das.ParseEvent(record.Elements[0])
	if err != nil {
		b.Fatal(err)
	}
	dst := event.Append(nil)
	b.SetBytes(int64(len(dst)))
	b.ReportAllocs()
	for b.Loop() {
		dst = event.Append(dst[:0])
	}
}

func BenchmarkParseEvent(b *testing.B) {
	record, err := das.ParseRecord(documented(b, "apg-1.1-select.json"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := das.ParseEvent(record.Elements[0]); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleAppendRecord() {
	fmt.Printf("%s\n", das.AppendHeartbeat(nil, "cluster-A", "db-B", nil))
	// Output: {"type":"DatabaseActivityMonitoringRecord","clusterId":"cluster-A","instanceId":"db-B","databaseActivityEventList":[{"type":"heartbeat"}]}
}
