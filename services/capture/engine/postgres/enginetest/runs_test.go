package enginetest_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-das/weir/pkg/postgres"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

// runsFixture is what the table below works on, beside the fixture of statement_test.go.
const runsFixture = `
create role reader;
create table allowed (who text);
insert into allowed values ('reader');
create function may() returns boolean language sql stable as 'select exists (select from allowed where who = current_user)';
create table guarded (n int);
insert into guarded values (1), (2);
alter table guarded enable row level security;
create policy by_table on guarded using (exists (select from allowed where who = current_user) and may());
grant select on guarded, allowed to reader;
create table parted (n int) partition by range (n);
create table parted_low partition of parted for values from (0) to (10);
create table parted_high partition of parted for values from (10) to (20);
create trigger watch after insert on parted for each row execute function logger();
create view over as select n from vw where count_above(0) > 0;
create view writable as select * from t;
create rule instead as on insert to vw do instead insert into log values (new.v);
create function ev_logs() returns event_trigger language plpgsql as $$begin insert into log values (tg_tag); end$$;
create function late() returns trigger language plpgsql as $$begin perform count_above(new.n); return null; end$$;
create table deferred (n int);
create constraint trigger late after insert on deferred deferrable initially deferred for each row execute function late();
create procedure outer_commits() language plpgsql as $$begin insert into log values ('1'); commit; call two(); end$$;
create function held() returns refcursor language plpgsql as $$declare c refcursor := 'held'; begin open c for select n from t; return c; end$$;
create extension postgres_fdw;
create server other foreign data wrapper postgres_fdw options (host '127.0.0.1', port ':port', dbname 'postgres');
create user mapping for postgres server other options (user 'postgres');
create foreign table far (n int, v text) server other options (table_name 't');
create extension file_fdw;
create server files foreign data wrapper file_fdw;
create foreign table lines (line text) server files options (filename '/etc/hostname');
`

