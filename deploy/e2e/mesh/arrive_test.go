package mesh_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-das/weir/deploy/e2e/interop"
	"github.com/weir-das/weir/deploy/e2e/mesh"
)

// hba asks one role for a password and trusts the rest.
const hba = `host all locked 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
local all all trust
`

// fields are what an event must say, by their JSON names.
type fields map[string]any

// What psql and pgx did, and what must arrive.
var wanted = []struct {
	name string
	is   fields
}{
	{"a SELECT", fields{
		"commandText": "SELECT * FROM accounts WHERE id < 3;", "class": "READ", "command": "SELECT", "objectType": "TABLE",
		"objectName": "public.accounts", "rowCount": 2.0, "exitCode": nil, "errorMessage": nil, "dbUserName": "postgres",
		"databaseName": "postgres", "clientApplication": "psql", "netProtocol": "TCP", "paramList": []any{},
	}},
	{"the call of a function", fields{
		"commandText": "SELECT touch();", "command": "SELECT", "class": "READ", "exitCode": nil, "rowCount": 1.0,
	}},
	{"the function", fields{
		"commandText": "SELECT touch();", "command": "EXECUTE", "class": "FUNCTION", "objectType": "FUNCTION", "objectName": "public.touch",
	}},
	{"a statement nested in it", fields{
		"commandText": "UPDATE accounts SET name = name WHERE id = 1", "class": "WRITE", "command": "UPDATE",
		"objectName": "public.accounts", "rowCount": 1.0, "substatementId": 2.0,
	}},
	{"a bind value", fields{
		"commandText": "SELECT name FROM accounts WHERE id = $1", "class": "READ", "command": "SELECT", "paramList": []any{"2"},
		"objectName": "public.accounts", "rowCount": 1.0, "clientApplication": "pgx-test",
	}},
	{"an INSERT with a NULL", fields{
		"commandText": "INSERT INTO accounts VALUES ($1, $2)", "class": "WRITE", "command": "INSERT", "paramList": []any{"4", nil},
		"objectName": "public.accounts", "rowCount": 1.0,
	}},
	{"a login that failed", fields{
		"command": "CONNECT", "class": "MISC", "dbUserName": "locked", "exitCode": "28P01", "commandText": nil,
		"errorMessage": `password authentication failed for user "locked"`,
	}},
	{"a login", fields{"command": "CONNECT", "class": "MISC", "dbUserName": "postgres", "exitCode": nil, "commandText": nil, "rowCount": nil}},
	{"a disconnect", fields{"command": "DISCONNECT", "class": "MISC", "commandText": nil}},
	{"a division by zero", fields{
		"commandText": "SELECT 1/0;", "exitCode": "22012", "errorMessage": "division by zero", "command": "SELECT", "class": "READ",
	}},
	{"a syntax error", fields{
		"commandText": "SELEKT 1;", "exitCode": "42601", "errorMessage": `syntax error at or near "SELEKT"`,
	}},
	{"a password", fields{
		"command": "CREATE ROLE", "class": "ROLE", "commandText": "CREATE ROLE clerk LOGIN PASSWORD <REDACTED>;",
	}},
}

// One statement of each kind, with psql and pgx, arrives in Kinesis as Aurora
// would write it, and AWS's own clients in two languages open it.
func TestStatementsArriveAsAuroraWritesThem(t *testing.T) {
	m := mesh.Start(t, mesh.Options{HBA: hba})
	m.Psql("postgres", `
CREATE TABLE accounts (id int PRIMARY KEY, name text);
INSERT INTO accounts VALUES (1, 'ann'), (2, 'bob'), (3, 'cid');
CREATE FUNCTION touch() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN UPDATE accounts SET name = name WHERE id = 1; RETURN 7; END $$;
CREATE ROLE locked LOGIN PASSWORD 'x';
`)
	m.Psql("postgres", "SELECT * FROM accounts WHERE id < 3;\nSELECT touch();\nSELECT 1/0;\nSELEKT 1;\nCREATE ROLE clerk LOGIN PASSWORD 'Sup3r-S3cret';\n")
	if out := m.Psql("locked", "SELECT 'never'"); !strings.Contains(out, "password") {
		t.Fatalf("locked got in: %s", out)
	}
	bindWithPgx(t, m)

	account, _ := m.Settle(t)
	all := account.All()
	for _, want := range wanted {
		if closest, ok := find(all, want.is); !ok {
			t.Errorf("%s did not arrive. Wanted\n  %v\nclosest is\n  %s", want.name, want.is, closest)
		}
	}
	for _, e := range all {
		if bytes.Contains(e.Raw, []byte("Sup3r-S3cret")) {
			t.Errorf("a password is in the stream: %s", e.Raw)
		}
	}
	t.Run("shape", func(t *testing.T) { sameShapeAsAurora(t, all) })
	t.Run("clients", func(t *testing.T) { othersReadTheSame(t, m) })
}

