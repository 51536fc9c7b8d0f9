package enginetest_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A script is what one session does, made before it begins: the same seed does the same.
type script struct {
	user, database string
	replication    string // "", "database" or "true"
	hello          []byte // sent instead of a login
	steps          []step
}

type stepKind int

const (
	stepSend   stepKind = iota // bytes, whole messages
	stepMark                   // come back to order, and have a statement of our own answered
	stepCancel                 // a cancel request
	stepSignal                 // a signal to the session's process
	stepPause                  // let the server get somewhere
	stepLast                   // bytes after which nothing is in order, then the end
)

type step struct {
	kind   stepKind
	bytes  []byte
	signal int
	pause  time.Duration
}

// wild makes what no driver sends.
type wild struct {
	generator
}

func newWild(seed, stream uint64) wild {
	return wild{generator{rand: rand.New(rand.NewPCG(seed, stream))}}
}

func (w *wild) script(mayKill bool) script {
	s := script{user: "postgres", database: "postgres"}
	switch w.rand.IntN(24) {
	case 0:
		s.hello = w.hello()
		return s
	case 1:
		s.user, s.database = w.pick("nobody", "app", "", "post\x7fgres", strings.Repeat("u", 90)), w.pick("postgres", "nowhere", "template0")
	case 2:
		s.replication = w.pick("database", "true")
	}
	for range 8 + w.rand.IntN(40) {
		s.steps = append(s.steps, w.step(s.replication != ""))
	}
	s.steps = append(s.steps, step{kind: stepMark})
	switch w.rand.IntN(8) {
	case 0:
		s.steps = append(s.steps, step{kind: stepSignal, signal: 15}, step{kind: stepPause, pause: time.Millisecond})
	case 1:
		s.steps = append(s.steps, step{kind: stepLast, bytes: w.garbage()})
	case 2:
		s.steps = append(s.steps, step{kind: stepSend, bytes: encode(&pgproto3.Query{String: "select pg_sleep(10)"})},
			step{kind: stepSignal, signal: 15})
	case 3:
		if mayKill {
			s.steps = append(s.steps, step{kind: stepSend, bytes: encode(&pgproto3.Query{String: w.statement()})}, step{kind: stepSignal, signal: 9})
		}
	case 4:
		s.steps = append(s.steps, step{kind: stepLast, bytes: encode(&pgproto3.Terminate{})})
	}
	return s
}

func (w *wild) step(replication bool) step {
	switch n := w.rand.IntN(40); {
	case n == 0:
		return step{kind: stepCancel}
	case n == 1:
		return step{kind: stepSignal, signal: []int{2, 1, 10}[w.rand.IntN(3)]}
	case n == 2:
		return step{kind: stepPause, pause: time.Duration(w.rand.IntN(3000)) * time.Microsecond}
	case n < 6:
		return step{kind: stepMark}
	case replication && n < 30:
		return step{kind: stepSend, bytes: encode(&pgproto3.Query{String: w.replicationCommand()})}
	case n < 18:
		return step{kind: stepSend, bytes: w.queryMessage()}
	default:
		var b []byte
		for range 1 + w.rand.IntN(8) {
			b = append(b, w.extendedMessage()...)
		}
		if w.rand.IntN(3) > 0 {
			b = append(b, encode(&pgproto3.Sync{})...)
		}
		return step{kind: stepSend, bytes: b}
	}
}

func (w *wild) queryMessage() []byte {
	sql := w.statement()
	switch w.rand.IntN(8) {
	case 0:
		sql = strings.Join([]string{w.statement(), w.statement(), w.statement()}, ";")
	case 1:
		sql = w.rare()
	case 2:
		b := encode(&pgproto3.Query{String: sql})
		return w.bend(b)
	case 3:
		sql = w.scramble(sql)
	}
	return encode(&pgproto3.Query{String: sql})
}

