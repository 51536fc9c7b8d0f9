package enginetest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/protobuf/proto"

	"github.com/weir-das/weir/pkg/das"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	"github.com/weir-das/weir/services/capture/internal/render"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// rendered is an event as consumers get it.
type rendered struct {
	payload   []byte
	elements  []element27
	truncated map[string]das.Truncation
}

// element27 is what the tests read of a list element.
type element27 struct {
	CommandText  *string   `json:"commandText"`
	ErrorMessage *string   `json:"errorMessage"`
	DatabaseName string    `json:"databaseName"`
	DBUserName   string    `json:"dbUserName"`
	ObjectName   *string   `json:"objectName"`
	ParamList    []*string `json:"paramList"`
}

// render renders what lies in the ring. Everything must be JSON in valid UTF-8, of bounded size, without a NUL.
func (a *audited) render(t *testing.T) []rendered {
	t.Helper()
	r := render.New(render.Config{ServerVersion: "15"})
	var all []rendered
	for _, item := range a.on(t).items() {
		if item.Kind == ring.Gap {
			t.Fatalf("gap %d to %d", item.First, item.Last)
		}
		text, _, truncated, err := r.Append(nil, item.Number, item.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > render.MaxBytes {
			t.Errorf("number %d renders to %d bytes, want at most %d", item.Number, len(text), render.MaxBytes)
		}
		if !utf8.Valid(text) || strings.ContainsRune(string(text), 0) || strings.Contains(string(text), `\u0000`) {
			t.Errorf("number %d is no valid UTF-8 without NUL: %.300q", item.Number, text)
		}
		e := rendered{payload: item.Payload, truncated: map[string]das.Truncation{}}
		if err := json.Unmarshal([]byte("["+string(text)+"]"), &e.elements); err != nil {
			t.Fatalf("number %d: %v: %.300q", item.Number, err, text)
		}
		for _, cut := range truncated {
			e.truncated[cut.Field] = cut
		}
		all = append(all, e)
	}
	return all
}

// last renders what lies in the ring and returns the last statement of it. Sessions that end do so in their own time.
func (a *audited) last(t *testing.T) rendered {
	t.Helper()
	all := a.render(t)
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].elements[0].CommandText != nil {
			return all[i]
		}
	}
	t.Fatalf("%d events, and no statement among them", len(all))
	return rendered{}
}

// activity is the event as the module wrote it; names in it are UTF-8 only where the server's are.
func (r rendered) activity(t *testing.T) *activityv1.Activity {
	t.Helper()
	a := new(activityv1.Activity)
	if err := proto.Unmarshal(r.payload, a); err != nil {
		t.Fatal(err)
	}
	return a
}

func (r rendered) cut(t *testing.T, field, whole string) {
	t.Helper()
	got, ok := r.truncated[field]
	if !ok || got.Length != uint64(len(whole)) || string(got.SHA256[:]) != sum(whole) {
		t.Errorf("truncated says of %s: length %d, hash %x; want %d, %x", field, got.Length, got.SHA256, len(whole), sum(whole))
	}
}

