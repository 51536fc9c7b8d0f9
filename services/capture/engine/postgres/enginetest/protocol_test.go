package enginetest_test

import (
	"context"
	"crypto/sha256"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/weir-das/weir/pkg/postgres"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// statementsOf leaves out logins and their ends.
func statementsOf(events []*activityv1.Activity) []*activityv1.Activity {
	var kept []*activityv1.Activity
	for _, e := range events {
		if e.GetKind() == activityv1.Kind_KIND_STATEMENT {
			kept = append(kept, e)
		}
	}
	return kept
}

func expect(t *testing.T, a *audited, want ...string) {
	t.Helper()
	got := describeAll(statementsOf(a.on(t).events()))
	if diff := cmp.Diff(strings.Join(want, "\n"), got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// Bind values, as pgx sends them: text and binary, NULL, and types that have no built-in output.
func TestBinds(t *testing.T) {
	a := start(t, nil)
	a.psql(a.DSN("postgres", "postgres"), "-c", "create type mood as enum ('sad', 'glad')", "-c", "create type pair as (a int, b text)",
		"-c", "create table seen (n int)",
		// A type whose output function tells that it was called.
		"-c", "create function spy_in(cstring) returns oid language internal immutable strict as 'oidin'",
		"-c", "create domain short as varchar(5)")
	conn := a.connect(t, "postgres", "postgres")
	a.await("the login", seen("CONNECT"))
	a.events()

	tests := []struct {
		name, sql string
		args      []any
		want      string
	}{
		{"integers", "select $1::int2, $2::int4, $3::int8", []any{-7, 1 << 30, int64(-1) << 60}, "(-7, 1073741824, -1152921504606846976)"},
		{"text", "select $1::text, $2::varchar, $3::bpchar", []any{"a 'b", "ü", "x  "}, "(a 'b, ü, x  )"},
		{"null and empty", "select $1::text, $2::int, $3::text", []any{nil, nil, ""}, "(NULL, NULL, )"},
		{"others", "select $1::bool, $2::float8, $3::numeric, $4::bytea, $5::uuid, $6::date, $7::jsonb, $8::inet",
			[]any{true, 1.5, "12.50", []byte{0, 255}, "00000000-0000-0000-0000-0000000000ff", "2024-02-29", `{"a":1}`, "10.0.0.0/8"},
			`(t, 1.5, 12.50, \x00ff, 00000000-0000-0000-0000-0000000000ff, 2024-02-29, {"a": 1}, 10.0.0.0/8)`},
		{"array", "select $1::int[], $2::text[]", []any{[]int32{1, 2}, []string{"x", "y z"}}, `({1,2}, {x,"y z"})`},
		{"enum", "select $1::mood", []any{"glad"}, "(glad)"},
		{"array of enums", "select $1::mood[]", []any{"{glad}"}, "(<mood[]>)"},
		{"row", "select $1::pair", []any{"(1,x)"}, "(<pair>)"},
		{"domain", "select $1::short", []any{"abc"}, "(abc)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := make([][]byte, len(tt.args))
			for i, v := range tt.args {
				args[i] = textOf(t, conn, v)
			}
			if _, err := conn.PgConn().ExecParams(t.Context(), tt.sql, args, nil, nil, nil).Close(); err != nil {
				t.Fatal(err)
			}
			expect(t, a, "1 READ SELECT rows=1 «"+tt.sql+"» "+tt.want)
		})
	}

	t.Run("binary", func(t *testing.T) {
		var n int
		if err := conn.QueryRow(t.Context(), "select $1::int4 + $2::int8 where $3::text is null", 40, 2, nil).Scan(&n); err != nil {
			t.Fatal(err)
		}
		expect(t, a, "1 READ SELECT rows=1 «select $1::int4 + $2::int8 where $3::text is null» (40, 2, NULL)")
	})
	t.Run("a long value is cut", func(t *testing.T) {
		long := strings.Repeat("é", 50_000)
		if _, err := conn.Exec(t.Context(), "select length($1::text)", long); err != nil {
			t.Fatal(err)
		}
		p := statementsOf(a.on(t).events())[0].GetParameters()[0].GetValue()
		if got := len(p.GetKept()); got != 64<<10 || p.GetLength() != 100_000 || len(p.GetSha256()) != 32 {
			t.Errorf("kept %d bytes of %d with a hash of %d, want 65536 of 100000 with 32", got, p.GetLength(), len(p.GetSha256()))
		}
	})
	t.Run("very many values", func(t *testing.T) {
		const many = 65_535
		var sql strings.Builder
		sql.WriteString("select array_length(array[$1")
		args := make([][]byte, many)
		for i := range args {
			args[i] = []byte("12345678901234567890")
			if i > 0 {
				sql.WriteString(",$" + strconv.Itoa(i+1))
			}
		}
		sql.WriteString("]::text[], 1)")
		if _, err := conn.PgConn().ExecParams(t.Context(), sql.String(), args, nil, nil, nil).Close(); err != nil {
			t.Fatal(err)
		}
		e := statementsOf(a.on(t).events())[0]
		if got := len(e.GetParameters()) + int(e.GetParametersOmitted()); got != many {
			t.Errorf("%d parameters and %d omitted, want %d in all", len(e.GetParameters()), e.GetParametersOmitted(), many)
		}
		if len(e.GetParameters()) < 10_000 {
			t.Errorf("only %d parameters are listed", len(e.GetParameters()))
		}
	})
}

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return string(h[:])
}

// textOf is a value in the text form of the protocol.
func textOf(t *testing.T, conn *pgx.Conn, v any) []byte {
	t.Helper()
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		return []byte(v)
	}
	typ, ok := conn.TypeMap().TypeForValue(v)
	if !ok {
		t.Fatalf("no type for %T", v)
	}
	text, err := conn.TypeMap().Encode(typ.OID, 0, v, nil)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// raw is a connection driven message by message.
type raw struct {
	t *testing.T
	f *pgproto3.Frontend
}

// roundTrip sends messages and a Sync and reads until ReadyForQuery.
func (r raw) roundTrip(messages ...pgproto3.FrontendMessage) {
	r.t.Helper()
	for _, m := range messages {
		r.f.Send(m)
	}
	r.f.Send(&pgproto3.Sync{})
	r.until()
}

func (r raw) until() {
	r.t.Helper()
	if err := r.f.Flush(); err != nil {
		r.t.Fatal(err)
	}
	for {
		m, err := r.f.Receive()
		if err != nil {
			r.t.Fatal(err)
		}
		if _, ready := m.(*pgproto3.ReadyForQuery); ready {
			return
		}
	}
}

func dialRaw(t *testing.T, a *audited) raw {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), a.DSN("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return raw{t: t, f: conn.Frontend()}
}

// The extended protocol, step by step: what fails where, and portals that are read in parts.
func TestExtendedProtocol(t *testing.T) {
	a := start(t, nil)
	a.psql(a.DSN("postgres", "postgres"), "-c", fixture)
	a.await("the fixture", seen("DISCONNECT"))
	r := dialRaw(t, a)
	a.await("the login", seen("CONNECT"))

	parse := func(sql string) *pgproto3.Parse { return &pgproto3.Parse{Query: sql} }
	bind := func(portal string, values ...string) *pgproto3.Bind {
		b := &pgproto3.Bind{DestinationPortal: portal}
		for _, v := range values {
			b.Parameters = append(b.Parameters, []byte(v))
		}
		return b
	}
	run := func(portal string, rows uint32) *pgproto3.Execute {
		return &pgproto3.Execute{Portal: portal, MaxRows: rows}
	}

	tests := []struct {
		name string
		send []pgproto3.FrontendMessage
		want []string
	}{
		{"plain", []pgproto3.FrontendMessage{parse("select n from t where n = $1"), bind("", "2"), run("", 0)},
			[]string{"1 READ SELECT TABLE:public.t rows=1 «select n from t where n = $1» (2)"}},
		{"a portal in parts", []pgproto3.FrontendMessage{parse("select * from t"), bind("p"), run("p", 2), run("p", 2)},
			[]string{"1 READ SELECT TABLE:public.t rows=3 «select * from t»"}},
		{"two portals, interleaved", []pgproto3.FrontendMessage{
			parse("select n from t"), bind("p"), parse("select v from t"), bind("q"), run("p", 1), run("q", 0), run("p", 1)},
			[]string{
				"1 READ SELECT TABLE:public.t rows=3 «select v from t»",
				"1 READ SELECT TABLE:public.t rows=2 «select n from t»"}},
		{"pipeline", []pgproto3.FrontendMessage{
			parse("select 1"), bind(""), run("", 0), parse("select n from t where n = $1"), bind("", "1"), run("", 0)},
			[]string{"1 READ SELECT rows=1 «select 1»", "1 READ SELECT TABLE:public.t rows=1 «select n from t where n = $1» (1)"}},
		{"Parse fails", []pgproto3.FrontendMessage{parse("select nothing"), bind(""), run("", 0)},
			[]string{"1 READ SELECT !42703 column \"nothing\" does not exist «select nothing»"}},
		{"Bind fails", []pgproto3.FrontendMessage{parse("select $1::int"), bind("", "x"), run("", 0)},
			[]string{"1 READ SELECT !22P02 invalid input syntax for type integer: \"x\" «select $1::int»"}},
		{"too few values", []pgproto3.FrontendMessage{parse("select $1::int"), bind(""), run("", 0)},
			[]string{"1 READ SELECT !08P01 bind message supplies 0 parameters, but prepared statement \"\" requires 1 «select $1::int»"}},
		{"Execute fails", []pgproto3.FrontendMessage{parse("select 1 / (n - $1) from t order by n"), bind("", "3"), run("", 0)},
			[]string{"1 READ SELECT TABLE:public.t rows=2 !22012 division by zero «select 1 / (n - $1) from t order by n» (3)"}},
		{"no such portal", []pgproto3.FrontendMessage{run("nowhere", 0)},
			[]string{"1 MISC UNKNOWN !34000 portal \"nowhere\" does not exist"}},
		{"the second of a pipeline fails", []pgproto3.FrontendMessage{
			parse("select 1"), bind(""), run("", 0), parse("selec 2"), bind(""), run("", 0)},
			[]string{"1 READ SELECT rows=1 «select 1»", "1 MISC UNKNOWN !42601 syntax error at or near \"selec\" «selec 2»"}},
		{"a deferred constraint at Sync", []pgproto3.FrontendMessage{parse("insert into child values ($1)"), bind("", "77"), run("", 0)},
			[]string{
				`2 READ SELECT TABLE:public.t rows=0 «SELECT 1 FROM ONLY "public"."t" x WHERE "n" OPERATOR(pg_catalog.=) $1 FOR KEY SHARE OF x» (77)`,
				`1 WRITE INSERT TABLE:public.child !23503 insert or update on table "child" violates foreign key constraint "child_n_fkey" «insert into child values ($1)» (77)`}},
		{"bound and never executed", []pgproto3.FrontendMessage{parse("select n from t"), bind("p")},
			[]string{"1 READ SELECT TABLE:public.t rows=0 «select n from t»"}},
		{"utility", []pgproto3.FrontendMessage{parse("set work_mem = '6MB'"), bind(""), run("", 0)},
			[]string{"1 MISC SET «set work_mem = '6MB'»"}},
		{"empty", []pgproto3.FrontendMessage{parse(""), bind(""), run("", 0)}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := raw{t: t, f: r.f}
			r.roundTrip(tt.send...)
			expect(t, a, tt.want...)
		})
	}

	t.Run("COPY in", func(t *testing.T) {
		r := raw{t: t, f: r.f}
		r.f.Send(&pgproto3.Query{String: "copy log from stdin"})
		r.f.Send(&pgproto3.CopyData{Data: []byte("x\ny\n")})
		r.f.Send(&pgproto3.CopyDone{})
		r.until()
		expect(t, a, "1 WRITE COPY TABLE:public.log rows=2 «copy log from stdin»")
	})
	t.Run("COPY in that the client breaks off", func(t *testing.T) {
		r := raw{t: t, f: r.f}
		r.f.Send(&pgproto3.Query{String: "copy log from stdin"})
		r.f.Send(&pgproto3.CopyFail{Message: "changed my mind"})
		r.until()
		expect(t, a, "1 WRITE COPY TABLE:public.log !57014 COPY from stdin failed: changed my mind «copy log from stdin»")
	})
	t.Run("functions of the server by their numbers", func(t *testing.T) {
		r := raw{t: t, f: r.f}
		const loCreat, loUnlink = 957, 964
		r.f.Send(&pgproto3.FunctionCall{Function: loCreat, ArgFormatCodes: []uint16{0}, Arguments: [][]byte{[]byte("-1")}})
		r.until()
		expect(t, a, "1 FUNCTION EXECUTE FUNCTION:pg_catalog.lo_creat")
		r.f.Send(&pgproto3.FunctionCall{Function: loUnlink, ArgFormatCodes: []uint16{0}, Arguments: [][]byte{[]byte("1")}})
		r.until()
		expect(t, a, "1 FUNCTION EXECUTE FUNCTION:pg_catalog.lo_unlink !42704 large object 1 does not exist")
		// In the midst of a pipeline, before the statement ahead of it is committed.
		for _, m := range []pgproto3.FrontendMessage{parse("select 1"), bind(""), run("", 0)} {
			r.f.Send(m)
		}
		r.f.Send(&pgproto3.FunctionCall{Function: loCreat, ArgFormatCodes: []uint16{0}, Arguments: [][]byte{[]byte("-1")}})
		r.until()
		expect(t, a, "1 READ SELECT rows=1 «select 1»", "1 FUNCTION EXECUTE FUNCTION:pg_catalog.lo_creat")
	})
	t.Run("a function by its number", func(t *testing.T) {
		r := raw{t: t, f: r.f}
		r.f.Send(&pgproto3.Query{String: "select 'count_above'::regproc::oid"})
		if err := r.f.Flush(); err != nil {
			t.Fatal(err)
		}
		var oid uint32
		for {
			m, err := r.f.Receive()
			if err != nil {
				t.Fatal(err)
			}
			if row, ok := m.(*pgproto3.DataRow); ok {
				for _, c := range row.Values[0] {
					oid = oid*10 + uint32(c-'0')
				}
			}
			if _, ready := m.(*pgproto3.ReadyForQuery); ready {
				break
			}
		}
		a.on(t).events()
		r.f.Send(&pgproto3.FunctionCall{Function: oid, ArgFormatCodes: []uint16{0}, Arguments: [][]byte{[]byte("1")}})
		r.until()
		expect(t, a, a.expected("a function by its number", []string{
			"2 READ SELECT TABLE:public.t rows=1 «(select count(*) from t where n > $1)»",
			"1 FUNCTION EXECUTE FUNCTION:public.count_above"})...)
	})
}

