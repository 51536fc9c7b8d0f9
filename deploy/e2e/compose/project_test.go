//go:build e2e

// Package compose_test runs docker-compose.yml as a reader of README would, in
// a project of its own, and then worse: it scales, kills and restarts the parts
// under load and accounts for every number. `make e2e` builds the images first.
//
// It needs Linux, Docker and Compose v2. What is missing fails the test.
package compose_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
)

// project is one `docker compose` project, apart from whoever runs the mesh
// from the same file under its usual name.
type project struct {
	t     *testing.T
	scale []string // of every up from now on
}

// newProject makes sure that Docker is here and that nothing is left of an
// earlier run, and takes everything away when the test ends.
func newProject(t *testing.T) *project {
	t.Helper()
	for _, need := range []struct {
		args []string
		fix  string
	}{
		{[]string{"version", "--format", "{{.Server.Version}}"}, "install Docker Engine and start it"},
		{[]string{"compose", "version", "--short"}, "install the Compose plugin, version 2"},
		{[]string{"image", "inspect", "--format", "{{.Id}}", "weir/weir", "weir/postgres", "weir/capture", "weir/crypto",
			"weir/publisher", "weir/notifier", "weir/control"}, "run `make images`"},
	} {
		out, err := exec.Command("docker", need.args...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %s: %v\n%sto fix it, %s", strings.Join(need.args[:1], " "), err, out, need.fix)
		}
	}
	p := &project{t: t}
	p.must("down", "--volumes", "--remove-orphans")
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(p.must("ps", "--all"))
			t.Log(p.must("logs", "--tail", "40"))
		}
		p.must("down", "--volumes")
	})
	return p
}

// command runs on the project; every fixed port is a free one.
func (p *project) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", append([]string{"compose", "--project-name", "weir-e2e", "--file", "../../../docker-compose.yml"}, args...)...)
	cmd.Env = append(os.Environ(), "CONTROL_PORT=0", "CAPTURE_PORT=0", "NOTIFIER_PORT=0", "POSTGRES_PORT=0", "AWS_PORT=0", "COMPOSE_PROGRESS=quiet")
	return cmd
}

// try runs a command and returns what it printed to standard output.
func (p *project) try(limit time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := p.command(ctx, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("docker compose %s: %w\n%s%s", strings.Join(args, " "), err, out.String(), said.String())
	}
	return out.String(), nil
}

func (p *project) must(args ...string) string {
	p.t.Helper()
	out, err := p.try(5*time.Minute, args...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// up starts what does not run, at the present scale, and waits until the
// stream is started.
func (p *project) up() {
	p.t.Helper()
	p.must(slices.Concat([]string{"up", "--detach", "--no-build"}, p.scale)...)
	p.eventually(2*time.Minute, func() error {
		var register struct {
			State    string
			ExitCode int
		}
		if err := json.Unmarshal([]byte(p.must("ps", "--all", "--format", "json", "register")), &register); err != nil {
			return fmt.Errorf("docker compose ps: %w", err)
		}
		if register.State != "exited" || register.ExitCode != 0 {
			return fmt.Errorf("register is %s with exit code %d:\n%s", register.State, register.ExitCode, p.must("logs", "--tail", "5", "register"))
		}
		return nil
	})
}

func (p *project) eventually(limit time.Duration, f func() error) {
	p.t.Helper()
	mesh.Eventually(p.t, limit, f)
}

// psql runs one statement and returns what it printed.
func (p *project) psql(statement string) string {
	p.t.Helper()
	return strings.TrimSpace(p.must("exec", "-T", "postgres", "psql", "-h", "/tmp", "-U", "postgres", "-XAtqc", statement))
}

// keepBusy runs pgbench again and again, at a rate that two cores bear, until
// the function that it returns is called.
func (p *project) keepBusy() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			// Seconds, not minutes: what runs inside the container outlives us.
			_ = p.command(ctx, "exec", "-T", "postgres", "pgbench", "-h", "/tmp", "-U", "postgres", "-n", "-c", "4", "-R", "100", "-T", "5", "postgres").Run()
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() { cancel(); <-done }
}

// replicas is how many containers of a service run.
func (p *project) replicas(service string) int {
	p.t.Helper()
	return len(strings.Fields(p.must("ps", "--quiet", "--status", "running", service)))
}