// Statements, values, lists and messages beyond any measure: what is kept is bounded, what is not is told, and the session
// gives its memory back.
func TestSizes(t *testing.T) {
	a := start(t, nil)
	pg := a.connect(t, "postgres", "postgres")
	conn := pg.PgConn()
	a.await("the login", seen("CONNECT"))
	for _, tt := range []struct {
		name, sql, want string
	}{
		{"5 MB that speak of a password", "select length('" + strings.Repeat("0123456789", 4<<17) + "') as password", ""},
		{"5 MB with a secret at their end", "select length('" + strings.Repeat("0123456789", 4<<17) + "'), 'x' = 'password=hush'",
			"select length('" + strings.Repeat("0123456789", 4<<17) + "'), 'x' = 'password=<REDACTED>'"},
		{"3 MB that cannot be parsed", "selec '" + strings.Repeat("it''s ", 1<<19) + "'", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _ = conn.Exec(t.Context(), tt.sql).ReadAll()
			if tt.want == "" {
				tt.want = tt.sql
			}
			e := a.last(t)
			if got := len(e.activity(t).GetText().GetKept()); got != 1<<20 {
				t.Errorf("kept %d bytes, want %d", got, 1<<20)
			}
			e.cut(t, "commandText", tt.want)
			if got := *e.elements[0].CommandText; !strings.HasPrefix(tt.want, got) || len(got) < 100_000 {
				t.Errorf("shown are %d bytes, %.50q, want the beginning", len(got), got)
			}
		})
	}
	t.Run("a session's memory", func(t *testing.T) {
		// What stays is the server's own: it is the same where nobody watches.
		sql := "select length('" + strings.Repeat("0123456789", 10<<20) + "')"
		stays := func(mode uint32) int {
			if err := a.ring.SetPolicy(ring.Policy{Mode: ring.Mode(mode), Generation: uint64(mode) + 1}); err != nil {
				t.Fatal(err)
			}
			conn := a.connect(t, "postgres", "postgres").PgConn()
			before := anonymousKB(t, int(conn.PID()))
			if _, err := conn.Exec(t.Context(), sql).ReadAll(); err != nil {
				t.Fatal(err)
			}
			return anonymousKB(t, int(conn.PID())) - before
		}
		off, on := stays(1), stays(2)
		a.on(t).last(t).cut(t, "commandText", sql)
		if on > off+4<<10 {
			t.Errorf("of a statement of 100 MB %d kB stay, %d kB where nobody watches", on, off)
		}
	})
	t.Run("65,535 binds", func(t *testing.T) {
		var sql strings.Builder
		sql.WriteString("select array_length(array[$1")
		args := make([][]byte, 65_535)
		for i := range args {
			args[i] = fmt.Appendf(nil, "value %d", i)
			if i > 0 {
				fmt.Fprintf(&sql, ",$%d", i+1)
			}
		}
		sql.WriteString("]::text[], 1)")
		if _, err := conn.ExecParams(t.Context(), sql.String(), args, nil, nil, nil).Close(); err != nil {
			t.Fatal(err)
		}
		e := a.last(t)
		list := e.elements[0].ParamList
		if cut := e.truncated["paramList"]; cut.Length != 65_535 || len(list) < 5000 || *list[4999] != "value 4999" {
			t.Errorf("%d of %d values are shown, want thousands of 65535, in order", len(list), cut.Length)
		}
	})
	t.Run("1,600 columns", func(t *testing.T) {
		columns, places, args := make([]string, 1600), make([]string, 1600), make([][]byte, 1600)
		for i := range columns {
			columns[i], places[i], args[i] = fmt.Sprintf("c%d", i), fmt.Sprintf("$%d", i+1), fmt.Append(nil, i)
		}
		if _, err := conn.Exec(t.Context(), "create table wide ("+strings.Join(columns, " int, ")+" int)").ReadAll(); err != nil {
			t.Fatal(err)
		}
		insert := "insert into wide values (" + strings.Join(places, ", ") + ")"
		if _, err := conn.ExecParams(t.Context(), insert, args, nil, nil, nil).Close(); err != nil {
			t.Fatal(err)
		}
		e := a.last(t)
		if list := e.elements[0].ParamList; len(list) != 1600 || *list[1599] != "1599" || *e.elements[0].CommandText != insert || len(e.truncated) != 0 {
			t.Errorf("%d values of %.60q, cut: %v; want 1600, whole", len(list), *e.elements[0].CommandText, e.truncated)
		}
		if _, err := conn.Exec(t.Context(), "select * from wide").ReadAll(); err != nil {
			t.Fatal(err)
		}
		if e := a.last(t); e.activity(t).GetRows() != 1 || *e.elements[0].ObjectName != "public.wide" {
			t.Errorf("%s, want one row of public.wide", describe(e.activity(t)))
		}
	})
	t.Run("a message of 5 MB", func(t *testing.T) {
		message := strings.Repeat("no, no, ", 5<<17)
		_, _ = conn.Exec(t.Context(), "do $$begin raise exception '%', repeat('no, no, ', 5 << 17); end$$").ReadAll()
		e := a.last(t)
		e.cut(t, "errorMessage", message)
		if got := *e.elements[0].ErrorMessage; got != message[:8<<10] {
			t.Errorf("%d bytes of the message are shown, want %d", len(got), 8<<10)
		}
	})
	t.Run("a value of 5 MB", func(t *testing.T) {
		value := strings.Repeat("0123456789", 1<<19)
		if _, err := conn.ExecParams(t.Context(), "select length($1::text), length($2::bytea)", [][]byte{[]byte(value), []byte(value)}, nil, nil, nil).Close(); err != nil {
			t.Fatal(err)
		}
		e := a.last(t)
		e.cut(t, "paramList[0]", value)
		if got := *e.elements[0].ParamList[1]; got != "<bytea>" {
			t.Errorf("%.60q is shown of the other, want <bytea>", got)
		}
	})
}

