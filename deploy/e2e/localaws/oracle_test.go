package localaws_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-das/weir/pkg/localaws"
)

// An endpoint is one that answers as Kinesis: ours, or an oracle.
type endpoint struct {
	name string
	url  string
}

func ours(t *testing.T) endpoint {
	t.Helper()
	srv, err := localaws.New(localaws.Options{ShardLimit: 50})
	if err != nil {
		t.Fatal(err)
	}
	return endpoint{"localaws", serve(t, srv)}
}

const kinesaliteName, kinesisLocalName = "kinesalite", "kinesis-local"

// oracle starts one of the imitations installed from js/package-lock.json.
func oracle(t *testing.T, name string) endpoint {
	t.Helper()
	js, err := filepath.Abs("js")
	if err != nil {
		t.Fatal(err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is not installed; `make setup` installs it")
	}
	module := filepath.Join(js, "node_modules", name)
	if _, err := os.Stat(module); err != nil {
		t.Fatalf("%v; `make setup` installs it", err)
	}
	preload := filepath.Join(js, "loopback.js")
	cmd, port := exec.Command(node, "-r", preload, filepath.Join(js, "kinesalite.js")), "4567"
	if name == kinesisLocalName {
		cmd, port = exec.Command(node, "-r", preload, "main.js"), "4568"
		cmd.Dir = module // it reads server.json there
	}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "AWS_ACCOUNT_ID=000000000000", "AWS_REGION=us-east-1", "LOG_LEVEL=ERROR", "SHARD_LIMIT=50",
		"CREATE_STREAM_DURATION=1ms", "DELETE_STREAM_DURATION=1ms", "SPLIT_SHARD_DURATION=1ms", "MERGE_SHARDS_DURATION=1ms",
		"UPDATE_SHARD_COUNT_DURATION=1ms", "START_STREAM_ENCRYPTION_DURATION=1ms", "STOP_STREAM_ENCRYPTION_DURATION=1ms", "UPDATE_STREAM_MODE_DURATION=1ms"}
	return endpoint{name, "http://127.0.0.1:" + run(t, cmd, port)}
}

// run starts an oracle, which ends with the test, and gives the port it listens on instead of the one it wanted.
func run(t *testing.T, cmd *exec.Cmd, wanted string) string {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errors bytes.Buffer
	cmd.Stderr = &errors
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found, read := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var want, got string
			if _, err := fmt.Sscanf(lines.Text(), "listening %s %s", &want, &got); err == nil && want == wanted {
				found <- got
			}
		}
		close(found)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait() // "signal: killed"
	})
	select {
	case port, ok := <-found:
		if !ok {
			t.Fatalf("%v ended: %s", cmd.Args, errors.String())
		}
		return port
	case <-time.After(60 * time.Second):
		t.Fatalf("%v listens on nothing after a minute: %s", cmd.Args, errors.String())
	}
	return ""
}

// A reply is what an endpoint answered.
type reply struct {
	status int
	kind   string // of the error, without a namespace; empty when none
	body   any
	raw    string
}

func (r reply) String() string {
	return fmt.Sprintf("%d %.400s", r.status, strings.TrimSpace(r.raw))
}

var client = &http.Client{Timeout: 2 * time.Minute}

// send makes one call with a body as it stands.
func (e endpoint) send(t *testing.T, op string, body []byte) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "Kinesis_20131202."+op)
	r.Header.Set("X-Amz-Date", now.Format("20060102T150405Z"))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"+now.Format("20060102")+"/us-east-1/kinesis/aws4_request, "+
		"SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature="+strings.Repeat("0", 64))
	resp, err := client.Do(r)
	if err != nil {
		t.Fatalf("%s of %s: %v", op, e.name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s of %s: %v", op, e.name, err)
	}
	out := reply{status: resp.StatusCode, raw: string(raw)}
	if len(bytes.TrimSpace(raw)) == 0 {
		return out
	}
	if err := json.Unmarshal(raw, &out.body); err != nil {
		out.body = nil // an XML error
	}
	if m, ok := out.body.(map[string]any); ok && resp.StatusCode != http.StatusOK {
		kind, _ := m["__type"].(string)
		out.kind = kind[strings.LastIndexByte(kind, '#')+1:]
	}
	return out
}
