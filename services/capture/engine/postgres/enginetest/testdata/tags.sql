-- One statement a line, sent one by one: at least one of every command tag that the server knows, and what the way through
-- the executor knows beside them. :port is the server's. The fixture of statement_test.go is there.

-- Reading and writing.
select n, v from t where n < 3 order by n
select * from vw
select * from mv
select * from part
select relname from pg_class where oid = 0
select * from t for update
values (1), (2)
table t
select count_above(1), add_one(2)
select * from t a join log b on true where a.n = count_above(5)
insert into t values (7, 'seven')
insert into log select v from t
insert into part values (1), (2)
insert into watched values (1)
insert into ruled values (1)
insert into t values (7, 'again') on conflict (n) do update set v = excluded.v
insert into log values (add_one(count_above(0)::int)::text)
update t set v = upper(v) where n = 7
update vw set v = v where n = 1
delete from t where n = 7
with gone as (delete from log returning *) insert into log select * from gone
merge into t using (values (8, 'eight')) s(n, v) on t.n = s.n when matched then update set v = s.v when not matched then insert values (s.n, s.v)
truncate log, watched
truncate part
copy t to stdout
copy (select * from t) to stdout
copy t to program 'cat >/dev/null'
copy log from program 'echo a; echo b'
begin
lock table t in share mode
commit
call two()
do $$begin perform count_above(2); update t set v = v where n = 1; end$$
do $$declare x int; begin execute 'select n from t where n = $1' into x using 2; end$$
do $$declare r record; begin for r in select n from t order by n loop insert into log values (r.n); end loop; end$$
explain select * from t
explain analyze select * from t
select n into made_into2 from t
create table made_as as select * from t
create materialized view made_mv as select * from t
refresh materialized view made_mv
refresh materialized view mv
prepare p(int) as select n from t where n = $1
execute p(2)
deallocate p
deallocate all

-- Transactions and cursors.
start transaction
savepoint a
insert into child values (1)
set constraints all immediate
rollback to a
release a
declare c cursor for select * from t
fetch 2 from c
move 1 from c
close c
declare c cursor for select * from t
close all
commit
begin
insert into log values ('prepared')
prepare transaction 'made'
commit prepared 'made'
begin
insert into log values ('prepared')
prepare transaction 'made'
rollback prepared 'made'
begin
rollback
begin
select nothing
commit
checkpoint
listen made
notify made, 'x'
unlisten made
set work_mem = '5MB'
show work_mem
reset work_mem
set role app
reset role
discard all
discard plans
discard sequences
discard temp
load 'plpgsql'
alter system set work_mem = '5MB'
alter system reset work_mem
vacuum log
analyze t
cluster t using t_pkey
reindex table t

-- Roles and privileges.
create role r
alter role r password 'hush'
alter role r set work_mem = '5MB'
alter role r rename to rr
alter role rr rename to r
grant select on t to r
revoke select on t from r
grant app to r
revoke app from r
alter default privileges in schema public grant select on tables to r
alter default privileges in schema public revoke select on tables from r
reassign owned by r to postgres
drop owned by r

-- Tables and what belongs to them.
create table d (n serial primary key, v text check (length(v) < 99), w int references t)
alter table d add column x int default 1
alter table d rename to dd
alter table dd rename to d
comment on table d is 'made'
security label on table d is 'none'
create index on d (v)
create unique index concurrently d_v on d (v)
alter index d_v rename to d_v2
drop index d_v2
create sequence s
alter sequence s restart
select nextval('s'), nextval('sq')
drop sequence s
create view v as select * from d
alter view v rename to vv
drop view vv
alter materialized view made_mv rename to made_mv2
drop materialized view made_mv2
create trigger tr before update on d for each row execute function suppress_redundant_updates_trigger()
alter trigger tr on d rename to trr
drop trigger trr on d
create rule ru as on delete to d do instead nothing
alter rule ru on d rename to ruu
drop rule ruu on d
create policy po on d using (n in (select n from t))
alter policy po on d using (true)
drop policy po on d
create statistics st on n, v from d
alter statistics st rename to stt
drop statistics stt
drop table d, made_as, made_into2

