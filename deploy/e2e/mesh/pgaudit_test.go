package mesh_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	"github.com/weir-das/weir/pkg/postgres"
)

// A server that has pgaudit and not the engine module: what its log tells is in the stream, each statement once, while
// the log is rotated by the server and by name, and capture is killed again and again. What was executed is what the
// table says that the statements wrote into.
func TestFollowsPgauditsLog(t *testing.T) {
	for _, format := range []string{"csv", "json"} {
		t.Run(format, func(t *testing.T) { followsPgauditsLog(t, format) })
	}
}

func followsPgauditsLog(t *testing.T, format string) {
	dir, err := os.MkdirTemp("", "weir-pgaudit-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pg, err := postgres.Start(ctx, postgres.Options{Dir: dir, Settings: map[string]string{
		"shared_preload_libraries": "pgaudit", "logging_collector": "on", "log_destination": format + "log", "log_directory": "log",
		"log_filename": "pg-%Y-%m-%d_%H%M%S.log", "log_timezone": "UTC", "lc_messages": "C", "log_connections": "on", "log_disconnections": "on",
		"pgaudit.log": "all", "pgaudit.log_parameter": "on", "pgaudit.log_rows": "on", "pgaudit.log_relation": "on",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pg.Stop(postgres.Immediate) })
	logs := filepath.Join(dir, "data", "log")

	m := mesh.Start(t, mesh.Options{NoServer: true, Environment: []string{
		"WEIR_CAPTURE_PGAUDIT_LOG__PATTERN=" + logs + "/*." + format + "*",
		"WEIR_CAPTURE_PGAUDIT_LOG__FORMAT=" + format,
		"WEIR_CAPTURE_PGAUDIT_LOG__SERVER_VERSION=15.0",
	}})
	m.Postgres = pg
	m.Psql("postgres", "CREATE TABLE done (n bigint)")

	// Every statement is one row of the table, under a number that no other has.
	path := script(t, m, "\\set n random(1, 9000000000000000)\nINSERT INTO done VALUES (:n);\n")
	stop, stopped := make(chan struct{}), make(chan struct{})
	runs := 0
	go func() {
		defer close(stopped)
		for ; ; runs++ {
			select {
			case <-stop:
				return
			default:
			}
			// To its end: of a client that is killed nobody knows what it has committed.
			if out, err := m.Pgbench(context.Background(), "-n", "-c", "4", "-t", "50", "-M", "extended", "-f", path); err != nil {
				t.Errorf("pgbench: %v\n%s", err, out)
				return
			}
		}
	}()
	progress := func() {
		t.Helper()
		before, err := m.Numbers()
		if err != nil {
			t.Fatal(err)
		}
		m.Eventually(60*time.Second, func() error {
			now, err := m.Numbers()
			if err == nil && now.Number < before.Number+200 {
				err = fmt.Errorf("number %d, was %d", now.Number, before.Number)
			}
			return err
		})
	}
	progress()
	rotate(t, m, logs, format)
	progress()
	m.Kill(mesh.Capture) // under load: between any two of its steps
	rotate(t, m, logs, format)
	m.StartProcess(mesh.Capture)
	attached(m)
	progress()
	m.Kill(mesh.Capture)
	m.StartProcess(mesh.Capture)
	attached(m)
	rename(t, logs, format) // as logrotate does; the server goes on in the file that it has
	progress()
	rotate(t, m, logs, format)
	progress()
	close(stop)
	<-stopped

	m.Psql("postgres", "SELECT 1/0")
	m.Psql("nobody_of_that_name", "SELECT 1")

	executed := map[string]int{}
	for _, n := range strings.Fields(m.Psql("postgres", "SELECT n FROM done")) {
		executed[n]++
	}
	m.Eventually(60*time.Second, func() error { // that was the last statement that counts
		numbers, err := m.Numbers()
		if err == nil && numbers.Number < uint64(len(executed)) {
			err = fmt.Errorf("number %d, and %d were executed", numbers.Number, len(executed))
		}
		return err
	})
	var account *mesh.Account
	var failed, refused int
	seen := map[string]int{}
	m.Eventually(60*time.Second, func() error {
		account, _ = m.Settle(t)
		failed, refused, seen = 0, 0, map[string]int{}
		for _, e := range account.All() {
			f := e.Fields
			switch {
			case f["command"] == "INSERT" && f["objectName"] == "public.done":
				binds, _ := f["paramList"].([]any)
				if len(binds) != 1 || f["class"] != "WRITE" || f["objectType"] != "TABLE" || f["rowCount"] != 1.0 || f["dbUserName"] != "postgres" ||
					f["commandText"] != "INSERT INTO done VALUES ($1);" || f["serverVersion"] != "15.0" || f["clientApplication"] != "pgbench" {
					t.Fatalf("an event that is not what was executed: %s", e.Raw)
				}
				seen[fmt.Sprint(binds[0])]++
			case f["commandText"] == "SELECT 1/0":
				failed++
			case f["dbUserName"] == "nobody_of_that_name" && f["errorMessage"] != nil:
				refused++
			}
		}
		if len(seen) < len(executed) || failed == 0 || refused == 0 {
			return fmt.Errorf("%d of %d statements, %d failed, %d refused", len(seen), len(executed), failed, refused)
		}
		return nil
	})
	if !maps.Equal(executed, seen) {
		for n, times := range seen {
			if times != executed[n] {
				t.Errorf("statement %s was executed %d times, and is there %d times", n, executed[n], times)
			}
		}
		t.Fatalf("%d statements were executed and %d are there", len(executed), len(seen))
	}
	if failed != 1 || refused != 1 || len(account.Told) > 0 {
		t.Errorf("%d failed statements, %d refused logins, %d numbers told as lost, want 1, 1, 0", failed, refused, len(account.Told))
	}
	t.Logf("%d statements in %d runs of pgbench, each once", len(executed), runs)

	if out := m.MustWeir("stream", "status"); !strings.Contains(out, "source of test-1: pgaudit log (weaker: ") {
		t.Errorf("weir stream status does not name the source:\n%s", out)
	}
	out, err := m.Weir(ctx, "stream", "start", "--cluster", "test", "--kms-key", m.KMSKeyID, "--mode", "sync")
	if err == nil || !strings.Contains(out, "mode sync is refused: instance test-1 is recorded asynchronously, its source is its pgaudit log") {
		t.Errorf("weir stream start --mode sync = %v, want the reason why not:\n%s", err, out)
	}
}

// attached waits for a capture that has just been started.
func attached(m *mesh.Mesh) {
	m.Eventually(30*time.Second, func() error { _, err := m.Numbers(); return err })
}

// rotate has the server begin another file, which it does under another name once the second is another.
func rotate(t *testing.T, m *mesh.Mesh, dir, format string) {
	t.Helper()
	before := files(t, dir, format)
	m.Eventually(30*time.Second, func() error {
		m.Psql("postgres", "SELECT pg_rotate_logfile()")
		if len(files(t, dir, format)) > len(before) {
			return nil
		}
		return fmt.Errorf("still %v", before)
	})
}

// rename gives every file another name.
func rename(t *testing.T, dir, format string) {
	t.Helper()
	for _, path := range files(t, dir, format) {
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
	}
}

func files(t *testing.T, dir, format string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*."+format+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
