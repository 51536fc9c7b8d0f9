package enginetest_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/weir-das/weir/pkg/postgres"
)

// corpusSize is how many statements are compared; each is sent alone and answered whole.
const corpusSize = 2500

// TestCorpus sends the same generated statements, by both protocols, to a server with the module and to one without, and
// compares every byte of the answers: rows, tags, notices, errors with all their fields.
func TestCorpus(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	settings := usualSettings()
	// What is prepared in the middle of a message may stand in the way of what follows it there.
	settings["lock_timeout"] = "1s"
	a := start(t, func(o *postgres.Options) { o.Settings = settings })
	plain, err := postgres.Start(t.Context(), postgres.Options{Dir: newDir(t), Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := plain.Stop(postgres.Immediate); err != nil {
			t.Error(err)
		}
	}()
	with, without := dial(t, a.Port()), dial(t, plain.Port())

	g := generator{rand: rand.New(rand.NewPCG(seed, 1))}
	messages := []*message{simple(fixture)}
	for len(messages) <= corpusSize {
		messages = append(messages, g.message())
	}
	succeeded := 0
	for i, m := range messages {
		got, want := with.exchange(t, m), without.exchange(t, m)
		if !bytes.Equal(got, want) {
			t.Fatalf("seed %d, statement %d %q:\n with    %q\n without %q", seed, i, m.text, got, want)
		}
		if strings.Contains(m.text, "prepare transaction") {
			// What is prepared keeps its locks.
			for _, sql := range []string{"rollback", "rollback prepared 'made'"} {
				end := simple(sql)
				with.exchange(t, end)
				without.exchange(t, end)
			}
		}
		if i%100 == 0 {
			a.items()
			// Whoever is somebody else by now is himself again.
			same := simple("reset role")
			with.exchange(t, same)
			without.exchange(t, same)
		}
		if !bytes.Contains(got, []byte("VERROR")) {
			succeeded++
		}
		// Most statements fail in a transaction that has failed: it does not stay so for long.
		if got[len(got)-1] == 'E' && i%2 == 0 {
			end := simple("rollback")
			with.exchange(t, end)
			without.exchange(t, end)
		}
	}
	a.items()
	if succeeded < corpusSize/4 {
		t.Errorf("only %d of %d succeeded: the comparison says little", succeeded, corpusSize)
	}
	if *a.number < corpusSize {
		t.Errorf("%d events of %d statements", *a.number, corpusSize)
	}
}

// wire is a connection whose answers are kept as they come.
type wire struct {
	conn net.Conn
}

func dial(t *testing.T, port int) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &wire{conn: conn}
	hello, err := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30,
		Parameters: map[string]string{"user": "postgres", "database": "postgres"}}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.send(t, hello)
	w.untilReady(t, nil)
	return w
}

func (w *wire) send(t *testing.T, b []byte) {
	t.Helper()
	if _, err := w.conn.Write(b); err != nil {
		t.Fatal(err)
	}
}

// message is what a client sends, as far as one ReadyForQuery, and data for a COPY if the server asks for it.
type message struct {
	text  string
	bytes []byte
}

func (m *message) String() string {
	if m == nil {
		return "the login"
	}
	return m.text
}

func (w *wire) exchange(t *testing.T, m *message) []byte {
	t.Helper()
	w.send(t, m.bytes)
	return w.untilReady(t, m)
}

