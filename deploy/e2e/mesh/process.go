package mesh

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/weir-das/weir/pkg/certs"
)

// process is one program of the mesh. Its output goes to a file beside its
// configuration, which a failing test shows.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// StartProcess starts a program of the mesh and returns when it listens.
func (m *Mesh) StartProcess(name string) {
	m.t.Helper()
	argv := []string{name, "--config", m.Path(name + ".yaml")}
	switch {
	case name == NATS || slices.Contains(peers, name):
		argv = []string{"nats-server", "--config", m.Path(name + ".conf")}
	case name == LocalAWS:
		argv = []string{"weir", "localaws", "--listen", m.Addr(LocalAWS), "--kms-state", m.Path("kms.json")}
	}
	out, err := os.OpenFile(m.Path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(filepath.Join(m.bin, argv[0]), argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(append(os.Environ(), awsEnvironment...), m.options.Environment...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		m.t.Fatalf("starting %s: %v", name, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() { defer close(p.done); cmd.Wait() }()
	m.processes[name] = p

	m.Eventually(30*time.Second, func() error {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended at once:\n%s", name, m.Log(name))
		default:
		}
		c, err := net.DialTimeout("tcp", m.Addr(name), time.Second)
		if err != nil {
			return fmt.Errorf("%s does not listen: %v\n%s", name, err, m.Log(name))
		}
		return c.Close()
	})
}

// awsEnvironment is who the mesh is at the local AWS.
var awsEnvironment = []string{"AWS_ACCESS_KEY_ID=weir", "AWS_SECRET_ACCESS_KEY=weir-secret", "AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true"}

// Signal sends a signal to a program of the mesh.
func (m *Mesh) Signal(name string, sig syscall.Signal) {
	m.t.Helper()
	if err := m.processes[name].cmd.Process.Signal(sig); err != nil {
		m.t.Fatalf("signal %v to %s: %v", sig, name, err)
	}
}

// Kill ends a program with SIGKILL and returns when it is gone.
func (m *Mesh) Kill(name string) {
	m.t.Helper()
	m.Signal(name, syscall.SIGKILL)
	<-m.processes[name].done
}

// Terminate ends a program as its operator would.
func (m *Mesh) Terminate(name string) {
	m.t.Helper()
	m.Signal(name, syscall.SIGTERM)
	select {
	case <-m.processes[name].done:
	case <-time.After(30 * time.Second):
		m.t.Fatalf("%s does not stop:\n%s", name, m.Log(name))
	}
}

// PID is a program's process id.
func (m *Mesh) PID(name string) int { return m.processes[name].cmd.Process.Pid }

// Log is the end of what a program printed.
func (m *Mesh) Log(name string) string {
	b, err := os.ReadFile(m.Path(name + ".log"))
	if err != nil {
		return err.Error()
	}
	if len(b) > 8<<10 {
		b = b[len(b)-8<<10:]
	}
	return string(b)
}

func (m *Mesh) stopAll() {
	order := m.order()
	for i := len(order) - 1; i >= 0; i-- {
		name := order[i]
		p := m.processes[name]
		if p == nil {
			continue
		}
		p.cmd.Process.Signal(syscall.SIGCONT)
		p.cmd.Process.Kill()
		<-p.done
		if m.t.Failed() {
			m.t.Logf("---- %s\n%s", name, m.Log(name))
		}
	}
}

// run runs a program of the mesh to its end.
func (m *Mesh) run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(m.bin, program), args...)
	cmd.Env = append(append(append(os.Environ(), awsEnvironment...), m.options.Environment...), "WEIR_CONNECT="+m.Connect)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// register makes the cluster, its instance and its key, and starts the stream,
// with the command line as an operator would.
func (m *Mesh) register(ctx context.Context, o Options) {
	m.t.Helper()
	client := certs.TLS(m.Path("certs"), "client")
	connect := map[string]any{
		"aws_endpoint": m.AWSEndpoint(), "region": "us-east-1",
		"access_key_id": "weir", "secret_access_key": "weir-secret", "cluster_id": "test",
		"nats_url": "tls://" + m.Addr(NATS), "ca_file": client.CAFile, "client_cert_file": client.CertFile, "client_key_file": client.KeyFile,
		"grpc": map[string]string{
			"control": m.Addr(Control), "capture": m.Addr(Capture), "crypto": m.Addr(Crypto),
			"publisher": m.Addr(Publisher), "notifier": m.Addr(Notifier),
		},
	}
	if m.Postgres != nil {
		connect["postgres_dsn"] = m.Postgres.DSN("postgres", "postgres")
	}
	m.Connect = m.Path("connect.json")
	m.writeJSON(m.Connect, connect)

	m.MustWeir("cluster", "create", "test", "--engine", "postgres")
	m.MustWeir("instance", "add", "test", "test-1")
	var cluster struct {
		ResourceID string `json:"cluster_resource_id"`
	}
	if err := json.Unmarshal([]byte(m.MustWeir("cluster", "show", "test", "--json")), &cluster); err != nil {
		m.t.Fatal(err)
	}
	m.ClusterResourceID = cluster.ResourceID
	m.KinesisStream = "aws-rds-das-" + cluster.ResourceID
	connect["cluster_resource_id"], connect["kinesis_stream"] = m.ClusterResourceID, m.KinesisStream
	m.writeJSON(m.Connect, connect)

	m.KMSKeyID = m.createKey(ctx)
	if !o.NoStream && !o.NoCapture {
		mode := o.Mode
		if len(mode) == 0 {
			mode = []string{"--mode", "async"}
		}
		m.StartStream(mode...)
	}
}

// StartStream starts the stream, or changes the mode of the one that runs, and
// returns when the engine has been told.
func (m *Mesh) StartStream(mode ...string) {
	m.t.Helper()
	m.MustWeir(append([]string{"stream", "start", "--cluster", "test", "--kms-key", m.KMSKeyID, "--wait"}, mode...)...)
}

func (m *Mesh) writeJSON(path string, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		m.t.Fatal(err)
	}
}
