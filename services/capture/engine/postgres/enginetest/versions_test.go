package enginetest_test

import (
	"path/filepath"
	"slices"
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

// plpgsqlWords are how PL/pgSQL of 13 changes what is written: an expression becomes a statement, CALL is in capitals.
var plpgsqlWords = strings.NewReplacer("«(select count(*)", "«SELECT (select count(*)", "3 FUNCTION CALL FUNCTION:public.two/FUNCTION/EXECUTE «call", "3 FUNCTION CALL FUNCTION:public.two/FUNCTION/EXECUTE «CALL")

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

// protocols is the versions of the protocol that the server says it speaks.
func (a *audited) protocols() string {
	switch {
	case a.speaksOldProtocol():
		return "2.0 to 3.0"
	case a.major() < 18:
		return "3.0 to 3.0"
	}
	return "3.0 to 3.2"
}

// speaksOldProtocol says whether the server speaks version 2 of the protocol.
func (a *audited) speaksOldProtocol() bool { return a.major() < 14 }

// encryption is what the server says of a connection that it refuses.
func (a *audited) encryption(on bool) string {
	switch {
	case a.major() < 14 && on:
		return "SSL on"
	case a.major() < 14:
		return "SSL off"
	case on:
		return "SSL encryption"
	}
	return "no encryption"
}

// endsIdleSessions says whether the server knows idle_session_timeout.
func (a *audited) endsIdleSessions() bool { return a.major() >= 14 }

// stoppedAtOnce is what the server tells sessions in an immediate stop.
func (a *audited) stoppedAtOnce() string {
	if a.major() < 14 { // it does not know a stop from a crash
		return "!57P02 terminating connection because of crash of another server process"
	}
	return "!57P01 terminating connection due to immediate shutdown command"
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
	if a.major() < 14 {
		want = slices.Clone(want)
		for i := range want {
			want[i] = plpgsqlWords.Replace(want[i])
		}
	}
	return want
}
