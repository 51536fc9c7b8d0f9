package enginetest_test

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
