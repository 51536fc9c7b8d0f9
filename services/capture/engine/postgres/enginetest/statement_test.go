package enginetest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

// fixture is what the table below works on.
const fixture = `
create table t (n int primary key, v text);
insert into t values (1, 'one'), (2, 'two'), (3, 'three');
create table log (what text);
create table child (n int references t deferrable initially deferred);
create view vw as select * from t where n < 3;
create materialized view mv as select * from t;
create sequence sq;
create table "Odd Name" (x int);
create table part (n int) partition by range (n);
create table part1 partition of part for values from (0) to (10);
create function count_above(int) returns bigint language plpgsql as
	$$begin return (select count(*) from t where n > $1); end$$;
create function add_one(int) returns int language sql immutable as 'select $1 + 1';
create function caught() returns text language plpgsql as
	$$begin perform 1 / 0; return 'never'; exception when division_by_zero then return 'caught'; end$$;
create function logger() returns trigger language plpgsql as
	$$begin insert into log values (tg_op); return new; end$$;
create table watched (n int);
create trigger watch after insert on watched for each row execute function logger();
create table ruled (n int);
create rule also as on insert to ruled do also insert into log values ('rule');
create procedure two() language plpgsql as
	$$begin insert into log values ('a'); commit; insert into log values ('b'); rollback; end$$;
create role app;
create function gen() returns setof int language sql as 'select n from t order by n';
`

