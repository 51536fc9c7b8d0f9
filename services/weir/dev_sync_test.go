package weir_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	capturev1 "github.com/weir-das/weir/proto/gen/weir/capture/v1"
)

// syncFlags are a synchronous mode in which nothing is a default.
var syncFlags = []string{"--mode", "sync", "--sync-level", "statement", "--on-failure", "fail_operation", "--sync-timeout", "90s"}

const syncStatus = "sync, level statement, on failure fail_operation, time-out 1m30s"

// numbers is where capture says that the ring stands.
func (m *mesh) numbers() *capturev1.GetStatusResponse {
	m.t.Helper()
	conn, err := m.file.Capture()
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(m.t.Context(), 10*time.Second)
	defer cancel()
	status, err := capturev1.NewCaptureServiceClient(conn).GetStatus(ctx, &capturev1.GetStatusRequest{})
	if err != nil {
		m.t.Fatal(err)
	}
	return status
}

// isSynchronous checks that the flags arrived, and that what a client has been
// told of is on the journal's disk: at once, without waiting for anything.
func (m *mesh) isSynchronous() {
	m.t.Helper()
	m.awaitStatus("(?s)" + syncStatus + ".* healthy ") // capture reports every second
	// The first statement of somebody who has seen that it is ready.
	psql := exec.CommandContext(m.t.Context(), filepath.Join(binDir(m.t), "psql"), "-XAtqc", "select 'by psql'", m.file.PostgresDSN)
	if out, err := psql.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "by psql" {
		m.t.Errorf("psql printed %s, %v", out, err)
	}
	m.awaitText("select 'by psql'")

	conn, err := pgx.Connect(m.t.Context(), m.file.PostgresDSN)
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(m.t.Context()))
	// A session is gone from there when it has written its end.
	const others = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
	for n := 1; n > 0; time.Sleep(10 * time.Millisecond) {
		if err := conn.QueryRow(m.t.Context(), others).Scan(&n); err != nil {
			m.t.Fatal(err)
		}
	}
	last := m.numbers().GetNumber()
	for i := range 10 {
		for _, sql := range []string{"begin", fmt.Sprintf("select 'durable %d'", i), "commit"} {
			if _, err := conn.Exec(m.t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
				m.t.Fatalf("%s: %v", sql, err)
			}
			s := m.numbers() // nobody but this session works
			if s.GetNumber() <= last || s.GetDurable() != s.GetNumber() {
				m.t.Fatalf("a client was told that %q is done, at number %d (before it %d), with %d durable", sql, s.GetNumber(), last, s.GetDurable())
			}
			last = s.GetNumber()
		}
	}
	if s := m.numbers(); s.GetMode() != capturev1.Mode_MODE_SYNC || s.GetReleased() != 0 || s.GetRefused() != 0 {
		m.t.Errorf("capture says %v, want mode sync, nobody let go and nothing refused", s)
	}
}

// binDir is where PostgreSQL's programs are.
func binDir(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "pg_config", "--bindir").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
