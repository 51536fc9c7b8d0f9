package natsserver_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-das/weir/pkg/journal/natsserver"
	"github.com/weir-das/weir/pkg/rpc"
)

var update = flag.Bool("update", false, "write deploy/config/nats.conf")

// TestDeployedConfiguration keeps the configuration that compose mounts equal to
// the one the embedded server runs with.
func TestDeployedConfiguration(t *testing.T) {
	text := natsserver.Configuration(natsserver.Settings{
		Name: "nats", Listen: "0.0.0.0:4222", Monitor: "127.0.0.1:8222", Dir: "/data",
		TLS: rpc.TLS{CertFile: "/certs/nats.pem", KeyFile: "/certs/nats.key", CAFile: "/certs/ca.pem"},
	})
	file := filepath.Join("..", "..", "..", "deploy", "config", "nats.conf")
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != text {
		t.Errorf("%s is not what the template gives; run this test with -update", file)
	}
	for _, want := range []string{"sync_interval: always", "max_payload: 2097152", "verify_and_map: true", `min_version: "1.3"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the configuration has no %s", want)
		}
	}
}
