package enginetest_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/weir-das/weir/pkg/postgres"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	"github.com/weir-das/weir/services/capture/internal/render"
)

// element is what pgaudit's line says of one object of one statement, and what a consumer of ours gets.
type element struct {
	Class, Command, ObjectType, ObjectName, CommandText string
}

// told is an element of ours with what pgaudit does not know: whether its statement failed, and what runs inside what.
type told struct {
	element
	failed, nested bool
}

// difference is a way in which we and pgaudit do not say the same. Each is a row of the table in ../README.md.
type difference struct {
	name string
	// pair says whether ours stands for theirs, of the same statement; nil where there are no pairs.
	pair func(ours, theirs element) bool
	// ours and theirs say whether one of us is right to say something that the other does not.
	ours   func(sql string, e told) bool
	theirs func(e element) bool
	// absent says of which versions of the server and of pgaudit it is none.
	absent func(server int, pgaudit string) bool
}

var differences = []difference{
	{name: "Relations that nobody checks", theirs: func(e element) bool {
		return e.Class == "MISC" && e.Command == "???" && e.ObjectName != ""
	}, absent: func(_ int, pgaudit string) bool { return !slices.Contains([]string{"1.5", "1.6", "1.7"}, pgaudit) }},
	{name: "MERGE", pair: func(ours, theirs element) bool {
		return ours.Command == "MERGE" && ours.ObjectName == theirs.ObjectName && theirs.Class == "WRITE"
	}, absent: func(server int, _ string) bool { return server < 15 }},
	{name: "COPY", pair: func(ours, theirs element) bool {
		return ours.ObjectName != "" && theirs == element{ours.Class, "COPY", "", "", ours.CommandText} && ours.Command == "COPY"
	}},
	{name: "CALL", pair: func(ours, theirs element) bool {
		return ours.Class == "FUNCTION" && ours.Command == "CALL" && theirs == element{"MISC", "CALL", "", "", ours.CommandText}
	}},
	{name: "Secrets", pair: func(ours, theirs element) bool {
		shown, _, redacted := strings.Cut(ours.CommandText, "<REDACTED>")
		if !redacted || !(strings.HasPrefix(theirs.CommandText, shown) || strings.HasSuffix(theirs.CommandText, " <REDACTED>")) {
			return false
		}
		theirs.CommandText = ours.CommandText
		if strings.HasSuffix(ours.Command, "USER MAPPING") && theirs.Class == "DDL" {
			theirs.Class = "ROLE"
		}
		return ours == theirs
	}},
	{name: "One statement of several", pair: func(ours, theirs element) bool {
		if !strings.Contains(theirs.CommandText, ours.CommandText) {
			return false
		}
		theirs.CommandText = ours.CommandText
		return ours == theirs
	}},
	{name: "Functions that run while a statement is planned", ours: func(_ string, e told) bool {
		return e.Command == "EXECUTE" && e.ObjectType == "FUNCTION" && e.ObjectName == "public.add_one" // immutable: a constant of the plan
	}},
	{name: "Cursors that are closed or dropped", ours: func(sql string, e told) bool {
		return e.nested && e.Command == "SELECT" && (strings.HasPrefix(e.CommandText, "declare") || strings.Contains(sql, "exception when others"))
	}},
	{name: "Statements that fail", ours: func(_ string, e told) bool { return e.failed }},
	{name: "Scripts of extensions", ours: func(sql string, e told) bool { return e.nested && strings.HasPrefix(sql, "create extension") }},
}

// pgauditLog is the server's log, of which pgaudit's lines of one session are read as they come.
type pgauditLog struct {
	file *os.File
	pid  uint32
}

var auditLine = regexp.MustCompile(`(?s)^(\d+)@ LOG:  AUDIT: SESSION,(.*)$`)

// next reads what was written since: the server writes it before it answers.
func (l *pgauditLog) next(t *testing.T) []element {
	t.Helper()
	var text strings.Builder
	b := make([]byte, 1<<16)
	for {
		n, err := l.file.Read(b)
		if n == 0 {
			break
		}
		if text.Write(b[:n]); err != nil {
			t.Fatal(err)
		}
	}
	var list []element
	for _, entry := range strings.Split(text.String(), "\n@") {
		m := auditLine.FindStringSubmatch(strings.TrimPrefix(strings.TrimSuffix(entry, "\n"), "@"))
		if m == nil || m[1] != fmt.Sprint(l.pid) {
			continue
		}
		// The server indents the further lines of a message.
		fields, err := csv.NewReader(strings.NewReader(strings.ReplaceAll(m[2], "\n\t", "\n"))).Read()
		if err != nil || len(fields) != 9 && len(fields) != 8 { // 8 of a pgaudit that does not count rows
			t.Fatalf("pgaudit's line %q: %v, %d fields", m[2], err, len(fields))
		}
		list = append(list, element{fields[2], fields[3], fields[4], fields[5], strings.TrimSpace(fields[6])})
	}
	return list
}

