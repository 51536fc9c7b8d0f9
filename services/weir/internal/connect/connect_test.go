package connect_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/weir-das/weir/services/weir/internal/connect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sample() connect.File {
	return connect.File{
		PostgresDSN: "postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable&x=<y>",
		AWSEndpoint: "http://127.0.0.1:4566", Region: "us-east-1", AccessKeyID: "id", SecretAccessKey: "secret",
		ClusterID: "dev", ClusterResourceID: "cluster-A", KinesisStream: "aws-rds-das-cluster-A", NATSURL: "tls://127.0.0.1:4222",
		CAFile: "/certs/ca.pem", ClientCertFile: "/certs/client.pem", ClientKeyFile: "/certs/client.key",
		GRPC: connect.GRPC{Control: "127.0.0.1:1", Capture: "127.0.0.1:2", Crypto: "127.0.0.1:3", Publisher: "127.0.0.1:4", Notifier: "127.0.0.1:5"},
	}
}

// The keys are an interface for scripts.
func TestWriteHasExactlyThePromisedKeys(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ready.json")
	if err := sample().Write(name); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, want 0600: it holds a secret", info.Mode().Perm())
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(b, &object); err != nil {
		t.Fatal(err)
	}
	var services map[string]string
	if err := json.Unmarshal(object["grpc"], &services); err != nil {
		t.Fatal(err)
	}
	for got, want := range map[*[]string][]string{
		keys(object): {"access_key_id", "aws_endpoint", "ca_file", "client_cert_file", "client_key_file", "cluster_id",
			"cluster_resource_id", "grpc", "kinesis_stream", "nats_url", "postgres_dsn", "region", "secret_access_key"},
		keys(services): {"capture", "control", "crypto", "notifier", "publisher"},
	} {
		if !slices.Equal(*got, want) {
			t.Errorf("keys = %v, want %v", *got, want)
		}
	}
	if !strings.Contains(string(b), "&x=<y>") {
		t.Errorf("the DSN is escaped for HTML: %s", b)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(name), ".*")); len(left) > 0 {
		t.Errorf("left %v behind", left)
	}
}

func keys[V any](m map[string]V) *[]string {
	var k []string
	for name := range m {
		k = append(k, name)
	}
	slices.Sort(k)
	return &k
}

func TestReadsWhatItWrote(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ready.json")
	if err := sample().Write(name); err != nil {
		t.Fatal(err)
	}
	got, err := connect.Read(name)
	if err != nil || got != sample() {
		t.Errorf("Read = %+v, %v, want what was written", got, err)
	}
}

func TestReadSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ name, text, want string }{
		{"missing", "", "does not exist: is `weir dev` running"},
		{"garbage", "hello", "is not the JSON"},
		{"list", "[]", "is not the JSON"},
		{"empty", "{}", "names nothing to connect to"},
		{"another", `{"name":"package"}`, "names nothing to connect to"},
		{"large", `{"region":"` + strings.Repeat("x", 70_000) + `"}`, "want at most"},
	} {
		name := filepath.Join(dir, c.name)
		if c.text != "" {
			if err := os.WriteFile(name, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := connect.Read(name)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), name) {
			t.Errorf("Read(%s) = %v, want an error that names the file and says %q", c.name, err, c.want)
		}
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "ready.json")
	if err := sample().Write(name); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_STATE_HOME", dir)
	for _, c := range []struct {
		name  string
		flags connect.Flags
		check func(connect.File) bool
	}{
		{"a file", connect.Flags{Connect: name}, func(f connect.File) bool { return f == sample() }},
		{"a flag before the file", connect.Flags{Connect: name, Control: "other:7701", Region: "eu-west-1"}, func(f connect.File) bool {
			return f.GRPC.Control == "other:7701" && f.Region == "eu-west-1" && f.GRPC.Capture == sample().GRPC.Capture
		}},
		{"another endpoint does not get the file's credentials", connect.Flags{Connect: name, AWSEndpoint: "http://other"}, func(f connect.File) bool {
			return f.AWSEndpoint == "http://other" && f.AccessKeyID == "" && f.SecretAccessKey == ""
		}},
		{"the file's own endpoint does", connect.Flags{Connect: name, AWSEndpoint: sample().AWSEndpoint}, func(f connect.File) bool {
			return f.AccessKeyID == "id"
		}},
		{"flags alone", connect.Flags{Control: "c:1", CAFile: "ca", CertFile: "cert", KeyFile: "key"}, func(f connect.File) bool {
			return f == connect.File{CAFile: "ca", ClientCertFile: "cert", ClientKeyFile: "key", GRPC: connect.GRPC{Control: "c:1"}}
		}},
	} {
		got, err := c.flags.Resolve()
		if err != nil || !c.check(got) {
			t.Errorf("%s: Resolve = %+v, %v", c.name, got, err)
		}
	}
	if _, err := (connect.Flags{Connect: filepath.Join(dir, "none")}).Resolve(); err == nil {
		t.Error("Resolve of a file that does not exist = nil, want an error")
	}
}

func TestDialSaysWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	cert := filepath.Join(dir, "client.pem")
	if err := os.WriteFile(cert, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		file connect.File
		want string
	}{
		{"nothing", connect.File{}, "start one with `weir dev`"},
		{"no address", connect.File{Region: "x"}, "name it with --control"},
		{"no certificates", connect.File{GRPC: connect.GRPC{Control: "c:1"}}, "--ca-file, --cert-file, --key-file"},
		{"no such certificate", connect.File{CAFile: dir + "/none", GRPC: connect.GRPC{Control: "c:1"}}, "--ca-file"},
		{"no certificate in it", connect.File{CAFile: cert, ClientCertFile: cert, ClientKeyFile: cert, GRPC: connect.GRPC{Control: "c:1"}}, "client.pem"},
	} {
		conn, err := c.file.Control()
		if err == nil {
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Control() = %v, want an error that says %q", c.name, err, c.want)
		}
	}
}

func TestAWSNeedsARegion(t *testing.T) {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	if _, err := (connect.File{AWSEndpoint: "http://127.0.0.1:1"}).AWS(t.Context()); err == nil || !strings.Contains(err.Error(), "--region") {
		t.Errorf("AWS without a region = %v, want an error that names --region", err)
	}
	cfg, err := sample().AWS(t.Context())
	if err != nil || cfg.Region != "us-east-1" || *cfg.BaseEndpoint != "http://127.0.0.1:4566" {
		t.Errorf("AWS = %+v, %v", cfg, err)
	}
	cred, err := cfg.Credentials.Retrieve(t.Context())
	if err != nil || cred.AccessKeyID != "id" || cred.SecretAccessKey != "secret" {
		t.Errorf("credentials = %q, %v, want the file's", cred.AccessKeyID, err)
	}
}
