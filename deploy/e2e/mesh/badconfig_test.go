package mesh_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
)

var services = []string{mesh.Capture, mesh.Crypto, mesh.Publisher, mesh.Notifier, mesh.Control}

// A configuration that is wrong is refused before anything starts: one line for
// each mistake, which names the key, the file and what to write instead.
func TestWrongConfigurationIsNamed(t *testing.T) {
	m := mesh.Prepare(t, mesh.Options{})
	good := map[string]string{}
	for _, name := range services {
		text, err := os.ReadFile(m.Path(name + ".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		good[name] = string(text)
		if out, code := start(t, m, name, good[name], "--check"); code != 0 {
			t.Fatalf("%s --check = %d for the configuration that the mistakes are made in:\n%s", name, code, out)
		}
	}
	type mistake struct {
		name, service string
		from, to      string   // replaced in the file; added to it where from is empty
		says          []string // all on one line
	}
	tests := []mistake{
		{"key", mesh.Capture, "", "ring_fil: /dev/shm/x", []string{"unknown key ring_fil", "ring_file"}},
		{"key", mesh.Crypto, "", "kms_endpont: http://kms", []string{"unknown key kms_endpont", "kms_endpoint"}},
		{"key", mesh.Publisher, "", "kinesis_endpont: http://kinesis", []string{"unknown key kinesis_endpont", "kinesis_endpoint"}},
		{"key", mesh.Notifier, "", "max_byte: 1048576", []string{"unknown key max_byte", "max_bytes"}},
		{"key", mesh.Control, "", "publishr: 127.0.0.1:1", []string{"unknown key publishr", "publisher"}},
		{"nowhere to listen", mesh.Control, "  listen: " + m.Addr(mesh.Control), "  listen: nowhere", []string{"listen", "nowhere", "host:port"}},
		{"no peer", mesh.Capture, "crypto: " + m.Addr(mesh.Crypto), "", []string{"crypto: empty", "host:port"}},
		{"clear text to NATS", mesh.Publisher, "url: tls://127.0.0.1", "url: nats://nats.example", []string{"not encrypted", "tls://"}},
	}
	for _, name := range services {
		nested := mistake{"nested key", name, "  listen:", "  lisen: x\n  listen:", []string{"unknown key rpc.lisen", "rpc.listen"}}
		missing := m.Path("certs", "mislaid.pem")
		lost := mistake{"no certificate", name, "\n  cert_file: " + m.Path("certs", name+".pem"), "\n  cert_file: " + missing,
			[]string{"cert_file", missing, "does not exist", "set cert_file"}}
		another := mistake{"another's key", name, "\n  key_file: " + m.Path("certs", name+".key"), "\n  key_file: " + m.Path("certs", "probe.key"),
			[]string{"cert_file", "key_file", "probe.key", "does not match"}}
		tests = append(tests, nested, lost, another)
	}
	for _, tt := range tests {
		t.Run(tt.service+"/"+tt.name, func(t *testing.T) {
			text := good[tt.service] + tt.to + "\n"
			if tt.from != "" {
				if !strings.Contains(good[tt.service], tt.from) {
					t.Fatalf("no %q in:\n%s", tt.from, good[tt.service])
				}
				text = strings.Replace(good[tt.service], tt.from, tt.to, 1)
			}
			out, code := start(t, m, tt.service, text)
			if code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			named := 0
			for line := range strings.Lines(out) {
				if containsAll(line, tt.says...) {
					named++
				}
			}
			if named != 1 {
				t.Errorf("%d lines have all of %q, want one:\n%s", named, tt.says, out)
			}
		})
	}
}

// start runs a service that is expected to end by itself.
func start(t *testing.T, m *mesh.Mesh, service, config string, flags ...string) (out string, code int) {
	t.Helper()
	path := m.Path("wrong-" + service + ".yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := m.Run(ctx, service, append(flags, "--config", path)...)
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Fatalf("%s did not end by itself: %v\n%s", service, err, out)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	return out, code
}

func containsAll(text string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}