// elements reads what a session wrote, as consumers get it.
func (a *audited) elements(r *render.Renderer, pid uint32) []told {
	a.t.Helper()
	var list []told
	for _, item := range a.items() {
		event := new(activityv1.Activity)
		if err := proto.Unmarshal(item.Payload, event); err != nil {
			a.t.Fatal(err)
		}
		if event.GetSession().GetPid() != int32(pid) {
			continue
		}
		rendered, count, _, err := r.Append([]byte("["), item.Number, item.Payload)
		if err != nil {
			a.t.Fatal(err)
		}
		if count == 0 {
			continue // a notice: libraries are loaded here
		}
		var elements []element
		if err := json.Unmarshal(append(rendered, ']'), &elements); err != nil {
			a.t.Fatalf("%s: %v", rendered, err)
		}
		for _, e := range elements {
			list = append(list, told{e, event.GetSqlstate() != "", event.GetSubstatementId() > 1})
		}
	}
	return list
}

// take moves the first pair that match says belongs together out of both lists.
func take(ours *[]told, theirs *[]element, match func(ours, theirs element) bool) bool {
	for i, o := range *ours {
		if at := slices.IndexFunc(*theirs, func(e element) bool { return match(o.element, e) }); at >= 0 {
			*ours, *theirs = slices.Delete(*ours, i, i+1), slices.Delete(*theirs, at, at+1)
			return true
		}
	}
	return false
}

// TestOracle holds class, command, object and text of every event against what pgaudit says of the same statement.
func TestOracle(t *testing.T) {
	a := start(t, func(o *postgres.Options) {
		for name, value := range map[string]string{
			"shared_preload_libraries": "pgaudit", "pgaudit.log": "all", "pgaudit.log_relation": "on", "pgaudit.log_parameter": "on",
			"pgaudit.log_rows": "on", "pgaudit.log_catalog": "on", "pgaudit.log_statement_once": "off", "log_min_messages": "warning",
			"log_line_prefix": "@%p@ ", "allow_in_place_tablespaces": "on", "wal_level": "logical",
		} {
			o.Settings[name] = value
		}
	})
	a.psql(a.DSN("postgres", "postgres"), "-c", fixture, "-c", eventTrigger)
	conn := a.connect(t, "postgres", "postgres").PgConn()
	a.await("the login", seen("CONNECT"))
	file, err := os.Open(a.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	log := &pgauditLog{file: file, pid: conn.PID()}
	log.next(t)

	pgaudit := strings.TrimSpace(a.psql(a.DSN("postgres", "postgres"), "-c", "select default_version from pg_available_extensions where name = 'pgaudit'"))

	var all []string
	for _, tt := range statements {
		if tt.sql != "set log_min_messages = panic" { // pgaudit is blind from there on
			all = append(all, tt.sql)
		}
	}
	all = append(all, workload(a)...)
	renderer := render.New(render.Config{})
	used, equal := map[string]int{}, 0
	for _, sql := range all {
		failing := conn.TxStatus() == 'E'
		_, err := conn.Exec(t.Context(), sql).ReadAll()
		if failing && conn.TxStatus() == 'E' && err == nil {
			t.Fatalf("%s: nothing failed", sql)
		}
		ours, theirs := a.elements(renderer, conn.PID()), log.next(t)
		if a.major() >= 17 { // pgaudit's text of a statement has no semicolon there
			for i := range ours {
				ours[i].CommandText = strings.TrimSpace(strings.TrimSuffix(ours[i].CommandText, ";"))
			}
			for i := range theirs {
				theirs[i].CommandText = strings.TrimSpace(strings.TrimSuffix(theirs[i].CommandText, ";"))
			}
		}
		for i := range ours {
			ours[i].failed = ours[i].failed || failing
		}
		for take(&ours, &theirs, func(o, t element) bool { return o == t }) {
			equal++
		}
		for _, d := range differences {
			for d.pair != nil && take(&ours, &theirs, d.pair) {
				used[d.name]++
			}
			before := len(ours) + len(theirs)
			ours = slices.DeleteFunc(ours, func(e told) bool { return d.ours != nil && d.ours(sql, e) })
			theirs = slices.DeleteFunc(theirs, func(e element) bool { return d.theirs != nil && d.theirs(e) })
			used[d.name] += before - len(ours) - len(theirs)
		}
		for _, e := range ours {
			t.Errorf("%q: not with pgaudit: %v", sql, e)
		}
		for _, e := range theirs {
			t.Errorf("%q: with pgaudit alone: %v", sql, e)
		}
	}
	t.Logf("%d equal; %v", equal, used)
	if equal < 300 {
		t.Errorf("only %d elements are the same as pgaudit's: the comparison says little", equal)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences {
		if absent := d.absent != nil && d.absent(a.major(), pgaudit); absent != (used[d.name] == 0) {
			t.Errorf("difference %q occurs %d times with pgaudit %s of PostgreSQL %d", d.name, used[d.name], pgaudit, a.major())
		}
		if !strings.Contains(string(readme), "\n| "+d.name+" | ") {
			t.Errorf("difference %q is not explained in README.md", d.name)
		}
	}
	if len(differences) > 10 {
		t.Errorf("%d differences, want at most 10", len(differences))
	}
}
