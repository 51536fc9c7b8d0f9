package mesh

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Disk makes a file system of so many bytes and returns a directory on it. It
// is mounted where a process of ours alone sees it, and is reached through that
// process: nothing of it is left when the test ends, however it ends.
func Disk(t testing.TB, bytes int64) string {
	t.Helper()
	dir := t.TempDir()
	holder := exec.Command("sh", "-c", `mount -t tmpfs -o size="$1",mode=700 tmpfs "$2" && echo mounted && exec sleep 86400`,
		"sh", fmt.Sprint(bytes), dir)
	holder.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		// In a user namespace of its own anybody may mount.
		holder.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		holder.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		holder.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	holder.Stderr = os.Stderr
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatalf("making a small file system: %v; run as root, or allow user namespaces", err)
	}
	t.Cleanup(func() { holder.Process.Kill(); holder.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("mounting a small file system: %q, %v; run as root, or allow user namespaces", line, err)
	}
	return fmt.Sprintf("/proc/%d/root%s", holder.Process.Pid, dir)
}

// FillDisk takes all room on a disk but so many bytes, and returns what gives it
// back. Others may write to the disk meanwhile, and find it full.
func FillDisk(t testing.TB, dir string, but int64) (free func()) {
	t.Helper()
	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer ballast.Close()
	Eventually(t, 30*time.Second, func() error {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(dir, &fs); err != nil {
			return err
		}
		room := int64(fs.Bavail)*fs.Bsize - but
		if room <= 0 {
			return nil // who wrote meanwhile took the rest
		}
		if err := syscall.Fallocate(int(ballast.Fd()), 0, 0, room); err != nil {
			return fmt.Errorf("filling the disk with %d bytes: %w", room, err)
		}
		return nil
	})
	return func() {
		if err := os.Remove(ballast.Name()); err != nil {
			t.Error(err)
		}
	}
}