-- Functions and types.
create schema sc create table inner_t (n int) create view inner_v as select * from inner_t
alter schema sc rename to scc
drop schema scc cascade
create function f(int) returns int language sql as 'select $1'
alter function f(int) immutable
create procedure pr(int) language sql as 'select 1'
alter procedure pr(int) rename to prr
alter routine prr(int) rename to pr
drop procedure pr(int)
drop routine f(int)
create function f(int) returns int language sql as 'select $1'
drop function f(int)
create aggregate ag(int) (sfunc = int4pl, stype = int)
alter aggregate ag(int) rename to agg
drop aggregate agg(int)
create type ty as (a int)
alter type ty add attribute b int
drop type ty
create domain dom as int
alter domain dom set not null
drop domain dom
create function ca(text) returns point language sql immutable as 'select null::point'
create cast (text as point) with function ca(text)
drop cast (text as point)
create operator === (leftarg = int, rightarg = int, function = int4eq)
alter operator === (int, int) set (restrict = none)
drop operator === (int, int)
create operator family fam using btree
alter operator family fam using btree rename to famm
create operator class cla for type int using btree family famm as operator 1 <, function 1 btint4cmp(int, int)
alter operator class cla using btree rename to claa
drop operator class claa using btree
drop operator family famm using btree
create collation col from "C"
alter collation col rename to coll
drop collation coll
create conversion con for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8
alter conversion con rename to conn
drop conversion conn
create language lan handler plpgsql_call_handler
alter language lan rename to lann
create transform for int language lann (from sql with function prsd_lextype(internal), to sql with function int4recv(internal))
drop transform for int language lann
drop language lann
create access method am type table handler heap_tableam_handler
drop access method am
create text search parser tsp (start = prsd_start, gettoken = prsd_nexttoken, end = prsd_end, lextypes = prsd_lextype)
alter text search parser tsp rename to tspp
create text search template tst (lexize = dsimple_lexize)
alter text search template tst rename to tstt
create text search dictionary tsd (template = simple)
alter text search dictionary tsd rename to tsdd
create text search configuration tsc (parser = tspp)
alter text search configuration tsc rename to tscc
drop text search configuration tscc
drop text search dictionary tsdd
drop text search template tstt
drop text search parser tspp

-- Extensions, foreign data, replication.
create extension hstore
alter extension hstore set schema public
drop extension hstore
create extension file_fdw
create server files foreign data wrapper file_fdw
create foreign table ft (line text) server files options (filename '/etc/hostname')
alter foreign table ft add column more text
alter foreign table ft drop column more
select count(*) from ft
drop foreign table ft
create extension postgres_fdw
create server loop foreign data wrapper postgres_fdw options (host '127.0.0.1', port ':port', dbname 'postgres')
alter server loop options (add fetch_size '7')
create user mapping for postgres server loop options (user 'postgres', password 'hush')
alter user mapping for postgres server loop options (set password 'hush2')
create schema remote
import foreign schema public limit to (t) from server loop into remote
select * from remote.t
update remote.t set v = v where n = 1
drop user mapping for postgres server loop
drop server loop cascade
drop schema remote cascade
create foreign data wrapper wr
alter foreign data wrapper wr no handler
drop foreign data wrapper wr
create publication pub for table t
alter publication pub add table log
drop publication pub
create subscription sub connection 'host=127.0.0.1 port=:port dbname=postgres password=hush' publication pub with (connect = false, slot_name = none)
alter subscription sub disable
drop subscription sub
select lo_create(4711)
alter large object 4711 owner to app
select lo_put(4711, 0, 'x'), lo_get(4711)
select lo_unlink(4711)

-- What a server has once.
create database made_db
alter database made_db set work_mem = '5MB'
drop database made_db
create tablespace made_ts location ''
alter tablespace made_ts set (seq_page_cost = 2)
drop tablespace made_ts
create event trigger ev on ddl_command_end execute function ev_logs()
create table fires (n int)
drop table fires
alter event trigger ev disable
drop event trigger ev
drop role r
