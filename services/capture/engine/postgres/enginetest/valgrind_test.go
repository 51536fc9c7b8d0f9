//go:build valgrind

package enginetest_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-das/weir/pkg/postgres"
	"github.com/weir-das/weir/services/capture/internal/render"
)

var valgrindStatements = flag.Int("statements", 600, "how many statements of the generator TestValgrind runs")

// TestValgrind runs a server under valgrind: every process of it, with the module, over the table of statements, the
// generator's, those of the fuzzer, large texts and values, and ends of every kind. No error may be the module's, and no
// memory of the module may be lost at the end of a session.
func TestValgrind(t *testing.T) {
	reports, err := os.MkdirTemp("", "weir-valgrind-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(reports)
	if err := os.Chmod(reports, 0o777); err != nil {
		t.Fatal(err)
	}
	a := start(t, func(o *postgres.Options) {
		o.BinDir = underValgrind(t, reports)
		o.Settings["authentication_timeout"], o.Settings["statement_timeout"] = "10min", "20s"
		o.Settings["lock_timeout"], o.Settings["deadlock_timeout"] = "2s", "1s"
	})
	a.psql(a.DSN("postgres", "postgres"), "-c", fixture)
	a.items()

	// First of all: a round ends when no session is left.
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	f := &fuzz{audited: a, renderer: render.New(render.Config{})}
	for i := range uint64(2) {
		f.round(t, seed+i)
	}

	conn := a.connect(t, "postgres", "postgres").PgConn()
	for _, tt := range statements {
		_, _ = conn.Exec(t.Context(), tt.sql).ReadAll()
	}
	long := strings.Repeat("é", 1<<20)
	for _, sql := range []string{"select length('" + long + "')", "create role hush password '" + strings.Repeat("x", 1<<19) + "'", "selec " + long, "rollback"} {
		_, _ = conn.Exec(t.Context(), sql).ReadAll()
	}
	_, _ = conn.ExecParams(t.Context(), "select $1::text, $2::bytea, $3::int[], $4::numeric, $5::int8, $6::jsonb",
		[][]byte{[]byte(long), []byte(strings.Repeat("b", 1<<18)), []byte("{1,2}"), []byte("1.5"), nil, []byte(`{"a":1}`)}, nil, nil, nil).Close()
	a.items()

	g := generator{rand: rand.New(rand.NewPCG(seed, 1))}
	w := dial(t, a.Port())
	for i := range *valgrindStatements {
		m := g.message()
		w.exchange(t, m)
		if i%10 == 0 {
			w.exchange(t, simple("rollback"))
			w.exchange(t, simple("reset role"))
			a.items()
		}
	}
	refused := func(user string) {
		_, err := pgconn.Connect(t.Context(), a.DSN(user, "postgres"))
		if err == nil {
			t.Errorf("%s was let in", user)
		}
	}
	refused("nobody_of_that_name")
	if err := a.Stop(postgres.Fast); err != nil {
		t.Fatal(err)
	}
	a.items()
	judge(t, reports)
	t.Logf("%d events", *a.number)
}

// underValgrind makes a directory of the server's programs in which postgres runs under valgrind.
func underValgrind(t *testing.T, reports string) string {
	t.Helper()
	valgrind, err := exec.LookPath("valgrind")
	if err != nil {
		t.Fatalf("no valgrind: install it (Debian: valgrind): %v", err)
	}
	out, err := exec.Command("pg_config", "--bindir").Output()
	if err != nil {
		t.Fatal(err)
	}
	real := strings.TrimSpace(string(out))
	programs, err := filepath.Glob(filepath.Join(real, "*"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, p := range programs {
		if filepath.Base(p) != "postgres" {
			if err := os.Symlink(p, filepath.Join(dir, filepath.Base(p))); err != nil {
				t.Fatal(err)
			}
		}
	}
	// --error-limit=no: the server's own errors must not use up ours.
	wrapper := fmt.Sprintf(`#!/bin/sh
exec %s --tool=memcheck --trace-children=yes --trace-children-skip='*/sh,*/cat,*/echo' --error-limit=no --num-callers=40 --leak-check=full \
	--show-leak-kinds=definite --gen-suppressions=no --xml=yes --xml-file=%s/%%p.xml %s/postgres "$@"
`, valgrind, reports, real)
	if err := os.WriteFile(filepath.Join(dir, "postgres"), []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func judge(t *testing.T, reports string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(reports, "*.xml"))
	if err != nil {
		t.Fatal(err)
	}
	processes, theirs := 0, map[string]int{}
	for _, file := range files {
		r, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		errors, whole, err := memcheckErrors(r)
		_ = r.Close()
		if err != nil {
			t.Fatal(err)
		}
		if whole {
			processes++
		}
		for _, e := range errors {
			if e.isOurs() {
				t.Errorf("%s: %s", filepath.Base(file), e)
			} else {
				theirs[e.Kind]++
			}
		}
	}
	t.Logf("%d processes, %d of them to their end; errors of the server itself: %v", len(files), processes, theirs)
	if processes < 10 {
		t.Errorf("only %d processes were seen to their end, want 10: the check says little; reports of %s", processes, strconv.Quote(reports))
	}
}
