package mesh_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/weir-das/weir/deploy/e2e/mesh"
)

// memoryIsLeftOut checks that no core dump takes clear text along: the ring is
// left out of those of every process that maps it, and capture and crypto,
// which hold more than the ring, make none.
func memoryIsLeftOut(t *testing.T, m *mesh.Mesh) {
	conn, err := pgx.Connect(t.Context(), m.Postgres.DSN("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	mappers := map[string]int{"postmaster": m.Postgres.PID(), "session": int(conn.PgConn().PID())}
	if os.Geteuid() == 0 { // nobody else may look at an undumpable process
		mappers["capture"] = m.PID(mesh.Capture)
	}
	for name, pid := range mappers {
		flags := ringFlags(t, pid, m.Ring())
		if !slices.Contains(flags, "dd") {
			t.Errorf("the ring in %s (process %d) has the flags %q, want dd: left out of dumps", name, pid, flags)
		}
	}
	for _, name := range []string{mesh.Capture, mesh.Crypto} {
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", m.PID(name)))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(limits)) {
			if fields := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && (fields[4] != "0" || fields[5] != "0") {
				t.Errorf("%s has the core limit %q, want none to be written", name, strings.TrimSpace(line))
			}
		}
	}
	for name, want := range map[string]bool{mesh.Capture: false, mesh.Crypto: false, mesh.Notifier: true} {
		if got := dumpable(t, m, name); got != want {
			t.Errorf("%s is dumpable: %v, want %v", name, got, want)
		}
	}
}

// ringFlags are the kernel's flags of the mapping of the ring in a process.
func ringFlags(t *testing.T, pid int, ring string) []string {
	t.Helper()
	smaps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, mapping, found := strings.Cut(string(smaps), " "+ring+"\n")
	if !found {
		t.Fatalf("process %d does not map %s", pid, ring)
	}
	_, flags, _ := strings.Cut(mapping, "VmFlags:")
	flags, _, _ = strings.Cut(flags, "\n")
	return strings.Fields(flags)
}

// dumpable says whether the kernel would dump a service and let its user trace
// it: if not, the files of its process belong to root. Of root's own processes
// that tells nothing, so root runs another one as nobody.
func dumpable(t *testing.T, m *mesh.Mesh, name string) bool {
	t.Helper()
	pid, user := m.PID(name), os.Geteuid()
	if user == 0 {
		user = nobody
		pid = startAsNobody(t, m, name)
	}
	info, err := os.Stat(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Sys().(*syscall.Stat_t).Uid) == user
}

const nobody = 65534

// startAsNobody runs another process of a service, with copies of what it needs
// that nobody owns, and returns once it serves. It ends with the test.
func startAsNobody(t *testing.T, m *mesh.Mesh, name string) (pid int) {
	t.Helper()
	dir := m.Path("nobody-" + name)
	if err := os.Mkdir(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	copied := func(from string, mode os.FileMode, change *strings.Replacer) string {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, filepath.Base(from))
		err = os.WriteFile(to, []byte(change.Replace(string(text))), mode)
		if err := errors.Join(err, os.Chown(to, nobody, nobody)); err != nil {
			t.Fatal(err)
		}
		return to
	}
	asItIs := strings.NewReplacer()
	for _, file := range []string{"ca.pem", name + ".pem", name + ".key"} {
		copied(m.Path("certs", file), 0o400, asItIs)
	}
	config := copied(m.Path(name+".yaml"), 0o400,
		strings.NewReplacer(m.Path("certs"), dir, m.Addr(name), "127.0.0.1:0", m.Ring(), m.Ring()+".none"))
	cmd := exec.Command(copied(m.Program(name), 0o500, asItIs), "--config", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Pdeathsig: syscall.SIGKILL}
	cmd.Env = []string{"AWS_ACCESS_KEY_ID=weir", "AWS_SECRET_ACCESS_KEY=weir-secret"}
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	var said strings.Builder
	for lines := bufio.NewScanner(io.TeeReader(log, &said)); lines.Scan(); {
		if strings.Contains(lines.Text(), `"msg":"serving"`) {
			return cmd.Process.Pid
		}
	}
	t.Fatalf("%s as nobody does not serve:\n%s", name, said.String())
	return 0
}
