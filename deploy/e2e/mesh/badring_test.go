package mesh_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	"github.com/weir-das/weir/pkg/postgres"
)

// A ring that cannot be used is refused by the server, which does not start
// unaudited, and by capture, which waits: each says why and what to do, once.
// The ring holds events that nobody has read; when all is put right, they arrive.
func TestRingThatCannotBeUsed(t *testing.T) {
	m := mesh.Start(t, mesh.Options{RingSize: 1 << 20})
	m.Terminate(mesh.Capture)
	statements(t, m, 200)
	if err := m.Postgres.Stop(postgres.Fast); err != nil {
		t.Fatal(err)
	}

	t.Run("of another layout", func(t *testing.T) {
		writeAt(t, m.Ring(), 8, 2)
		refusesToStart(t, m.Postgres.Restart(t.Context()), m.Ring(), "layout 2", "this module writes 1", "read it to the end", "remove the file")
		since := now(t, m, mesh.Capture)
		m.StartProcess(mesh.Capture)
		saidOnce(t, m, mesh.Capture, since, "no ring to read; waiting", m.Ring(), "layout 2", "this capture reads layout 1", "run the capture of the version")
		time.Sleep(2500 * time.Millisecond) // it looks every second
		saidOnce(t, m, mesh.Capture, since, "no ring to read; waiting")
		m.Terminate(mesh.Capture)
		writeAt(t, m.Ring(), 8, 1)
	})
	if os.Geteuid() == 0 { // nobody else can give a file away
		t.Run("of another owner", func(t *testing.T) {
			info, err := os.Stat(m.Ring())
			if err != nil {
				t.Fatal(err)
			}
			owner := info.Sys().(*syscall.Stat_t)
			if err := os.Chown(m.Ring(), 4711, int(owner.Gid)); err != nil {
				t.Fatal(err)
			}
			refusesToStart(t, m.Postgres.Restart(t.Context()), m.Ring(), "belongs to user 4711", fmt.Sprintf("the server's user %d", owner.Uid), "remove it")
			if err := os.Chown(m.Ring(), int(owner.Uid), int(owner.Gid)); err != nil {
				t.Fatal(err)
			}
		})
	}

	second := func(ring string, size int64) error {
		s, err := postgres.Start(t.Context(), postgres.Options{Dir: m.Path("second"), Module: m.Module(), RingFile: ring, RingSize: size})
		if err == nil {
			return fmt.Errorf("it starts; stopping it: %v", s.Stop(postgres.Immediate))
		}
		return err
	}
	t.Run("on a disk", func(t *testing.T) {
		const path = "/var/tmp/weir-mesh-test.ring"
		refusesToStart(t, second(path, 0), path, "is not in memory", "must not touch a disk", "/dev/shm")
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s was left there", path)
		}
	})
	t.Run("without room", func(t *testing.T) {
		const largest = 64 << 30
		var fs syscall.Statfs_t
		if err := syscall.Statfs("/dev/shm", &fs); err != nil {
			t.Fatal(err)
		}
		if int64(fs.Blocks)*fs.Bsize > largest {
			t.Log("/dev/shm has room for the largest ring there is")
			return
		}
		refusesToStart(t, second(m.Ring()+".large", largest), "no room for a ring of 65536 MiB", "are free there", "shm_size", "weir.ring_size")
		if _, err := os.Lstat(m.Ring() + ".large"); err == nil {
			t.Error("a ring without room was left there")
		}
	})

	if err := m.Postgres.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Run("of another server", func(t *testing.T) {
		refusesToStart(t, second(m.Ring(), 0), m.Ring(), fmt.Sprintf("process %d", m.Postgres.PID()), "a weir.ring_file of its own")
	})
	m.StartProcess(mesh.Capture)
	t.Run("of another capture", func(t *testing.T) {
		config, err := os.ReadFile(m.Path("capture.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		out, code := start(t, m, mesh.Capture, strings.Replace(string(config), m.Addr(mesh.Capture), "127.0.0.1:0", 1))
		last := out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:]
		if code != 1 || !containsAll(last, "another capture holds the ring", fmt.Sprintf("process %d", m.PID(mesh.Capture)), "stop it first") {
			t.Errorf("a second capture ends with %d, want 1 and why:\n%s", code, out)
		}
	})
	statements(t, m, 10)
	whole(t, m)
	if account, _ := m.Settle(t); len(account.Events) < 210 {
		t.Errorf("%d events, want the 200 that nobody had read, and 10", len(account.Events))
	}
}

func writeAt(t *testing.T, path string, offset int64, value byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte{value}, offset); err != nil {
		t.Fatal(err)
	}
}

// refusesToStart checks that a server did not start, and that one line of its
// log says all of the words.
func refusesToStart(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("the server starts, want a refusal with %q", words)
		return
	}
	named := 0
	for line := range strings.Lines(err.Error()) {
		if strings.Contains(line, "FATAL:  weir:") && containsAll(line, words...) {
			named++
		}
	}
	if named != 1 {
		t.Errorf("%d lines have all of %q, want one:\n%v", named, words, err)
	}
}
