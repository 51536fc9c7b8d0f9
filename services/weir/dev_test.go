package weir_test

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/weir-das/weir/pkg/postgres"
	"github.com/weir-das/weir/services/weir/internal/connect"
)

// dataDir is a directory that PostgreSQL's user may reach: a test's own is
// closed to others.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir-dev-test-")
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	t.Cleanup(func() {
		if name, ok := ringOf(data); ok { // of one that was killed
			os.Remove(name) // an error: it is gone
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return data
}

// ringOf is the file that the private server in a data directory writes.
func ringOf(data string) (name string, ok bool) {
	conf, err := os.ReadFile(filepath.Join(data, "postgres", "data", "postgresql.conf"))
	if err != nil {
		return "", false
	}
	if _, name, ok = strings.Cut(string(conf), "weir.ring_file = '"); ok {
		name, _, ok = strings.Cut(name, "'")
	}
	return name, ok
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// The life of a mesh: started, used, stopped, started again, killed, started
// again, hurried, started again. Nothing is left behind, nothing forgotten.
func TestDev(t *testing.T) {
	so, dir := module(t), dataDir(t)
	m := start(t, t, dir, "--module", so, "--format", "json")
	first := m.file
	whole := t

	t.Run("everything answers", func(t *testing.T) {
		m = m.on(t)
		for name, dial := range map[string]func() (*grpc.ClientConn, error){
			"control": m.file.Control, "capture": m.file.Capture, "crypto": m.file.Crypto,
			"publisher": m.file.Publisher, "notifier": m.file.Notifier,
		} {
			conn, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			out, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
			if err != nil || out.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
				t.Errorf("health of %s = %v, %v, want SERVING", name, out.GetStatus(), err)
			}
		}
		if own, err := connect.Read(filepath.Join(dir, connect.FileName)); err != nil || own != m.file {
			t.Errorf("the directory's own connect file = %+v, %v, want the ready file's", own, err)
		}
		for _, want := range []string{m.file.PostgresDSN, m.file.KinesisStream, m.file.AWSEndpoint, "grpcurl -cacert", m.file.NATSURL} {
			if !strings.Contains(m.stderr(), want) {
				t.Errorf("the announcement does not say %q:\n%s", want, m.stderr())
			}
		}
	})

	t.Run("activity arrives, decrypted", func(t *testing.T) {
		m = m.on(t)
		m.query("create table kept (n int)", "insert into kept values (42)")
		read := m.awaitText("insert into kept values (42)")
		for range 100 { // the same, on its own terminal
			if len(events(t, m.stdout())) >= len(read) {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if !strings.Contains(m.stdout(), `"commandText":"insert into kept values (42)"`) {
			t.Errorf("weir dev does not show the insert:\n%s", m.stdout())
		}
	})

	t.Run("commands", func(t *testing.T) {
		m = m.on(t)
		if out := m.weir("stream", "status"); !strings.Contains(out, "started since") || !strings.Contains(out, "running (PostgreSQL") {
			t.Errorf("stream status:\n%s", out)
		}
		var status struct {
			Stream struct {
				Status        string `json:"status"`
				KinesisStream string `json:"kinesis_stream"`
			} `json:"stream"`
		}
		if err := json.Unmarshal([]byte(m.weir("stream", "status", "--json")), &status); err != nil {
			t.Fatal(err)
		}
		if status.Stream.Status != "STREAM_STATUS_STARTED" || status.Stream.KinesisStream != m.file.KinesisStream {
			t.Errorf("stream status --json = %+v", status)
		}
		m.weir("cluster", "create", "orders")
		m.weir("instance", "add", "orders", "orders-1")
		if out := m.weir("cluster", "show", "orders"); !strings.Contains(out, "orders-1  never heard of") {
			t.Errorf("cluster show:\n%s", out)
		}
		m.weir("instance", "remove", "orders", "orders-1")
		m.weir("cluster", "delete", "orders")
		if out := m.weir("cluster", "list"); strings.Contains(out, "orders") || !strings.Contains(out, m.file.ClusterResourceID) {
			t.Errorf("cluster list:\n%s", out)
		}
		if out := m.weir("events", "list", "--source", "dev"); !strings.Contains(out, "RDS-EVENT-0179") {
			t.Errorf("events list:\n%s", out)
		}
		// A stream this young may not be signed yet: then it is not called whole.
		var out string
		for end := time.Now().Add(time.Minute); !strings.Contains(out, "none missing") && time.Now().Before(end); time.Sleep(time.Second) {
			_, out, _ = run("verify", "--connect", filepath.Join(dir, connect.FileName))
		}
		if !strings.Contains(out, "none missing") {
			t.Errorf("verify:\n%s", out)
		}
		if out := m.weir("tail", "--cluster", "dev", "--no-follow"); !strings.Contains(out, "insert into kept") {
			t.Errorf("tail:\n%s", out)
		}
		// Refused by control, in words.
		code, _, errs := run("stream", "start", "--cluster", "nobody", "--kms-key", "alias/weir-dev", "--connect", filepath.Join(dir, connect.FileName))
		if code != 1 || !strings.Contains(errs, "cluster nobody") {
			t.Errorf("stream start of an unknown cluster: exit code %d, %q", code, errs)
		}
	})

	t.Run("stopped and started while it runs", func(t *testing.T) {
		m = m.on(t)
		m.weir("stream", "stop", "--wait")
		m.query("select 'unseen'")
		m.weir("stream", "start", "--kms-key", "alias/weir-dev", "--wait")
		m.query("select 'seen'")
		for _, e := range m.awaitText("select 'seen'") {
			if e.Text == "select 'unseen'" {
				t.Error("a statement of the time without a stream is in the stream")
			}
		}
	})

	t.Run("one at a time", func(t *testing.T) {
		m = m.on(t)
		code, _, errs := run("dev", "--data", dir)
		if code != 1 || !strings.Contains(errs, "another weir dev (process "+strconv.Itoa(m.cmd.Process.Pid)+")") || !strings.Contains(errs, "--data") {
			t.Errorf("a second weir dev: exit code %d, %q, want 1 and an error that names the first", code, errs)
		}
	})

	t.Run("Ctrl-C", func(t *testing.T) {
		m = m.on(t)
		pid := m.postmaster()
		name, ok := ringOf(dir)
		if !ok || !exists(name) {
			t.Fatalf("no ring %q while the server runs", name)
		}
		m.query("select 'last words'")
		m.stop()
		gone(t, "PostgreSQL", pid)
		if exists(name) {
			t.Errorf("the ring %s is still there", name)
		}
		for _, f := range []string{filepath.Join(dir+"-ready", "mesh.json"), filepath.Join(dir, connect.FileName)} {
			if exists(f) {
				t.Errorf("the ready file %s is still there", f)
			}
		}
		if !strings.Contains(m.stderr(), "and all of them delivered to Kinesis") {
			t.Errorf("the end does not say what was delivered:\n%s", m.stderr())
		}
		if !strings.Contains(m.stdout(), `"commandText":"select 'last words'"`) {
			t.Errorf("what was recorded last is not shown:\n%s", m.stdout())
		}
	})

	t.Run("again, synchronous", func(t *testing.T) {
		m = m.on(t)
		m = start(t, whole, dir, append([]string{"--module", so, "--quiet", "--ring-size", "1MiB"}, syncFlags...)...)
		if m.file.ClusterResourceID != first.ClusterResourceID || m.file.KinesisStream != first.KinesisStream || m.file.SecretAccessKey != first.SecretAccessKey {
			t.Errorf("the second start has %+v, want the cluster and credentials of the first, %+v", m.file, first)
		}
		m.query("select n from kept")
		m.awaitText("select n from kept")
		if m.stdout() != "" {
			t.Errorf("--quiet shows %q", m.stdout())
		}
		m.isSynchronous()
	})

	t.Run("killed", func(t *testing.T) {
		m = m.on(t)
		pid := m.postmaster()
		m.query("select 'before the kill'")
		m.awaitText("select 'before the kill'")
		m.signal(syscall.SIGKILL)
		m.wait()
		gone(t, "PostgreSQL", pid)
		m = start(t, whole, dir, "--module", so, "--quiet", "--ring-size", "1MiB")
		m.query("select n from kept")
		m.awaitText("select n from kept")
		m.isSynchronous() // as it was when the directory was used before
	})

	t.Run("hurried", func(t *testing.T) {
		m = m.on(t)
		m.weir("stream", "start", "--kms-key", "alias/weir-dev", "--mode", "async", "--wait")
		m.keyWorks(false) // for the next start
		pid := m.postmaster()
		// The first signal's stop hangs on a server that does nothing.
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		m.signal(os.Interrupt)
		time.Sleep(1200 * time.Millisecond) // signals within a second are one
		m.signal(os.Interrupt)
		time.AfterFunc(200*time.Millisecond, func() { syscall.Kill(pid, syscall.SIGCONT) })
		if code := m.wait(); code != 1 || !strings.Contains(m.stderr(), "ended at once") {
			t.Errorf("exit code %d after two signals, want 1:\n%s", code, m.stderr())
		}
		gone(t, "PostgreSQL", pid)
	})

	t.Run("an outage longer than the ring lasts", func(t *testing.T) {
		m = m.on(t)
		m = start(t, whole, dir, "--module", so, "--quiet", "--ring-size", "1MiB", "--spool", "64MiB")
		m.spools()
		m.stop()
		if !strings.Contains(m.stderr(), "and all of them delivered to Kinesis") {
			t.Errorf("the end does not say what was delivered:\n%s", m.stderr())
		}
	})
}

// Ctrl-C while it starts, at whatever moment, leaves nothing running.
func TestDevInterruptedAsItStarts(t *testing.T) {
	so, dir := module(t), dataDir(t)
	for _, after := range []time.Duration{0, 300 * time.Millisecond, 900 * time.Millisecond, 1500 * time.Millisecond} {
		m := launch(t, t, dir, "--module", so)
		for range 100 { // a process that has not begun to listen to signals dies of them, which is right too
			if exists(filepath.Join(dir, "lock")) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(after)
		m.signal(os.Interrupt)
		if code := m.wait(); code > 1 || strings.Contains(m.stderr(), "panic") || strings.Contains(m.stderr(), "canceled") {
			t.Errorf("exit code %d after Ctrl-C %v after the start:\n%s", code, after, m.stderr())
		}
		if b, err := os.ReadFile(filepath.Join(dir, "postgres", "data", "postmaster.pid")); err == nil {
			t.Errorf("PostgreSQL runs on after Ctrl-C %v after the start: %s", after, b)
		}
	}
	start(t, t, dir, "--module", so).stop()
}

// A server of somebody else's: captured, and left as it is.
func TestDevWithARing(t *testing.T) {
	so, dir := module(t), dataDir(t)
	file := filepath.Join("/dev/shm", filepath.Base(filepath.Dir(dir))+".ring")
	t.Cleanup(func() { os.Remove(file) }) // an error: the server never started
	server, err := postgres.Start(t.Context(), postgres.Options{Dir: dir + "-server", Module: so, RingFile: file, RingSize: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Stop(postgres.Fast); err != nil {
			t.Error(err)
		}
	}()
	m := start(t, t, dir, "--ring", file)
	if m.file.PostgresDSN != "" {
		t.Errorf("postgres_dsn = %q, want none: the server is not ours", m.file.PostgresDSN)
	}
	if err := query(t.Context(), server.DSN("postgres", "postgres"), "select 'theirs'"); err != nil {
		t.Fatal(err)
	}
	m.awaitText("select 'theirs'")
	m.stop()
	if !exists(file) {
		t.Error("the ring is gone, and it was not ours")
	}
	if err := query(t.Context(), server.DSN("postgres", "postgres"), "select 'still there'"); err != nil {
		t.Errorf("the server is gone: %v", err)
	}
}

// What is wrong is said in one error that names the way out, and leaves nothing.
func TestDevSaysWhatIsWrong(t *testing.T) {
	so := module(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no module", []string{"--module", "/nowhere/weir.so"}, "--module: stat /nowhere/weir.so"},
		{"nowhere to write the ready file", []string{"--ready-file", "/nowhere/mesh.json"}, "--ready-file: stat /nowhere"},
		{"a file for a directory", []string{"--data", file}, "is no directory"},
		{"too large a ring", []string{"--module", so, "--ring-size", "900GiB"}, "use a smaller --ring-size"},
		{"a port that is taken", []string{"--module", so, "--port", port}, "opening a port for PostgreSQL"},
		{"an AWS port that is taken", []string{"--module", so, "--aws-port", port}, "opening a port for local AWS"},
		{"a NATS port that is taken", []string{"--module", so, "--nats-port", port}, "opening a port for NATS"},
		{"a gRPC port that is taken", []string{"--module", so, "--grpc-port", port}, "opening a port for control"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := launch(t, t, dataDir(t), c.args...)
			if code := m.wait(); code != 1 || !strings.Contains(m.stderr(), c.want) {
				t.Errorf("exit code %d, want 1 and an error that says %q:\n%s", code, c.want, m.stderr())
			}
		})
	}
}
