package publisher_test

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/faulty"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/localaws"
	"github.com/weir-das/weir/pkg/localaws/inject"
	"github.com/weir-das/weir/pkg/rpc"
	"github.com/weir-das/weir/pkg/service"
	publisherv1 "github.com/weir-das/weir/proto/gen/weir/publisher/v1"
	"github.com/weir-das/weir/services/publisher"
)

func TestRelay(t *testing.T) {
	w := newWorld(t)
	w.createStream(streamA)
	w.createStream(streamB)
	client, _ := w.replica(quiet)
	w.publish(clusterA, 1, 1500, 500)
	w.publish(clusterB, 1, 20, 700_000)
	w.arrived(client, clusterA, 1500, 30*time.Second)
	w.arrived(client, clusterB, 20, 30*time.Second)
	st, err := client.GetStatus(t.Context(), &publisherv1.GetStatusRequest{})
	if err != nil || st.GetWaiting() != 0 || st.GetOldestWaitingSince() != nil || st.GetTaken() != 1520 || st.GetAccepted() != 1520 || st.GetLastError() != "" {
		t.Errorf("GetStatus = %v, %v, want 1520 taken and accepted, nothing waiting", st, err)
	}
	if _, err := client.GetStatus(t.Context(), &publisherv1.GetStatusRequest{ClusterResourceId: "x"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("GetStatus of cluster x = %v, want InvalidArgument", err)
	}
}

// Kinesis answers for each record; each is tried again by itself.
func TestThrottledAndFailingRecords(t *testing.T) {
	w := newWorld(t)
	w.createStream(streamA)
	k := w.aws.Kinesis()
	k.FailPut(inject.Fault{Fraction: 0.4, Seed: 1, Code: "ProvisionedThroughputExceededException", Times: 12})
	k.FailPut(inject.Fault{Fraction: 0.1, Seed: 2, Code: "InternalFailure", Times: 6})
	k.FailPut(inject.Fault{After: 2, Times: 2, Code: "LimitExceededException"})
	k.FailPut(inject.Fault{After: 5, Times: 1, Lost: true})
	client, _ := w.replica(quiet)
	w.publish(clusterA, 1, 1000, 200)
	w.arrived(client, clusterA, 1000, 60*time.Second)
}

func TestKinesisGoesAndComesBack(t *testing.T) {
	w := newWorld(t)
	w.createStream(streamA)
	var log lines
	client, _ := w.replica(log.logger())
	w.publish(clusterA, 1, 200, 200)
	w.arrived(client, clusterA, 200, 30*time.Second)
	w.awsStop()
	w.publish(clusterA, 201, 600, 200)
	eventually(t, "the status to say what is wrong", func() bool {
		st, err := client.GetStatus(t.Context(), &publisherv1.GetStatusRequest{ClusterResourceId: clusterA})
		return err == nil && st.GetWaiting() > 0 && st.GetOldestWaitingSince() != nil && st.GetLastError() != ""
	})
	time.Sleep(2 * time.Second)
	w.startAWS()
	w.arrived(client, clusterA, 600, 60*time.Second)
	if n := log.count("does not take records"); n != 1 {
		t.Errorf("the outage was logged %d times, want once:\n%s", n, &log)
	}
}

func TestNATSGoesAndComesBack(t *testing.T) {
	t.Parallel() // with TestKilled: both wait for AckWait
	w := newWorld(t)
	w.createStream(streamA)
	client, _ := w.replica(quiet)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.publish(clusterA, 1, 1000, 200)
	}()
	for range 2 {
		time.Sleep(300 * time.Millisecond)
		w.nats.Stop()
		time.Sleep(200 * time.Millisecond)
		w.startNATS()
	}
	<-done
	// An acknowledgement may be lost with the server: AckWait has to pass.
	w.arrived(client, clusterA, 1000, journal.AckWait+60*time.Second)
}

