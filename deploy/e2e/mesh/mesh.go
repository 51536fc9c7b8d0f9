// Package mesh runs the whole of Weir as it is deployed, a process for every
// service, on one machine and for one test: the real binaries, a real NATS
// server, a real PostgreSQL with the module, mTLS between all of them. Each
// process can be killed, stopped for a while and started again.
//
// It uses what `make build` left in bin/. A binary that is missing fails the test.
package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/postgres"
)

// The services, as the tests name them.
const (
	NATS      = "nats"
	LocalAWS  = "localaws"
	Crypto    = "crypto"
	Publisher = "publisher"
	Notifier  = "notifier"
	Control   = "control"
	Capture   = "capture"
)

// Monitor names where NATS says how it is: http://…/healthz.
const Monitor = "nats monitor"

// startOrder is the order in which the mesh comes up; nothing depends on it,
// but a test is faster when nobody has to back off.
var startOrder = []string{NATS, LocalAWS, Notifier, Crypto, Publisher, Control, Capture}

// peers are the other NATS servers of a mesh that has three.
var peers = []string{"nats-2", "nats-3"}

// order is startOrder with all servers of this mesh.
func (m *Mesh) order() []string {
	if !m.options.Peers {
		return startOrder
	}
	return append(append([]string{NATS}, peers...), startOrder[1:]...)
}

// Options say what a test needs otherwise than usual.
type Options struct {
	RingSize  int64             // bytes; the module's default where 0
	Settings  map[string]string // of PostgreSQL
	HBA       string            // pg_hba.conf; trust where empty
	NoStream  bool              // leave the stream stopped
	NoCapture bool              // do not start capture
	// NoServer leaves PostgreSQL to the caller, who gives it Ring() as its ring
	// and starts it before or after. Postgres is then nil.
	NoServer bool
	// AWS is the address of a Kinesis and KMS that the test runs itself; where
	// it is empty the mesh runs one as a process.
	AWS string
	// Environment is of every program, NAME=VALUE: WEIR_CRYPTO_KEY_MAX_AGE=2s
	// is what the file of crypto should say otherwise than usual.
	Environment []string
	// Mode are the flags of `weir stream start` that say how sessions and the
	// stream go together; asynchronous where empty.
	Mode []string
	// Peers makes three NATS servers of one, and keeps the journal on all of them.
	Peers bool
	// JetStream is the directory of NATS, one of the mesh's own where empty.
	JetStream string
	// Spool is the directory of capture's spool, for which crypto gets a key; there
	// is none where it is empty.
	Spool string
}

// Mesh is a running mesh.
type Mesh struct {
	t    testing.TB
	dir  string
	bin  string
	ring string
	port map[string]int

	Postgres *postgres.Server
	// Connect is the file by which the weir command finds the mesh.
	Connect string
	// What the stream is called.
	ClusterResourceID, KinesisStream, KMSKeyID string

	options   Options
	processes map[string]*process
	dataKeys  map[string][]byte // by ciphertext, as KMS decrypted them
}

// Start brings a mesh up with its stream started, and takes it down when the
// test ends.
func Start(t testing.TB, o Options) *Mesh {
	t.Helper()
	m := Prepare(t, o)
	m.Begin()
	return m
}

// Begin brings up what Prepare made, with its stream started. environment is of
// every program, beside that of Options.
func (m *Mesh) Begin(environment ...string) {
	m.t.Helper()
	m.options.Environment = append(slices.Clone(m.options.Environment), environment...)
	o := m.options
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if !o.NoServer {
		m.startPostgres(ctx, o)
	}
	for _, name := range m.order() {
		if name == Capture && o.NoCapture || name == LocalAWS && o.AWS != "" {
			continue
		}
		m.StartProcess(name)
	}
	m.register(ctx, o)
}

