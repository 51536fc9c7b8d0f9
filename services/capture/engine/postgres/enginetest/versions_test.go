package enginetest_test

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// otherVersions is where the table of statements reads otherwise with another version of the server; it was written with 15.
var otherVersions = []struct {
	name     string
	from, to int // major versions, both included
	want     []string
}{
	{"merge", 13, 14, []string{
		`1 WRITE MERGE !42601 syntax error at or near "merge" «merge into log using t on false when not matched and false then insert values (t.v)»`}},
	// PL/pgSQL makes an expression a statement.
	{"function", 13, 13, []string{
		"2 READ SELECT TABLE:public.t rows=1 «SELECT (select count(*) from t where n > $1)»",
		"1 READ SELECT FUNCTION:public.count_above/FUNCTION/EXECUTE rows=1 «select count_above(1)»"}},
	{"do", 13, 13, []string{
		"3 READ SELECT TABLE:public.t rows=1 «SELECT (select count(*) from t where n > $1)»",
		"2 READ SELECT FUNCTION:public.count_above/FUNCTION/EXECUTE rows=1 «SELECT count_above(2)»",
		"4 WRITE UPDATE TABLE:public.t rows=1 «update t set v = v where n = 1»",
		"1 FUNCTION DO «do $$begin perform count_above(2); update t set v = v where n = 1; end$$»"}},
	// The server checks the permissions of a rule's OLD and NEW.
	{"rule", 16, 18, []string{
		"2 WRITE INSERT TABLE:public.ruled TABLE:public.ruled/READ/SELECT TABLE:public.ruled/READ/SELECT TABLE:public.log «insert into ruled values (1);»",
		"1 WRITE INSERT TABLE:public.ruled rows=1 «insert into ruled values (1);»",
		"1 READ SELECT rows=1 «select 1»"}},
	{"a rule instead", 16, 18, []string{
		"1 WRITE INSERT VIEW:public.vw VIEW:public.vw/READ/SELECT VIEW:public.vw/READ/SELECT TABLE:public.log rows=1 «insert into vw values (9, 'nine')»"}},
	// The order in which a foreign key's check has its tables checked.
	{"a foreign key that is checked", 16, 18, []string{
		"1 DDL CREATE TABLE «create table refers (n int);»",
		`2 READ SELECT TABLE:public.refers TABLE:public.t rows=0 «SELECT fk."n" FROM ONLY "public"."refers" fk LEFT OUTER JOIN ONLY "public"."t" pk ON ( pk."n" OPERATOR(pg_catalog.=) fk."n") WHERE pk."n" IS NULL AND (fk."n" IS NOT NULL)»`,
		"1 DDL ALTER TABLE TABLE:public.t/READ/SELECT TABLE:public.refers/READ/SELECT «alter table refers add foreign key (n) references t;»",
		"1 DDL DROP TABLE «drop table refers»"}},
	{"merge that does all", 13, 14, []string{
		`1 MISC BEGIN !42601 syntax error at or near "merge" «begin; merge into t using (values (1, 'x'), (9, 'y')) s(n, v) on t.n = s.n when matched then update set v = s.v when not matched then insert values (s.n, s.v); rollback»`}},
}

// waitEvent is what pg_stat_activity shows of a session that waits for its record: an extension names a kind of wait from 17 on.
func (cl *client) waitEvent() string {
	cl.t.Helper()
	version, _, _ := strings.Cut(cl.conn.ParameterStatus("server_version"), ".")
	major, err := strconv.Atoi(version)
	if err != nil {
		cl.t.Fatalf("the server's version: %v", err)
	}
	if major >= 17 {
		return "Extension/WeirDurable"
	}
	return "LWLock/WeirDurable"
}

// unknownSetting is how the server's warning of a setting begins that nobody knows.
func (a *audited) unknownSetting() string {
	if a.reservesPrefixes() {
		return "invalid configuration parameter name"
	}
	return "unrecognized configuration parameter"
}

// reservesPrefixes says whether a module can keep sessions from making up settings under its prefix.
func (a *audited) reservesPrefixes() bool { return a.major() >= 15 }

// newestProtocol is the newest version of the protocol that the server says it speaks.
func (a *audited) newestProtocol() string {
	if a.major() >= 18 {
		return "3.2"
	}
	return "3.0"
}

// statement is what the server takes for the text of one: from 18 on a comment in front of it is not of it.
func (a *audited) statement(sql string) string {
	if _, after, ok := strings.Cut(sql, "*/ "); ok && a.major() >= 18 && strings.HasPrefix(sql, "/*") {
		return after
	}
	return sql
}

// loadsAlone says whether a single-user server loads shared_preload_libraries.
func (a *audited) loadsAlone() bool { return a.major() >= 15 }

// knows says whether the server knows a statement of the workload.
func (a *audited) knows(sql string) bool { return a.major() >= 15 || !strings.HasPrefix(sql, "merge ") }

// backup has the server make a base backup, once.
func (a *audited) backup(t *testing.T) string {
	t.Helper()
	if a.major() < 15 { // which cannot keep it to itself
		a.program(t, "pg_basebackup", "-d", a.DSN("postgres", "postgres"), "-D", filepath.Join(t.TempDir(), "data"), "-X", "none", "--checkpoint", "fast", "--no-sync")
		return ""
	}
	return a.psql(a.DSN("postgres", "postgres")+"&replication=true", "-c", "BASE_BACKUP (TARGET 'blackhole', CHECKPOINT 'fast')")
}

// major is the server's major version.
func (a *audited) major() int {
	a.t.Helper()
	status, err := a.ring.Status()
	if err != nil {
		a.t.Fatal(err)
	}
	return int(status.VersionNumber / 10_000)
}

// expected is what a case of the table of statements says for this server.
func (a *audited) expected(name string, want []string) []string {
	a.t.Helper()
	for _, other := range otherVersions {
		if other.name == name && other.from <= a.major() && a.major() <= other.to {
			return other.want
		}
	}
	return want
}