// NATS comes back without its data: what is journalled then is relayed.
func TestNATSLosesItsData(t *testing.T) {
	w := newWorld(t)
	w.createStream(streamA)
	client, _ := w.replica(quiet)
	w.publish(clusterA, 1, 100, 200)
	w.arrived(client, clusterA, 100, 30*time.Second)
	w.nats.Stop()
	w.opts.Dir = t.TempDir()
	w.startNATS()
	eventually(t, "the journal to be made again", func() bool { return w.journal.Publish(t.Context(), message(clusterA, 101, 200)) == nil })
	w.publish(clusterA, 102, 200, 200)
	w.arrived(client, clusterA, 200, 60*time.Second)
}

// noStreams keeps Weir from making Kinesis streams, as the account's owner may.
func (w *world) noStreams() (allow func()) {
	return w.aws.Kinesis().Fail(inject.Fault{Operations: []string{"CreateStream"}, Code: "AccessDeniedException"})
}

// A stream that is not there and cannot be made keeps its records in the journal,
// says so once, and gets them when it is made.
func TestStreamIsMadeLater(t *testing.T) {
	w := newWorld(t)
	allow := w.noStreams()
	var log lines
	client, _ := w.replica(log.logger())
	w.publish(clusterA, 1, 300, 200)
	time.Sleep(3 * time.Second)
	if n, m := log.count("does not take records"), log.count("cannot be made again"); n != 1 || m != 1 {
		t.Errorf("the missing stream was logged %d and %d times, want once:\n%s", n, m, &log)
	}
	st, err := client.GetStatus(t.Context(), &publisherv1.GetStatusRequest{ClusterResourceId: clusterA})
	if err != nil || st.GetWaiting() != 300 || !strings.Contains(st.GetLastError(), "does not exist") {
		t.Errorf("GetStatus = %v, %v, want 300 waiting for a stream that does not exist", st, err)
	}
	allow()
	if _, err := client.EnsureStream(t.Context(), &publisherv1.EnsureStreamRequest{Name: streamA}); err != nil {
		t.Fatal(err)
	}
	w.arrived(client, clusterA, 300, 60*time.Second)
}

// Of two streams one is not there and has more records waiting than fit into
// memory. The other one's arrive all the same.
func TestOneStreamDoesNotHoldUpAnother(t *testing.T) {
	w := newWorld(t)
	w.createStream(streamB)
	w.noStreams()
	client, _ := w.replica(quiet)
	w.publish(clusterA, 1, 150, 800_000) // 120 MB; memory_bytes is 64 MiB
	began := time.Now()
	w.publish(clusterB, 1, 200, 200)
	w.arrived(client, clusterB, 200, 60*time.Second)
	t.Logf("200 records beside a blocked stream took %v", time.Since(began))
	if st, err := client.GetStatus(t.Context(), &publisherv1.GetStatusRequest{ClusterResourceId: clusterA}); err != nil || st.GetWaiting() != 150 {
		t.Errorf("GetStatus of the blocked stream = %v, %v, want 150 waiting", st, err)
	}
}

// A record that Kinesis can never take is found, given up and counted; those
// beside it arrive.
func TestPoisonRecord(t *testing.T) {
	w := newWorld(t)
	w.createStream(streamA)
	var log lines
	w.publish(clusterA, 1, 50, 200)
	poison := message(clusterA, 1000, 200)
	poison.PartitionKey = strings.Repeat("k", 300) // Kinesis takes 256
	if err := w.journal.Publish(t.Context(), poison); err != nil {
		t.Fatal(err)
	}
	w.publish(clusterA, 51, 100, 200)
	client, _ := w.replica(log.logger())
	w.arrived(client, clusterA, 100, 60*time.Second)
	if n := log.count("record lost"); n != 1 {
		t.Errorf("the loss was logged %d times, want once:\n%s", n, &log)
	}
}

func TestTwoReplicasShare(t *testing.T) {
	w := newWorld(t)
	w.createStream(streamA)
	one, stop := w.replica(quiet)
	two, _ := w.replica(quiet)
	w.publish(clusterA, 1, 1500, 2000)
	stop() // a clean stop gives back what it holds
	w.publish(clusterA, 1501, 2000, 2000)
	if twice := w.arrived(two, clusterA, 2000, 60*time.Second); twice > 500 {
		t.Errorf("%d of 2000 records came twice", twice)
	}
	_ = one
	st, err := two.GetStatus(t.Context(), &publisherv1.GetStatusRequest{})
	if err != nil || st.GetAccepted() == 0 || st.GetAccepted() >= 2000 {
		t.Errorf("the second replica moved %d of 2000 records, %v, want a share", st.GetAccepted(), err)
	}
}

