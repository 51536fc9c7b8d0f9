package publisher_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"go.uber.org/goleak"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/journal/natsserver"
	"github.com/weir-das/weir/pkg/localaws"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	publisherv1 "github.com/weir-das/weir/proto/gen/weir/publisher/v1"
	"github.com/weir-das/weir/services/publisher"
)

const (
	clusterA = "cluster-AAAAAAAAAAAAAAAAAAAAAAAAAA"
	clusterB = "cluster-BBBBBBBBBBBBBBBBBBBBBBBBBB"
	instance = "db-ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	streamA  = "aws-rds-das-" + clusterA
	streamB  = "aws-rds-das-" + clusterB
)

// quiet is for tests that do not look at the log.
var quiet = slog.New(slog.DiscardHandler)

// world is all that the publisher talks to: a journal on a real NATS server, and a
// Kinesis that can go away and come back.
type world struct {
	t       *testing.T
	certs   string
	nats    *natsserver.Server
	opts    natsserver.Options
	aws     *localaws.Server
	awsAddr string
	awsStop func()
	journal *journal.Journal // as crypto
}

func newWorld(t *testing.T, change ...func(*localaws.Options)) *world {
	t.Helper()
	w := &world{t: t, certs: t.TempDir()}
	if err := certs.Ensure(w.certs); err != nil {
		t.Fatal(err)
	}
	w.opts = natsserver.Options{Dir: t.TempDir(), TLS: certs.TLS(w.certs, "nats")}
	w.startNATS()
	t.Cleanup(func() { w.nats.Stop() })

	var opts localaws.Options
	for _, c := range change {
		c(&opts)
	}
	var err error
	if w.aws, err = localaws.New(opts); err != nil {
		t.Fatal(err)
	}
	w.startAWS()

	cfg := journal.Config{URL: w.nats.URL(), TLS: certs.TLS(w.certs, "crypto")}
	conn, err := journal.Connect(t.Context(), cfg, "crypto", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if w.journal, err = journal.Open(t.Context(), conn, cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) startNATS() {
	w.t.Helper()
	var err error
	if w.nats, err = natsserver.Start(w.opts); err != nil {
		w.t.Fatal(err)
	}
	w.opts.Port = w.nats.Port()
}

// startAWS starts the endpoint where it was before.
func (w *world) startAWS() {
	w.t.Helper()
	addr := w.awsAddr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.awsAddr = lis.Addr().String()
	w.awsStop = background(w.t, "local AWS", func(ctx context.Context) error { return w.aws.Serve(ctx, lis) })
}

// background runs f until the test or the returned function ends it.
func background(t *testing.T, what string, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("%s did not stop", what)
		}
	})
	t.Cleanup(stop)
	return stop
}

func (w *world) config() publisher.Config {
	return publisher.Config{
		RPC: rpc.ServerConfig{
			Allow: map[string][]string{"weir.publisher.v1.PublisherService": {"control.weir"}},
			Grace: 5 * time.Second,
		},
		TLS:             certs.TLS(w.certs, "publisher"),
		Journal:         journal.Config{URL: w.nats.URL()},
		KinesisEndpoint: "http://" + w.awsAddr, Region: "us-east-1",
	}
}

// replica starts one publisher and returns a client of it.
func (w *world) replica(log *slog.Logger, change ...func(*publisher.Config)) (client publisherv1.PublisherServiceClient, stop func()) {
	w.t.Helper()
	cfg := w.config()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	cfg.Listener = lis
	for _, c := range change {
		c(&cfg)
	}
	stop = background(w.t, "publisher", func(ctx context.Context) error { return publisher.Run(ctx, cfg, log) })
	conn, err := rpc.Dial(lis.Addr().String(), "publisher.weir", certs.TLS(w.certs, "control"), obs.Discard())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return publisherv1.NewPublisherServiceClient(conn), stop
}

