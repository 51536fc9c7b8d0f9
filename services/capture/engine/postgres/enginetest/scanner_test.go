package enginetest_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The values of weir_secrecy.
const (
	suspect = iota + 1
	failed
	unparsed
	literals
	content
)

// scanner is the rules about secrets, compiled without a server and with the sanitizers.
type scanner struct {
	t   testing.TB
	in  io.WriteCloser
	out *bufio.Reader
}

// shown is a text as the scanner shows it.
type shown struct {
	text           string
	suspect, doubt bool
	params         string
}

var buildScanner = sync.OnceValues(func() (string, error) {
	path := filepath.Join(template, "redact")
	args := []string{"-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-o", path}
	for _, f := range []string{"test/redact.c", "secrets.c", "expect.c", "signs.c", "insert.c", "values.c", "suspect.c", "words.c", "lexer.c", "characters.c"} {
		args = append(args, filepath.Join("..", f))
	}
	if out, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("cc: %w: %s", err, out)
	}
	return path, nil
})

func startScanner(t testing.TB) *scanner {
	t.Helper()
	path, err := buildScanner()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the scanner ended with %v", err)
		}
	})
	return &scanner{t: t, in: in, out: bufio.NewReader(out)}
}

func (s *scanner) show(secrecy int, text string) shown {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.in, "%d %d\n%s", secrecy, len(text), text); err != nil {
		s.t.Fatalf("%q: %v", text, err)
	}
	line, err := s.out.ReadString('\n')
	if err != nil {
		s.t.Fatalf("the scanner died of %q: %v", text, err)
	}
	var length, suspected, doubt int
	var r shown
	if _, err := fmt.Sscan(line, &length, &suspected, &doubt, &r.params); err != nil {
		s.t.Fatalf("%q: %v", line, err)
	}
	b := make([]byte, length)
	if _, err := io.ReadFull(s.out, b); err != nil {
		s.t.Fatal(err)
	}
	r.text, r.suspect, r.doubt = string(b), suspected != 0, doubt != 0
	return r
}

