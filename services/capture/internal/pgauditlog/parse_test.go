package pgauditlog_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	"github.com/weir-das/weir/services/capture/internal/pgauditlog"
	"github.com/weir-das/weir/services/capture/internal/render"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// line is an event in words.
func line(a *activityv1.Activity) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s.%s %d/%d %v %s", strings.TrimPrefix(a.GetKind().String(), "KIND_"), a.GetSession().GetUserName(),
		a.GetSession().GetApplicationName(), a.GetStatementId(), a.GetSubstatementId(), strings.TrimPrefix(a.GetClass().String(), "CLASS_"), a.GetCommand())
	for _, o := range a.GetObjects() {
		fmt.Fprintf(&b, " %s=%s", strings.TrimPrefix(o.GetType().String(), "OBJECT_TYPE_"), o.GetName())
	}
	if a.Rows != nil {
		fmt.Fprintf(&b, " rows=%d", a.GetRows())
	}
	for _, p := range a.GetParameters() {
		fmt.Fprintf(&b, " [%s]", p.GetValue().GetKept())
	}
	if a.GetSqlstate() != "" {
		fmt.Fprintf(&b, " %s %q", a.GetSqlstate(), a.GetErrorMessage().GetKept())
	}
	if a.Text != nil {
		fmt.Fprintf(&b, " %q", a.GetText().GetKept())
	}
	return b.String()
}

// What a PostgreSQL 15 with pgaudit 1.7 wrote while somebody worked, in both formats.
func TestRealLog(t *testing.T) {
	csv, errs := pgauditlog.Parse(read(t, "pg15.csv"), false, time.UTC)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	json, errs := pgauditlog.Parse(read(t, "pg15.json"), true, time.UTC)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if len(csv) != len(json) {
		t.Fatalf("the csv log has %d events, the json log %d, want the same", len(csv), len(json))
	}
	var lines []string
	for i := range csv {
		if !proto.Equal(csv[i], json[i]) {
			t.Errorf("event %d:\n csv  %v\n json %v", i, csv[i], json[i])
		}
		lines = append(lines, line(csv[i]))
	}
	for _, want := range []string{
		`CONNECT postgres.psql 1/0 MISC CONNECT`,
		`STATEMENT postgres.psql 1/1 WRITE INSERT TABLE=public.t rows=2 "insert into t values (1, 'it''s, \"quoted\"\nline'), (2, null)"`,
		`STATEMENT postgres.psql 2/1 DDL CREATE TABLE TABLE=public.t "create extension pgaudit; create table t (a int, b text); create role locked login; create role secret login password <REDACTED>"`,
		`DISCONNECT postgres.psql 0/0 MISC DISCONNECT`,
		`CONNECT locked. 1/0 MISC CONNECT 28000 "pg_hba.conf rejects connection for host \"127.0.0.1\", user \"locked\", database \"postgres\", no encryption"`,
		`CONNECT nobody_here. 1/0 MISC CONNECT 28000 "role \"nobody_here\" does not exist"`,
		`STATEMENT postgres.psql 0/0 READ SELECT 22012 "division by zero" "select 1/0"`,
		`STATEMENT postgres.psql 0/0 ROLE ALTER ROLE 42601 "<REDACTED>" "alter role secret password <REDACTED>"`,
		`STATEMENT postgres.psql 1/1 READ SELECT rows=1 "select pg_rotate_logfile()"`,
		`STATEMENT postgres.psql 0/0 ROLE ALTER ROLE 42601 "<REDACTED>" "alter role secret passwor <REDACTED>"`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no event %s", want)
		}
	}
	binds := 0
	for i, l := range lines {
		if strings.Contains(l, "hush") || strings.Contains(l, "'abc' nonsense") {
			t.Errorf("a password is shown: %s", l)
		}
		if strings.Contains(l, "UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2;") && len(csv[i].GetParameters()) == 2 {
			binds++
		}
		if got, want := csv[i].GetSession().GetBackendStartedAt().AsTime().Format("2006-01-02"), "2026-11-23"; got != want {
			t.Errorf("the session began on %s, want %s", got, want)
		}
	}
	if binds == 0 || t.Failed() {
		t.Errorf("%d statements with bind values; events:\n%s", binds, strings.Join(lines, "\n"))
	}
}

const head = `2026-11-23 12:54:46.736 UTC,"ann","shop",20010,"127.0.0.1:43070",6b043796.4e2a,3,"INSERT",2026-11-23 12:54:46 UTC,3/4,725,`