// untilReady reads messages up to ReadyForQuery.
func (w *wire) untilReady(t *testing.T, m *message) []byte {
	t.Helper()
	if err := w.conn.SetReadDeadline(time.Now().Add(answerTimeout)); err != nil {
		t.Fatal(err)
	}
	var all []byte
	head := make([]byte, 5)
	for {
		if _, err := io.ReadFull(w.conn, head); err != nil {
			t.Fatalf("after %q: %v", m, err)
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(w.conn, body); err != nil {
			t.Fatal(err)
		}
		if head[0] == 'A' {
			clear(body[:4]) // the process number of the session that notifies
		}
		all = append(append(all, head...), body...)
		switch head[0] {
		case 'G': // CopyInResponse
			data, err := (&pgproto3.CopyData{Data: []byte("from the client\n")}).Encode(nil)
			if err != nil {
				t.Fatal(err)
			}
			if data, err = (&pgproto3.CopyDone{}).Encode(data); err != nil {
				t.Fatal(err)
			}
			w.send(t, data)
		case 'Z':
			return all
		}
	}
}

func simple(sql string) *message {
	b, err := (&pgproto3.Query{String: sql}).Encode(nil)
	if err != nil {
		panic(err) // no message of ours is too long
	}
	return &message{text: sql, bytes: b}
}

func extended(sql string, rows uint32, values ...[]byte) *message {
	var b []byte
	for _, m := range []pgproto3.FrontendMessage{
		&pgproto3.Parse{Query: sql}, &pgproto3.Bind{Parameters: values}, &pgproto3.Describe{ObjectType: 'P'},
		&pgproto3.Execute{MaxRows: rows}, &pgproto3.Execute{}, &pgproto3.Sync{},
	} {
		var err error
		if b, err = m.Encode(b); err != nil {
			panic(err)
		}
	}
	return &message{text: sql, bytes: b}
}

// generator makes statements that a server answers the same way every time: no clock, no chance, no process numbers.
type generator struct {
	rand *rand.Rand
}

func (g *generator) pick(from ...string) string { return from[g.rand.IntN(len(from))] }
func (g *generator) number() string             { return fmt.Sprint(g.rand.IntN(7) - 1) }

func (g *generator) expression(depth int) string {
	if depth == 0 {
		if g.rand.IntN(20) == 0 {
			return g.pick("missing", "'text'", "v", "nothing(1)")
		}
		return g.pick("n", "n", "1", "0", "null", "coalesce(n, 2)", g.number(), "'3'", "count_above(1)", "add_one(2)", "n::int8")
	}
	return g.pick(
		"("+g.expression(depth-1)+g.pick(" + ", " - ", " * ", " / ", " % ")+g.expression(depth-1)+")",
		"coalesce("+g.expression(depth-1)+", "+g.expression(depth-1)+")",
		"case when "+g.expression(depth-1)+" > 0 then "+g.expression(depth-1)+" end",
		"(select max("+g.expression(depth-1)+") from t)",
		g.expression(0))
}

func (g *generator) table() string {
	if g.rand.IntN(10) == 0 {
		return g.pick("nowhere", "log", "pg_class", `"Odd Name"`)
	}
	return g.pick("t", "t", "vw", "mv", "child", "part", "watched", "ruled",
		"generate_series(1, 5) as g(n)", "(values (1, 'x'), (2, 'y')) as w(n, v)")
}

func (g *generator) query() string {
	if g.rand.IntN(4) == 0 {
		return "select a.n, b.* from " + g.pick("t", "vw", "mv") + " as a " + g.pick("join", "left join", "full join") + " " +
			g.pick("t", "child", "part") + " as b on a.n = b.n order by 1, 2"
	}
	q := "select " + g.pick("*", "n", g.expression(2), "count(*)") + " from " + g.table()
	if g.rand.IntN(2) == 0 {
		q += " where " + g.expression(1) + " > 0"
	}
	return q + g.pick("", " order by 1", " limit "+g.number(), " for update", " group by 1", " union all select null")
}

func (g *generator) change() string {
	return g.pick(
		"insert into t values ("+g.number()+", 'made') "+g.pick("", "on conflict do nothing", "on conflict (n) do update set v = excluded.v returning n"),
		"update "+g.pick("t", "vw", "log")+" set v = "+g.expression(1)+" where n = "+g.number()+g.pick("", " returning *"),
		"delete from "+g.pick("t", "log", "part", "child")+" where "+g.expression(1)+" > 1",
		"insert into "+g.pick("watched", "ruled", "child", "part")+" values ("+g.number()+")",
		"insert into log "+g.query(),
		"merge into t using (values ("+g.number()+")) as s(n) on t.n = s.n when matched then "+g.pick("delete", "do nothing", "update set v = 'm'")+
			" when not matched then insert values (s.n, 'new')",
		"with gone as (delete from log returning *) "+g.query(),
		"truncate "+g.pick("log", "watched", "t", "nowhere"),
		"copy "+g.pick("log", "log (what)", "nowhere")+" from stdin",
		"copy "+g.pick("t", "(select n from t order by n)", "nowhere")+" to stdout")
}

func (g *generator) definition() string {
	name := g.pick("made_a", "made_b", "made_c")
	return g.pick(
		"create table "+g.pick("", "if not exists ")+name+" (n serial primary key, v text check (length(v) < 9))",
		"alter table "+name+g.pick(" add column w int", " drop column w", " rename to made_c", " alter v set not null"),
		"drop table "+g.pick("", "if exists ")+name+g.pick("", " cascade"),
		"create index on "+name+" (v)",
		"create or replace view made_v as "+g.query(),
		"create or replace function made_f(int) returns int language "+g.pick("sql as 'select $1'", "plpgsql as 'begin return 1 / $1; end'"),
		"create table "+name+" as "+g.query(),
		"comment on table "+name+" is 'made'",
		"create schema made_s create table s (n int) create view w as select * from s", "drop schema made_s cascade",
		"create role made_r password 'hush'", "alter role made_r with password 'hush2'", "drop role made_r",
		"grant select on "+name+" to app", "revoke all on "+name+" from app")
}

func (g *generator) procedural() string {
	return g.pick(
		"select count_above("+g.number()+"), add_one("+g.number()+"), caught()",
		"select made_f("+g.number()+")",
		"call two()",
		"do $$begin "+g.pick("null", "perform "+g.expression(2)+" from t", "raise notice 'n is %', "+g.number(), "raise exception 'no' using errcode = 'ABCDE'",
			"execute 'selec'", "for i in 1..3 loop insert into log values (i); end loop", "insert into watched values (1)")+"; end$$",
		"do $$begin perform 1 / 0; exception when others then raise notice '% %', sqlstate, sqlerrm; end$$",
		"do language sql 'select 1'")
}

func (g *generator) utility() string {
	return g.pick("show work_mem", "set work_mem = '"+g.number()+"MB'", "reset work_mem", "set nonsense = 1",
		"explain (costs off) "+g.query(), "explain analyze selec", "vacuum log", "analyze t", "listen made", "notify made, 'x'", "unlisten *",
		"discard temp", "checkpoint", "lock table t", "set role app; select * from t; select 1", "reset role", "set role app; reset role", "select current_user, session_user",
		"prepare made_p(int) as select $1 + n from t order by n", "execute made_p("+g.number()+")", "deallocate made_p",
		"create temp table if not exists made_t (n int) on commit drop", "set application_name = 'made'", "reindex table t", "cluster log",
		"refresh materialized view mv", "alter system set work_mem = 'x'", "load 'plpgsql'", "show all_of_it")
}

func (g *generator) transaction() string {
	return g.pick("begin", "commit", "rollback", "savepoint made", "rollback to made", "release made", "prepare transaction 'made'",
		"rollback prepared 'made'", "declare made_cu cursor for select n from t order by n", "declare made_h cursor with hold for "+g.query(),
		"fetch 2 from made_cu", "fetch all from made_h", "move made_cu", "close made_h", "set constraints all immediate",
		"update t set v = 'x' where current of made_cu", "commit and chain", "rollback")
}

func (g *generator) statement() string {
	switch n := g.rand.IntN(20); {
	case n < 6:
		return g.query()
	case n < 10:
		return g.change()
	case n < 12:
		return g.definition()
	case n < 14:
		return g.procedural()
	case n < 17:
		return g.transaction()
	case n < 19:
		return g.utility()
	default:
		// Something that is almost a statement.
		sql := g.query()
		at := g.rand.IntN(len(sql))
		return sql[:at] + g.pick("", " ", "'", "(", ";", "$$", "/*", "é") + sql[at:]
	}
}

func (g *generator) message() *message {
	switch n := g.rand.IntN(10); {
	case n == 0:
		return simple(strings.Join([]string{g.statement(), g.statement(), g.statement()}, g.pick(";", " ; ", ";\n")))
	case n < 4:
		sql, rows := g.statement(), uint32(g.rand.IntN(3))
		if g.rand.IntN(2) == 0 {
			return extended("select n, $1::text from t where n > $2 order by n", rows, []byte(g.pick("a", "b", "")), []byte(g.pick("0", "2", "x")))
		}
		if strings.HasPrefix(sql, "copy") {
			return simple(sql) // the second Execute would come in the midst of the data
		}
		return extended(sql, rows)
	default:
		return simple(g.statement() + g.pick("", ";", " -- so much"))
	}
}