// A statement of 3 MB: what is kept, and that its length and hash are those of the whole.
func TestLongStatement(t *testing.T) {
	a := start(t, nil)
	conn := a.connect(t, "postgres", "postgres")
	sql := "select length('" + strings.Repeat("ü", 3<<19) + "')"
	if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatal(err)
	}
	events := a.await("the statement", seen("select length"))
	text := find(t, events, "select length").GetText()
	if got := text.GetLength(); got != uint64(len(sql)) {
		t.Errorf("length %d, want %d", got, len(sql))
	}
	// A character of two bytes lies across the limit.
	if got := len(text.GetKept()); got != 1<<20-1 || !strings.HasPrefix(sql, string(text.GetKept())) {
		t.Errorf("kept %d bytes, want the first %d", got, 1<<20-1)
	}
	if want := sum(sql); string(text.GetSha256()) != want {
		t.Errorf("SHA-256 %x, want %x", text.GetSha256(), want)
	}
}

// Replication commands have no hook; they are seen all the same.
func TestReplication(t *testing.T) {
	a := start(t, func(o *postgres.Options) { o.Settings["wal_level"] = "logical" })
	conn, err := pgconn.Connect(t.Context(), a.DSN("postgres", "postgres")+"&replication=database")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	a.await("the login", seen("CONNECT"))
	for _, sql := range []string{"IDENTIFY_SYSTEM", "select 'sql'", "CREATE_REPLICATION_SLOT made TEMPORARY LOGICAL test_decoding",
		"CREATE_REPLICATION_SLOT made TEMPORARY LOGICAL test_decoding", "show work_mem"} {
		_, _ = conn.Exec(t.Context(), sql).ReadAll()
	}
	expect(t, a,
		"1 MISC IDENTIFY_SYSTEM «IDENTIFY_SYSTEM»",
		"1 READ SELECT rows=1 «select 'sql'»",
		"1 MISC CREATE_REPLICATION_SLOT «CREATE_REPLICATION_SLOT made TEMPORARY LOGICAL test_decoding»",
		"1 MISC UNKNOWN !42710 replication slot \"made\" already exists «CREATE_REPLICATION_SLOT made TEMPORARY LOGICAL test_decoding»",
		"1 MISC SHOW «show work_mem»")

	out := a.backup(t)
	events := a.await("the backup", seen("BASE_BACKUP"))
	if got := strings.Count(describeAll(events), "BASE_BACKUP «"); got != 1 {
		t.Errorf("%d events of BASE_BACKUP, want 1: %s\n%s", got, out, describeAll(events))
	}
}

