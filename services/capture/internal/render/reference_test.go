package render_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/weir-das/weir/pkg/das"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	"github.com/weir-das/weir/services/capture/internal/render"
)

// reference renders what fits without limits, from what protobuf makes of it.
func reference(cfg render.Config, a *activityv1.Activity) string {
	s := a.GetSession()
	nullable := func(t *activityv1.Text) das.Nullable[string] {
		if t == nil {
			return das.Nullable[string]{}
		}
		return das.Some(string(t.GetKept()))
	}
	class := func(c activityv1.Class) string {
		if a.Kind == activityv1.Kind_KIND_CONNECT || a.Kind == activityv1.Kind_KIND_DISCONNECT {
			return "MISC"
		}
		if c < activityv1.Class_CLASS_READ || c > activityv1.Class_CLASS_MISC {
			return "MISC"
		}
		return strings.TrimPrefix(c.String(), "CLASS_")
	}
	command := a.GetCommand()
	if command == "" && (a.Kind == activityv1.Kind_KIND_CONNECT || a.Kind == activityv1.Kind_KIND_DISCONNECT) {
		command = strings.TrimPrefix(a.Kind.String(), "KIND_")
	}
	e := das.Event{
		StartTime: a.GetStartedAt().AsTime(), LogTime: a.GetEndedAt().AsTime(),
		StatementID: a.GetStatementId(), SubstatementID: a.GetSubstatementId(),
		DatabaseName: string(s.GetDatabaseName()), DBUserName: string(s.GetUserName()),
		RemoteHost: string(s.GetRemoteHost()), RemotePort: string(s.GetRemotePort()),
		SessionID:   fmt.Sprintf("%x.%x", uint64(s.GetBackendStartedAt().GetSeconds()), uint32(s.GetPid())),
		CommandText: nullable(a.GetText()), ErrorMessage: nullable(a.GetErrorMessage()), PID: int64(s.GetPid()),
		ServerVersion: cfg.ServerVersion, ServerType: "PostgreSQL", ServiceName: "PostgreSQL", ServerHost: cfg.ServerHost,
		DBProtocol: "Postgres 3.0", Type: "record",
	}
	if len(s.GetRemoteHost())+len(s.GetRemotePort()) > 0 {
		e.NetProtocol = "TCP"
	}
	if s.GetLocalSocket() {
		e.RemoteHost, e.RemotePort, e.NetProtocol = "[local]", "", "Unix"
	}
	if len(s.GetServerHost()) > 0 {
		e.ServerHost = string(s.GetServerHost())
	}
	if len(s.GetApplicationName()) > 0 {
		e.ClientApp = das.Some(string(s.GetApplicationName()))
	}
	if a.Rows != nil {
		e.RowCount = das.Some(int64(a.GetRows()))
	}
	switch {
	case a.GetSqlstate() != "":
		e.ExitCode = das.Some(a.GetSqlstate())
	case a.ExitCode != nil:
		e.ExitCode = das.Some(fmt.Sprint(a.GetExitCode()))
	}
	for _, p := range a.GetParameters() {
		if p.GetIsNull() {
			e.ParamList = append(e.ParamList, das.Nullable[string]{})
		} else {
			e.ParamList = append(e.ParamList, das.Some(string(p.GetValue().GetKept())))
		}
	}
	objects := a.GetObjects()
	// A statement has an element of its own where there is nothing else, or every object saw another command; a query of
	// relations has not.
	others, functions := 0, 0
	for _, o := range objects {
		if o.GetCommand() != "" {
			others++
		}
		if o.GetType() == activityv1.ObjectType_OBJECT_TYPE_FUNCTION {
			functions++
		}
	}
	itself := a.GetKind() == activityv1.Kind_KIND_STATEMENT && others == len(objects) && (functions == len(objects) || a.GetCommand() != "SELECT")
	if len(objects) == 0 || itself {
		objects = append([]*activityv1.Object{{}}, objects...)
	}
	var elements [][]byte
	for _, o := range objects {
		e.Command, e.Class = command, class(a.GetClass())
		if o.GetCommand() != "" {
			e.Command = o.GetCommand()
		}
		if o.GetClass() != 0 {
			e.Class = class(o.GetClass())
		}
		e.ObjectType, e.ObjectName = das.Nullable[string]{}, das.Nullable[string]{}
		if _, known := activityv1.ObjectType_name[int32(o.GetType())]; !known {
			e.ObjectType = das.Some("UNKNOWN")
		} else if o.GetType() != 0 {
			e.ObjectType = das.Some(strings.ReplaceAll(strings.TrimPrefix(o.GetType().String(), "OBJECT_TYPE_"), "_", " "))
		}
		if o.GetName() != "" {
			e.ObjectName = das.Some(o.GetName())
		}
		elements = append(elements, e.Append(nil))
	}
	return string(bytes.Join(elements, []byte(",")))
}

func genText(t *rapid.T, name string) *activityv1.Text {
	if rapid.Bool().Draw(t, name+" absent") {
		return nil
	}
	return &activityv1.Text{Kept: genBytes(t, name)}
}

func genBytes(t *rapid.T, name string) []byte {
	return rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) })).Draw(t, name)
}

