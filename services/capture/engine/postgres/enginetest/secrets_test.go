package enginetest_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-das/weir/pkg/postgres"
)

// secretsRing keeps the ring small, so that all of its bytes can be searched often.
const secretsRing = 256 << 10

const secretsFixture = `create table people (name text, password text);
create extension dblink; create foreign data wrapper far_away; create server far foreign data wrapper far_away;
create role secretive login;
create function login(name text, password text) returns bool language plpgsql as $$begin return name = password; end$$;
prepare seek(text) as select name from people where password = $1;`

// noTrace fails the test where a secret is in the ring, in an event or in the bytes around them.
func (a *audited) noTrace(t *testing.T, path, needle, what string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at := bytes.Index(raw, []byte(needle)); at >= 0 {
		a.on(t).events()
		t.Fatalf("%s:\n the secret is in the ring, in %q", what, raw[max(0, at-300):min(len(raw), at+100)])
	}
}

// What a server was told in confidence is nowhere in the ring, whatever it was told in and whether it took it.
func TestSecretsStayInTheSession(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var path string
	a := start(t, func(o *postgres.Options) {
		o.RingSize = secretsRing
		o.Settings["shared_buffers"] = "16MB"
		path = o.RingFile
	})
	a.psql(a.DSN("postgres", "postgres"), "-c", secretsFixture)
	a.await("the end of the fixture", seen("DISCONNECT"))
	conn := a.connect(t, "postgres", "postgres").PgConn()
	if _, err := conn.Exec(t.Context(), `prepare seek(text) as select name from people where password = $1`).ReadAll(); err != nil {
		t.Fatal(err)
	}
	a.items()

	g := secretive{rand: rand.New(rand.NewPCG(seed, 3))}
	succeeded, redacted := 0, 0
	for range 400 {
		sql, needle := g.statement()
		switch g.rand.IntN(4) {
		case 0:
			sql = g.broken(sql, needle)
		case 1:
			sql = "begin; select 1/0; " + sql
		}
		if _, err := conn.Exec(t.Context(), sql).ReadAll(); err == nil {
			succeeded++
		}
		_, _ = conn.Exec(t.Context(), "rollback").ReadAll()
		events := a.events()
		if n := len(statementsOf(events)); n < 2 {
			t.Fatalf("seed %d: %d events of %s", seed, n, sql)
		}
		redacted += strings.Count(describeAll(events), "<REDACTED>")
		a.noTrace(t, path, needle, sql)
	}
	if succeeded < 80 || redacted < 400 {
		t.Errorf("%d statements succeeded, %d secrets were replaced: the test says little", succeeded, redacted)
	}

	for _, tt := range []struct {
		name, sql string
		args      []string
		want      string
	}{
		{"a column", "select name from people where password = $1 and name = $2", []string{"SECRET", "joe"}, "(<REDACTED>, joe)"},
		{"an INSERT", "insert into people (name, password) values ($1, $2)", []string{"joe", "SECRET"}, "(joe, <REDACTED>)"},
		{"an argument", "select login($1, password => $2)", []string{"joe", "SECRET"}, "(joe, <REDACTED>)"},
		{"a setting", "select set_config('my.password', $1, false)", []string{"SECRET"}, "(<REDACTED>)"},
		{"a setting that is bound too", "select set_config($1, $2, false)", []string{"my.password", "SECRET"}, "(my.password, <REDACTED>)"},
		{"another setting", "select set_config($1, $2, false)", []string{"my.colour", "red"}, "(my.colour, red)"},
		{"a connection string", "select dblink_connect($1)", []string{"host=127.0.0.1 port=1 password=SECRET dbname=x"}, "password=<REDACTED> dbname=x)"},
		{"a URI", "select dblink_connect($1)", []string{"postgres://joe:SECRET@127.0.0.1:1/x"}, "(postgres://joe:<REDACTED>@127.0.0.1:1/x)"},
		{"JSON", "select $1::jsonb", []string{`{"name": "joe", "password": "SECRET"}`}, `"password": <REDACTED>}`},
		{"an error that quotes it", "select name from people where password = $1 and $2::int = 1", []string{"SECRET", "SECRET"}, ""},
	} {
		t.Run("bound to "+tt.name, func(t *testing.T) {
			a := a.on(t)
			needle := g.letters(14)
			args := make([][]byte, len(tt.args))
			for i := range args {
				args[i] = []byte(strings.ReplaceAll(tt.args[i], "SECRET", needle))
			}
			_, _ = conn.ExecParams(t.Context(), tt.sql, args, nil, nil, nil).Close()
			if events := a.events(); !seen(tt.want)(events) {
				t.Errorf("%s:\n%s\nwant %s", tt.sql, describeAll(events), tt.want)
			}
			a.noTrace(t, path, needle, tt.sql)
		})
	}

	for _, tt := range []struct{ name, sql, want string }{
		{"EXECUTE", "execute seek('SECRET')", "«execute seek(<REDACTED>)»"},
		{"EXPLAIN EXECUTE", "explain execute seek('SECRET')", "«explain execute seek(<REDACTED>)»"},
		{"CREATE TABLE AS EXECUTE", "create table sought as execute seek('SECRET')", "«create table sought as execute seek(<REDACTED>)»"},
		{"USING", "do $$begin execute 'select name from people where password = $1' using 'SECRET'; end$$", "using <REDACTED>; end$$»"},
		{"a variable", "do $$declare p text := 'SECRET'; begin execute 'alter role secretive password ' || quote_literal(p); end$$", "2 ROLE ALTER ROLE «alter role secretive password <REDACTED>»"},
		{"an error that quotes it", "alter role secretive password SECRET", `!42601 syntax error at or near "<REDACTED>" «alter role secretive password <REDACTED>»`},
		{"a nested error that quotes it", "do $$begin execute 'alter role secretive password SECRET'; end$$", `!42601 syntax error at or near "<REDACTED>" «do`},
		{"a nested error of pieces", "do $$declare p text := 'SECRET'; begin execute 'alter role secretive password ' || p; end$$", `!42601 syntax error at or near "<REDACTED>" «do`},
		{"an error that does not quote it", "alter role not_there password 'SECRET'", `!42704 role "not_there" does not exist «`},
		{"an exception", "do $$begin raise exception 'cannot connect to postgres://joe:SECRET@h/x'; end$$", "!P0001 cannot connect to postgres://joe:<REDACTED>@h/x"},
		{"an exception that says it", "do $$declare password text := 'SECRET'; begin raise exception 'no %', password; end$$", "!P0001 <REDACTED> «do $$declare password text := <REDACTED>; begin"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := a.on(t)
			needle := "k" + g.letters(14)
			_, _ = conn.Exec(t.Context(), strings.ReplaceAll(tt.sql, "SECRET", needle)).ReadAll()
			if events := a.events(); !seen(tt.want)(events) {
				t.Errorf("%s:\n%s\nwant %s", tt.sql, describeAll(events), tt.want)
			}
			a.noTrace(t, path, needle, tt.sql)
		})
	}

	t.Run("a session that is ended", func(t *testing.T) {
		a := a.on(t)
		needle := g.letters(14)
		doomed, err := pgconn.Connect(t.Context(), a.DSN("postgres", "postgres"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = doomed.Exec(t.Context(), "do $$begin perform set_config('my.password', '"+needle+"', false), pg_terminate_backend(pg_backend_pid()); end$$").ReadAll()
		if err == nil {
			t.Error("the session lives on")
		}
		_ = doomed.Close(context.Background())
		a.await("its end", seen("DISCONNECT exit=1"))
		a.noTrace(t, path, needle, "a session that is ended")
	})
}

// The hash of a long text is that of the text as it is shown: with the secret in it, it could be guessed.
func TestHashOfASecret(t *testing.T) {
	a := start(t, func(o *postgres.Options) { o.RingSize = 64 << 10 })
	conn := a.connect(t, "postgres", "postgres").PgConn()
	a.await("the login", seen("CONNECT"))
	filler := strings.Repeat("x", 100_000)
	for _, sql := range []string{
		"alter role postgres password 'hush' /* " + filler + " */",
		"/* " + filler + " */ alter role postgres password 'hush'",
		"alter role postgres password hush /* " + filler + " */",
	} {
		_, _ = conn.Exec(t.Context(), sql).ReadAll()
		want := strings.ReplaceAll(a.statement(sql), "'hush'", "<REDACTED>")
		if strings.Contains(sql, "password hush") {
			want = "alter role postgres password <REDACTED>"
		}
		text := a.events()[0].GetText()
		if len(want) < 1000 {
			if string(text.GetKept()) != want || text.GetLength() != 0 {
				t.Errorf("%.60s… is shown as %q, want %q", sql, text.GetKept(), want)
			}
			continue
		}
		if got := text.GetLength(); got != uint64(len(want)) {
			t.Errorf("%.60s…: length %d, want %d", sql, got, len(want))
		}
		if string(text.GetSha256()) != sum(want) {
			t.Errorf("%.60s…: the hash is not that of the text as it is shown", sql)
		}
		if !strings.HasPrefix(want, string(text.GetKept())) {
			t.Errorf("%.60s…: kept %.80q", sql, text.GetKept())
		}
	}
}