// Whatever the server's encoding and the client's, events are UTF-8.
func TestEncodings(t *testing.T) {
	a := start(t, nil)
	for _, db := range []string{"LATIN1", "EUC_JP", "SQL_ASCII", "WIN1251"} {
		a.psql(a.DSN("postgres", "postgres"), "-c", fmt.Sprintf("create database %s encoding '%s' template template0 lc_collate 'C' lc_ctype 'C'", strings.ToLower(db), db))
	}
	a.await("the databases", seen("WIN1251"))

	tests := []struct {
		db, client string
		word       string // as the client sends it
		want       string // in the stream
	}{
		{"latin1", "UTF8", "éü", "éü"},
		{"latin1", "LATIN1", "\xe9\xfc", "éü"},
		{"euc_jp", "UTF8", "日本語", "日本語"},
		{"euc_jp", "SJIS", "\x93\xfa\x96{", "日本"},
		{"win1251", "UTF8", "Привет", "Привет"},
		{"win1251", "KOI8R", "\xf0\xd2\xc9\xd7\xc5\xd4", "Привет"},
		{"postgres", "LATIN1", "\xe9", "é"},
		{"postgres", "SJIS", "\x93\xfa", "日"},
		{"sql_ascii", "SQL_ASCII", "日本語", "日本語"},
		{"sql_ascii", "UTF8", "é", "é"},
		{"sql_ascii", "SQL_ASCII", "a\xff\xfe\x80b", "a\uFFFD\uFFFD\uFFFDb"},
		{"sql_ascii", "SQL_ASCII", "\xe3\x81", "\uFFFD"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s from %s", tt.db, tt.client), func(t *testing.T) {
			a := a.on(t)
			config, err := pgconn.ParseConfig(a.DSN("postgres", tt.db))
			if err != nil {
				t.Fatal(err)
			}
			config.RuntimeParams["client_encoding"] = tt.client
			conn, err := pgconn.ConnectConfig(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			a.render(t)
			same := func(what string, got *string, want string) {
				t.Helper()
				// How many replacement characters stand for bytes that are none is the decoder's choice.
				if got == nil || squeeze(*got) != squeeze(want) {
					t.Errorf("%s is %q, want %q", what, deref(got), want)
				}
			}
			if _, err := conn.Exec(t.Context(), `create table "`+tt.word+`" ("`+tt.word+`" text)`).ReadAll(); err != nil {
				t.Fatal(err)
			}
			same("a text", a.last(t).elements[0].CommandText, `create table "`+tt.want+`" ("`+tt.want+`" text)`)
			if _, err := conn.ExecParams(t.Context(), `select 1 from "`+tt.word+`" where "`+tt.word+`" = $1`, [][]byte{[]byte(tt.word)}, nil, nil, nil).Close(); err != nil {
				t.Fatal(err)
			}
			e := a.last(t)
			same("a bind value", e.elements[0].ParamList[0], tt.want)
			if name := e.elements[0].ObjectName; name == nil || squeeze(strings.ReplaceAll(*name, `"`, "")) != "public."+squeeze(tt.want) {
				t.Errorf("a table's name is %q, want public.%q", deref(name), tt.want)
			}
			_, _ = conn.Exec(t.Context(), `select "no `+tt.word+`"`).ReadAll()
			e = a.last(t)
			same("an error", e.elements[0].ErrorMessage, `column "no `+tt.want+`" does not exist`)
			_, _ = conn.Exec(t.Context(), `selec '`+tt.word+`'`).ReadAll()
			same("a text that cannot be parsed", a.last(t).elements[0].CommandText, `selec '`+tt.want+`'`)
			_, _ = conn.Exec(t.Context(), `do $$begin raise exception 'password=`+tt.word+` x'; end$$`).ReadAll()
			e = a.last(t)
			same("a message with a secret", e.elements[0].ErrorMessage, "password=<REDACTED> x")
			if _, err := conn.Exec(t.Context(), `set application_name = '`+tt.word+`'`).ReadAll(); err != nil {
				t.Fatal(err)
			}
			a.render(t)
			if _, err := conn.Exec(t.Context(), `drop table "`+tt.word+`"`).ReadAll(); err != nil {
				t.Fatal(err)
			}
		})
	}
	// Encodings that cannot be read backwards are cut between characters too.
	t.Run("cut", func(t *testing.T) {
		a := a.on(t)
		conn, err := pgconn.Connect(t.Context(), a.DSN("postgres", "euc_jp")+"&client_encoding=UTF8")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		for shift := range 2 {
			sql := "select length('" + strings.Repeat("x", shift) + strings.Repeat("日本語", 180_000) + "')"
			if _, err := conn.Exec(t.Context(), sql).ReadAll(); err != nil {
				t.Fatal(err)
			}
			e := a.last(t)
			if kept := len(e.activity(t).GetText().GetKept()); kept > 1<<20 || kept < 1<<20-1 || e.truncated["commandText"].Length != uint64(len(sql)-540_000) {
				t.Errorf("kept %d of %d bytes, want 1 MiB of %d", kept, e.truncated["commandText"].Length, len(sql)-540_000)
			}
			if got := *e.elements[0].CommandText; !strings.HasPrefix(sql, got) {
				t.Errorf("shown are %d bytes that end in %q, want whole characters", len(got), got[max(0, len(got)-20):])
			}
		}
	})
}

// squeeze makes one of adjacent replacement characters.
func squeeze(s string) string {
	for strings.Contains(s, "\uFFFD\uFFFD") {
		s = strings.ReplaceAll(s, "\uFFFD\uFFFD", "\uFFFD")
	}
	return s
}

func deref(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}
