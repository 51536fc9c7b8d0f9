package enginetest_test

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/weir-das/weir/pkg/postgres"
)

//go:embed testdata/tags.sql
var tagStatements string

// eventTrigger is the function of the workload's event trigger; the fixture has what else it needs.
const eventTrigger = `create function ev_logs() returns event_trigger language plpgsql as $$begin insert into log values (tg_tag); end$$;`

// workload is the statements of testdata/tags.sql.
func workload(a *audited) []string {
	var statements []string
	for line := range strings.Lines(tagStatements) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
			statements = append(statements, strings.ReplaceAll(line, ":port", port(a)))
		}
	}
	return statements
}

// unreachable are the tags of the server's list that no statement has, and why.
var unreachable = map[string]string{
	"???":                      "what the server calls a statement that it does not know",
	"ALTER ACCESS METHOD":      "no such statement",
	"ALTER CAST":               "no such statement; for event triggers' filters",
	"ALTER CONSTRAINT":         "no such statement; ALTER TABLE … ALTER CONSTRAINT is ALTER TABLE",
	"ALTER TRANSFORM":          "no such statement",
	"CLOSE":                    "the server says CLOSE CURSOR or CLOSE CURSOR ALL",
	"COPY FROM":                "the server says COPY for both directions; this one is for its messages",
	"CREATE CONSTRAINT":        "no such statement; constraint triggers are CREATE TRIGGER",
	"CREATE ROUTINE":           "no such statement: CREATE FUNCTION or CREATE PROCEDURE",
	"DISCARD":                  "the server says what was discarded",
	"DROP CONSTRAINT":          "no such statement; ALTER TABLE … DROP CONSTRAINT is ALTER TABLE",
	"LOGIN":                    "from 17 on; what event triggers call a login, which is a CONNECT",
	"SELECT FOR KEY SHARE":     "for the server's messages; what runs is a SELECT, with pgaudit too",
	"SELECT FOR NO KEY UPDATE": "likewise",
	"SELECT FOR SHARE":         "likewise",
	"SELECT FOR UPDATE":        "likewise",
}

// serverTags reads the server's own list of command tags.
func serverTags(t *testing.T, a *audited) []string {
	t.Helper()
	out, err := exec.Command(filepath.Join(a.BinDir(), "pg_config"), "--includedir-server").Output()
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "tcop", "cmdtaglist.h"))
	if err != nil {
		t.Fatal(err)
	}
	var tags []string
	for _, m := range regexp.MustCompile(`(?m)^PG_CMDTAG\(\w+, "([^"]+)"`).FindAllStringSubmatch(string(list), -1) {
		tags = append(tags, m[1])
	}
	if len(tags) < 150 {
		t.Fatalf("the server's list has %d tags: it was not understood", len(tags))
	}
	return tags
}

// Every command tag that the server knows is the command of an event, or is in the list of those that no statement has.
func TestEveryCommandTag(t *testing.T) {
	a := start(t, func(o *postgres.Options) {
		o.Settings["allow_in_place_tablespaces"], o.Settings["wal_level"] = "on", "logical"
	})
	a.psql(a.DSN("postgres", "postgres"), "-c", fixture, "-c", eventTrigger)
	conn := a.connect(t, "postgres", "postgres").PgConn()
	a.await("the login", seen("CONNECT"))
	seen := map[string]bool{}
	for _, sql := range workload(a) {
		_, err := conn.Exec(t.Context(), sql).ReadAll()
		if err != nil && sql != "select nothing" && !strings.HasPrefix(sql, "security label") && a.knows(sql) {
			t.Errorf("%s = %v", sql, err)
		}
		own := 0
		for _, e := range a.events() {
			if e.GetSession().GetPid() == int32(conn.PID()) {
				seen[e.GetCommand()] = true
				if e.GetSubstatementId() == 1 {
					own++
				}
			}
		}
		if own != 1 {
			t.Errorf("%d events of the client's statement %q, want 1", own, sql)
		}
	}
	for _, tag := range serverTags(t, a) {
		if why, not := unreachable[tag]; not == seen[tag] {
			t.Errorf("%s: seen %v, reason why it cannot be %q", tag, seen[tag], why)
		}
	}
}
