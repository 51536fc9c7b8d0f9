//go:build bench

package bench_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Where services have hosts of their own the database need not share its
// processors with them. Two halves of one machine's processors stand for that.
var apart = flag.Bool("apart", false, "TestSync: give the database, pgbench and capture the first half of the processors, all others the second")

const (
	databaseHalf = iota
	servicesHalf
)

// halfOf is the processors of a half.
func halfOf(half int) (set unix.CPUSet) {
	n := runtime.NumCPU() / 2
	for i := range n {
		set.Set(half*n + i)
	}
	return set
}

// moveTo moves processes, with all their threads and children, to a half. What
// they start later is there too.
func moveTo(t *testing.T, half int, pids ...int) {
	t.Helper()
	if !*apart {
		return
	}
	if runtime.NumCPU() < 2 {
		t.Fatal("-apart wants two processors")
	}
	set := halfOf(half)
	for _, pid := range pids {
		if err := move(pid, &set); err != nil {
			t.Fatalf("moving process %d: %v", pid, err)
		}
	}
}

func move(pid int, set *unix.CPUSet) error {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return err
	}
	for _, task := range tasks {
		thread, err := strconv.Atoi(filepath.Base(task))
		if err != nil {
			return err
		}
		children, err := os.ReadFile(filepath.Join(task, "children"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the thread has ended meanwhile
		}
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(thread, set); err != nil && err != unix.ESRCH {
			return err
		}
		for _, field := range strings.Fields(string(children)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return err
			}
			if err := move(child, set); err != nil {
				return err
			}
		}
	}
	return nil
}
