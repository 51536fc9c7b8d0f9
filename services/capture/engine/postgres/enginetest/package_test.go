package enginetest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-das/weir/pkg/postgres"
)

// The Debian package of the module holds a module that a server loads: built, packed, unpacked, and audited with. What
// `make install` puts where is what the package holds, for it is made with it.
func TestDebianPackage(t *testing.T) {
	out := t.TempDir()
	version, err := exec.Command("sh", "-c", `pg_config --version | sed 's/[^0-9]*\([0-9]*\).*/\1/'`).Output()
	if err != nil {
		t.Fatal(err)
	}
	name := "postgresql-" + strings.TrimSpace(string(version)) + "-weir"
	build := exec.Command("../../../../../deploy/debian/build.sh", out, out, name)
	printed, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("build.sh: %v: %s", err, printed)
	}
	lines := strings.Split(strings.TrimSpace(string(printed)), "\n")
	deb := lines[len(lines)-1]
	if text, err := exec.Command("dpkg-deb", "--extract", deb, out).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb --extract %s: %v: %s", deb, err, text)
	}
	for field, want := range map[string]string{"Package": name, "Depends": name[:len(name)-len("-weir")]} {
		got, err := exec.Command("dpkg-deb", "--field", deb, field).Output()
		if err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s: %s, %v; want %s in it", field, got, err, want)
		}
	}
	library, err := exec.Command("pg_config", "--pkglibdir").Output()
	if err != nil {
		t.Fatal(err)
	}
	so := filepath.Join(out, strings.TrimSpace(string(library)), "weir.so")
	if info, err := os.Stat(so); err != nil || info.Mode().Perm() != 0o644 {
		t.Fatalf("the package's module: %v, %v; want a file of mode 0644", info, err)
	}
	a := start(t, func(o *postgres.Options) { o.Module = so })
	a.psql(a.DSN("postgres", "postgres"), "-c", "select 'packed'")
	a.await("the statement", seen("1 READ SELECT rows=1 «select 'packed'»"))
}