// killed is set in the environment of a child process that is a publisher, so
// that one can be killed for real.
const (
	childNATS, childAWS, childCerts = "TEST_PUBLISHER_NATS", "TEST_PUBLISHER_AWS", "TEST_PUBLISHER_CERTS"
)

// child is a publisher when this process has been started as one.
func child() bool {
	if os.Getenv(childNATS) == "" {
		return false
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	dir := os.Getenv(childCerts)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		err = publisher.Run(ctx, publisher.Config{
			RPC:             rpc.ServerConfig{Allow: map[string][]string{"weir.publisher.v1.PublisherService": {"control.weir"}}},
			TLS:             certs.TLS(dir, "publisher"),
			Journal:         journal.Config{URL: os.Getenv(childNATS)},
			KinesisEndpoint: os.Getenv(childAWS), Region: "us-east-1", Listener: lis,
		}, quiet)
	}
	if err != nil {
		os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	return true
}

// A publisher killed with records in its hands costs duplicates at most.
func TestKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.createStream(streamA)
	// One PutRecords is answered at once, the rest are on their way when it is killed.
	release := w.aws.Kinesis().FailPut(inject.Fault{DelayOnly: true, Delay: 2 * time.Second, After: 1})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childNATS+"="+w.nats.URL(), childAWS+"=http://"+w.awsAddr, childCerts+"="+w.certs)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.publish(clusterA, 1, 1500, 5000)
	}()
	eventually(t, "the first records", func() bool { return len(w.read(streamA)) > 0 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	before := len(w.read(streamA))
	release()
	<-done
	if before == 1500 {
		t.Fatal("all records had been relayed before the kill: the test proved nothing")
	}
	client, _ := w.replica(quiet)
	w.arrived(client, clusterA, 1500, journal.AckWait+60*time.Second)
}

// Both links, to NATS and to Kinesis, misbehave by a script that is made up anew
// each time, and printed: put its seed here to repeat it.
func TestScriptedLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.createStream(streamA)
	seed := rand.Uint64()
	in, out := faulty.NewScript(seed, 12, 400*time.Millisecond), faulty.NewScript(seed+1, 12, 400*time.Millisecond)
	proxy := func(target string) *faulty.Proxy {
		p, err := faulty.NewProxy(target)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		return p
	}
	nats, kinesis := proxy(strings.TrimPrefix(w.nats.URL(), "tls://")), proxy(w.awsAddr)
	client, _ := w.replica(quiet, func(c *publisher.Config) {
		c.Journal.URL, c.KinesisEndpoint = "tls://"+nats.Addr(), "http://"+kinesis.Addr()
	})
	var work sync.WaitGroup
	work.Go(func() { _ = nats.Play(t.Context(), in) })
	work.Go(func() { _ = kinesis.Play(t.Context(), out) })
	w.publish(clusterA, 1, 800, 2000)
	work.Wait()
	defer func() {
		if t.Failed() {
			t.Logf("%v%v", in, out)
		}
	}()
	w.arrived(client, clusterA, 800, journal.AckWait+60*time.Second)
}