// What is hidden and, as much, what is not.
var redactions = []struct {
	name    string
	secrecy int
	text    string
	want    string // R stands for <REDACTED>
	params  string
}{
	{"role", suspect, `create role a password 'hush' login`, `create role a password R login`, ""},
	{"case, comments, encrypted", suspect, "ALTER user a WITH encrypted /* 'x' /* n */ */ PassWord -- c\n 'hush' valid until 'infinity'",
		"ALTER user a WITH encrypted /* 'x' /* n */ */ PassWord -- c\n R valid until 'infinity'", ""},
	{"E''", suspect, `alter role a password E'hu\'sh' login`, `alter role a password R login`, ""},
	{"U&''", suspect, `alter role a password U&'hu!0073h' uescape '!' login`, `alter role a password R login`, ""},
	{"quotes doubled", suspect, `alter role a password 'it''s' login`, `alter role a password R login`, ""},
	{"continued on the next line", suspect, "alter role a password 'hu' -- c\n  'sh' login", "alter role a password R login", ""},
	{"dollars", suspect, `alter role a password $$hush$$ login`, `alter role a password R login`, ""},
	{"dollars with a tag", suspect, `alter role a password $a$hu$$sh$a$ login`, `alter role a password R login`, ""},
	{"no password", suspect, `alter role a password null`, `alter role a password null`, ""},
	{"a role of that name", suspect, `alter role password login; alter role password rename to y`, `alter role password login; alter role password rename to y`, ""},
	{"in a block", suspect, `do $$begin execute 'alter role a password ''hush'' login'; end$$`, `do $$begin execute 'alter role a password R login'; end$$`, ""},
	{"in quotes in quotes in quotes", suspect, `do 'begin execute ''do ''''begin alter role a password ''''''''hush''''''''; end'''' ''; end'`,
		`do 'begin execute ''do ''''begin alter role a password R; end'''' ''; end'`, ""},
	{"put together by format", suspect, `do $$begin execute format('alter role %I password %L', 'a', 'hush'); end$$`,
		`do $$begin execute format('alter role %I password %L', R, R); end$$`, ""},
	{"put together by ||", suspect, `do $$declare w text := 'hush'; begin execute 'alter role a password ' || quote_literal(w); end$$`,
		`do $$declare w text := R; begin execute 'alter role a password ' || quote_literal(w); end$$`, ""},
	{"given to SQL in quotes", suspect, `do $$begin execute 'update u set password = $1' using 'hush'; end$$`,
		`do $$begin execute 'update u set password = $1' using R; end$$`, ""},

	{"user mapping", suspect, `create user mapping for u server s options (user 'joe', password 'hush', api_token 'x')`,
		`create user mapping for u server s options (user 'joe', password R, api_token R)`, ""},
	{"alter user mapping", suspect, `alter user mapping for u server s options (set "Password" 'hush', drop x)`,
		`alter user mapping for u server s options (set "Password" R, drop x)`, ""},
	{"a name in escapes", suspect, `create server s foreign data wrapper f options (host 'h', U&"p\0061ssword" 'hush', sslpassword 'x')`,
		`create server s foreign data wrapper f options (host 'h', U&"p\0061ssword" R, sslpassword R)`, ""},
	{"whether one is required", suspect, `alter user mapping for u server s options (add password_required 'false')`,
		`alter user mapping for u server s options (add password_required 'false')`, ""},
	{"connection string", suspect, `create subscription s connection 'host=h password=hush dbname=d' publication p`,
		`create subscription s connection 'host=h password=R dbname=d' publication p`, ""},
	{"with quotes in it", suspect, `create subscription s connection 'host=h password = ''hu sh'' dbname=d' publication p`,
		`create subscription s connection 'host=h password = R dbname=d' publication p`, ""},
	{"with a quote escaped", suspect, `alter subscription s connection $$password='hu\' sh' dbname=d$$`, `alter subscription s connection $$password=R dbname=d$$`, ""},
	{"with a space escaped", suspect, `select dblink_connect('c', 'host=h password=hu\ sh user=u'), 'x'`,
		`select dblink_connect('c', 'host=h password=R user=u'), 'x'`, ""},
	{"with the word in escapes", suspect, `alter subscription s connection E'host=h pass\x77ord=hush'`, `alter subscription s connection E'host=h pass\x77ord=R'`, ""},
	{"with the word on two lines", suspect, "alter subscription s connection 'host=h pass'\n'word=hush dbname=x'",
		"alter subscription s connection 'host=h pass'\n'word=R dbname=x'", ""},
	{"URI", suspect, `select * from dblink('postgresql://u:hu@s/h@h1,h2:5432/db?x=y', 'select 1')`,
		`select * from dblink('postgresql://u:R@h1,h2:5432/db?x=y', 'select 1')`, ""},
	{"URI with a query", suspect, `select dblink('postgres://h/db?user=u&sslpassword=hush&x=y', 'select 1')`,
		`select dblink('postgres://h/db?user=u&sslpassword=R&x=y', 'select 1')`, ""},
	{"URI with a query in escapes", suspect, `select dblink('postgres://h/db?p%61ssword=hush&x=y', 'select 1')`,
		`select dblink('postgres://h/db?p%61ssword=R&x=y', 'select 1')`, ""},
	{"a URL that has none", suspect, `select 'https://example.com:443/@joe/x', 'http://u@h:80/'`, `select 'https://example.com:443/@joe/x', 'http://u@h:80/'`, ""},
	{"put together", suspect, `select dblink_connect('host=h password=' || 'hush' || ' user=x')`, `select dblink_connect('host=h password=' || R || R)`, ""},

	{"SET", suspect, `set my.password to hush`, `set my.password to R`, ""},
	{"SET LOCAL of a list", suspect, `set local "my"."Secret" = 'a', b`, `set local "my"."Secret" = R, R`, ""},
	{"SET of another", suspect, `set password_encryption = 'md5'`, `set password_encryption = 'md5'`, ""},
	{"ALTER SYSTEM", suspect, `alter system set primary_conninfo = 'host=h password=hush'`, `alter system set primary_conninfo = 'host=h password=R'`, ""},
	{"a command's", suspect, `alter system set ssl_passphrase_command to 'echo hush'`, `alter system set ssl_passphrase_command to R`, ""},
	{"ALTER ROLE SET", suspect, `alter role u in database d set my.api_key to hush`, `alter role u in database d set my.api_key to R`, ""},
	{"set_config", suspect, `select set_config('my.password', 'hush', false), 'x'`, `select set_config('my.password', R, false), 'x'`, ""},
	{"a function's", suspect, `create function f() returns int language sql set my.password = hush as 'select 1'`,
		`create function f() returns int language sql set my.password = R as 'select 1'`, ""},
	{"PROGRAM", suspect, `copy t from program 'PGPASSWORD=hush psql -c "x"' with csv`, `copy t from program 'PGPASSWORD=R psql -c "x"' with csv`, ""},
	{"PROGRAM with an option", suspect, `copy t from program 'mysql --password=hush x'`, `copy t from program 'mysql --password=R x'`, ""},
	{"PROGRAM with an argument", suspect, `copy t from program 'sshpass -p hush ssh x' with csv`, `copy t from program 'sshpass R' with csv`, ""},

	{"compared", suspect, `select * from u where u.password = 'hush' and name = 'joe'`, `select * from u where u.password = R and name = 'joe'`, ""},
	{"compared the other way", suspect, `select * from u where 'hush' = password and name = 'joe'`, `select * from u where R = password and name = 'joe'`, ""},
	{"assigned", suspect, `update u set password = crypt('hush', gen_salt('bf')), name = 'joe'`, `update u set password = crypt(R, gen_salt(R)), name = 'joe'`, ""},
	{"assigned in a row", suspect, `update u set (password, name) = ('hush', 'joe')`, `update u set (password, name) = (R, R)`, ""},
	{"inserted", suspect, `insert into u (name, password, n) values ('a', 'hush', 'c'), ('b', lower('hush'), 'd') returning 'x'`,
		`insert into u (name, password, n) values ('a', R, 'c'), ('b', lower(R), 'd') returning 'x'`, ""},
	{"argument", suspect, `select login(name => 'joe', password => 'hush'), 'x'`, `select login(name => 'joe', password => R), 'x'`, ""},
	{"bound", suspect, `update u set password = $1, name = $2 where old_password = $3`, `update u set password = $1, name = $2 where old_password = $3`, "$1,$3"},
	{"bound in an INSERT", suspect, `insert into u (name, password) values ($1, $2), ($3, $4)`, `insert into u (name, password) values ($1, $2), ($3, $4)`, "$2,$4"},
	{"declared", suspect, `do $$declare password constant text := 'hush'; begin raise notice 'x'; end$$`,
		`do $$declare password constant text := R; begin raise notice 'x'; end$$`, ""},
	{"a default", suspect, `create table u (password varchar(20) default 'hush', name text default 'x')`,
		`create table u (password varchar(20) default R, name text default 'x')`, ""},
	{"a column", suspect, `select 'x' as password, passwords.id from passwords where passwords.id = 'y'`,
		`select 'x' as password, passwords.id from passwords where passwords.id = 'y'`, ""},
	{"words", suspect, `comment on column u.password is 'the password'; select 'enter your password', 'x'`,
		`comment on column u.password is 'the password'; select 'enter your password', 'x'`, ""},
	{"a comment", suspect, "/* alter role x password 'hush' */ select 1 -- postgres://u:hush@h", "/* alter role x password R */ select 1 -- postgres://u:R@h", ""},
	{"values of a prepared statement", literals, `execute p('hush', 12, $$x$$)`, `execute p(R, R, R)`, ""},

	{"unterminated", unparsed, `alter role a password 'hush`, `alter role a password R`, ""},
	{"misspelt", unparsed, `alter role a pasword 'hush' valid until '2030-01-01'`, `alter role a pasword R valid until '2030-01-01'`, ""},
	{"all misspelt", unparsed, `atler usre a passwrod 'hush'`, `atler usre a passwrod R`, ""},
	{"no quotes", unparsed, `alter role a password hu!s;h x`, `alter role a password R`, ""},
	{"wrong quotes", unparsed, `alter role a password "hush" login`, `alter role a password R`, ""},
	{"a sign too many", unparsed, `alter role a password = hush`, `alter role a password = R`, ""},
	{"an option without quotes", unparsed, `create user mapping for x server y options (password hush)`, `create user mapping for x server y options (password R`, ""},
	{"a URI without quotes", unparsed, `create subscription s connection postgres://u:hush@h/d publication p`,
		`create subscription s connection postgres://u:R@h/d publication p`, ""},
	{"only a SELECT", unparsed, `select password from u were name = 'joe'`, `select password from u were name = 'joe'`, ""},
	{"only a table", unparsed, `create table t (password text not nul, name text default 'x')`, `create table t (password text not nul, name text default 'x')`, ""},
	{"misspelt in quotes", failed, `do $$begin execute 'alter role a pasword ''hush'''; end$$`, `do $$begin execute 'alter role a pasword R'; end$$`, ""},

	{"JSON", content, `{"user":"joe","password":"hush, \"x","n":1}`, `{"user":"joe","password":R,"n":1}`, ""},
	{"a bound URI", content, `postgres://u:hush@h/db`, `postgres://u:R@h/db`, ""},
	{"a bound connection string", content, `host=h password=hush dbname=x`, `host=h password=R dbname=x`, ""},
	{"bound SQL", content, `alter role x password 'hush' login`, `alter role x password R login`, ""},
	{"a message", content, `password authentication failed for user "joe"`, `password authentication failed for user "joe"`, ""},
}

