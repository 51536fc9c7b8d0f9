//go:build corpus

package enginetest_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-das/weir/pkg/postgres"
)

var (
	pgSource = flag.String("pgsrc", "", "a checkout of PostgreSQL's source of the server's version: its regression tests are run, and contrib's")
	pgTAP    = flag.String("pgtap", "", "a checkout of pgTAP's source: its tests are run")
)

// TestSQL runs real SQL, file by file through psql, on a server with the module, read while it runs, and on two without.
// What psql prints has to be the same to the byte. The second server without tells what differs from run to run by itself:
// such lines are left out, and counted.
func TestSQL(t *testing.T) {
	settings := map[string]string{"fsync": "off", "autovacuum": "off", "max_connections": "60", "shared_buffers": "128MB",
		"max_prepared_transactions": "5", "wal_level": "logical", "shared_preload_libraries": "pg_stat_statements", "log_min_messages": "log"}
	a := start(t, func(o *postgres.Options) { o.Settings, o.RingSize = settings, 128<<20 })
	c := &comparison{audited: a}
	c.add(t, a.Server)
	for range 2 {
		plain, err := postgres.Start(t.Context(), postgres.Options{Dir: newDir(t), Settings: settings})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := plain.Stop(postgres.Immediate); err != nil {
				t.Error(err)
			}
		}()
		c.add(t, plain)
	}
	c.libraries(t)

	for _, b := range c.bodies(t) {
		before, began := *a.number, time.Now()
		c.files, c.unstable, c.lines, c.masked, c.different = 0, nil, 0, 0, 0
		c.run(t, b)
		t.Logf("%-28s %4d files %6d events %7d lines of answers, %d differ; %d lines in %d files differ without the module too %v; %.0f s", b.name, c.files, *a.number-before,
			c.lines, c.different, c.masked, len(c.unstable), c.unstable, time.Since(began).Seconds())
	}
	log, err := os.ReadFile(a.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	for _, crash := range crashPattern.FindAll(log, -1) {
		t.Errorf("the server with the module logged %s", crash)
	}
	t.Logf("%d events in all, none in a gap", *a.number)
}

// body is some files of SQL for one database.
type body struct {
	name, database string
	dir            string // where psql runs
	files          []string
	before         string // SQL for the new database
	script         string // instead of files
}

type comparison struct {
	*audited
	servers []*postgres.Server
	outputs []string // a directory for each, where its SQL writes files
	admins  []*pgx.Conn
	libdir  string
	source  string

	files         int
	unstable      []string
	lines, masked int
	different     int
}

