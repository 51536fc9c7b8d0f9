package faults

import (
	"encoding/binary"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
)

// shim is loaded into PostgreSQL before libc, and adds to the time of day what a
// file says. Go programs ask the kernel themselves and do not see it: it is the
// engine's clock that is stepped, which numbers, times and epochs come from.
const shim = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile int64_t *offset;

__attribute__((constructor)) static void begin(void)
{
	const char *name = getenv("WEIR_CLOCK_FILE");
	int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
	void *p = fd < 0 ? MAP_FAILED : mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED)
		offset = p;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
	static int (*real)(clockid_t, struct timespec *);
	if (!real)
		real = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
	int r = real(id, t);
	if (r == 0 && offset && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		t->tv_sec += *offset;
	return r;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
	struct timespec now;
	(void) zone;
	clock_gettime(CLOCK_REALTIME, &now);
	t->tv_sec = now.tv_sec;
	t->tv_usec = now.tv_nsec / 1000;
	return 0;
}
`

// Clock is the time of day that PostgreSQL sees.
type Clock struct {
	t    testing.TB
	file string
}

// newClock has every server that is started from now on see it.
func newClock(t *testing.T, m *mesh.Mesh) *Clock {
	t.Helper()
	c := &Clock{t: t, file: m.Path("clock")}
	c.Step(0)
	source, so := m.Path("clock.c"), m.Path("clock.so")
	if err := os.WriteFile(source, []byte(shim), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-O1", "-o", so, source, "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("building the clock: %v\n%s", err, out)
	}
	if err := os.Chmod(so, 0o755); err != nil { // PostgreSQL runs as somebody else
		t.Fatal(err)
	}
	t.Setenv("WEIR_CLOCK_FILE", c.file)
	t.Setenv("LD_PRELOAD", so)
	return c
}

// Step moves the clock so far from the true time.
func (c *Clock) Step(by time.Duration) {
	c.t.Helper()
	f, err := os.OpenFile(c.file, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(int64(by/time.Second))), 0); err != nil {
		c.t.Fatal(err)
	}
}
