package verify

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"go.uber.org/goleak"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/pkg/esdk"
	"github.com/weir-das/weir/pkg/localaws"
	"github.com/weir-das/weir/services/weir/internal/connect"
	"github.com/weir-das/weir/services/weir/internal/proof/prooftest"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const streamName = "aws-rds-das-" + prooftest.Cluster

// world is a Kinesis stream and a KMS key, and an address of both that lets
// nothing through but what a reader may do.
type world struct {
	t       *testing.T
	kinesis *kinesis.Client
	kms     *kms.Client
	aws     *localaws.Server
	outside string // the address for readers

	key        *esdk.Key
	ciphertext []byte
	keyID      string

	mu      sync.Mutex
	refused []string // operations that a reader may not
	reads   int      // how often readers asked for records
	at      int      // that many reads on, then is called
	then    func()
}

// allowed is what an outsider may do.
func allowed(op string) bool {
	service, name, _ := strings.Cut(op, ".")
	if strings.HasPrefix(service, "Kinesis") {
		return strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "List") || strings.HasPrefix(name, "Describe")
	}
	return op == "TrentService.Decrypt"
}

func newWorld(t *testing.T, shards int32) *world {
	t.Helper()
	server, err := localaws.New(localaws.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, aws: server}
	inside := httptest.NewServer(server)
	outside := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if op := r.Header.Get("X-Amz-Target"); !allowed(op) {
			w.mu.Lock()
			w.refused = append(w.refused, op)
			w.mu.Unlock()
			http.Error(out, `{"__type":"AccessDeniedException"}`, http.StatusBadRequest)
			return
		}
		server.ServeHTTP(out, r)
		w.read(r.Header.Get("X-Amz-Target"))
	}))
	w.outside = outside.URL
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		outside.Close()
		inside.Close()
		for _, op := range w.refused {
			t.Errorf("a reader called %s", op)
		}
	})
	cfg := aws.Config{
		Region: "us-east-1", BaseEndpoint: &inside.URL, HTTPClient: client,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	}
	w.kinesis, w.kms = kinesis.NewFromConfig(cfg), kms.NewFromConfig(cfg)
	if _, err := w.kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String(streamName), ShardCount: &shards}); err != nil {
		t.Fatal(err)
	}
	made, err := w.kms.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	w.keyID = *made.KeyMetadata.KeyId
	data, err := w.kms.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{
		KeyId: &w.keyID, KeySpec: kmstypes.DataKeySpecAes256, EncryptionContext: map[string]string{"aws:rds:dbc-id": prooftest.Cluster},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.key, w.ciphertext = (*esdk.Key)(data.Plaintext), data.CiphertextBlob
	return w
}

// after has f called once readers have asked for records so many times more.
func (w *world) after(reads int, f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at, w.then = w.reads+reads, f
}

func (w *world) read(op string) {
	if !strings.HasSuffix(op, ".GetRecords") {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reads++; w.then != nil && w.reads >= w.at {
		w.then()
		w.then = nil
	}
}

// seal is what crypto makes of a record.
func (w *world) seal(plain string) []byte {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write([]byte(plain)); err != nil {
		w.t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		w.t.Fatal(err)
	}
	return das.AppendOuter(nil, das.VersionPostgreSQL, esdk.Seal(nil, w.key, zipped.Bytes()), w.ciphertext)
}

// put puts records into shards in turn.
func (w *world) put(records ...string) {
	w.t.Helper()
	for i, r := range records {
		w.putData(fmt.Sprint(i), w.seal(r))
	}
}

func (w *world) putData(partition string, data []byte) {
	w.t.Helper()
	_, err := w.kinesis.PutRecord(context.Background(), &kinesis.PutRecordInput{StreamName: aws.String(streamName), PartitionKey: &partition, Data: data})
	if err != nil {
		w.t.Error(err)
	}
}

// outcome is what a run of the command gave.
type outcome struct {
	code      int
	out, errs string
	answer    answer // of --format json
}

// verify runs the command against the world, as an outsider.
func (w *world) verify(ctx context.Context, change func(*Command)) outcome {
	w.t.Helper()
	c := Command{Format: "json", Stream: streamName}
	c.Connect = filepath.Join(w.t.TempDir(), "connect.json")
	file := connect.File{AWSEndpoint: w.outside, Region: "us-east-1", AccessKeyID: "key", SecretAccessKey: "secret"}
	if err := file.Write(c.Connect); err != nil {
		w.t.Fatal(err)
	}
	if change != nil {
		change(&c)
	}
	return run(w.t, ctx, c)
}

func run(t *testing.T, ctx context.Context, c Command) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	var o outcome
	switch err := c.Run(ctx, terminal.Streams{Out: &out, Err: &errs}).(type) {
	case nil:
	case *terminal.Failure:
		o.code = err.Code
		if err.Err != nil {
			errs.WriteString(err.Err.Error())
		}
	default:
		t.Fatal(err)
	}
	o.out, o.errs = out.String(), errs.String()
	if c.Format == "json" && o.out != "" {
		if err := json.Unmarshal(out.Bytes(), &o.answer); err != nil {
			t.Fatalf("%v in %s", err, o.out)
		}
		if o.answer.Exit != o.code {
			t.Errorf("exit code %d, the answer says %d", o.code, o.answer.Exit)
		}
	}
	return o
}

// write writes lines to a new file.
func write(t *testing.T, lines ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