// The smallest ring: everything is cut to what fits, and what does not fit is counted, never lost silently.
func TestSmallestRing(t *testing.T) {
	a := start(t, func(o *postgres.Options) { o.RingSize = 64 << 10 })
	conn := a.connect(t, "postgres", "postgres").PgConn()
	a.await("the login", seen("CONNECT"))
	long := strings.Repeat("é", 1<<16)
	for _, sql := range []string{"select '" + long + "'", "do $$begin raise exception '" + long + "'; end$$", "selec '" + long + "'"} {
		_, _ = conn.Exec(t.Context(), sql).ReadAll()
		events := a.events()
		if len(events) != 1 {
			t.Fatalf("%d events of %.10s…, want 1", len(events), sql)
		}
		e := events[0]
		if e.GetText().GetLength() != uint64(len(sql)) || string(e.GetText().GetSha256()) != sum(sql) || len(e.GetText().GetKept()) == 0 {
			t.Errorf("%.10s…: kept %d of %d bytes, want some of %d and their hash", sql, len(e.GetText().GetKept()), e.GetText().GetLength(), len(sql))
		}
	}
	args := [][]byte{[]byte(long), []byte("short")}
	if _, err := conn.ExecParams(t.Context(), "select $1::text, $2::text", args, nil, nil, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if e := statementsOf(a.events())[0]; e.GetParametersOmitted() != 2 {
		t.Errorf("%d parameters omitted, want 2: %s", e.GetParametersOmitted(), describe(e))
	}

	// Nobody reads: the ring is full after a while.
	const many = 2000
	for i := range many {
		if _, err := conn.Exec(t.Context(), "select "+strconv.Itoa(i)).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	before := *a.number
	var lost uint64
	for _, item := range a.items() {
		if item.Kind == ring.Gap {
			lost += item.Last - item.First + 1
		}
	}
	// An event that finds room writes the gap down.
	if _, err := conn.Exec(t.Context(), "select 'room'").ReadAll(); err != nil {
		t.Fatal(err)
	}
	for _, item := range a.items() {
		if item.Kind == ring.Gap {
			lost += item.Last - item.First + 1
		}
	}
	if got := *a.number - before; got != many+1 || lost == 0 {
		t.Errorf("%d numbers, %d of them lost, want %d with some lost", got, lost, many+1)
	}
}