// rare is what the comparing generator leaves out, for its answers differ from run to run or it touches the server.
func (w *wild) rare() string {
	return w.pick(
		"select pg_sleep(0.01)", "select pg_cancel_backend(pg_backend_pid())", "select now(), random(), pg_backend_pid()",
		"select lo_create(0), lo_unlink(1)", "select lo_from_bytea(0, repeat('x', 9000)::bytea)", "select pg_notify('made', repeat('n', 100))",
		"copy (select 1) to program 'cat >/dev/null'", "copy log from program 'echo from a program'", "copy log from '/nonexistent'",
		"create temp table made_tt as select g, repeat('wide', 100) as w from generate_series(1, 200) g", "drop table if exists made_tt",
		"create extension if not exists pageinspect", "create or replace procedure made_pr(n int) language plpgsql as $$begin for i in 1..n loop insert into log values (i); if i % 2 = 0 then commit; else rollback; end if; end loop; end$$",
		"call made_pr(5)", "do $$declare c cursor for select n from t; v int; begin open c; fetch c into v; commit; fetch c into v; close c; end$$",
		"create or replace function made_re(n int) returns int language plpgsql as $$begin if n <= 0 then return 1 / n; end if; return made_re(n - 1); exception when division_by_zero then return -1; end$$",
		"select made_re("+fmt.Sprint(w.rand.IntN(30))+")",
		"do $$begin for i in 1..40 loop begin perform made_re(2); execute 'select '||i||' from t'; exception when others then null; end; end loop; end$$",
		"with recursive r(n) as (select 1 union all select n + 1 from r where n < 200) select count(*), max(n) from r",
		"select length('"+strings.Repeat("long ", 1+w.rand.IntN(60_000))+"')",
		"select "+strings.Repeat("(", 300)+"1"+strings.Repeat(")", 300),
		"select "+strings.Repeat("1,", 1500)+"1",
		"declare made_cu scroll cursor with hold for select g from generate_series(1, 100) g; fetch 10 from made_cu; fetch backward 5 from made_cu; close made_cu",
		"begin; lock table t in access exclusive mode; select pg_sleep(0.002); commit",
		"begin isolation level serializable; update log set what = what; commit",
		"set session authorization app; select current_user; reset session authorization", "set role nobody_there", "set client_encoding = "+w.pick("latin1", "utf8", "sql_ascii", "'no'"),
		"set log_min_messages = panic; selec; reset log_min_messages", "set application_name = '"+strings.Repeat("ä", w.rand.IntN(60))+"'",
		"set search_path = "+w.pick("public", "pg_catalog", "nowhere", "''"), "discard all", "deallocate all", "select pg_reload_conf()",
		"select set_config('statement_timeout', '5', true), pg_sleep(0.02)", "select pg_advisory_lock("+w.number()+")", "select pg_advisory_unlock_all()",
		"alter role made_r in database postgres set work_mem = '1MB'", "create user mapping if not exists for current_user server nowhere options (password 'hush')",
		"create or replace function made_ev() returns event_trigger language plpgsql as $$begin perform count(*) from pg_event_trigger_ddl_commands(); end$$",
		"create event trigger made_et on ddl_command_end execute function made_ev()", "drop event trigger if exists made_et",
		"explain (analyze, verbose, format json) "+w.query(), "vacuum (full, verbose) log", "analyze", "create index concurrently made_ix on log (what)", "drop index concurrently if exists made_ix",
		"begin; "+w.change()+"; prepare transaction 'made'; rollback prepared 'made'",
		"select * from pg_stat_activity", "select xmlparse(document '<a>b</a>')", "select '{\"a\": 1}'::jsonb @? '$.a ? (@ > 0)'", "")
}

func (w *wild) replicationCommand() string {
	return w.pick("IDENTIFY_SYSTEM", "SHOW work_mem", "TIMELINE_HISTORY 1", "TIMELINE_HISTORY 99", "CREATE_REPLICATION_SLOT made TEMPORARY PHYSICAL",
		"DROP_REPLICATION_SLOT made", "READ_REPLICATION_SLOT made", "START_REPLICATION SLOT nowhere PHYSICAL 0/0", "START_REPLICATION nonsense", "BASE_BACKUP nonsense", "IDENTIFY_SYSTEM; ", w.statement())
}

func (w *wild) name() string { return w.pick("", "", "a", "b", "nobody", strings.Repeat("p", 200)) }

func (w *wild) extendedMessage() []byte {
	var m pgproto3.FrontendMessage
	switch n := w.rand.IntN(30); {
	case n < 6:
		sql := w.statement()
		if w.rand.IntN(3) == 0 {
			sql = w.pick("select n, $1::text from t where n > $2", "insert into log values ($1)", "select $1::int[], $2::jsonb, $3::numeric",
				"select count_above($1)", "update t set v = $1 where n = $2 returning *", "begin", "", ";", "select $1; select $2", "declare c cursor for select $1::int")
		}
		m = &pgproto3.Parse{Name: w.name(), Query: sql, ParameterOIDs: w.oids()}
	case n < 12:
		m = &pgproto3.Bind{DestinationPortal: w.name(), PreparedStatement: w.name(), Parameters: w.values(),
			ParameterFormatCodes: w.formats(), ResultFormatCodes: w.formats()}
	case n < 15:
		m = &pgproto3.Describe{ObjectType: "SP"[w.rand.IntN(2)], Name: w.name()}
	case n < 21:
		m = &pgproto3.Execute{Portal: w.name(), MaxRows: uint32(w.rand.IntN(4))}
	case n < 23:
		m = &pgproto3.Close{ObjectType: "SP"[w.rand.IntN(2)], Name: w.name()}
	case n < 24:
		m = &pgproto3.Flush{}
	case n < 26:
		// add, lo_creat, pg_sleep, a user's, none
		m = &pgproto3.FunctionCall{Function: []uint32{177, 957, 2626, 16400 + uint32(w.rand.IntN(40)), 0}[w.rand.IntN(5)], Arguments: w.values(),
			ArgFormatCodes: []uint16{uint16(w.rand.IntN(2))}, ResultFormatCode: uint16(w.rand.IntN(2))}
	case n < 27:
		m = &pgproto3.CopyData{Data: []byte(w.pick("line\n", "\\.\n", "a\tb\n", "\x00\xff", ""))}
	case n < 28:
		m = &pgproto3.CopyDone{}
	case n < 29:
		m = &pgproto3.CopyFail{Message: "no"}
	default:
		return w.bend(encode(&pgproto3.Bind{DestinationPortal: w.name(), Parameters: w.values()}))
	}
	return encode(m)
}