// Prepare makes everything that a mesh needs, certificates and configuration
// among it, and starts nothing. What is started is ended with the test.
func Prepare(t testing.TB, o Options) *Mesh {
	t.Helper()
	m := &Mesh{t: t, bin: binaries(t), port: map[string]int{}, options: o, processes: map[string]*process{}}
	m.dir = scratch(t)
	m.ring = filepath.Join("/dev/shm", filepath.Base(m.dir)+".ring")
	t.Cleanup(func() {
		os.Remove(m.ring)
		os.Remove(m.ring + ".sessions") // of a server that was killed
	})
	if err := certs.Ensure(m.Path("certs")); err != nil {
		t.Fatal(err)
	}
	for _, name := range m.order() {
		m.port[name] = freePort(t)
	}
	for _, name := range peers {
		m.port[route(name)] = freePort(t)
	}
	m.port[route(NATS)] = freePort(t)
	m.port[Monitor] = freePort(t)
	m.writeConfigs()
	t.Cleanup(m.stopAll)
	return m
}

func (m *Mesh) startPostgres(ctx context.Context, o Options) {
	m.t.Helper()
	pg, err := postgres.Start(ctx, postgres.Options{
		Dir:      m.Path("postgres"),
		Module:   m.Module(),
		RingFile: m.ring,
		RingSize: o.RingSize,
		Settings: o.Settings,
		HBA:      o.HBA,
	})
	if err != nil {
		m.t.Fatalf("starting PostgreSQL: %v", err)
	}
	m.Postgres = pg
	m.t.Cleanup(func() { pg.Stop(postgres.Immediate) })
}

// Module is the path of the engine module.
func (m *Mesh) Module() string { return filepath.Join(m.bin, "weir.so") }

// Program is the path of a program.
func (m *Mesh) Program(name string) string { return filepath.Join(m.bin, name) }

// Path names a file of the mesh's own directory.
func (m *Mesh) Path(elem ...string) string {
	return filepath.Join(append([]string{m.dir}, elem...)...)
}

// Ring is the path of the ring.
func (m *Mesh) Ring() string { return m.ring }

// Addr is where a service listens.
func (m *Mesh) Addr(name string) string { return fmt.Sprintf("127.0.0.1:%d", m.port[name]) }

// AWSEndpoint is the URL of the local Kinesis and KMS.
func (m *Mesh) AWSEndpoint() string {
	if m.options.AWS != "" {
		return "http://" + m.options.AWS
	}
	return "http://" + m.Addr(LocalAWS)
}

// Run runs a program of the mesh to its end, and returns all that it printed.
func (m *Mesh) Run(ctx context.Context, program string, args ...string) (string, error) {
	return m.run(ctx, program, args...)
}

// Weir runs the weir command against the mesh and returns what it printed.
func (m *Mesh) Weir(ctx context.Context, args ...string) (string, error) {
	return m.run(ctx, "weir", args...)
}

// MustWeir is Weir that fails the test on an error.
func (m *Mesh) MustWeir(args ...string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := m.Weir(ctx, args...)
	if err != nil {
		m.t.Fatalf("weir %v: %v\n%s", args, err, out)
	}
	return out
}

// Eventually polls until f returns nil, and fails the test with f's last error.
func (m *Mesh) Eventually(limit time.Duration, f func() error) {
	m.t.Helper()
	Eventually(m.t, limit, f)
}

// Eventually polls until f returns nil, and fails the test with f's last error.
func Eventually(t testing.TB, limit time.Duration, f func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("after %v: %v", limit, err)
}

// binaries finds what make build left.
func binaries(t testing.TB) string {
	dir := os.Getenv("WEIR_BIN")
	if dir == "" {
		dir = "../../../bin"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"weir", "capture", "crypto", "publisher", "notifier", "control", "nats-server", "weir.so"} {
		if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s is not in %s: run `make build` first, or name the directory in WEIR_BIN", name, dir)
		}
	}
	return dir
}

// scratch is a directory that an unprivileged PostgreSQL can reach, which
// t.TempDir is not for root.
func scratch(t testing.TB) string {
	dir, err := os.MkdirTemp("", "weir-mesh-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("WEIR_KEEP") != "" {
			t.Logf("kept %s", dir)
			return
		}
		os.RemoveAll(dir)
	})
	return dir
}

func freePort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