func TestRedaction(t *testing.T) {
	s := startScanner(t)
	for _, tt := range redactions {
		t.Run(tt.name, func(t *testing.T) {
			s := &scanner{t: t, in: s.in, out: s.out}
			got := s.show(tt.secrecy, tt.text)
			want := strings.NewReplacer(" R", " <REDACTED>", "=R", "=<REDACTED>", ":R", ":<REDACTED>", "(R", "(<REDACTED>").Replace(tt.want)
			if got.text != want {
				t.Errorf("%s\n is shown as %s\n want        %s", tt.text, got.text, want)
			}
			if got.params == "-" {
				got.params = ""
			}
			if got.params != tt.params {
				t.Errorf("%s: secret bind values %q, want %q", tt.text, got.params, tt.params)
			}
			if (got.text != tt.text || got.params != "") && tt.secrecy == suspect && !got.suspect && !strings.Contains(tt.text, "set ") {
				t.Errorf("%s: passes the quick look", tt.text)
			}
		})
	}
}

// Whatever the quoting, the secret is not in what is shown; and the quick look does not pass it.
func TestSecretsAreFound(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := startScanner(t)
	g := secretive{rand: rand.New(rand.NewPCG(seed, 2))}
	for range 5000 {
		sql, needle := g.statement()
		got := s.show(suspect, sql)
		if strings.Contains(got.text, needle) || !got.suspect {
			t.Fatalf("seed %d: %s\n is shown as %s, suspect %v", seed, sql, got.text, got.suspect)
		}
		broken := g.broken(sql, needle)
		if got := s.show(unparsed, broken); strings.Contains(got.text, needle) {
			t.Fatalf("seed %d: %s\n is shown as %s where it cannot be parsed", seed, broken, got.text)
		}
	}
}

// Hostile texts: no crash, nothing read that is not there, and in time proportional to their length.
func FuzzRedaction(f *testing.F) {
	for _, tt := range redactions {
		f.Add(tt.text, tt.secrecy)
	}
	for _, part := range []string{"'", "''", `"`, "$$", "$a$", "/*", "--", `E'\`, `U&'\`, "(", "password=", "://a:", "'||'", "p'\n'", "insert into a(password,"} {
		f.Add(strings.Repeat(part, 2000), unparsed)
		f.Add("password "+strings.Repeat(part, 2000), failed)
	}
	s := startScanner(f)
	f.Fuzz(func(t *testing.T, text string, secrecy int) {
		s := &scanner{t: t, in: s.in, out: s.out}
		got := s.show(1+((secrecy%5)+5)%5, text)
		if len(got.text) > len(text)+48*len("<REDACTED>") {
			t.Errorf("%d bytes are shown as %d", len(text), len(got.text))
		}
	})
}
