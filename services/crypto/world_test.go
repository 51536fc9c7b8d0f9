package crypto_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"go.uber.org/goleak"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/esdk"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/journal/natsserver"
	"github.com/weir-das/weir/pkg/localaws"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/crypto"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The SDK's idle connections end by themselves, later than the tests.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// quiet is for tests that do not look at the log.
var quiet = slog.New(slog.DiscardHandler)

const (
	cluster  = "cluster-ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	instance = "db-ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// world is all that crypto talks to: a journal on a real NATS server, a KMS.
type world struct {
	t      testing.TB
	certs  string
	nats   *natsserver.Server
	opts   natsserver.Options
	aws    *localaws.Server
	kmsURL string
	key    string
	// journalURL is where replicas find NATS; a test may put a bad link there.
	journalURL string
	maxBytes   int64
	dataKeys   map[string]*esdk.Key // by ciphertext
}

func newWorld(t testing.TB) *world {
	t.Helper()
	setenv(t, "AWS_ACCESS_KEY_ID", "test")
	setenv(t, "AWS_SECRET_ACCESS_KEY", "test")
	w := &world{t: t, certs: t.TempDir(), dataKeys: make(map[string]*esdk.Key)}
	if err := certs.Ensure(w.certs); err != nil {
		t.Fatal(err)
	}
	w.opts = natsserver.Options{Dir: t.TempDir(), TLS: certs.TLS(w.certs, "nats")}
	w.startNATS()
	w.journalURL = w.nats.URL()
	t.Cleanup(func() { w.nats.Stop() })

	var err error
	if w.aws, err = localaws.New(localaws.Options{}); err != nil {
		t.Fatal(err)
	}
	lis := listen(t)
	w.kmsURL = "http://" + lis.Addr().String()
	background(t, "local AWS", func(ctx context.Context) error { return w.aws.Serve(ctx, lis) })
	out, err := w.kms().CreateKey(context.Background(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	w.key = *out.KeyMetadata.Arn
	return w
}

func setenv(t testing.TB, key, value string) {
	switch t := t.(type) {
	case *testing.T:
		t.Setenv(key, value)
	case *testing.B:
		t.Setenv(key, value)
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

// background runs f until the test or the returned function ends it.
func background(t testing.TB, what string, f func(context.Context) error) (stop func()) {
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

// startNATS starts the server where it was before.
func (w *world) startNATS() {
	w.t.Helper()
	var err error
	if w.nats, err = natsserver.Start(w.opts); err != nil {
		w.t.Fatal(err)
	}
	w.opts.Port = w.nats.Port()
}

func (w *world) kms() *kms.Client {
	return kms.New(kms.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(w.kmsURL),
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
}

func (w *world) config() crypto.Config {
	return crypto.Config{
		RPC: rpc.ServerConfig{
			Allow: map[string][]string{"weir.crypto.v1.CryptoService": {"capture.weir", "control.weir"}},
			Grace: 5 * time.Second,
		},
		TLS:         certs.TLS(w.certs, "crypto"),
		Journal:     journal.Config{URL: w.journalURL, MaxBytes: w.maxBytes},
		KMSEndpoint: w.kmsURL, Region: "us-east-1",
	}
}

// replica starts one crypto and returns a client of it.
func (w *world) replica(change ...func(*crypto.Config)) (client cryptov1.CryptoServiceClient, stop func()) {
	w.t.Helper()
	cfg := w.config()
	lis := listen(w.t)
	cfg.Listener = lis
	for _, c := range change {
		c(&cfg)
	}
	stop = background(w.t, "crypto", func(ctx context.Context) error {
		return crypto.Run(ctx, cfg, quiet)
	})
	return w.dial(lis.Addr().String()), stop
}

// dial returns a client, as capture, of the crypto at addr.
func (w *world) dial(addr string) cryptov1.CryptoServiceClient {
	w.t.Helper()
	conn, err := rpc.Dial(addr, "crypto.weir", certs.TLS(w.certs, "capture"), obs.Discard())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return cryptov1.NewCryptoServiceClient(conn)
}

func (w *world) open() *cryptov1.SealOpen {
	return &cryptov1.SealOpen{
		ClusterResourceId: cluster, InstanceResourceId: instance, KmsKeyId: w.key,
		KinesisStream: "aws-rds-das-" + cluster, Version: "1.1",
	}
}

// journalled takes everything out of the journal and returns it in the order of
// the journal.
func (w *world) journalled() []*journal.Delivery {
	w.t.Helper()
	cfg := journal.Config{URL: w.nats.URL(), TLS: certs.TLS(w.certs, "publisher")}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := journal.Connect(ctx, cfg, "publisher", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	j, err := journal.Open(ctx, conn, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	cons, err := j.Consumer(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []*journal.Delivery
	for {
		err := cons.Fetch(ctx, 8<<20, 200*time.Millisecond, func(d *journal.Delivery) {
			all = append(all, d)
			if err := d.Ack(); err != nil {
				w.t.Error(err)
			}
		})
		if err != nil {
			w.t.Fatal(err)
		}
		st, err := j.State(ctx, "")
		if err != nil {
			w.t.Fatal(err)
		}
		if st.Records == 0 {
			return all
		}
	}
}

// unseal does what a consumer does with a Kinesis record.
func (w *world) unseal(data []byte) ([]byte, error) {
	var outer struct {
		Type    string `json:"type"`
		Version string `json:"version"`
		Events  []byte `json:"databaseActivityEvents"`
		Key     []byte `json:"key"`
	}
	if err := json.Unmarshal(data, &outer); err != nil {
		return nil, err
	}
	if outer.Type != "DatabaseActivityMonitoringRecords" || outer.Version != "1.1" {
		return nil, fmt.Errorf("outer record of type %q, version %q", outer.Type, outer.Version)
	}
	key, err := w.dataKey(outer.Key)
	if err != nil {
		return nil, err
	}
	zipped, err := esdk.Open(nil, key, outer.Events)
	if err != nil {
		return nil, err
	}
	r, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// dataKey decrypts a data key, once, as consumers do.
func (w *world) dataKey(ciphertext []byte) (*esdk.Key, error) {
	if k := w.dataKeys[string(ciphertext)]; k != nil {
		return k, nil
	}
	out, err := w.kms().Decrypt(context.Background(), &kms.DecryptInput{
		CiphertextBlob: ciphertext, EncryptionContext: map[string]string{"aws:rds:dbc-id": cluster},
	})
	if err != nil {
		return nil, err
	}
	w.dataKeys[string(ciphertext)] = (*esdk.Key)(out.Plaintext)
	return w.dataKeys[string(ciphertext)], nil
}

// record is the nth record of a sender.
func record(seq uint64, n int) *cryptov1.SealRecord {
	return &cryptov1.SealRecord{
		Sequence: seq, PartitionKey: instance + ".0", MessageId: fmt.Sprintf("1.%d", n),
		Plaintext: fmt.Appendf(nil, `{"type":"DatabaseActivityMonitoringRecord","n":%d}`, n),
	}
}

// window is how many records a sender has on their way.
const window = 16

// sender is what capture is to crypto: it owns a window of numbered records and
// sends those that are not acknowledged until they are, over whatever stream.
type sender struct {
	w       *world
	total   int
	breaks  atomic.Int64   // streams that ended before all was acknowledged
	refused map[int]string // by number
	change  func(n int, r *cryptov1.SealRecord)

	// A test that breaks something while records are on their way holds the rest
	// back until it has, so that it proves the same on a machine of any speed.
	heldFrom atomic.Int64 // the first record that may not be sent yet; 0: none is held
	through  atomic.Int64 // what is acknowledged
}

// let allows the records up to n, and returns when acked of them are acknowledged.
func (s *sender) let(t *testing.T, n, acked int) {
	t.Helper()
	s.heldFrom.Store(int64(n) + 1)
	s.await(t, fmt.Sprintf("%d records acknowledged", acked), func() bool { return s.through.Load() >= int64(acked) })
}

// letBreak allows the records up to n, and returns when a stream has broken since
// there were so many breaks.
func (s *sender) letBreak(t *testing.T, n int, since int64) {
	t.Helper()
	s.heldFrom.Store(int64(n) + 1)
	s.await(t, "a stream that breaks", func() bool { return s.breaks.Load() > since })
}

func (s *sender) letAll() { s.heldFrom.Store(0) }

func (s *sender) await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.letAll()
			t.Fatalf("%s: not within 30 s; %d are acknowledged, %d streams broke", what, s.through.Load(), s.breaks.Load())
		}
	}
}

// mayTo is the last record that may be sent now.
func (s *sender) mayTo() int {
	if from := int(s.heldFrom.Load()); from > 0 {
		return min(from-1, s.total)
	}
	return s.total
}

// run sends the records 1 to total. next returns the client for the next stream.
func (s *sender) run(ctx context.Context, next func() cryptov1.CryptoServiceClient) error {
	for acked := 0; acked < s.total; {
		through, err := s.stream(ctx, next(), acked)
		acked = through
		if acked == s.total {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		s.breaks.Add(1)
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

// stream sends from acked+1 on, and returns through what is acknowledged.
func (s *sender) stream(ctx context.Context, client cryptov1.CryptoServiceClient, acked int) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Seal(ctx)
	if err != nil {
		return acked, err
	}
	if err := stream.Send(&cryptov1.SealRequest{Message: &cryptov1.SealRequest_Open{Open: s.w.open()}}); err != nil {
		_, err = stream.Recv()
		return acked, err
	}
	base, sent := acked, acked
	for acked < s.total {
		for acked >= s.mayTo() && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		for sent < s.mayTo() && sent-acked < window {
			sent++
			r := record(uint64(sent-base), sent)
			if s.change != nil {
				s.change(sent, r)
			}
			if err := stream.Send(&cryptov1.SealRequest{Message: &cryptov1.SealRequest_Record{Record: r}}); err != nil {
				break // Recv says why
			}
		}
		answer, err := stream.Recv()
		if err != nil {
			return acked, err
		}
		if n := answer.GetRefusedSequence(); n > 0 {
			s.refused[base+int(n)] = answer.GetRefusedReason()
		}
		through := base + int(answer.GetDurableThrough())
		if through < acked || through > sent {
			return acked, fmt.Errorf("durable_through %d after %d of %d", through, acked, sent)
		}
		acked = through
		s.through.Store(int64(acked))
	}
	return acked, nil
}
