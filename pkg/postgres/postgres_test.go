package postgres_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-das/weir/pkg/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func query(t *testing.T, s *postgres.Server, sql string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(s.BinDir(), "psql"), "-XAtqc", sql, s.DSN("postgres", "postgres"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("psql -c %q: %v: %s", sql, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestLife(t *testing.T) {
	s, err := postgres.Start(t.Context(), postgres.Options{
		Dir:      t.TempDir(),
		Settings: map[string]string{"fsync": "off", "application_name": "it's"},
	})
	if err != nil {
		t.Fatalf("Start() = %v, want nil", err)
	}
	defer func() {
		if err := s.Stop(postgres.Immediate); err != nil {
			t.Errorf("Stop(immediate) = %v, want nil", err)
		}
	}()
	query(t, s, "create table kept (n int); insert into kept values (42)")

	steps := []struct {
		name string
		down func() error
	}{
		{"stop fast", func() error { return s.Stop(postgres.Fast) }},
		{"stop immediate", func() error { return s.Stop(postgres.Immediate) }},
		{"stop smart", func() error { return s.Stop(postgres.Smart) }},
		{"stop twice", func() error { return s.Stop(postgres.Fast) }},
		{"kill", s.Kill},
		{"restart alone", func() error { return nil }},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			port, pid := s.Port(), s.PID()
			if err := step.down(); err != nil {
				t.Fatalf("%s = %v, want nil", step.name, err)
			}
			if step.name != "restart alone" {
				if got := s.PID(); got != 0 {
					t.Errorf("PID() = %d once stopped, want 0", got)
				}
				if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
					t.Errorf("process %d lives after %s", pid, step.name)
				}
			}
			if err := s.Restart(t.Context()); err != nil {
				t.Fatalf("Restart() = %v, want nil", err)
			}
			if got := query(t, s, "select n from kept"); got != "42" {
				t.Errorf("select n = %q after %s, want 42", got, step.name)
			}
			if s.Port() != port {
				t.Errorf("Port() = %d after a restart, want %d", s.Port(), port)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	s, err := postgres.Start(t.Context(), postgres.Options{Dir: t.TempDir(), Settings: map[string]string{"fsync": "off", "work_mem": "7MB"}})
	if err != nil {
		t.Fatalf("Start() = %v, want nil", err)
	}
	defer func() {
		if err := s.Stop(postgres.Fast); err != nil {
			t.Errorf("Stop(fast) = %v, want nil", err)
		}
	}()
	if got := query(t, s, "show work_mem"); got != "7MB" {
		t.Errorf("work_mem = %s, want 7MB", got)
	}
	if got := query(t, s, "show listen_addresses"); got != "127.0.0.1" {
		t.Errorf("listen_addresses = %s, want 127.0.0.1", got)
	}
	s.Set("work_mem", "8MB")
	if err := s.Restart(t.Context()); err != nil {
		t.Fatalf("Restart() = %v, want nil", err)
	}
	if got := query(t, s, "show work_mem"); got != "8MB" {
		t.Errorf("work_mem = %s after Set, want 8MB", got)
	}
}

// A start that fails says why in the server's own words, and leaves nothing.
func TestStartFails(t *testing.T) {
	dir := t.TempDir()
	_, err := postgres.Start(t.Context(), postgres.Options{Dir: dir, Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Fatalf("Start() with an unknown setting = %v, want an error that names it", err)
	}
	_, err = postgres.Start(t.Context(), postgres.Options{Dir: dir, BinDir: "/nowhere"})
	if err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Fatalf("Start() without a server = %v, want an error that names the directory", err)
	}
}

// An initdb that is interrupted, at whatever moment, is no obstacle to the
// next start.
func TestStartAfterAnInterruptedOne(t *testing.T) {
	dir := t.TempDir()
	for _, after := range []time.Duration{20 * time.Millisecond, 200 * time.Millisecond, 600 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		s, err := postgres.Start(ctx, postgres.Options{Dir: dir})
		cancel()
		if err == nil {
			if err := s.Stop(postgres.Fast); err != nil { // quicker than we thought
				t.Fatal(err)
			}
		}
	}
	s, err := postgres.Start(t.Context(), postgres.Options{Dir: dir})
	if err != nil {
		t.Fatalf("Start() after interrupted ones = %v, want nil", err)
	}
	if err := s.Stop(postgres.Fast); err != nil {
		t.Error(err)
	}
}