func (w *wild) oids() []uint32 {
	var oids []uint32
	for range w.rand.IntN(4) {
		oids = append(oids, []uint32{0, 20, 23, 25, 17, 705, 1007, 2249, 3802, 999999}[w.rand.IntN(10)])
	}
	return oids
}

func (w *wild) values() [][]byte {
	var values [][]byte
	for range w.rand.IntN(4) {
		v := []byte(w.pick("1", "text", "\x00\x00\x00\x01", "\x00\x00\x00\x00\x00\x00\x00\x02", "{1,2}", "\xff\xfe", "", strings.Repeat("v", w.rand.IntN(100_000))))
		if w.rand.IntN(6) == 0 {
			v = nil
		}
		values = append(values, v)
	}
	return values
}

func (w *wild) formats() []int16 {
	var formats []int16
	for range w.rand.IntN(3) {
		formats = append(formats, int16(w.rand.IntN(2)))
	}
	return formats
}

// bend changes bytes of a message's body. Its length stays true, so what follows is understood.
func (w *wild) bend(b []byte) []byte {
	const head = 5
	for range 1 + w.rand.IntN(4) {
		if len(b) > head {
			b[head+w.rand.IntN(len(b)-head)] = byte(w.rand.IntN(256))
		}
	}
	return b
}

// scramble takes a statement apart.
func (w *wild) scramble(sql string) string {
	b := []byte(sql)
	for range 1 + w.rand.IntN(5) {
		i, j := w.rand.IntN(len(b)+1), w.rand.IntN(len(b)+1)
		if i > j {
			i, j = j, i
		}
		switch w.rand.IntN(3) {
		case 0:
			b = append(b[:i:i], b[j:]...)
		case 1:
			b = append(append(append([]byte{}, b[:j]...), b[i:j]...), b[j:]...)
		default:
			b = append(append(append([]byte{}, b[:i]...), w.pick("\xc3", "'", "\"", "E'\\", "U&'", "$x$", "--", "/*", "password", "\r\n", "(")...), b[i:]...)
		}
	}
	// The first zero byte would end the string on its own.
	return strings.ReplaceAll(string(b), "\x00", "")
}

// garbage ends every understanding: unknown types, lengths that lie, a message cut short.
func (w *wild) garbage() []byte {
	b := make([]byte, 1+w.rand.IntN(64))
	for i := range b {
		b[i] = byte(w.rand.IntN(256))
	}
	switch w.rand.IntN(4) {
	case 0:
		return b
	case 1:
		whole := w.queryMessage()
		return whole[:1+w.rand.IntN(len(whole)-1)]
	case 2:
		whole := w.extendedMessage()
		binary.BigEndian.PutUint32(whole[1:], w.rand.Uint32())
		return append(whole, b...)
	default:
		return append([]byte{b[0], 0, 0, 0, byte(w.rand.IntN(6))}, b...)
	}
}

// hello is a beginning that is no login.
func (w *wild) hello() []byte {
	b := make([]byte, 4+w.rand.IntN(40))
	for i := range b {
		b[i] = byte(w.rand.IntN(256))
	}
	switch w.rand.IntN(5) {
	case 0:
		return encode(&pgproto3.SSLRequest{})
	case 1:
		return encode(&pgproto3.GSSEncRequest{})
	case 2:
		return encode(&pgproto3.CancelRequest{ProcessID: w.rand.Uint32(), SecretKey: b[:4:4]})
	case 3:
		whole := encode(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "postgres"}})
		return whole[:w.rand.IntN(len(whole))]
	default:
		return binary.BigEndian.AppendUint32(nil, uint32(len(b)+4))[:4:4]
	}
}

func encode(m pgproto3.FrontendMessage) []byte {
	b, err := m.Encode(nil)
	if err != nil {
		panic(err) // no message of ours is too long
	}
	return b
}
