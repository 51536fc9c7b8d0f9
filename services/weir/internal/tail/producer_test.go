package tail_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/pkg/esdk"
	"github.com/weir-das/weir/pkg/localaws"
)

const (
	clusterID  = "cluster-AAAAAAAAAAAAAAAAAAAAAAAAAA"
	instanceID = "db-BBBBBBBBBBBBBBBBBBBBBBBBBB"
	streamName = "aws-rds-das-" + clusterID
)

// producer stands for crypto and publisher: it seals records as they do and
// puts them into a stream of a local AWS.
type producer struct {
	t        *testing.T
	aws      *localaws.Server
	kinesis  *kinesis.Client
	kms      *kms.Client
	endpoint string

	key        *esdk.Key
	ciphertext []byte
	keyID      string
	number     uint64

	mu    sync.Mutex
	calls map[string]int // by operation
}

func newProducer(t *testing.T, shards int32) *producer {
	t.Helper()
	server, err := localaws.New(localaws.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := &producer{t: t, aws: server, calls: make(map[string]int)}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		p.mu.Lock()
		p.calls[op]++
		p.mu.Unlock()
		server.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	p.endpoint = web.URL
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	cfg := aws.Config{
		Region: "us-east-1", BaseEndpoint: &web.URL, HTTPClient: client,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
	}
	p.kinesis, p.kms = kinesis.NewFromConfig(cfg), kms.NewFromConfig(cfg)
	_, err = p.kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String(streamName), ShardCount: &shards})
	if err != nil {
		t.Fatal(err)
	}
	p.newKey()
	return p
}

// newKey makes a KMS key and a data key under it, for what is put from now on.
func (p *producer) newKey() {
	p.t.Helper()
	made, err := p.kms.CreateKey(p.t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		p.t.Fatal(err)
	}
	p.keyID = *made.KeyMetadata.KeyId
	p.newDataKey(map[string]string{"aws:rds:dbc-id": clusterID})
}

func (p *producer) newDataKey(context map[string]string) {
	p.t.Helper()
	data, err := p.kms.GenerateDataKey(p.t.Context(), &kms.GenerateDataKeyInput{
		KeyId: &p.keyID, KeySpec: kmstypes.DataKeySpecAes256, EncryptionContext: context,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.key, p.ciphertext = (*esdk.Key)(data.Plaintext), data.CiphertextBlob
}

// event is the next statement.
func (p *producer) event(text string) *das.Event {
	p.number++
	at := time.Date(2026, 1, 31, 15, 4, 5, 123456000, time.UTC)
	return &das.Event{
		StartTime: at, LogTime: at, StatementID: p.number, SubstatementID: 1,
		Command: "SELECT", DatabaseName: "shop", DBUserName: "alice", RemoteHost: "10.0.0.7", RemotePort: "4711",
		SessionID: "697e1a25.1", RowCount: das.Some(int64(1)), CommandText: das.Some(text), PID: 1, Class: "READ",
		ServerVersion: "15.20", ServerType: das.ServerTypePostgreSQL, DBProtocol: das.DBProtocolPostgreSQL, Type: das.TypeRecord,
	}
}

// seal makes the record that crypto makes of a list.
func (p *producer) seal(plain []byte) []byte {
	p.t.Helper()
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(plain); err != nil {
		p.t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		p.t.Fatal(err)
	}
	return das.AppendOuter(nil, das.VersionPostgreSQL, esdk.Seal(nil, p.key, zipped.Bytes()), p.ciphertext)
}

// put seals a list of events and puts it.
func (p *producer) put(partition string, ext *das.Extension, events ...*das.Event) {
	p.t.Helper()
	var list []byte
	for i, e := range events {
		if i > 0 {
			list = append(list, ',')
		}
		list = e.Append(list)
	}
	p.putData(partition, p.seal(das.AppendRecord(nil, clusterID, instanceID, list, ext)))
}

func (p *producer) putHeartbeat(ext *das.Extension) {
	p.t.Helper()
	p.putData("h", p.seal(das.AppendHeartbeat(nil, clusterID, instanceID, ext)))
}

func (p *producer) putData(partition string, data []byte) {
	p.t.Helper()
	_, err := p.kinesis.PutRecord(p.t.Context(), &kinesis.PutRecordInput{StreamName: aws.String(streamName), PartitionKey: &partition, Data: data})
	if err != nil {
		p.t.Fatal(err)
	}
}

// putNumbers puts n records of one event each; its text is the count.
func (p *producer) putNumbers(partition string, n int) {
	p.t.Helper()
	for range n {
		e := p.event("")
		e.CommandText = das.Some(strconv.FormatUint(p.number, 10))
		p.put(partition, nil, e)
	}
}

func (p *producer) called(op string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[op]
}

// shards lists the open shards, oldest first.
func (p *producer) openShards(ctx context.Context) []string {
	p.t.Helper()
	out, err := p.kinesis.ListShards(ctx, &kinesis.ListShardsInput{StreamName: aws.String(streamName)})
	if err != nil {
		p.t.Fatal(err)
	}
	var open []string
	for _, s := range out.Shards {
		if s.SequenceNumberRange.EndingSequenceNumber == nil {
			open = append(open, *s.ShardId)
		}
	}
	return open
}

// want builds the texts of the numbers first to last.
func numbers(first, last int) []string {
	var s []string
	for n := first; n <= last; n++ {
		s = append(s, fmt.Sprint(n))
	}
	return s
}