// statements are what a psql session sends, one string a case, and what is to be seen of it, in describe's words. A case
// leaves the fixture as it was, or is in a transaction that it rolls back.
var statements = []struct {
	name string
	sql  string
	want []string
}{
	{"select", "select n, v from t where n < 3;", []string{"1 READ SELECT TABLE:public.t rows=2 «select n, v from t where n < 3;»"}},
	{"no table", "select 1", []string{"1 READ SELECT rows=1 «select 1»"}},
	{"white space", "\n  select 1 ;  \n", []string{"1 READ SELECT rows=1 «select 1 ;»"}},
	{"comment kept", "select 1 /* who */", []string{"1 READ SELECT rows=1 «select 1 /* who */»"}},
	{"values", "values (1), (2)", []string{"1 READ SELECT rows=2 «values (1), (2)»"}},
	{"view", "select * from vw", []string{"1 READ SELECT VIEW:public.vw TABLE:public.t rows=2 «select * from vw»"}},
	{"materialized view", "select * from mv", []string{"1 READ SELECT MATERIALIZED_VIEW:public.mv rows=3 «select * from mv»"}},
	{"quoted name", `select * from "Odd Name"`, []string{`1 READ SELECT TABLE:public."Odd Name" rows=0 «select * from "Odd Name"»`}},
	{"partitioned", "select * from part", []string{"1 READ SELECT TABLE:public.part rows=0 «select * from part»"}},
	{"catalog", "select 1 from pg_class limit 1", []string{"1 READ SELECT TABLE:pg_catalog.pg_class rows=1 «select 1 from pg_class limit 1»"}},
	{"for update", "select * from t for update", []string{"1 READ SELECT TABLE:public.t rows=3 «select * from t for update»"}},
	{"join", "select * from t a join log b on true", []string{"1 READ SELECT TABLE:public.t TABLE:public.log rows=0 «select * from t a join log b on true»"}},
	{"insert", "begin; insert into t values (7, 'x'), (8, 'y'); rollback", []string{
		"1 MISC BEGIN «begin;»",
		"1 WRITE INSERT TABLE:public.t rows=2 «insert into t values (7, 'x'), (8, 'y');»",
		"1 MISC ROLLBACK «rollback»"}},
	{"insert select", "insert into log select v from t where false", []string{
		"1 WRITE INSERT TABLE:public.log TABLE:public.t/READ/SELECT rows=0 «insert into log select v from t where false»"}},
	{"update", "update t set v = v where n = 1", []string{"1 WRITE UPDATE TABLE:public.t rows=1 «update t set v = v where n = 1»"}},
	{"delete", "delete from log", []string{"1 WRITE DELETE TABLE:public.log rows=0 «delete from log»"}},
	{"merge", "merge into log using t on false when not matched and false then insert values (t.v)", []string{
		"1 WRITE MERGE TABLE:public.log TABLE:public.t/READ/SELECT rows=0 «merge into log using t on false when not matched and false then insert values (t.v)»"}},
	{"writing with", "with gone as (delete from log returning *) select * from gone", []string{
		"1 READ SELECT TABLE:public.log/WRITE/DELETE rows=0 «with gone as (delete from log returning *) select * from gone»"}},
	{"truncate", "truncate log", []string{"1 WRITE TRUNCATE TABLE «truncate log»"}},
	{"copy out", "copy t to stdout", []string{"1 READ COPY TABLE:public.t rows=3 «copy t to stdout»"}},
	{"copy query", "copy (select n from t) to stdout", []string{
		"2 READ SELECT TABLE:public.t rows=3 «copy (select n from t) to stdout»",
		"1 READ COPY rows=3 «copy (select n from t) to stdout»"}},
	{"explain", "explain select * from t", []string{
		"2 READ SELECT TABLE:public.t rows=0 «explain select * from t»", "1 MISC EXPLAIN «explain select * from t»"}},
	{"prepare and execute", "prepare p as select $1::int + 1; execute p(41); deallocate p", []string{
		"1 READ PREPARE «prepare p as select $1::int + 1;»",
		"2 READ SELECT rows=1 «prepare p as select $1::int + 1;» (41)",
		"1 MISC EXECUTE rows=1 «execute p(41);»",
		"1 MISC DEALLOCATE «deallocate p»"}},
	{"several in one string", "select 1; select n from t where n = 1; update t set v = v", []string{
		"1 READ SELECT rows=1 «select 1;»",
		"1 READ SELECT TABLE:public.t rows=1 «select n from t where n = 1;»",
		"1 WRITE UPDATE TABLE:public.t rows=3 «update t set v = v»"}},
	{"one of several fails", "select 1; select n from nowhere; select 2", []string{
		"1 READ SELECT rows=1 «select 1;»",
		"1 READ SELECT !42P01 relation \"nowhere\" does not exist «select n from nowhere; select 2»"}},
	{"ddl", "create table made (n serial); drop table made", []string{
		"1 DDL CREATE TABLE «create table made (n serial);»", "1 DDL DROP TABLE «drop table made»"}},
	{"create table as", "create table made as select * from t; drop table made", []string{
		"2 READ SELECT TABLE:public.t rows=3 «create table made as select * from t;»",
		"1 DDL CREATE TABLE AS rows=3 «create table made as select * from t;»",
		"1 DDL DROP TABLE «drop table made»"}},
	{"grant", "grant select on t to app; revoke select on t from app", []string{
		"1 ROLE GRANT «grant select on t to app;»", "1 ROLE REVOKE «revoke select on t from app»"}},
	{"vacuum", "vacuum log", []string{"1 MISC VACUUM «vacuum log»"}},
	{"set", "set work_mem = '5MB'", []string{"1 MISC SET «set work_mem = '5MB'»"}},
	{"cursor", "begin; declare c cursor for select * from t; fetch 2 from c; fetch all from c; close c; rollback", []string{
		"1 MISC BEGIN «begin;»",
		"1 READ DECLARE CURSOR «declare c cursor for select * from t;»",
		"1 MISC FETCH rows=2 «fetch 2 from c;»",
		"1 MISC FETCH rows=1 «fetch all from c;»",
		"2 READ SELECT TABLE:public.t rows=3 «declare c cursor for select * from t;»",
		"1 MISC CLOSE CURSOR «close c;»",
		"1 MISC ROLLBACK «rollback»"}},
	{"cursor left open", "begin; declare c cursor for select * from t; fetch 1 from c; rollback", []string{
		"1 MISC BEGIN «begin;»",
		"1 READ DECLARE CURSOR «declare c cursor for select * from t;»",
		"1 MISC FETCH rows=1 «fetch 1 from c;»",
		"2 READ SELECT TABLE:public.t rows=1 «declare c cursor for select * from t;»",
		"1 MISC ROLLBACK «rollback»"}},
	{"cursor held over its transaction", "begin; declare h cursor with hold for select * from t; fetch 1 from h; commit", []string{
		"1 MISC BEGIN «begin;»",
		"1 READ DECLARE CURSOR «declare h cursor with hold for select * from t;»",
		"1 MISC FETCH rows=1 «fetch 1 from h;»",
		"2 READ SELECT TABLE:public.t rows=4 «declare h cursor with hold for select * from t;»",
		"1 MISC COMMIT «commit»"}},
	{"and read on", "fetch all from h; close h", []string{
		"1 MISC FETCH rows=2 «fetch all from h;»", "1 MISC CLOSE CURSOR «close h»"}},
	{"cursor with hold", "declare h cursor with hold for select * from t; fetch 1 from h; close h", []string{
		"1 READ DECLARE CURSOR «declare h cursor with hold for select * from t;»",
		"1 MISC FETCH rows=1 «fetch 1 from h;»",
		"2 READ SELECT TABLE:public.t rows=1 «declare h cursor with hold for select * from t;»",
		"1 MISC CLOSE CURSOR «close h»"}},

	{"function", "select count_above(1)", []string{
		"2 READ SELECT TABLE:public.t rows=1 «(select count(*) from t where n > $1)»",
		"1 READ SELECT FUNCTION:public.count_above/FUNCTION/EXECUTE rows=1 «select count_above(1)»"}},
	{"function while planning", "select add_one(1)", []string{
		"2 READ SELECT rows=1 «select $1 + 1» (1)",
		"1 READ SELECT FUNCTION:public.add_one/FUNCTION/EXECUTE rows=1 «select add_one(1)»"}},
	{"error caught inside", "select caught()", []string{
		"2 READ SELECT !22012 division by zero «SELECT 1 / 0»",
		"1 READ SELECT FUNCTION:public.caught/FUNCTION/EXECUTE rows=1 «select caught()»"}},
	{"an error caught inside, before planning", "do $$begin perform n from nowhere; exception when undefined_table then perform 1; end$$", []string{
		"2 READ SELECT !42P01 relation \"nowhere\" does not exist «SELECT n from nowhere»",
		"3 READ SELECT rows=1 «SELECT 1»",
		"1 FUNCTION DO «do $$begin perform n from nowhere; exception when undefined_table then perform 1; end$$»"}},
	{"dynamic SQL that is none", "do $$begin execute 'selec 1'; exception when syntax_error then null; end$$", []string{
		"2 MISC UNKNOWN !42601 syntax error at or near \"selec\" «selec 1»",
		"1 FUNCTION DO «do $$begin execute 'selec 1'; exception when syntax_error then null; end$$»"}},
	{"not caught", "do $$begin execute 'select nothing'; end$$", []string{
		"2 READ SELECT !42703 column \"nothing\" does not exist «select nothing»",
		"1 FUNCTION DO !42703 column \"nothing\" does not exist «do $$begin execute 'select nothing'; end$$»"}},
	{"a secret in it", "do $$begin execute 'alter role app password ''hush'' often'; exception when others then null; end$$", []string{
		"2 ROLE ALTER ROLE !42601 unrecognized role option \"<REDACTED>\" «alter role app password <REDACTED> often»",
		"1 FUNCTION DO «do $$begin execute 'alter role app password <REDACTED> often'; exception when others then null; end$$»"}},
	{"do", "do $$begin perform count_above(2); update t set v = v where n = 1; end$$", []string{
		"3 READ SELECT TABLE:public.t rows=1 «(select count(*) from t where n > $1)»",
		"2 READ SELECT FUNCTION:public.count_above/FUNCTION/EXECUTE rows=1 «SELECT count_above(2)»",
		"4 WRITE UPDATE TABLE:public.t rows=1 «update t set v = v where n = 1»",
		"1 FUNCTION DO «do $$begin perform count_above(2); update t set v = v where n = 1; end$$»"}},
	{"dynamic", "do $$declare x int; begin execute 'select n from t where n = $1' into x using 2; end$$", []string{
		"2 READ SELECT TABLE:public.t rows=1 «select n from t where n = $1» (2)",
		"1 FUNCTION DO «do $$declare x int; begin execute 'select n from t where n = $1' into x using 2; end$$»"}},
	{"trigger", "insert into watched values (1)", []string{
		"2 WRITE INSERT TABLE:public.log rows=1 «insert into log values (tg_op)»",
		"1 WRITE INSERT TABLE:public.watched rows=1 «insert into watched values (1)»"}},
	{"rule", "insert into ruled values (1); select 1", []string{
		"2 WRITE INSERT TABLE:public.ruled TABLE:public.log «insert into ruled values (1);»",
		"1 WRITE INSERT TABLE:public.ruled rows=1 «insert into ruled values (1);»",
		"1 READ SELECT rows=1 «select 1»"}},
	{"procedure that commits", "call two()", []string{
		"2 WRITE INSERT TABLE:public.log rows=1 «insert into log values ('a')»",
		"3 WRITE INSERT TABLE:public.log rows=1 «insert into log values ('b')»",
		"1 FUNCTION CALL FUNCTION:public.two/FUNCTION/EXECUTE «call two()»"}},
	{"loop over a cursor fails", "do $$declare r record; begin for r in select n from t order by n loop perform 1 / (r.n - 2); end loop; end$$", []string{
		"3 READ SELECT rows=1 «SELECT 1 / (r.n - 2)»",
		"4 READ SELECT !22012 division by zero «SELECT 1 / (r.n - 2)»",
		"2 READ SELECT TABLE:public.t rows=2 !22012 division by zero «select n from t order by n»",
		"1 FUNCTION DO !22012 division by zero «do $$declare r record; begin for r in select n from t order by n loop perform 1 / (r.n - 2); end loop; end$$»"}},
	{"suspended inside what an exception block drops", "do $$declare r record; begin begin for r in select gen() loop raise 'stop'; end loop; exception when others then null; end; end$$", []string{
		"3 READ SELECT TABLE:public.t rows=1 «select n from t order by n»",
		"2 READ SELECT FUNCTION:public.gen/FUNCTION/EXECUTE rows=1 «select gen()»",
		"1 FUNCTION DO «do $$declare r record; begin begin for r in select gen() loop raise 'stop'; end loop; exception when others then null; end; end$$»"}},

	{"syntax error", "selec 1", []string{"1 MISC UNKNOWN !42601 syntax error at or near \"selec\" «selec 1»"}},
	{"no such table", "select * from nowhere", []string{"1 READ SELECT !42P01 relation \"nowhere\" does not exist «select * from nowhere»"}},
	{"division while planning", "select 1 / 0", []string{"1 READ SELECT !22012 division by zero «select 1 / 0»"}},
	{"division with a table", "select 1 / 0 from t", []string{"1 READ SELECT TABLE:public.t !22012 division by zero «select 1 / 0 from t»"}},
	{"division while running", "select 1 / (n - 2) from t order by n", []string{
		"1 READ SELECT TABLE:public.t rows=1 !22012 division by zero «select 1 / (n - 2) from t order by n»"}},
	{"duplicate key", "insert into t values (1, 'again')", []string{
		"1 WRITE INSERT TABLE:public.t !23505 duplicate key value violates unique constraint \"t_pkey\" «insert into t values (1, 'again')»"}},
	{"permission denied", "set role app; select * from t; reset role", []string{
		"1 MISC SET «set role app;»",
		"1 READ SELECT TABLE:public.t rows=0 !42501 permission denied for table t «select * from t;»"}},
	{"reset role", "reset role", []string{"1 MISC RESET «reset role»"}},
	{"utility fails", "drop table nowhere", []string{"1 DDL DROP TABLE !42P01 table \"nowhere\" does not exist «drop table nowhere»"}},
	{"deferred constraint at commit", "insert into child values (99)", []string{
		`2 READ SELECT TABLE:public.t rows=0 «SELECT 1 FROM ONLY "public"."t" x WHERE "n" OPERATOR(pg_catalog.=) $1 FOR KEY SHARE OF x» (99)`,
		`1 WRITE INSERT TABLE:public.child !23503 insert or update on table "child" violates foreign key constraint "child_n_fkey" «insert into child values (99)»`}},
	{"in an aborted transaction", "begin; select nothing", []string{
		"1 MISC BEGIN «begin;»", "1 READ SELECT !42703 column \"nothing\" does not exist «select nothing»"}},
	{"after it", "select 1", []string{
		"1 READ SELECT !25P02 current transaction is aborted, commands ignored until end of transaction block «select 1»"}},
	{"and its end", "rollback", []string{"1 MISC ROLLBACK «rollback»"}},
	{"a commit that is none", "begin; select nothing", []string{
		"1 MISC BEGIN «begin;»", "1 READ SELECT !42703 column \"nothing\" does not exist «select nothing»"}},
	{"is told as what it was", "commit", []string{"1 MISC ROLLBACK «commit»"}},
	{"a commit that fails", "begin; insert into child values (99); commit", []string{
		"1 MISC BEGIN «begin;»",
		"1 WRITE INSERT TABLE:public.child rows=1 «insert into child values (99);»",
		`2 READ SELECT TABLE:public.t rows=0 «SELECT 1 FROM ONLY "public"."t" x WHERE "n" OPERATOR(pg_catalog.=) $1 FOR KEY SHARE OF x» (99)`,
		`1 MISC COMMIT !23503 insert or update on table "child" violates foreign key constraint "child_n_fkey" «commit»`}},
	{"raise", "do $$begin raise exception 'no %', 'way' using errcode = 'ABCDE'; end$$", []string{
		"1 FUNCTION DO !ABCDE no way «do $$begin raise exception 'no %', 'way' using errcode = 'ABCDE'; end$$»"}},
	{"timed out", "set statement_timeout = '20ms'; select pg_sleep(5)", []string{
		"1 MISC SET «set statement_timeout = '20ms';»",
		"1 READ SELECT rows=0 !57014 canceling statement due to statement timeout «select pg_sleep(5)»"}},
	{"no time-out", "reset statement_timeout", []string{"1 MISC RESET «reset statement_timeout»"}},
	{"hide errors from the log", "set log_min_messages = panic", []string{"1 MISC SET «set log_min_messages = panic»"}},
	{"an error hidden from the log", "selec 2", []string{"1 MISC UNKNOWN !42601 syntax error at or near \"selec\" «selec 2»"}},

	{"password", "create role secretive password 'hush'; alter role secretive PassWord 'hush2' valid until 'infinity'; drop role secretive", []string{
		"1 ROLE CREATE ROLE «create role secretive password <REDACTED>;»",
		"1 ROLE ALTER ROLE «alter role secretive PassWord <REDACTED> valid until 'infinity';»",
		"1 ROLE DROP ROLE «drop role secretive»"}},
	{"password in a failed statement", "alter role nobody_there password 'hush'", []string{
		"1 ROLE ALTER ROLE !42704 role \"nobody_there\" does not exist «alter role nobody_there password <REDACTED>»"}},
	{"password without a parse tree", "select 1; alter user app passwort 'hush'", []string{
		"1 READ SELECT !42601 unrecognized role option \"<REDACTED>\" «select 1; alter user app passwort <REDACTED>»"}},
	{"password in a block", "do $$begin execute 'alter role app password ''hush'''; end$$", []string{
		"2 ROLE ALTER ROLE «alter role app password <REDACTED>»",
		"1 FUNCTION DO «do $$begin execute 'alter role app password <REDACTED>'; end$$»"}},
	{"a column called password", "select 'x' as password from t where false", []string{
		"1 READ SELECT TABLE:public.t rows=0 «select 'x' as password from t where false»"}},
}

