package service_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/pkg/service"
)

func write(t *testing.T, yaml string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(name, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestLoad(t *testing.T) {
	file := write(t, `
rpc:
  listen: 127.0.0.1:7702
  allow:
    weir.capture.v1.CaptureService: [control.weir, client.weir]
obs:
  # log_level: debug
region: us-east-1
batch_size: 7
wait: 250ms
targets:
  - {url: "https://a", every: 1m}
`)
	t.Setenv("WEIR_CAPTURE_BATCH_SIZE", "9")
	t.Setenv("WEIR_CAPTURE_RPC__GRACE", "3s")
	t.Setenv("WEIR_CAPTURE_SYNC", "true")
	t.Setenv("WEIR_CAPTURE_RATE", "0.5")
	t.Setenv("WEIR_CAPTURE_TAGS", "a, b")
	t.Setenv("WEIR_CAPTURE_TLS__CERT_FILE", "123")
	for name, value := range map[string]string{ // Kubernetes, for Services called weir-capture and weir-capture-metrics
		"WEIR_CAPTURE_SERVICE_HOST":         "10.0.0.1",
		"WEIR_CAPTURE_SERVICE_PORT":         "7702",
		"WEIR_CAPTURE_SERVICE_PORT_GRPC":    "7702",
		"WEIR_CAPTURE_PORT":                 "tcp://10.0.0.1:7702",
		"WEIR_CAPTURE_PORT_7702_TCP":        "tcp://10.0.0.1:7702",
		"WEIR_CAPTURE_PORT_7702_TCP_ADDR":   "10.0.0.1",
		"WEIR_CAPTURE_METRICS_SERVICE_HOST": "10.0.0.2",
	} {
		t.Setenv(name, value)
	}
	t.Setenv("WEIR_CRYPTO_NONSENSE", "another service's business")
	c, err := service.Load[config]("capture", file)
	if err != nil {
		t.Fatalf("Load = %v", err)
	}
	if got := c.RPC.Allow["weir.capture.v1.CaptureService"]; !slices.Equal(got, []string{"control.weir", "client.weir"}) {
		t.Errorf("allow = %q: a key with dots is lost", got)
	}
	for name, ok := range map[string]bool{
		"file":                       c.RPC.Listen == "127.0.0.1:7702",
		"file over default":          c.Region == "us-east-1",
		"environment over file":      c.Batch == 9,
		"environment over default":   c.RPC.Grace == 3*time.Second,
		"default":                    c.RPC.MaxConnectionAge == 5*time.Minute,
		"default of an empty group":  c.Obs.LogLevel == "info",
		"duration":                   c.Wait == 250*time.Millisecond,
		"bool":                       c.Sync,
		"float":                      c.Rate == 0.5,
		"list with commas":           slices.Equal(c.Tags, []string{"a", "b"}),
		"text that looks a number":   c.TLS.CertFile == "123",
		"list of groups":             slices.Equal(c.Targets, []target{{"https://a", time.Minute}}),
		"skipped field stays as was": c.Hook == nil,
	} {
		if !ok {
			t.Errorf("%s: wrong in %+v", name, c)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	tests := []struct {
		name, yaml, env, value string
		want                   []string
	}{
		{name: "misspelt key", yaml: "regoin: x", want: []string{"unknown key regoin", "closest known key is region"}},
		{name: "misspelt nested key", yaml: "rpc: {lisen: x}", want: []string{"unknown key rpc.lisen;", "rpc.listen"}},
		{name: "key in the wrong group", yaml: "listen: x", want: []string{"unknown key listen;", "rpc.listen"}},
		{name: "key in a list", yaml: "targets: [{url: a, evry: 1s}]", want: []string{"unknown key targets[0].evry"}},
		{name: "other case", yaml: "Region: x", want: []string{"unknown key Region;", "region"}},
		{name: "key that is a number", yaml: "rpc: {5: x}", want: []string{"unknown key rpc.5;"}},
		{name: "huge file", yaml: strings.Repeat("# the wrong file\n", 1<<16), want: []string{"bytes, want at most"}},
		{name: "skipped field", yaml: "Hook: x", want: []string{"unknown key Hook"}},
		{name: "all at once", yaml: "a1: 1\nb1: 2\nwait: 5\nbatch_size: many", want: []string{"unknown key a1", "unknown key b1", "wait", "batch_size"}},
		{name: "unit missing", yaml: "wait: 5", want: []string{"wait", "5", "unit"}},
		{name: "fraction", yaml: "batch_size: 1.5", want: []string{"batch_size", "1.5 is no integer"}},
		{name: "wrong type", yaml: "sync: 12", want: []string{"sync"}},
		{name: "value for a group", yaml: "rpc: 12", want: []string{"rpc"}},
		{name: "twice", yaml: "wait: 1s\nwait: 2s", want: []string{"already defined"}},
		{name: "no YAML", yaml: "wait: [", want: []string{"yaml"}},
		{name: "misspelt variable", env: "WEIR_CAPTURE_RPC__LISEN", value: "x", want: []string{"unknown key WEIR_CAPTURE_RPC__LISEN;", "WEIR_CAPTURE_RPC__LISTEN"}},
		{name: "port guessed", env: "WEIR_CAPTURE_RPC__PORT", value: "7702", want: []string{"unknown key WEIR_CAPTURE_RPC__PORT;"}},
		{name: "port guessed elsewhere", env: "WEIR_CAPTURE_PORT", value: "7702", want: []string{"unknown key WEIR_CAPTURE_PORT;"}},
		{name: "wrong type in a variable", env: "WEIR_CAPTURE_BATCH_SIZE", value: "many", want: []string{"batch_size"}},
		{name: "variable is no YAML", env: "WEIR_CAPTURE_BATCH_SIZE", value: "[", want: []string{"WEIR_CAPTURE_BATCH_SIZE", "integer"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.env != "" {
				t.Setenv(tt.env, tt.value)
			}
			_, err := service.Load[config]("capture", write(t, tt.yaml))
			if err == nil {
				t.Fatal("Load = nil, want an error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Load = %v\nwant it to contain %q", err, want)
				}
			}
		})
	}
	if _, err := service.Load[config]("capture", filepath.Join(t.TempDir(), "none.yaml")); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("Load(missing file) = %v, want an error naming it", err)
	}
}

func TestDefault(t *testing.T) {
	c := service.Default[config]()
	if c.Region != "eu-central-1" || c.Batch != 500 || c.Wait != 2*time.Second || c.RPC.Grace != 10*time.Second {
		t.Errorf("Default = %+v", c)
	}
	defer func() {
		if recover() == nil {
			t.Error("Default with a wrong tag did not panic")
		}
	}()
	service.Default[struct {
		N int `koanf:"n" default:"many"`
	}]()
}

// Whatever the file says, Load answers: it neither panics nor takes a key that it does not know.
func FuzzLoad(f *testing.F) {
	f.Add("rpc: {listen: x, allow: {a.b.C: [d]}}\nbatch_size: 7\nwait: 250ms\n")
	f.Add("targets: [{url: a, every: 1m}]\nrate: 1e3\nsync: no\ntags: [a, b]\n")
	f.Add("rpc: &a {grace: 1s}\nobs: *a\n")
	f.Add("{rpc: ~, 5: 6, ? [a] : b}")
	file := filepath.Join(f.TempDir(), "config.yaml")
	f.Fuzz(func(t *testing.T, yaml string) {
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := service.Load[config]("capture", file)
		again, errAgain := service.Load[config]("capture", file)
		// As text, for a rate of .nan is not equal to itself.
		if fmt.Sprintf("%+v", c) != fmt.Sprintf("%+v", again) || (err == nil) != (errAgain == nil) {
			t.Fatalf("Load = %+v, %v, and then %+v, %v", c, err, again, errAgain)
		}
		if err := os.WriteFile(file, []byte("no_such_key: 1\n"+yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := service.Load[config]("capture", file); err == nil {
			t.Fatal("Load took an unknown key")
		}
	})
}