func TestStreams(t *testing.T) {
	w := newWorld(t, func(o *localaws.Options) { o.StateDelay = 500 * time.Millisecond })
	client, _ := w.replica(quiet)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 3 { // at a time, as replicas of control may
		wg.Go(func() {
			resp, err := client.EnsureStream(ctx, &publisherv1.EnsureStreamRequest{Name: streamA})
			if err != nil || !strings.HasSuffix(resp.GetArn(), ":stream/"+streamA) {
				t.Errorf("EnsureStream = %v, %v", resp, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if resp.GetCreated() {
				made++
			}
		})
	}
	wg.Wait()
	if made != 1 {
		t.Errorf("%d calls made the stream, want 1", made)
	}
	out, err := w.kinesis().DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: aws.String(streamA)})
	if err != nil {
		t.Fatal(err)
	}
	d := out.StreamDescriptionSummary
	if d.StreamStatus != types.StreamStatusActive || d.StreamModeDetails.StreamMode != types.StreamModeOnDemand ||
		aws.ToInt32(d.RetentionPeriodHours) != 24 || d.EncryptionType == types.EncryptionTypeKms {
		t.Errorf("made %+v, want an active one on demand, 24 hours, not encrypted", d)
	}
	tags, err := w.kinesis().ListTagsForStream(ctx, &kinesis.ListTagsForStreamInput{StreamName: aws.String(streamA)})
	if err != nil || len(tags.Tags) != 1 || aws.ToString(tags.Tags[0].Key) != "weir" {
		t.Errorf("tags %v, %v, want weir", tags, err)
	}
	if resp, err := client.EnsureStream(ctx, &publisherv1.EnsureStreamRequest{Name: streamA}); err != nil || resp.GetCreated() {
		t.Errorf("EnsureStream of one that exists = %v, %v, want it taken as it is", resp, err)
	}

	del := &publisherv1.DeleteStreamRequest{Name: streamA}
	for range 2 { // the second time it is being deleted
		if _, err := client.DeleteStream(ctx, del); err != nil {
			t.Errorf("DeleteStream = %v", err)
		}
	}
	// One that is being deleted is waited for, and made again.
	if resp, err := client.EnsureStream(ctx, &publisherv1.EnsureStreamRequest{Name: streamA}); err != nil || !resp.GetCreated() {
		t.Errorf("EnsureStream after DeleteStream = %v, %v, want a new one", resp, err)
	}
	if _, err := client.DeleteStream(ctx, &publisherv1.DeleteStreamRequest{Name: streamB}); err != nil {
		t.Errorf("DeleteStream of none = %v, want no error", err)
	}
	for _, name := range []string{"", "a/b", strings.Repeat("x", 129)} {
		if _, err := client.EnsureStream(ctx, &publisherv1.EnsureStreamRequest{Name: name}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("EnsureStream(%q) = %v, want InvalidArgument", name, err)
		}
		if _, err := client.DeleteStream(ctx, &publisherv1.DeleteStreamRequest{Name: name}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("DeleteStream(%q) = %v, want InvalidArgument", name, err)
		}
	}
	w.aws.Kinesis().Fail(inject.Fault{Code: "AccessDeniedException"})
	if _, err := client.EnsureStream(ctx, &publisherv1.EnsureStreamRequest{Name: streamB}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("EnsureStream denied = %v, want PermissionDenied", err)
	}
}

// What compose mounts has no key that the service does not know, and none that is
// wrong but for the certificates, which are compose's own.
func TestDeployedConfiguration(t *testing.T) {
	cfg, err := service.Load[publisher.Config]("publisher", filepath.Join("..", "..", "deploy", "config", "publisher.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := certs.Ensure(dir); err != nil {
		t.Fatal(err)
	}
	cfg.TLS, cfg.Journal.TLS = certs.TLS(dir, "publisher"), rpc.TLS{}
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	w := newWorld(t)
	good := w.config()
	good.RPC.Listen = "127.0.0.1:0"
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*publisher.Config){
		"rpc: listen":  func(c *publisher.Config) { c.RPC.Listen = "" },
		"tls: ":        func(c *publisher.Config) { c.TLS = rpc.TLS{} },
		"journal: url": func(c *publisher.Config) { c.Journal.URL = "" },
		"memory_bytes": func(c *publisher.Config) { c.MemoryBytes = 1 },
		"stream_bytes": func(c *publisher.Config) { c.StreamBytes = 1 << 40 },
		"workers":      func(c *publisher.Config) { c.Workers = -1 },
		"linger":       func(c *publisher.Config) { c.Linger = time.Hour },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want %q in it", err, want)
		}
	}
}

// lines is a log that can be searched.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) logger() *slog.Logger  { return slog.New(slog.NewTextHandler(l, nil)) }
func (l *lines) count(text string) int { return strings.Count(l.String(), text) }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}