func genActivity(t *rapid.T) *activityv1.Activity {
	name := func(what string) string { return rapid.StringN(0, 12, 80).Draw(t, what) }
	short := func(what string) []byte { return rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, what) }
	at := func(what string) *timestamppb.Timestamp {
		return &timestamppb.Timestamp{
			Seconds: rapid.Int64Range(-62_135_596_800, 253_402_300_799).Draw(t, what), Nanos: rapid.Int32Range(0, 999_999_999).Draw(t, what+" nanos"),
		}
	}
	a := &activityv1.Activity{
		Kind:      activityv1.Kind(rapid.Int32Range(1, 3).Draw(t, "kind")),
		StartedAt: at("started"), EndedAt: at("ended"),
		Session: &activityv1.Session{
			Pid: rapid.Int32().Draw(t, "pid"), BackendStartedAt: at("backend"), UserName: short("user"), DatabaseName: short("database"),
			RemoteHost: short("host"), RemotePort: rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "port"), ApplicationName: short("app"),
			LocalSocket: rapid.Bool().Draw(t, "local"), ServerHost: short("server"), EffectiveUserName: short("effective"),
			Encoding: rapid.SampledFrom([]string{"", "UTF8", "SQL_ASCII"}).Draw(t, "encoding"),
		},
		StatementId: rapid.Uint64().Draw(t, "statement"), SubstatementId: rapid.Uint64().Draw(t, "substatement"),
		Class: activityv1.Class(rapid.Int32Range(0, 8).Draw(t, "class")), Command: rapid.StringN(0, 8, 20).Draw(t, "command"),
		Text: genText(t, "text"), ErrorMessage: genText(t, "error"), Sqlstate: rapid.StringN(0, 5, 20).Draw(t, "sqlstate"),
	}
	if rapid.Bool().Draw(t, "has rows") {
		a.Rows = proto.Uint64(rapid.Uint64Range(0, math.MaxInt64).Draw(t, "rows"))
	}
	if rapid.Bool().Draw(t, "has exit code") {
		a.ExitCode = proto.Int32(rapid.Int32().Draw(t, "exit code"))
	}
	for range rapid.IntRange(0, 4).Draw(t, "objects") {
		a.Objects = append(a.Objects, &activityv1.Object{
			Type: activityv1.ObjectType(rapid.Int32Range(0, 12).Draw(t, "type")), Name: name("object"),
			Command: rapid.StringN(0, 8, 20).Draw(t, "object command"), Class: activityv1.Class(rapid.Int32Range(0, 8).Draw(t, "object class")),
		})
	}
	for range rapid.IntRange(0, 4).Draw(t, "params") {
		a.Parameters = append(a.Parameters, &activityv1.Parameter{IsNull: rapid.Bool().Draw(t, "null"), Value: genText(t, "value")})
	}
	return a
}

// The hand-written decoder and renderer agree with protobuf's and a plain one,
// also when one Renderer has many events behind it.
func TestAgainstReference(t *testing.T) {
	r := render.New(testConfig)
	rapid.Check(t, func(t *rapid.T) {
		a := genActivity(t)
		got, count, truncated, err := r.Append(nil, testNumber, marshal(t, a))
		if err != nil || len(truncated) != 0 || count < max(1, len(a.Objects)) || count > len(a.Objects)+1 {
			t.Fatalf("Append = %d, %v, %v", count, truncated, err)
		}
		if diff := cmp.Diff(reference(testConfig, a), string(got)); diff != "" {
			t.Fatalf("Append (-want +got):\n%s", diff)
		}
	})
}

// FuzzAppend: whatever is in the ring, what comes out is a list of bounded
// size, the same each time, and what protobuf reads is what is rendered.
func FuzzAppend(f *testing.F) {
	f.Add(marshal(f, simpleSelect()))
	a := simpleSelect()
	a.Kind, a.ExitCode, a.Sqlstate, a.Session.Encoding = activityv1.Kind_KIND_DISCONNECT, proto.Int32(1), "57P01", "LATIN1"
	a.ErrorMessage = &activityv1.Text{Kept: []byte("caf\xe9"), Length: 10, Sha256: make([]byte, 32)}
	a.Parameters = []*activityv1.Parameter{{IsNull: true}, {Value: &activityv1.Text{Kept: []byte("x")}}}
	f.Add(marshal(f, a))
	f.Add([]byte{0x0b, 0x0b, 0x0c, 0x0c})
	f.Add(marshal(f, started()))
	f.Add(marshal(f, noticed(activityv1.NoticeKind_NOTICE_KIND_RING_REMOVED, "/dev/shm/weir.ring")))
	f.Fuzz(func(t *testing.T, payload []byte) {
		before := slices.Clone(payload)
		out, count, truncated, err := render.New(testConfig).Append(nil, testNumber, payload)
		if !bytes.Equal(before, payload) {
			t.Fatal("Append changed the payload")
		}
		var decoded activityv1.Activity
		protoErr := proto.Unmarshal(payload, &decoded)
		if err != nil {
			if len(out) != 0 || count != 0 {
				t.Fatalf("an error with %d bytes, %d elements", len(out), count)
			}
			return
		}
		again, _, _, err := render.New(testConfig).Append(nil, testNumber, payload)
		if err != nil || !bytes.Equal(out, again) {
			t.Fatalf("rendered twice:\n%s\n%s, %v", out, again, err)
		}
		var list []json.RawMessage
		if err := json.Unmarshal(slices.Concat([]byte("["), out, []byte("]")), &list); err != nil || len(list) != max(count, 1) {
			t.Fatalf("%d elements, there are %d: %v", count, len(list), err)
		}
		if count == 0 {
			checkBeside(t, out, payload)
			return
		}
		if !utf8.Valid(out) || len(out) > render.MaxBytes {
			t.Fatalf("%d bytes, UTF-8 %v", len(out), utf8.Valid(out))
		}
		switch {
		case protoErr != nil && !strings.Contains(protoErr.Error(), "UTF-8"):
			t.Fatalf("protobuf says %v of what was rendered as %s", protoErr, out)
		case protoErr == nil && len(truncated) == 0 && slices.Contains([]string{"", "UTF8", "SQL_ASCII"}, decoded.GetSession().GetEncoding()):
			if diff := cmp.Diff(reference(testConfig, &decoded), string(out)); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
		}
	})
}
