package ring_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-das/weir/services/capture/internal/ring"
)

// What the engine half does with the file that it finds.

func TestEngineRefusesWithAWayOut(t *testing.T) {
	made := func(spoil func(file *os.File)) func(t *testing.T) string {
		return func(t *testing.T) string {
			path := memoryPath(t)
			startEngine(t, path, 64<<10).end()
			file, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			spoil(file)
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	write := func(offset int64, content string) func(*os.File) {
		return func(file *os.File) {
			if _, err := file.WriteAt([]byte(content), offset); err != nil {
				t.Fatal(err)
			}
		}
	}
	inMemory := func(t *testing.T) string { return memoryPath(t) }
	type test struct {
		name        string
		path        func(t *testing.T) string
		size        uint64
		environment []string
		group       []string
		says        []string
	}
	tests := []test{
		{name: "not in memory", path: func(*testing.T) string { return "/proc/self/comm" },
			says: []string{"clear text", "must not touch a disk", "/dev/shm"}},
		{name: "no room", path: inMemory, size: 1 << 30, environment: []string{"FILE_LIMIT=1000000"},
			says: []string{"1024 MiB", "shm_size", "--shm-size", "weir.ring_size"}},
		{name: "too small", path: inMemory, size: 4096, says: []string{"weir.ring_size", "65536"}},
		{name: "link", path: func(t *testing.T) string {
			path := memoryPath(t)
			if err := os.Symlink("/etc/passwd", path); err != nil {
				t.Fatal(err)
			}
			return path
		}, says: []string{"symbolic link"}},
		{name: "directory in its place", path: func(t *testing.T) string {
			path := memoryPath(t)
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			return path
		}, says: []string{"Is a directory"}},
		{name: "no directory", path: func(t *testing.T) string { return memoryPath(t) + "/ring" }, says: []string{"No such file"}},
		{name: "not a ring", path: made(write(0, "precious")), says: []string{"not a ring", "remove it"}},
		{name: "another layout", path: made(write(8, "\x02")), says: []string{"layout 2", "to the end", "remove the file"}},
		{name: "a pipe", path: func(t *testing.T) string {
			path := memoryPath(t)
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}, says: []string{"not a regular file"}},
	}
	if os.Getuid() == 0 {
		tests = append(tests, test{name: "another owner", path: made(func(file *os.File) {
			if err := file.Chown(1, 1); err != nil {
				t.Fatal(err)
			}
		}), says: []string{"belongs to user 1", "user 0"}})
	} else {
		tests = append(tests, test{name: "a group it is not in", path: inMemory, group: []string{"0"},
			says: []string{"group 0", "member of that group"}})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path, size := test.path(t), test.size
			if size == 0 {
				size = 64 << 10
			}
			before := contents(path)
			_, refusal := tryEngine(t, path, size, test.environment, test.group...)
			for _, says := range test.says {
				if !strings.Contains(refusal, says) {
					t.Errorf("refused with %q, want %q in it", refusal, says)
				}
			}
			if after := contents(path); after != before {
				t.Errorf("the refusal changed the file")
			}
		})
	}
}

// contents is what a path leads to: its kind, and a file's bytes.
func contents(path string) string {
	info, err := os.Lstat(path)
	if err != nil {
		return "nothing"
	}
	if !info.Mode().IsRegular() {
		return info.Mode().String()
	}
	bytes, err := os.ReadFile(path)
	return fmt.Sprint(info.Mode(), string(bytes), err)
}

func TestEngineIsAlone(t *testing.T) {
	path := memoryPath(t)
	e := startEngine(t, path, 64<<10)
	_, refusal := tryEngine(t, path, 64<<10, nil)
	if !strings.Contains(refusal, fmt.Sprintf("process %d", e.cmd.Process.Pid)) || !strings.Contains(refusal, "weir.ring_file") {
		t.Errorf("a second server is refused with %q", refusal)
	}
	e.end()
	startEngine(t, path, 64<<10)
}

