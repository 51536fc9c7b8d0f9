package localaws_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weir-das/weir/pkg/localaws"
)

// A cli runs the real aws command against an endpoint.
type cli struct {
	t        *testing.T
	aws, url string
	env      []string
}

// newCLI finds the aws command: Debian's, or the first one in PATH that runs.
func newCLI(t *testing.T, url string) cli {
	t.Helper()
	for _, aws := range []string{"/usr/bin/aws", "aws"} {
		path, err := exec.LookPath(aws)
		if err != nil {
			continue
		}
		if err := exec.Command(path, "--version").Run(); err != nil {
			continue
		}
		home := t.TempDir() // nobody's configuration but ours
		env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "AWS_") })
		return cli{t, path, url, append(env, "AWS_CONFIG_FILE="+filepath.Join(home, "none"), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(home, "none"),
			"AWS_ACCESS_KEY_ID="+accessKey, "AWS_SECRET_ACCESS_KEY="+secretKey, "AWS_DEFAULT_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true",
			"AWS_MAX_ATTEMPTS=1", "AWS_PAGER=")}
	}
	t.Fatal("no aws command line that runs; `make setup` installs Debian's awscli")
	return cli{}
}

// run gives what the command printed, or what it complained.
func (c cli) run(args ...string) (out map[string]any, complaint string) {
	c.t.Helper()
	cmd := exec.Command(c.aws, append([]string{"--endpoint-url", c.url, "--output", "json"}, args...)...)
	cmd.Env = c.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if stderr.Len() == 0 {
			c.t.Fatalf("aws %v: %v", args, err)
		}
		return nil, stderr.String()
	}
	if stdout.Len() > 0 {
		if err := json.Unmarshal(stdout.Bytes(), &out); err != nil {
			c.t.Fatalf("aws %v prints %s: %v", args, stdout.String(), err)
		}
	}
	return out, ""
}

// text gives one field of what a command printed, which must succeed.
func (c cli) text(path string, args ...string) string {
	c.t.Helper()
	out, complaint := c.run(args...)
	if complaint != "" {
		c.t.Fatalf("aws %v: %s", args, complaint)
	}
	var v any = out
	for _, name := range strings.Split(path, ".") {
		if l, ok := v.([]any); ok && len(l) > 0 {
			v = l[0]
		}
		m, _ := v.(map[string]any)
		v = m[name]
	}
	s, _ := v.(string)
	return s
}

func (c cli) ok(args ...string) {
	c.t.Helper()
	if _, complaint := c.run(args...); complaint != "" {
		c.t.Fatalf("aws %v: %s", args, complaint)
	}
}

func (c cli) refused(code string, args ...string) {
	c.t.Helper()
	if _, complaint := c.run(args...); !strings.Contains(complaint, "("+code+")") {
		c.t.Errorf("aws %v: %q, want %s", args, complaint, code)
	}
}

// TestCLI is what somebody types who reads a stream by hand: a key, a stream with it, a record in, the record out.
func TestCLI(t *testing.T) {
	t.Parallel()
	_, url := start(t, localaws.Options{})
	c := newCLI(t, url)

	key := c.text("KeyMetadata.KeyId", "kms", "create-key", "--description", "by hand", "--tags", "TagKey=a,TagValue=b")
	c.ok("kms", "create-alias", "--alias-name", "alias/by-hand", "--target-key-id", key)
	blob := c.text("CiphertextBlob", "kms", "generate-data-key", "--key-id", "alias/by-hand", "--key-spec", "AES_256", "--encryption-context", "aws:rds:dbc-id=cluster-X")
	sealed, err := base64.StdEncoding.DecodeString(blob)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(file, sealed, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := c.text("KeyId", "kms", "decrypt", "--ciphertext-blob", "fileb://"+file, "--encryption-context", "aws:rds:dbc-id=cluster-X"); !strings.HasSuffix(got, ":key/"+key) {
		t.Errorf("decrypt used %s, want %s", got, key)
	}
	c.refused("InvalidCiphertextException", "kms", "decrypt", "--ciphertext-blob", "fileb://"+file, "--encryption-context", "aws:rds:dbc-id=cluster-Y")
	if got := c.text("Aliases.AliasName", "kms", "list-aliases", "--key-id", key); got != "alias/by-hand" {
		t.Errorf("list-aliases gives %q, want alias/by-hand", got)
	}

	c.ok("kinesis", "create-stream", "--stream-name", "by-hand", "--shard-count", "2")
	c.ok("kinesis", "wait", "stream-exists", "--stream-name", "by-hand")
	c.refused("ResourceInUseException", "kinesis", "create-stream", "--stream-name", "by-hand", "--shard-count", "1")
	c.ok("kinesis", "start-stream-encryption", "--stream-name", "by-hand", "--encryption-type", "KMS", "--key-id", "alias/by-hand")
	shard := c.text("ShardId", "kinesis", "put-record", "--stream-name", "by-hand", "--partition-key", "k", "--data", base64.StdEncoding.EncodeToString([]byte("hello")))
	c.ok("kinesis", "put-records", "--stream-name", "by-hand", "--records", "PartitionKey=k,Data=d29ybGQ=")
	it := c.text("ShardIterator", "kinesis", "get-shard-iterator", "--stream-name", "by-hand", "--shard-id", shard, "--shard-iterator-type", "TRIM_HORIZON")
	if got := c.text("Records.Data", "kinesis", "get-records", "--shard-iterator", it); got != "aGVsbG8=" {
		t.Errorf("get-records gives %q, want aGVsbG8=", got)
	}
	if got := c.text("StreamDescriptionSummary.EncryptionType", "kinesis", "describe-stream-summary", "--stream-name", "by-hand"); got != "KMS" {
		t.Errorf("the stream's encryption is %q, want KMS", got)
	}
	if got := c.text("Shards.ShardId", "kinesis", "list-shards", "--stream-name", "by-hand"); got != "shardId-000000000000" {
		t.Errorf("list-shards begins with %q, want shardId-000000000000", got)
	}
	c.ok("kinesis", "add-tags-to-stream", "--stream-name", "by-hand", "--tags", "team=das")
	if got := c.text("Tags.Value", "kinesis", "list-tags-for-stream", "--stream-name", "by-hand"); got != "das" {
		t.Errorf("the stream's tag is %q, want das", got)
	}
	c.ok("kinesis", "increase-stream-retention-period", "--stream-name", "by-hand", "--retention-period-hours", "48")
	c.ok("kms", "disable-key", "--key-id", key)
	c.refused("KMSDisabledException", "kinesis", "put-record", "--stream-name", "by-hand", "--partition-key", "k", "--data", "aGk=")
	c.refused("DisabledException", "kms", "generate-data-key", "--key-id", key, "--key-spec", "AES_256")
	c.ok("kms", "schedule-key-deletion", "--key-id", key, "--pending-window-in-days", "7")
	c.ok("kinesis", "delete-stream", "--stream-name", "by-hand")
	c.ok("kinesis", "wait", "stream-not-exists", "--stream-name", "by-hand")
	c.refused("ResourceNotFoundException", "kinesis", "describe-stream", "--stream-name", "by-hand")

	c.env = append(c.env, "AWS_SECRET_ACCESS_KEY=wrong")
	c.refused("InvalidSignatureException", "kinesis", "list-streams")
	c.env = append(c.env, "AWS_ACCESS_KEY_ID=AKIDUNKNOWN")
	c.refused("UnrecognizedClientException", "kms", "list-keys")
}
