package weir_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/weir-das/weir/services/weir"
	"github.com/weir-das/weir/services/weir/internal/connect"
)

// asProgram makes this test's binary be the program, for tests that signal and
// kill it.
const asProgram = "WEIR_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(weir.Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

// run runs one command line in this process.
func run(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = weir.Main(args, &out, &errs)
	return code, out.String(), errs.String()
}

// on is the same mesh for another part of the test.
func (m *mesh) on(t *testing.T) *mesh {
	b := *m
	b.t = t
	return &b
}

// module is the engine module, made where it is missing.
func module(t *testing.T) string {
	t.Helper()
	dir := "../capture/engine/postgres"
	build := exec.CommandContext(t.Context(), "flock", "Makefile", "make", "-s")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the engine module: %v: %s; is everything there that `make setup` installs?", err, out)
	}
	path, err := filepath.Abs(filepath.Join(dir, "weir.so"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// mesh is a running `weir dev`.
type mesh struct {
	t    *testing.T
	cmd  *exec.Cmd
	dir  string
	file connect.File

	out, err *os.File
	ended    chan error
}

// start starts weir dev and waits for its ready file. It runs until it ends by
// itself, or until whole, t or the test that t is a part of, is over.
func start(t, whole *testing.T, dir string, args ...string) *mesh {
	t.Helper()
	m := launch(t, whole, dir, args...)
	ready := filepath.Join(m.dir+"-ready", "mesh.json")
	limit := time.After(90 * time.Second)
	for {
		if f, err := connect.Read(ready); err == nil {
			m.file = f
			return m
		}
		select {
		case err := <-m.ended:
			t.Fatalf("weir dev ended with %v before it was ready:\n%s", err, m.stderr())
		case <-limit:
			t.Fatalf("weir dev is not ready after 90 s:\n%s", m.stderr())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// launch starts weir dev and does not wait.
func launch(t, whole *testing.T, dir string, args ...string) *mesh {
	t.Helper()
	if err := os.MkdirAll(dir+"-ready", 0o700); err != nil {
		t.Fatal(err)
	}
	ready := filepath.Join(dir+"-ready", "mesh.json")
	if err := os.Remove(ready); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err) // of one that was killed
	}
	m := &mesh{t: t, dir: dir, ended: make(chan error, 1)}
	for name, f := range map[string]**os.File{"out": &m.out, "err": &m.err} {
		var err error
		if *f, err = os.Create(filepath.Join(dir+"-ready", name)); err != nil {
			t.Fatal(err)
		}
	}
	args = append([]string{"dev", "--data", dir, "--ready-file", ready}, args...)
	m.cmd = exec.Command(os.Args[0], args...)
	m.cmd.Env = append(os.Environ(), asProgram+"=1")
	m.cmd.Stdout, m.cmd.Stderr = m.out, m.err
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		m.ended <- m.cmd.Wait()
	}()
	whole.Cleanup(func() {
		m.cmd.Process.Kill() // an error: it has ended
		<-waited
		m.out.Close()
		m.err.Close()
	})
	return m
}

func (m *mesh) stdout() string { return m.read(m.out) }
func (m *mesh) stderr() string { return m.read(m.err) }

func (m *mesh) read(f *os.File) string {
	b, err := os.ReadFile(f.Name())
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

func (m *mesh) signal(s os.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.t.Fatal(err)
	}
}

// wait waits for the end of the process and returns its exit code.
func (m *mesh) wait() int {
	m.t.Helper()
	select {
	case <-m.ended:
		return m.cmd.ProcessState.ExitCode()
	case <-time.After(60 * time.Second):
		m.t.Fatalf("weir dev has not ended after 60 s:\n%s", m.stderr())
		return -1
	}
}

// stop is Ctrl-C; it wants an orderly end.
func (m *mesh) stop() {
	m.t.Helper()
	m.signal(os.Interrupt)
	if code := m.wait(); code != 0 {
		m.t.Errorf("weir dev exited with %d after Ctrl-C, want 0:\n%s", code, m.stderr())
	}
}

// postmaster is PostgreSQL's process id.
func (m *mesh) postmaster() int {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(m.dir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		m.t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(b), &pid); err != nil {
		m.t.Fatal(err)
	}
	return pid
}

// gone wants the process to be gone within a few seconds.
func gone(t *testing.T, what string, pid int) {
	t.Helper()
	for range 200 {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Errorf("%s, process %d, is still there", what, pid)
}

// weir runs a client command against the mesh and wants it to succeed.
func (m *mesh) weir(args ...string) string {
	m.t.Helper()
	code, out, errs := run(append(args, "--connect", filepath.Join(m.dir, connect.FileName))...)
	if code != 0 {
		m.t.Fatalf("weir %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// query runs statements on the database, in one session.
func (m *mesh) query(statements ...string) {
	m.t.Helper()
	if err := query(m.t.Context(), m.file.PostgresDSN, statements...); err != nil {
		m.t.Fatal(err)
	}
}

func query(ctx context.Context, dsn string, statements ...string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// event is what tests look at.
type event struct {
	Command string `json:"command"`
	Text    string `json:"commandText"`
}

// events parses what --format json printed.
func events(t *testing.T, lines string) []event {
	t.Helper()
	var all []event
	for line := range strings.Lines(lines) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

// awaitText waits until the stream holds a statement, and returns all that it holds.
func (m *mesh) awaitText(text string) []event {
	m.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		all := events(m.t, m.weir("tail", "--no-follow", "--format", "json"))
		for _, e := range all {
			if e.Text == text {
				return all
			}
		}
	}
	m.t.Fatalf("%q does not arrive in the stream:\n%s", text, m.stderr())
	return nil
}