func TestEntries(t *testing.T) {
	const end = `,,,,,,,,,"psql","client backend",,0` + "\n"
	for name, tt := range map[string]struct{ log, want string }{
		"12 has 23 columns":   {head + `LOG,00000,"AUDIT: SESSION,1,1,READ,SELECT,,,select 1,<none>",,,,,,,,,"psql"` + "\n", `STATEMENT ann.psql 1/1 READ SELECT "select 1"`},
		"13 has 24":           {head + `LOG,00000,"AUDIT: SESSION,1,1,READ,SELECT,,,select 1,<none>",,,,,,,,,"psql","client backend"` + "\n", `STATEMENT ann.psql 1/1 READ SELECT "select 1"`},
		"object audit":        {head + `LOG,00000,"AUDIT: OBJECT,7,2,READ,SELECT,MATERIALIZED VIEW,public.v,select 1,<not logged>"` + end, `STATEMENT ann.psql 7/2 READ SELECT MATERIALIZED_VIEW=public.v "select 1"`},
		"logged before":       {head + `LOG,00000,"AUDIT: SESSION,7,3,WRITE,UPDATE,TABLE,public.t,<previously logged>,<previously logged>"` + end, `STATEMENT ann.psql 7/3 WRITE UPDATE TABLE=public.t`},
		"a schema":            {head + `LOG,00000,"AUDIT: SESSION,1,1,DDL,CREATE SCHEMA,SCHEMA,s,create schema s,<none>"` + end, `STATEMENT ann.psql 1/1 DDL CREATE SCHEMA UNKNOWN=s "create schema s"`},
		"binds in CSV":        {head + `LOG,00000,"AUDIT: SESSION,1,1,READ,SELECT,,,select $1,""1,,""""a,""""""""b"""",2"",3"` + end, `STATEMENT ann.psql 1/1 READ SELECT rows=3 [1] [] [a,"b] [2] "select $1"`},
		"carriage return":     {head + "LOG,00000,\"AUDIT: SESSION,1,1,READ,SELECT,,,\"\"select\r\n1\"\",<none>\"" + end, `STATEMENT ann.psql 1/1 READ SELECT "select\r\n1"`},
		"terminated":          {head + `FATAL,57P01,"terminating connection due to administrator command",,,,,,"select pg_sleep(9)",,,"psql","client backend",,0` + "\n", `STATEMENT ann.psql 0/0 READ SELECT 57P01 "terminating connection due to administrator command" "select pg_sleep(9)"`},
		"a value of a column": {head + `ERROR,23505,"duplicate key",,,,,,"insert into u (name, password) values ('a', 'b')",,,"psql","client backend",,0` + "\n", `STATEMENT ann.psql 0/0 WRITE INSERT 23505 "duplicate key" "insert into u (name, password) values ('a', 'b')"`},
		"a connection string": {head + `ERROR,08001,"could not connect with host=x password=y",,,,,,"select dblink('host=x PassWord = y')",,,"psql","client backend",,0` + "\n", `STATEMENT ann.psql 0/0 READ SELECT 08001 "<REDACTED>" "select dblink('host=x PassWord <REDACTED>"`},
		"more than one":       {head + `ERROR,42601,"oops",,,,,,"select 1; create role x password $$y$$ oops",,,"psql","client backend",,0` + "\n", `STATEMENT ann.psql 0/0 READ SELECT 42601 "<REDACTED>" "select 1; create role x password <REDACTED>"`},
		"replication":         {head + `LOG,00000,"replication connection authorized: user=ann application_name=walreceiver SSL enabled (protocol=TLSv1.3)",,,,,,,,,"","walsender",,0` + "\n", `CONNECT ann.walreceiver 1/0 MISC CONNECT`},
		"local":               {strings.Replace(head, "127.0.0.1:43070", "[local]", 1) + `LOG,00000,"disconnection: session time: 0:00:00.002 user=ann"` + end, `DISCONNECT ann.psql 0/0 MISC DISCONNECT`},
		"nothing of ours":     {head + `LOG,00000,"duration: 1.234 ms"` + end, ""},
	} {
		t.Run(name, func(t *testing.T) {
			list, errs := pgauditlog.Parse([]byte(tt.log), false, time.UTC)
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			got := ""
			for _, a := range list {
				got += line(a)
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// What is not what PostgreSQL writes with the right settings is an error that says what to set, and never an event.
func TestWrongEntries(t *testing.T) {
	const end = `,,,,,,,,,"psql","client backend",,0` + "\n"
	for name, tt := range map[string]struct{ log, want string }{
		"zone":       {strings.Replace(head, ".736 UTC", ".736 CET", 1) + `LOG,00000,"x"` + end, "log_timezone"},
		"language":   {head + `PROTOKOLL,00000,"x"` + end, "lc_messages"},
		"columns":    {"2026-11-23 12:54:46.736 UTC,1,2\n", "3 columns"},
		"no session": {strings.Replace(head, "6b043796.4e2a", "x", 1) + `LOG,00000,"x"` + end, "session id"},
		"class":      {head + `LOG,00000,"AUDIT: SESSION,1,1,ODD,SELECT,,,select 1,<none>"` + end, "class"},
		"few fields": {head + `LOG,00000,"AUDIT: SESSION,1,1"` + end, "3 fields"},
		"rows":       {head + `LOG,00000,"AUDIT: SESSION,1,1,READ,SELECT,,,select 1,<none>,x"` + end, "rows"},
	} {
		t.Run(name, func(t *testing.T) {
			list, errs := pgauditlog.Parse([]byte(tt.log), false, time.UTC)
			if len(list) > 0 || len(errs) != 1 || !strings.Contains(errs[0].Error(), tt.want) {
				t.Errorf("got %v, %v, want one error with %q", list, errs, tt.want)
			}
		})
	}
}

func TestZones(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for zone, want := range map[string]string{
		"12:54:46.736 UTC": "12:54:46.736", "12:54:46.736 CET": "11:54:46.736", "12:54:46.736 +03": "09:54:46.736", "12:54:46.736 +0530": "07:24:46.736",
	} {
		log := strings.Replace(head, "12:54:46.736 UTC", zone, 1) + `LOG,00000,"AUDIT: SESSION,1,1,READ,SELECT,,,select 1,<none>",,,,,,,,,"psql"` + "\n"
		list, errs := pgauditlog.Parse([]byte(log), false, berlin)
		if len(errs) > 0 || len(list) != 1 {
			t.Fatalf("%s: %v, %v", zone, list, errs)
		}
		if got := list[0].GetEndedAt().AsTime().Format("15:04:05.000"); got != want {
			t.Errorf("%s is %s, want %s", zone, got, want)
		}
	}
}

// A server that dies leaves half a record, and the next one writes behind it. The record that follows is not lost with it.
func TestHalfARecord(t *testing.T) {
	whole := head + `LOG,00000,"AUDIT: SESSION,1,1,READ,SELECT,,,""select` + "\n" + `1"",<none>",,,,,,,,,"psql","client backend",,0` + "\n"
	for cut := 1; cut < len(whole)-1; cut++ {
		list, errs := pgauditlog.Parse([]byte(whole[:cut]+"\n"+whole+whole), false, time.UTC)
		if len(errs) == 0 && len(list) != 3 || len(list) < 2 {
			t.Fatalf("cut at %d: %d events and errors %v, want both that are whole, and an error", cut, len(list), errs)
		}
	}
}

func FuzzParse(f *testing.F) {
	for i, name := range []string{"pg15.csv", "pg15.json"} {
		log := read(f, name)
		f.Add(log[:min(len(log), 8<<10)], i == 1)
		for _, l := range strings.SplitAfter(string(log), "\n")[5:40] {
			f.Add([]byte(l), i == 1)
		}
	}
	f.Add([]byte(head+`LOG,00000,"AUDIT: SESSION,1,1,READ,SELECT,,,select $1,""1,,""""a,""""""""b"""",2"",3"`+"\n"), false)
	f.Fuzz(func(t *testing.T, log []byte, json bool) {
		for _, pieces := range []int{1, 7} {
			if one, whole := pgauditlog.End(log, json, pieces), pgauditlog.End(log, json, len(log)+1); one != whole {
				t.Fatalf("the record ends at %d where it comes in %d at a time, and at %d at once", one, pieces, whole)
			}
		}
		list, _ := pgauditlog.Parse(log, json, time.UTC)
		r := render.New(render.Config{})
		for _, a := range list {
			payload, err := proto.Marshal(a)
			if err != nil {
				t.Fatalf("%v cannot be encoded: %v", a, err)
			}
			if len(payload) > 1<<20 {
				t.Fatalf("an event of %d bytes", len(payload))
			}
			if _, _, _, err := r.Append(nil, 1, payload); err != nil {
				t.Fatalf("%v cannot be rendered: %v", a, err)
			}
		}
	})
}

// Whatever is quoted as CSV comes back as it was.
func FuzzFields(f *testing.F) {
	f.Add("a", `b"c`, "d,\r\n")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		var quoted []string
		for _, s := range []string{a, b, c} {
			quoted = append(quoted, `"`+strings.ReplaceAll(s, `"`, `""`)+`"`)
		}
		got, err := pgauditlog.Fields(nil, strings.Join(quoted, ","))
		if err != nil || !slices.Equal(got, []string{a, b, c}) {
			t.Fatalf("got %q, %v, want %q", got, err, []string{a, b, c})
		}
	})
}