// runs are ways in which a server comes to run something, what a psql session sends, and what is to be seen of its own.
var runs = []struct {
	name string
	sql  string
	want []string
}{
	{"row level security", "set role reader; select * from guarded; reset role", []string{
		"1 MISC SET «set role reader;»",
		"2 READ SELECT TABLE:public.allowed rows=1 «select exists (select from allowed where who = current_user)»",
		"3 READ SELECT TABLE:public.allowed rows=1 «select exists (select from allowed where who = current_user)»",
		"1 READ SELECT TABLE:public.guarded TABLE:public.allowed FUNCTION:public.may/FUNCTION/EXECUTE rows=2 «select * from guarded;»",
		"1 MISC RESET «reset role»"}},
	{"partitions", "insert into parted values (1), (11)", []string{
		"2 WRITE INSERT TABLE:public.log rows=1 «insert into log values (tg_op)»",
		"3 WRITE INSERT TABLE:public.log rows=1 «insert into log values (tg_op)»",
		"1 WRITE INSERT TABLE:public.parted rows=2 «insert into parted values (1), (11)»"}},
	{"a row that moves", "update parted set n = 12 where n = 1", []string{
		"2 WRITE INSERT TABLE:public.log rows=1 «insert into log values (tg_op)»",
		"1 WRITE UPDATE TABLE:public.parted rows=1 «update parted set n = 12 where n = 1»"}},
	{"a view of a view with a function", "select * from over", []string{
		"2 READ SELECT TABLE:public.t rows=1 «(select count(*) from t where n > $1)»",
		"3 READ SELECT TABLE:public.t rows=1 «(select count(*) from t where n > $1)»",
		"1 READ SELECT VIEW:public.over VIEW:public.vw TABLE:public.t FUNCTION:public.count_above/FUNCTION/EXECUTE rows=2 «select * from over»"}},
	{"a view that is written", "update writable set v = v where n = 1", []string{"1 WRITE UPDATE VIEW:public.writable TABLE:public.t rows=1 «update writable set v = v where n = 1»"}},
	{"a rule instead", "insert into vw values (9, 'nine')", []string{
		"1 WRITE INSERT VIEW:public.vw VIEW:public.vw/READ/SELECT TABLE:public.log rows=1 «insert into vw values (9, 'nine')»"}},
	{"a deferred trigger", "insert into deferred values (1)", []string{
		"3 READ SELECT TABLE:public.t rows=1 «(select count(*) from t where n > $1)»",
		"2 READ SELECT FUNCTION:public.count_above/FUNCTION/EXECUTE rows=1 «SELECT count_above(new.n)»",
		"1 WRITE INSERT TABLE:public.deferred rows=1 «insert into deferred values (1)»"}},
	{"a deferred trigger in a transaction", "begin; insert into deferred values (1); commit", []string{
		"1 MISC BEGIN «begin;»",
		"1 WRITE INSERT TABLE:public.deferred rows=1 «insert into deferred values (1);»",
		"3 READ SELECT TABLE:public.t rows=1 «(select count(*) from t where n > $1)»",
		"2 READ SELECT FUNCTION:public.count_above/FUNCTION/EXECUTE rows=1 «SELECT count_above(new.n)»",
		"1 MISC COMMIT «commit»"}},
	{"a procedure that commits in a procedure", "call outer_commits()", []string{
		"2 WRITE INSERT TABLE:public.log rows=1 «insert into log values ('1')»",
		"4 WRITE INSERT TABLE:public.log rows=1 «insert into log values ('a')»",
		"5 WRITE INSERT TABLE:public.log rows=1 «insert into log values ('b')»",
		"3 FUNCTION CALL FUNCTION:public.two/FUNCTION/EXECUTE «call two()»",
		"1 FUNCTION CALL FUNCTION:public.outer_commits/FUNCTION/EXECUTE «call outer_commits()»"}},
	{"a cursor that a function opens", "begin; select held(); fetch all from held; commit", []string{
		"1 MISC BEGIN «begin;»",
		"1 READ SELECT FUNCTION:public.held/FUNCTION/EXECUTE rows=1 «select held();»",
		"1 MISC FETCH rows=3 «fetch all from held;»",
		"2 READ SELECT TABLE:public.t rows=3 «select n from t»",
		"1 MISC COMMIT «commit»"}},
	{"dynamic SQL with INTO and USING", "do $$declare x int; begin execute 'select count_above($1)' into x using 1; end$$", []string{
		"3 READ SELECT TABLE:public.t rows=1 «(select count(*) from t where n > $1)»",
		"2 READ SELECT FUNCTION:public.count_above/FUNCTION/EXECUTE rows=1 «select count_above($1)» (1)",
		"1 FUNCTION DO «do $$declare x int; begin execute 'select count_above($1)' into x using 1; end$$»"}},
	{"a DO in SQL in a DO", "do $$begin execute 'do $b$begin perform 1; end$b$'; end$$", []string{
		"3 READ SELECT rows=1 «SELECT 1»",
		"2 FUNCTION DO «do $b$begin perform 1; end$b$»",
		"1 FUNCTION DO «do $$begin execute 'do $b$begin perform 1; end$b$'; end$$»"}},
	{"a foreign table", "select * from far where n = 1", []string{"1 READ SELECT FOREIGN_TABLE:public.far rows=1 «select * from far where n = 1»"}},
	{"a foreign table that is written", "update far set v = v where n = 2", []string{"1 WRITE UPDATE FOREIGN_TABLE:public.far rows=1 «update far set v = v where n = 2»"}},
	{"a file", "select count(*) from lines", []string{"1 READ SELECT FOREIGN_TABLE:public.lines rows=1 «select count(*) from lines»"}},
	{"from a program", "copy log from program 'echo a; echo b'", []string{"1 WRITE COPY TABLE:public.log rows=2 «copy log from program 'echo a; echo b'»"}},
	{"to a program", "copy t to program 'cat >/dev/null'", []string{"1 READ COPY TABLE:public.t rows=3 «copy t to program 'cat >/dev/null'»"}},
	{"a program that fails", "copy t to program 'exit 3'", []string{`1 READ COPY TABLE:public.t !38000 program "exit 3" failed «copy t to program 'exit 3'»`}},
	{"listen and notify", "listen made; notify made, 'x'; unlisten *", []string{
		"1 MISC LISTEN «listen made;»",
		"1 MISC NOTIFY «notify made, 'x';»",
		"1 MISC UNLISTEN «unlisten *»"}},
	{"large objects", "select lo_from_bytea(4711, 'x'); select lo_unlink(4711)", []string{
		"1 READ SELECT rows=1 «select lo_from_bytea(4711, 'x');»",
		"1 READ SELECT rows=1 «select lo_unlink(4711)»"}},
	{"two-phase", "begin; insert into log values ('p'); prepare transaction 'made'", []string{
		"1 MISC BEGIN «begin;»",
		"1 WRITE INSERT TABLE:public.log rows=1 «insert into log values ('p');»",
		"1 MISC PREPARE TRANSACTION «prepare transaction 'made'»"}},
	{"its commit", "commit prepared 'made'", []string{"1 MISC COMMIT PREPARED «commit prepared 'made'»"}},
	{"two-phase that fails", "begin; listen made; prepare transaction 'made'", []string{
		"1 MISC BEGIN «begin;»",
		"1 MISC LISTEN «listen made;»",
		"1 MISC PREPARE TRANSACTION !0A000 cannot PREPARE a transaction that has executed LISTEN, UNLISTEN, or NOTIFY «prepare transaction 'made'»"}},
	{"merge that does all", "begin; merge into t using (values (1, 'x'), (9, 'y')) s(n, v) on t.n = s.n when matched then update set v = s.v when not matched then insert values (s.n, s.v); rollback", []string{
		"1 MISC BEGIN «begin;»",
		"1 WRITE MERGE TABLE:public.t rows=2 «merge into t using (values (1, 'x'), (9, 'y')) s(n, v) on t.n = s.n when matched then update set v = s.v when not matched then insert values (s.n, s.v);»",
		"1 MISC ROLLBACK «rollback»"}},
	{"an event trigger", "create event trigger ev on ddl_command_end execute function ev_logs(); create table fires (n int); drop event trigger ev; drop table fires", []string{
		"1 DDL CREATE EVENT TRIGGER «create event trigger ev on ddl_command_end execute function ev_logs();»",
		"2 WRITE INSERT TABLE:public.log rows=1 «insert into log values (tg_tag)»",
		"1 DDL CREATE TABLE «create table fires (n int);»",
		"1 DDL DROP EVENT TRIGGER «drop event trigger ev;»",
		"1 DDL DROP TABLE «drop table fires»"}},
	{"an index made concurrently", "create index concurrently made_i on t (v)", []string{"1 DDL CREATE INDEX «create index concurrently made_i on t (v)»"}},
	{"and dropped", "drop index concurrently made_i", []string{"1 DDL DROP INDEX «drop index concurrently made_i»"}},
	{"vacuum", "vacuum (full, analyze) t", []string{"1 MISC VACUUM «vacuum (full, analyze) t»"}},
	{"savepoints", "begin; savepoint a; insert into log values ('gone'); rollback to a; commit", []string{
		"1 MISC BEGIN «begin;»",
		"1 MISC SAVEPOINT «savepoint a;»",
		"1 WRITE INSERT TABLE:public.log rows=1 «insert into log values ('gone');»",
		"1 MISC ROLLBACK «rollback to a;»",
		"1 MISC COMMIT «commit»"}},
	{"an exception block", "do $$begin begin insert into log values ('gone'); perform 1 / 0; exception when others then null; end; end$$", []string{
		"2 WRITE INSERT TABLE:public.log rows=1 «insert into log values ('gone')»",
		"3 READ SELECT !22012 division by zero «SELECT 1 / 0»",
		"1 FUNCTION DO «do $$begin begin insert into log values ('gone'); perform 1 / 0; exception when others then null; end; end$$»"}},
	{"a foreign key that is checked", "create table refers (n int); alter table refers add foreign key (n) references t; drop table refers", []string{
		"1 DDL CREATE TABLE «create table refers (n int);»",
		`2 READ SELECT TABLE:public.refers TABLE:public.t rows=0 «SELECT fk."n" FROM ONLY "public"."refers" fk LEFT OUTER JOIN ONLY "public"."t" pk ON ( pk."n" OPERATOR(pg_catalog.=) fk."n") WHERE pk."n" IS NULL AND (fk."n" IS NOT NULL)»`,
		"1 DDL ALTER TABLE TABLE:public.refers/READ/SELECT TABLE:public.t/READ/SELECT «alter table refers add foreign key (n) references t;»",
		"1 DDL DROP TABLE «drop table refers»"}},
}

func TestRuns(t *testing.T) {
	a := start(t, func(o *postgres.Options) {
		o.Settings["allow_in_place_tablespaces"] = "on"
	})
	a.psql(a.DSN("postgres", "postgres"), "-c", fixture)
	if out := a.psql(a.DSN("postgres", "postgres"), "-c", strings.ReplaceAll(runsFixture, ":port", port(a))); out != "" {
		t.Fatalf("the fixture: %s", out)
	}
	conn := a.connect(t, "postgres", "postgres").PgConn()
	a.await("the login", seen("CONNECT"))
	a.events()
	for _, tt := range runs {
		t.Run(tt.name, func(t *testing.T) {
			_, _ = conn.Exec(t.Context(), tt.sql).ReadAll()
			var own []*activityv1.Activity
			for _, e := range a.on(t).events() {
				if e.GetSession().GetPid() == int32(conn.PID()) {
					own = append(own, e)
				}
			}
			if diff := cmp.Diff(strings.Join(a.expected(tt.name, tt.want), "\n"), describeAll(own)); diff != "" {
				t.Errorf("events of %q (-want +got):\n%s", tt.sql, diff)
			}
		})
	}
}