func TestStatements(t *testing.T) {
	a := start(t, nil)
	a.psql(a.DSN("postgres", "postgres"), "-c", fixture)
	a.await("the end of the fixture", seen("DISCONNECT"))
	conn := a.connect(t, "postgres", "postgres").PgConn()
	a.await("the login", func(events []*activityv1.Activity) bool {
		return len(events) > 0 && events[len(events)-1].GetKind() == activityv1.Kind_KIND_CONNECT
	})

	last := uint64(1) // the login's
	for _, tt := range statements {
		t.Run(tt.name, func(t *testing.T) {
			// Whether it fails is among what the event says.
			_, _ = conn.Exec(t.Context(), tt.sql).ReadAll()
			events := a.on(t).events()
			if diff := cmp.Diff(strings.Join(a.expected(tt.name, tt.want), "\n"), describeAll(events)); diff != "" {
				t.Errorf("events of %q (-want +got):\n%s", tt.sql, diff)
			}
			for _, e := range events {
				// Client statements count on by one; what runs inside one shares its number.
				id := e.GetStatementId()
				if e.GetSubstatementId() == 1 {
					if id != last+1 {
						t.Errorf("statement id %d of %s follows %d", id, describe(e), last)
					}
					last = id
				} else if id > last+1 || id == 0 {
					t.Errorf("statement id %d of %s, inside a statement, after %d", id, describe(e), last)
				}
				if e.GetStartedAt().AsTime().After(e.GetEndedAt().AsTime()) {
					t.Errorf("%s began at %v and ended before, at %v", describe(e), e.GetStartedAt().AsTime(), e.GetEndedAt().AsTime())
				}
			}
		})
	}
}

// What a statement lists is capped, and the rest counted.
func TestManyObjects(t *testing.T) {
	a := start(t, nil)
	var create, from strings.Builder
	for i := range 100 {
		fmt.Fprintf(&create, "create table a_table_with_a_long_name_%03d (n int);", i)
		fmt.Fprintf(&from, "select n from a_table_with_a_long_name_%03d union all ", i)
	}
	a.psql(a.DSN("postgres", "postgres"), "-c", create.String())
	a.psql(a.DSN("postgres", "postgres"), "-c", from.String()+"select 1")
	events := a.await("the union", func(events []*activityv1.Activity) bool {
		return len(events) > 0 && events[len(events)-1].GetCommand() == "DISCONNECT" && strings.Contains(describeAll(events), "union")
	})
	for _, e := range events {
		if !strings.Contains(string(e.GetText().GetKept()), "union") {
			continue
		}
		if got := len(e.GetObjects()); got != 64 {
			t.Errorf("%d objects, want 64", got)
		}
		if got := e.GetObjectsOmitted(); got != 36 {
			t.Errorf("%d objects omitted, want 36", got)
		}
	}
}
