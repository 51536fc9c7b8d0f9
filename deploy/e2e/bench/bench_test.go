//go:build bench

package bench_test

import (
	"os"
	"path/filepath"
	"testing"
)

// binDir is where make build left the binaries.
var binDir = func() string {
	dir := os.Getenv("WEIR_BIN")
	if dir == "" {
		dir = "../../../bin"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		panic(err)
	}
	return dir
}()

// scratch is a directory that an unprivileged PostgreSQL can reach.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir-bench-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
