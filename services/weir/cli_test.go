package weir_test

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/weir-das/weir/pkg/localaws"
	"github.com/weir-das/weir/services/weir/internal/connect"
)

// nowhere makes sure that no mesh is found which the test did not name.
func nowhere(t *testing.T) {
	t.Helper()
	t.Setenv("WEIR_CONNECT", "")
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	if os.Geteuid() == 0 {
		if _, err := os.Stat(connect.DefaultFile()); err == nil {
			t.Fatalf("a weir dev with the default data directory runs here (%s): stop it for this test", connect.DefaultFile())
		}
	}
}

func TestHelpOfEverything(t *testing.T) {
	for _, command := range []string{
		"", "dev", "tail", "verify", "stream", "stream start", "stream stop", "stream status", "cluster", "cluster create", "cluster list",
		"cluster show", "cluster delete", "instance", "instance add", "instance remove", "events", "events list", "localaws", "certs", "version",
	} {
		code, out, errs := run(append(strings.Fields(command), "--help")...)
		if code != 0 || errs != "" || !strings.HasPrefix(out, strings.TrimSpace("Usage: weir "+command)) {
			t.Errorf("weir %s --help: exit code %d, %q, %q", command, code, out, errs)
		}
	}
	for _, command := range []string{"dev", "tail", "verify", "stream start", "cluster create", "events list", "localaws", "certs"} {
		if _, out, _ := run(append(strings.Fields(command), "--help")...); !strings.Contains(out, "Example") {
			t.Errorf("weir %s --help has no example", command)
		}
	}
	if code, out, _ := run(); code != 0 || !strings.Contains(out, "weir dev") {
		t.Errorf("weir alone: exit code %d, %q, want the help", code, out)
	}
}

func TestCalledWrongly(t *testing.T) {
	for _, c := range []struct{ line, want, try string }{
		{"drink", "unexpected argument drink", "weir --help"},
		{"stream", "expected one of", "weir stream --help"},
		{"stream start --cluster a", "--kms-key", "weir stream start --help"},
		{"tail --format xml", "--format", "weir tail --help"},
		{"tail --from yesterday", "is no position", "weir tail --help"},
		{"tail --cluster a --stream b", "--cluster", "weir tail --help"},
		{"verify --from latest", "--from latest", "weir verify --help"},
		{"verify --records a --cluster b", "--records", "weir verify --help"},
		{"dev --ring-size lots", "is no size", "weir dev --help"},
		{"dev --spool lots", "is no size", "weir dev --help"},
		{"dev --spool 4KiB", "want 1MiB or more", "weir dev --help"},
		{"dev --ring a --pgaudit-log b", "--ring and --pgaudit-log", "weir dev --help"},
		{"dev --pgaudit-log a --port 1", "--pgaudit-log follows a server of your own", "weir dev --help"},
		{"dev --pgaudit-log a --mode sync", "no session can be made to wait", "weir dev --help"},
		{"dev --ring a --module b", "--ring captures a server of your own", "weir dev --help"},
		{"dev --frobnicate", "--frobnicate", "weir dev --help"},
		{"cluster create", "expected", "weir cluster create --help"},
	} {
		code, out, errs := run(strings.Fields(c.line)...)
		if code != 2 || out != "" || !strings.Contains(errs, c.want) || !strings.Contains(errs, "Try: "+c.try) {
			t.Errorf("weir %s: exit code %d, %q, %q, want 2, and %q and %q on standard error", c.line, code, out, errs, c.want, c.try)
		}
	}
}

func TestWithoutAMesh(t *testing.T) {
	nowhere(t)
	for _, line := range []string{"tail", "tail --cluster a", "stream status", "cluster list", "events list"} {
		code, _, errs := run(strings.Fields(line)...)
		if code != 1 || !strings.Contains(errs, "weir dev") || !strings.Contains(errs, "--connect") {
			t.Errorf("weir %s: exit code %d, %q, want 1 and the ways to name a mesh", line, code, errs)
		}
	}
	if code, _, errs := run("verify"); code != 2 || !strings.Contains(errs, "weir dev") {
		t.Errorf("weir verify: exit code %d, %q, want 2: it was not checked", code, errs)
	}
	t.Setenv("WEIR_CONNECT", filepath.Join(t.TempDir(), "gone.json"))
	if code, _, errs := run("stream", "status"); code != 1 || !strings.Contains(errs, "gone.json does not exist") {
		t.Errorf("a connect file that does not exist: exit code %d, %q", code, errs)
	}
}

func TestVersion(t *testing.T) {
	if code, out, _ := run("version"); code != 0 || !strings.HasPrefix(out, "weir ") || strings.Count(out, "\n") != 1 {
		t.Errorf("weir version: exit code %d, %q", code, out)
	}
}

func TestCerts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	for range 2 { // the second time finds them
		if code, out, errs := run("certs", dir); code != 0 || !strings.Contains(out, "--cert-file "+filepath.Join(dir, "client.pem")) {
			t.Fatalf("weir certs: exit code %d, %q, %q", code, out, errs)
		}
	}
	for _, name := range []string{"ca.pem", "control.pem", "nats.key"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// tail needs nothing of the mesh: AWS and a stream's name are enough.
func TestTailWithFlagsAlone(t *testing.T) {
	nowhere(t)
	const stream = "aws-rds-das-cluster-AAAAAAAAAAAAAAAAAAAAAAAAAA"
	server, err := localaws.New(localaws.Options{})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(server)
	defer web.Close()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_PROFILE": "", "AWS_CONFIG_FILE": os.DevNull,
		"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "",
	} {
		t.Setenv(name, value)
	}
	args := []string{"tail", "--stream", stream, "--aws-endpoint", web.URL, "--region", "us-east-1", "--no-follow"}
	if code, _, errs := run(args...); code != 1 || !strings.Contains(errs, "no Kinesis stream "+stream) {
		t.Errorf("a stream that does not exist: exit code %d, %q", code, errs)
	}
	if code, _, errs := run("tail", "--stream", "orders", "--aws-endpoint", web.URL, "--region", "us-east-1"); code != 1 || !strings.Contains(errs, "is no activity stream") {
		t.Errorf("another stream: exit code %d, %q", code, errs)
	}
	if code, _, errs := run("tail", "--stream", stream, "--aws-endpoint", web.URL); code != 1 || !strings.Contains(errs, "--region") {
		t.Errorf("no region: exit code %d, %q", code, errs)
	}

	cfg, err := (connect.File{AWSEndpoint: web.URL, Region: "us-east-1"}).AWS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client := kinesis.NewFromConfig(cfg)
	if _, err := client.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String(stream), ShardCount: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := run(args...); code != 0 || out+errs != "" {
		t.Errorf("an empty stream: exit code %d, %q, %q, want 0 and nothing", code, out, errs)
	}
	for range 3 {
		if _, err := client.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: aws.String(stream), PartitionKey: aws.String("a"), Data: []byte("hello")}); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errs := run(args...)
	if code != 1 || out != "" || strings.Count(errs, "not an activity record") != 1 || !strings.Contains(errs, "3 records of 3 could not be opened") {
		t.Errorf("records that do not open: exit code %d, %q, %q, want 1, the cause once and the count", code, out, errs)
	}
}