func (c *comparison) add(t *testing.T, s *postgres.Server) {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir-out-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(os.Chmod(dir, 0o777), os.Mkdir(filepath.Join(dir, "results"), 0o777), os.Chmod(filepath.Join(dir, "results"), 0o777)); err != nil {
		t.Fatal(err)
	}
	admin, err := pgx.Connect(t.Context(), s.DSN("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close(context.Background()) })
	c.servers, c.outputs, c.admins = append(c.servers, s), append(c.outputs, dir), append(c.admins, admin)
}

// libraries makes one directory of the server's libraries and, where the checkout has it built, the tests' own.
func (c *comparison) libraries(t *testing.T) {
	t.Helper()
	c.libdir = filepath.Join(c.outputs[0], "lib")
	out, err := exec.Command("pg_config", "--pkglibdir").Output()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "*.so"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(c.libdir, 0o755); err != nil {
		t.Fatal(err)
	}
	if *pgSource != "" {
		if c.source, err = filepath.Abs(*pgSource); err != nil {
			t.Fatal(err)
		}
		built := filepath.Join(c.source, "src/test/regress/regress.so")
		if _, err := os.Stat(built); err == nil {
			found = append(found, built)
		} else {
			t.Logf("src/test/regress/regress.so is not built: what needs it fails, with the module and without")
		}
	}
	for _, library := range found {
		if err := os.Symlink(library, filepath.Join(c.libdir, filepath.Base(library))); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *comparison) bodies(t *testing.T) []body {
	t.Helper()
	var bodies []body
	var extensions strings.Builder
	names := c.psql(c.DSN("postgres", "postgres"), "-c", "select name from pg_available_extensions where name not like 'pltcl%' order by 1")
	for _, name := range strings.Fields(names) {
		fmt.Fprintf(&extensions, "create extension if not exists %[1]q cascade;\n\\dx+ %[1]q\ndrop extension %[1]q cascade;\n", name)
	}
	bodies = append(bodies, body{name: "extensions, as installed", database: "extensions", script: extensions.String()})
	if c.source != "" {
		bodies = append(bodies, c.sourceBodies(t)...)
	}
	// Last: how many statements its tests run is chance, and the number of the next relation with it, which plans show.
	if *pgTAP != "" {
		files, err := filepath.Glob(filepath.Join(*pgTAP, "test/sql/*.sql"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no tests of pgTAP in %s: %v", *pgTAP, err)
		}
		bodies = append(bodies, body{name: "pgTAP", database: "pgtap", dir: *pgTAP, files: files, before: "create extension pgtap"})
	}
	return bodies
}

// sourceBodies are the tests of the server, of PL/pgSQL and of contrib.
func (c *comparison) sourceBodies(t *testing.T) []body {
	t.Helper()
	regress := filepath.Join(c.source, "src/test/regress")
	schedule, err := os.ReadFile(filepath.Join(regress, "parallel_schedule"))
	if err != nil {
		t.Fatal(err)
	}
	core := body{name: "src/test/regress", database: "regression", dir: regress}
	for _, line := range regexp.MustCompile(`(?m)^test:(.*)$`).FindAllSubmatch(schedule, -1) {
		for _, name := range strings.Fields(string(line[1])) {
			core.files = append(core.files, filepath.Join(regress, "sql", name+".sql"))
		}
	}
	bodies := []body{core}
	makefiles, err := filepath.Glob(filepath.Join(c.source, "contrib/*/Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, makefile := range append([]string{filepath.Join(c.source, "src/pl/plpgsql/src/Makefile")}, makefiles...) {
		text, err := os.ReadFile(makefile)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(makefile)
		name, _ := filepath.Rel(c.source, dir)
		b := body{name: name, database: "contrib_regression_" + filepath.Base(dir), dir: dir}
		// One wants SELinux, the other waits two minutes for an archiver.
		if m := regexp.MustCompile(`(?m)^REGRESS = ((?:.*\\\n)*.*)`).FindSubmatch(text); m != nil && !slices.Contains([]string{"sepgsql", "basic_archive"}, filepath.Base(dir)) {
			for _, name := range strings.Fields(strings.ReplaceAll(string(m[1]), "\\\n", " ")) {
				b.files = append(b.files, filepath.Join(dir, "sql", name+".sql"))
			}
			bodies = append(bodies, b)
		}
	}
	return bodies
}

func (c *comparison) run(t *testing.T, b body) {
	t.Helper()
	create := fmt.Sprintf("create database %[1]q template template0; alter database %[1]q set bytea_output to 'hex'; alter database %[1]q set timezone_abbreviations to 'Default';", b.database)
	for i, s := range c.servers {
		for _, sql := range strings.SplitAfter(strings.TrimSuffix(create, ";"), ";") {
			c.alone(t, i)
			c.psql(s.DSN("postgres", "postgres"), "-c", sql)
		}
		if b.before != "" {
			c.alone(t, i)
			c.psql(s.DSN("postgres", b.database), "-c", b.before)
		}
	}
	if b.script != "" {
		c.compare(t, b, "script", []byte(b.script))
	}
	for _, file := range b.files {
		sql, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // made from a template by the tests' own build
		}
		if err != nil {
			t.Fatal(err)
		}
		c.compare(t, b, strings.TrimSuffix(filepath.Base(file), ".sql"), sql)
	}
	for i, s := range c.servers {
		c.alone(t, i)
		c.psql(s.DSN("postgres", "postgres"), "-c", "drop database "+strconv.Quote(b.database)+" with (force)")
	}
}

// compare runs one file on all servers at once, reading the ring of the first.
func (c *comparison) compare(t *testing.T, b body, name string, sql []byte) {
	t.Helper()
	type answer struct {
		server int
		out    []byte
	}
	answers := make(chan answer)
	for i := range c.servers {
		go func() { answers <- answer{i, c.answer(t, i, b, name, sql)} }()
	}
	out := make([][]byte, len(c.servers))
	for n := 0; n < len(c.servers); {
		select {
		case got := <-answers:
			out[got.server] = got.out
			n++
		case <-time.After(time.Millisecond):
		}
		c.events()
	}
	c.files++
	c.lines += bytes.Count(out[1], []byte("\n"))
	if bytes.Equal(out[0], out[1]) {
		return
	}
	with, without, again := bytes.Split(out[0], []byte("\n")), bytes.Split(out[1], []byte("\n")), bytes.Split(out[2], []byte("\n"))
	if !bytes.Equal(out[1], out[2]) {
		c.unstable = append(c.unstable, name)
	}
	if len(with) != len(without) || len(without) != len(again) {
		c.different++
		t.Errorf("%s/%s: %d lines with the module, %d and %d without\n%s", b.name, name, len(with), len(without), len(again), firstDifference(with, without))
		return
	}
	for i := range with {
		switch {
		case bytes.Equal(with[i], without[i]):
		case !bytes.Equal(without[i], again[i]):
			c.masked++
		default:
			c.different++
			t.Errorf("%s/%s, line %d:\n with    %s\n without %s", b.name, name, i+1, with[i], without[i])
		}
	}
}

func firstDifference(with, without [][]byte) string {
	i := 0
	for i < len(with) && i < len(without) && bytes.Equal(with[i], without[i]) {
		i++
	}
	return fmt.Sprintf(" with    %s\n without %s", bytes.Join(with[max(0, i-2):min(len(with), i+6)], []byte("\n")), bytes.Join(without[max(0, i-2):min(len(without), i+6)], []byte("\n")))
}

// alone waits until the session before has ended: a new one beside it would have another place among the sessions, so a
// schema of its own for temporary tables, and every number of a relation after it would be another.
func (c *comparison) alone(t *testing.T, i int) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		var others int
		err := c.admins[i].QueryRow(t.Context(), `select count(*) from pg_stat_activity where pid <> pg_backend_pid() and
			backend_type in ('client backend', 'parallel worker', 'walsender')`, pgx.QueryExecModeSimpleProtocol).Scan(&others)
		if err != nil || time.Now().After(deadline) {
			t.Errorf("waiting for %d sessions to end: %v", others, err)
			return
		}
		if others == 0 {
			return
		}
	}
}

// answer is what psql prints, called as the server's own tests call it; what names the server is taken out.
func (c *comparison) answer(t *testing.T, i int, b body, name string, sql []byte) []byte {
	c.alone(t, i)
	s := c.servers[i]
	psql := exec.CommandContext(t.Context(), filepath.Join(s.BinDir(), "psql"), "-X", "-a", "-q", "-d", b.database, "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on")
	psql.Dir = b.dir
	psql.Stdin = bytes.NewReader(sql)
	psql.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "PG") || strings.HasPrefix(kv, "LC_") || strings.HasPrefix(kv, "LANG")
	}),
		"PGHOST=127.0.0.1", "PGPORT="+strconv.Itoa(s.Port()), "PGUSER=postgres", "PGTZ=PST8PDT", "PGDATESTYLE=Postgres, MDY", "PGOPTIONS=-c intervalstyle=postgres_verbose",
		"PGAPPNAME=pg_regress/"+name, "PG_ABS_SRCDIR="+b.dir, "PG_ABS_BUILDDIR="+c.outputs[i], "PG_LIBDIR="+c.libdir, "PG_DLSUFFIX=.so", "LC_ALL=C")
	out, err := psql.CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		out = fmt.Appendf(out, "psql: %v", err)
	}
	for from, to := range map[string]string{c.outputs[i]: "OUTPUT", strconv.Itoa(s.Port()): "PORT", strconv.Itoa(s.PID()): "POSTMASTER"} {
		out = regexp.MustCompile(`(^|[^0-9])`+regexp.QuoteMeta(from)+`([^0-9]|$)`).ReplaceAll(out, []byte("${1}"+to+"${2}"))
	}
	return out
}