// kinesis is a consumer's client.
func (w *world) kinesis() *kinesis.Client {
	return kinesis.New(kinesis.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://" + w.awsAddr),
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
}

func (w *world) createStream(name string) {
	w.t.Helper()
	if _, err := w.kinesis().CreateStream(w.t.Context(), &kinesis.CreateStreamInput{
		StreamName: aws.String(name), ShardCount: aws.Int32(2),
	}); err != nil {
		w.t.Fatal(err)
	}
}

// publish journals records first to last of a cluster, as crypto would.
func (w *world) publish(cluster string, first, last, size int) {
	w.t.Helper()
	work := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for n := range work {
				m := message(cluster, n, size)
				var err error
				for range 100 { // the journal may be away for a moment
					if err = w.journal.Publish(w.t.Context(), m); err == nil {
						break
					}
					time.Sleep(50 * time.Millisecond)
				}
				if err != nil {
					w.t.Errorf("publishing record %d: %v", n, err)
				}
			}
		})
	}
	for n := first; n <= last; n++ {
		work <- n
	}
	close(work)
	wg.Wait()
}

func message(cluster string, n, size int) journal.Message {
	data := append(fmt.Appendf(nil, `{"n":%d}`, n), bytes.Repeat([]byte(" "), size)...)
	return journal.Message{
		Cluster: cluster, Instance: instance, KinesisStream: "aws-rds-das-" + cluster,
		PartitionKey: fmt.Sprintf("%s.%d", instance, n%4), ID: fmt.Sprintf("%s/%d", cluster, n), Data: data,
	}
}

// read returns how often each record is in a Kinesis stream.
func (w *world) read(stream string) map[int]int {
	w.t.Helper()
	seen := map[int]int{}
	k := w.kinesis()
	shards, err := k.ListShards(w.t.Context(), &kinesis.ListShardsInput{StreamName: aws.String(stream)})
	if missing := new(types.ResourceNotFoundException); errors.As(err, &missing) {
		return seen
	}
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range shards.Shards {
		it, err := k.GetShardIterator(w.t.Context(), &kinesis.GetShardIteratorInput{
			StreamName: aws.String(stream), ShardId: s.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
		})
		if err != nil {
			w.t.Fatal(err)
		}
		next := it.ShardIterator
		for next != nil {
			out, err := k.GetRecords(w.t.Context(), &kinesis.GetRecordsInput{ShardIterator: next})
			if err != nil {
				w.t.Fatal(err)
			}
			for _, r := range out.Records {
				var n int
				if _, err := fmt.Sscanf(string(r.Data), `{"n":%d}`, &n); err != nil {
					w.t.Fatalf("record %.40q in Kinesis: %v", r.Data, err)
				}
				seen[n]++
			}
			if next = out.NextShardIterator; len(out.Records) == 0 && aws.ToInt64(out.MillisBehindLatest) == 0 {
				break
			}
		}
	}
	return seen
}

// arrived waits until records 1 to total are in the stream and the journal has
// nothing left for it. It returns how many are there more than once.
func (w *world) arrived(client publisherv1.PublisherServiceClient, cluster string, total int, limit time.Duration) (twice int) {
	w.t.Helper()
	stream := "aws-rds-das-" + cluster
	deadline := time.Now().Add(limit)
	for {
		ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
		st, err := client.GetStatus(ctx, &publisherv1.GetStatusRequest{ClusterResourceId: cluster})
		cancel()
		if err == nil && st.GetWaiting() == 0 {
			break
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("after %v: %d of %d records of %s are in Kinesis; status %v, %v", limit, len(w.read(stream)), total, cluster, st, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	seen := w.read(stream)
	for n := 1; n <= total; n++ {
		switch seen[n] {
		case 0:
			w.t.Errorf("record %d of %s left the journal and is not in Kinesis", n, cluster)
		case 1:
		default:
			twice++
		}
	}
	if len(seen) > total {
		w.t.Errorf("%d records of %s in Kinesis, want %d", len(seen), cluster, total)
	}
	return twice
}

func TestMain(m *testing.M) {
	if child() {
		return
	}
	// Not t.Setenv: the tests that wait for AckWait do so side by side.
	os.Setenv("AWS_ACCESS_KEY_ID", "test")
	os.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	goleak.VerifyTestMain(m,
		// The SDK's idle connections end by themselves, later than the tests.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}
