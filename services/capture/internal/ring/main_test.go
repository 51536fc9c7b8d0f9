package ring_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// programs is where the C programs of engine/ring/test are built, once, when a test first asks for one.
var programs string

func TestMain(m *testing.M) {
	if job := os.Getenv("WEIR_RING_TEST_READER"); job != "" {
		if err := readerProcess(job); err != nil {
			fmt.Fprintln(os.Stderr, "reader:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "weir-ring-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

var built sync.Map // name → func() error

// program builds engine/ring/test/<name>.c with the engine half, and returns the path.
func program(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(programs, name)
	build, _ := built.LoadOrStore(name, sync.OnceValue(func() error {
		const source = "../../engine/ring/"
		half, err := filepath.Glob(source + "*.c")
		if err != nil {
			return err
		}
		args := append([]string{"-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", path, source + "test/" + name + ".c"}, half...)
		out, err := exec.Command("cc", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}))
	if err := build.(func() error)(); err != nil {
		t.Fatalf("building %s.c: %v", name, err)
	}
	return path
}

// memoryPath is a path for a ring in memory, where the engine half wants it.
func memoryPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "weir-ring-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "ring")
}

// pattern is the payload of a test's event: see engine/ring/test/pattern.h.
func pattern(length int, us uint64) []byte {
	b := make([]byte, length)
	for i := range b {
		b[i] = byte(us*0x9e3779b97f4a7c15>>(8*(i%8))) + byte(i/8)
	}
	return b
}

// dialogue is a C program that answers lines with lines.
type dialogue struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func converse(t testing.TB, cmd *exec.Cmd) *dialogue {
	t.Helper()
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &dialogue{t: t, cmd: cmd, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(d.end)
	return d
}

// line is the next line of the answer.
func (d *dialogue) line() string {
	d.t.Helper()
	if !d.out.Scan() {
		d.t.Fatalf("%s ended: %v", d.cmd.Path, d.cmd.Wait())
	}
	return d.out.Text()
}

func (d *dialogue) say(format string, args ...any) string {
	d.t.Helper()
	if _, err := fmt.Fprintf(d.in, format+"\n", args...); err != nil {
		d.t.Fatal(err)
	}
	return d.line()
}

// end is the end of the program, which for an engine is that of a server killed.
func (d *dialogue) end() {
	_ = d.in.Close()
	_ = d.cmd.Wait()
}

// engine is a server in C; see engine/ring/test/engine.c.
type engine struct {
	*dialogue
	epoch, starts, number, size uint64
}

// tryEngine starts a server on the ring at path; refusal is its error.
func tryEngine(t testing.TB, path string, size uint64, environment []string, args ...string) (e *engine, refusal string) {
	t.Helper()
	cmd := exec.Command(program(t, "engine"), append([]string{path, fmt.Sprint(size)}, args...)...)
	cmd.Env = append(os.Environ(), environment...)
	e = &engine{dialogue: converse(t, cmd)}
	answer := e.line()
	if refusal, refused := strings.CutPrefix(answer, "error "); refused {
		return nil, refusal
	}
	if _, err := fmt.Sscanf(answer, "open %d %d %d %d", &e.epoch, &e.starts, &e.number, &e.size); err != nil {
		t.Fatalf("engine says %q: %v", answer, err)
	}
	return e, ""
}

func startEngine(t testing.TB, path string, size uint64) *engine {
	t.Helper()
	e, refusal := tryEngine(t, path, size, nil)
	if refusal != "" {
		t.Fatalf("engine: %s", refusal)
	}
	return e
}

// put puts the pattern's event; in says whether it is in the ring.
func (e *engine) put(length int, us uint64) (number uint64, in bool) {
	e.t.Helper()
	var word int
	answer := e.say("put %d %d", length, us)
	if _, err := fmt.Sscanf(answer, "%d %d", &number, &word); err != nil {
		e.t.Fatalf("engine says %q: %v", answer, err)
	}
	return number, word == 1
}