func bindWithPgx(t *testing.T, m *mesh.Mesh) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	config, err := pgx.ParseConfig(m.Postgres.DSN("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["application_name"] = "pgx-test"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var name string
	if err := conn.QueryRow(ctx, "SELECT name FROM accounts WHERE id = $1", 2).Scan(&name); err != nil || name != "bob" {
		t.Fatalf("name %q, error %v", name, err)
	}
	if _, err := conn.Exec(ctx, "INSERT INTO accounts VALUES ($1, $2)", 4, nil); err != nil {
		t.Fatal(err)
	}
}

// find looks for an event that has all of want, and otherwise returns the one
// that has most of it.
func find(all []mesh.Event, want fields) (closest string, ok bool) {
	best := -1
	for _, e := range all {
		n := 0
		for k, v := range want {
			if got, there := e.Fields[k]; there && reflect.DeepEqual(got, v) {
				n++
			}
		}
		if n == len(want) {
			return "", true
		}
		if n > best {
			best, closest = n, string(e.Raw)
		}
	}
	return closest, false
}

// The keys of the documented samples of version 1.1, in their order, and what
// their values may be.
var aurora = []struct{ key, kinds string }{
	{"startTime", "time"}, {"logTime", "time"}, {"statementId", "number"}, {"substatementId", "number"}, {"objectType", "string null"},
	{"command", "string"}, {"objectName", "string null"}, {"databaseName", "string"}, {"dbUserName", "string"}, {"remoteHost", "string"},
	{"remotePort", "string"}, {"sessionId", "string"}, {"rowCount", "number null"}, {"commandText", "string null"}, {"paramList", "list"},
	{"pid", "number"}, {"clientApplication", "string null"}, {"exitCode", "string null"}, {"class", "string"}, {"serverVersion", "string"},
	{"serverType", "string"}, {"serviceName", "string"}, {"serverHost", "string"}, {"netProtocol", "string"}, {"dbProtocol", "string"},
	{"type", "string"}, {"errorMessage", "string null"},
}

func sameShapeAsAurora(t *testing.T, all []mesh.Event) {
	for _, e := range all {
		d := json.NewDecoder(bytes.NewReader(e.Raw))
		if _, err := d.Token(); err != nil {
			t.Fatal(err)
		}
		for _, want := range aurora {
			key, err := d.Token()
			if err != nil || key != want.key {
				t.Fatalf("key %v, want %s, in %s", key, want.key, e.Raw)
			}
			var value any
			if err := d.Decode(&value); err != nil {
				t.Fatal(err)
			}
			if kind := kindOf(value); !slices.Contains(strings.Fields(want.kinds), kind) && !(kind == "string" && want.kinds == "time") {
				t.Fatalf("%s is a %s, want %s, in %s", want.key, kind, want.kinds, e.Raw)
			}
			if s, _ := value.(string); want.kinds == "time" {
				if _, err := time.Parse("2006-01-02 15:04:05.000000+00", s); err != nil || len(s) != len("2006-01-02 15:04:05.000000+00") {
					t.Fatalf("%s is %q, want Aurora's format", want.key, s)
				}
			}
		}
		if d.More() {
			t.Fatalf("more keys than Aurora has, in %s", e.Raw)
		}
	}
}

func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case float64:
		return "number"
	case []any:
		return "list"
	}
	return fmt.Sprintf("%T", v)
}

// othersReadTheSame opens every record in Kinesis with AWS's clients for
// JavaScript and Go, and compares them with what ours made of it.
func othersReadTheSame(t *testing.T, m *mesh.Mesh) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	sealed, err := m.Sealed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	messages := make([]interop.Message, len(sealed))
	for i, s := range sealed {
		messages[i] = interop.Message{Key: s.DataKey, Message: s.Events}
		if s.Version != "1.1" {
			t.Errorf("version %q, want 1.1", s.Version)
		}
	}
	js, err := interop.OpenJS(ctx, messages)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range sealed {
		ours, err := s.Open()
		if err != nil {
			t.Fatal(err)
		}
		if js[i].Err != nil || !bytes.Equal(js[i].Record, ours) {
			t.Errorf("record %d: JavaScript reads %.200s (%v), we read %.200s", i, js[i].Record, js[i].Err, ours)
		}
		packed, err := interop.OpenGo(ctx, messages[i])
		if err != nil {
			t.Fatalf("record %d: Go: %v", i, err)
		}
		if got := unzip(t, packed); !bytes.Equal(got, ours) {
			t.Errorf("record %d: Go reads %.200s, we read %.200s", i, got, ours)
		}
	}
	t.Logf("%d records, read alike by three", len(sealed))

	wrong := messages[0]
	wrong.Key = make([]byte, 32)
	if _, err := interop.OpenGo(ctx, wrong); err == nil {
		t.Error("a wrong key opens a record")
	}
}

func unzip(t *testing.T, packed []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}