func TestRingIsSharedWithItsGroupAlone(t *testing.T) {
	path := memoryPath(t)
	old := syscall.Umask(0o077) // as PostgreSQL has it
	defer syscall.Umask(old)
	startEngine(t, path, 64<<10).end()
	mode := func() os.FileMode {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	if got := mode(); got != 0o660 {
		t.Errorf("a new ring has mode %o, want 660", got)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	startEngine(t, path, 64<<10).end()
	if got := mode(); got != 0o660 {
		t.Errorf("a ring that was opened to all has mode %o after a start, want 660", got)
	}
}

func TestRingIsTakenOver(t *testing.T) {
	path := memoryPath(t)
	e := startEngine(t, path, 64<<10)
	epoch := e.epoch
	e.put(100, base)
	e.say("die 100 %d", base)
	e.end()

	// Unread: kept, whatever size is wanted now.
	e = startEngine(t, path, 128<<10)
	if e.epoch != epoch || e.number != 2 || e.size != 64<<10 || e.starts != 2 {
		t.Errorf("with frames unread a start finds epoch %d, number %d, %d bytes, start %d; want %d, 2, 65536, 2",
			e.epoch, e.number, e.size, e.starts, epoch)
	}
	r := open(t, path)
	reader := r.Reader()
	expect(t, reader, "1", "2..2 torn", "nothing")
	checkpoint(t, r, reader)

	// A gap that nobody was told of is unread, too.
	for range 100 {
		e.put(1000, base)
	}
	number := uint64(102)
	for next(t, reader) != "nothing" {
		if p := reader.Position(); p.Number < 63 {
			checkpoint(t, r, reader)
		}
	}
	lost := status(t, r).Lost
	full := reader.Position()
	full.Number = number - lost // as if the gap had not come out
	if err := r.Checkpoint(full); err != nil {
		t.Fatal(err)
	}
	e.end()
	e = startEngine(t, path, 128<<10)
	if e.epoch != epoch || e.size != 64<<10 {
		t.Errorf("with a gap untold a start finds epoch %d, %d bytes; want %d, 65536", e.epoch, e.size, epoch)
	}
	e.end()

	// Read to the end: a new ring of the size that is wanted, with what capture wants of it.
	if err := r.SetPolicy(ring.Policy{Mode: ring.ModeSync, OnFailure: 2, Generation: 3}); err != nil {
		t.Fatal(err)
	}
	if err := r.SetSettings([]byte("settings")); err != nil {
		t.Fatal(err)
	}
	full.Number = number
	if err := r.Checkpoint(full); err != nil {
		t.Fatal(err)
	}
	if r.Replaced() {
		t.Error("Replaced = true before the ring was replaced")
	}
	e = startEngine(t, path, 128<<10)
	if e.epoch <= epoch || e.size != 128<<10 || e.number != 0 || e.starts != 1 {
		t.Errorf("with all read a start finds epoch %d, %d bytes, number %d, start %d; want one after %d, 131072, 0, 1",
			e.epoch, e.size, e.number, e.starts, epoch)
	}
	if !r.Replaced() {
		t.Error("Replaced = false after the ring was replaced")
	}
	expect(t, reader, "nothing") // the old one is still there for who has it
	r = open(t, path)
	settings, err := r.Settings()
	if err != nil || string(settings) != "settings" || status(t, r).Mode != ring.ModeSync {
		t.Errorf("the new ring has settings %q, %v and mode %d; want those of the old one", settings, err, status(t, r).Mode)
	}
}

func TestRingIsMadeAnew(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(path string) error
	}{
		{"cut short", func(path string) error { return os.Truncate(path, 10_000) }},
		{"cut to nothing", func(path string) error { return os.Truncate(path, 0) }},
		{"never finished", func(path string) error {
			return os.WriteFile(path, make([]byte, 8192+(64<<10)), 0o600)
		}},
		{"removed", os.Remove},
		{"a start died beside it", func(path string) error {
			return os.WriteFile(path+".new", []byte("half"), 0o600)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := memoryPath(t)
			e := startEngine(t, path, 64<<10)
			e.end()
			if err := test.spoil(path); err != nil {
				t.Fatal(err)
			}
			again := startEngine(t, path, 128<<10)
			if again.epoch <= e.epoch || again.size != 128<<10 {
				t.Errorf("after that a start finds epoch %d, %d bytes; want one after %d, 131072", again.epoch, again.size, e.epoch)
			}
			open(t, path)
			if _, err := os.Stat(path + ".new"); err == nil {
				t.Error("a file beside the ring was left")
			}
		})
	}
}

// A clock that was set back does not make an epoch that is not greater.
func TestEpochGrows(t *testing.T) {
	path := memoryPath(t)
	startEngine(t, path, 64<<10).end()
	const future = 4_000_000_000_000_000
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt(binary.LittleEndian.AppendUint64(nil, future), 24); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if e := startEngine(t, path, 128<<10); e.epoch != future+1 {
		t.Errorf("the new epoch is %d, want %d", e.epoch, uint64(future+1))
	}
}

// Sixteen servers start at once, where there is no ring, or half of one: one gets it, and it is whole.
func TestServersRace(t *testing.T) {
	for round := range 6 {
		path := memoryPath(t)
		if round%2 == 1 {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		answers := make(chan string)
		var servers []*exec.Cmd
		for range 16 {
			server := exec.Command(program(t, "engine"), path, "65536")
			in, err := server.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = in.Close() }()
			out, err := server.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			servers = append(servers, server)
			go func() {
				answer := make([]byte, 1024)
				n, _ := out.Read(answer)
				answers <- string(answer[:n])
			}()
		}
		opened := 0
		for range servers {
			answer := <-answers
			if strings.HasPrefix(answer, "open") {
				opened++
			} else if !strings.Contains(answer, "another server") && !strings.Contains(answer, "was replaced") {
				t.Errorf("a server is refused with %q", answer)
			}
		}
		if opened != 1 {
			t.Errorf("%d of 16 servers opened the ring", opened)
		}
		open(t, path)
		for _, server := range servers {
			_ = server.Process.Kill()
			_ = server.Wait()
		}
	}
}
