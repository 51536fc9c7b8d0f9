package crypto_test

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/faulty"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/localaws/inject"
	"github.com/weir-das/weir/pkg/rpc"
	"github.com/weir-das/weir/pkg/service"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/crypto"
)

// holds checks the one promise: every record that was sent until acknowledged is
// in the journal, readable, and at most more than once if mayRepeat.
func holds(t *testing.T, w *world, total int, mayRepeat bool, except ...int) []*journal.Delivery {
	t.Helper()
	all := w.journalled()
	seen := map[string]int{}
	for _, d := range all {
		plain, err := w.unseal(d.Data)
		if err != nil {
			t.Fatalf("record %s: %v", d.ID, err)
		}
		seen[string(plain)]++
	}
	missing := map[int]bool{}
	for _, n := range except {
		missing[n] = true
	}
	for n := 1; n <= total; n++ {
		count := seen[string(record(0, n).Plaintext)]
		switch {
		case count == 0 && !missing[n]:
			t.Errorf("record %d was acknowledged and is not in the journal", n)
		case count > 1 && !mayRepeat:
			t.Errorf("record %d is in the journal %d times", n, count)
		}
	}
	return all
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func only(c cryptov1.CryptoServiceClient) func() cryptov1.CryptoServiceClient {
	return func() cryptov1.CryptoServiceClient { return c }
}

func TestSeal(t *testing.T) {
	w := newWorld(t)
	client, _ := w.replica()
	trace := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	s := &sender{w: w, total: 300, change: func(n int, r *cryptov1.SealRecord) { r.Traceparent = trace }}
	if err := s.run(within(t, 30*time.Second), only(client)); err != nil {
		t.Fatal(err)
	}
	for _, d := range holds(t, w, 300, false) {
		if d.Cluster != cluster || d.Instance != instance || d.KinesisStream != "aws-rds-das-"+cluster || d.PartitionKey != instance+".0" {
			t.Fatalf("message is for %s, %s, %s, %s", d.Cluster, d.Instance, d.KinesisStream, d.PartitionKey)
		}
		if !strings.HasPrefix(d.ID, instance+"/1.") {
			t.Fatalf("message id %q, want the instance in it: ids of two instances may be equal", d.ID)
		}
		if !strings.HasPrefix(d.Traceparent, trace[:35]) {
			t.Fatalf("traceparent %q, want the trace %s", d.Traceparent, trace[3:35])
		}
	}
}

func TestCheckKey(t *testing.T) {
	w := newWorld(t)
	client, _ := w.replica()
	ctx := within(t, 30*time.Second)
	ask := func(key string) (*cryptov1.CheckKeyResponse, error) {
		return client.CheckKey(ctx, &cryptov1.CheckKeyRequest{ClusterResourceId: cluster, KmsKeyId: key})
	}
	if resp, err := ask(w.key); err != nil || resp.GetKeyArn() != w.key {
		t.Fatalf("CheckKey = %v, %v, want %s", resp, err, w.key)
	}
	if _, err := ask(""); status.Code(err) != codes.InvalidArgument {
		t.Errorf("CheckKey of no key = %v, want InvalidArgument", err)
	}
	if _, err := ask("alias/none"); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "NotFound") {
		t.Errorf("CheckKey of an unknown key = %v, want InvalidArgument with KMS's words", err)
	}
	if err := w.aws.KMS().Disable(w.key); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(w.key); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "DisabledException") {
		t.Errorf("CheckKey of a disabled key = %v, want InvalidArgument with KMS's words", err)
	}
	w.aws.KMS().Fail(inject.Fault{Code: "AccessDeniedException"})
	if _, err := ask(w.key); status.Code(err) != codes.PermissionDenied {
		t.Errorf("CheckKey denied = %v, want PermissionDenied", err)
	}
	w.aws.KMS().ClearFaults()
	w.aws.KMS().Fail(inject.Fault{Code: "KMSInternalException"})
	if _, err := ask(w.key); status.Code(err) != codes.Unavailable {
		t.Errorf("CheckKey with KMS away = %v, want Unavailable", err)
	}
}

func TestBadRequests(t *testing.T) {
	w := newWorld(t)
	client, _ := w.replica()
	good := w.open
	for what, messages := range map[string][]*cryptov1.SealRequest{
		"no open":       {{Message: &cryptov1.SealRequest_Record{Record: record(1, 1)}}},
		"empty":         {{}},
		"cluster":       {opened(good(), func(o *cryptov1.SealOpen) { o.ClusterResourceId = "cluster-*" })},
		"instance":      {opened(good(), func(o *cryptov1.SealOpen) { o.InstanceResourceId = "db-1.>" })},
		"stream":        {opened(good(), func(o *cryptov1.SealOpen) { o.KinesisStream = "a/b" })},
		"version":       {opened(good(), func(o *cryptov1.SealOpen) { o.Version = `1"` })},
		"opened twice":  {opened(good(), nil), opened(good(), nil)},
		"wrong start":   {opened(good(), nil), {Message: &cryptov1.SealRequest_Record{Record: record(2, 2)}}},
		"nothing in it": {opened(good(), nil), {}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		stream, err := client.Seal(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			_ = stream.Send(m) // Recv says why it fails
		}
		for err == nil {
			_, err = stream.Recv()
		}
		cancel()
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: Seal = %v, want InvalidArgument", what, err)
		}
	}
}

func opened(o *cryptov1.SealOpen, change func(*cryptov1.SealOpen)) *cryptov1.SealRequest {
	if change != nil {
		change(o)
	}
	return &cryptov1.SealRequest{Message: &cryptov1.SealRequest_Open{Open: o}}
}

// A record that can never be sealed is refused in its turn; what comes before and
// after it is not held up.
func TestRefusedRecord(t *testing.T) {
	w := newWorld(t)
	client, _ := w.replica()
	noise := make([]byte, 1<<20) // does not compress
	_, _ = crand.Read(noise)
	s := &sender{w: w, total: 40, refused: map[int]string{}, change: func(n int, r *cryptov1.SealRecord) {
		switch n {
		case 17:
			r.Plaintext = noise
		case 18:
			r.Plaintext = nil
		case 19:
			r.PartitionKey = ""
		}
	}}
	if err := s.run(within(t, 30*time.Second), only(client)); err != nil {
		t.Fatal(err)
	}
	if n := s.breaks.Load(); n != 0 {
		t.Errorf("the stream broke %d times, want none", n)
	}
	if len(s.refused) != 3 || !strings.Contains(s.refused[17], fmt.Sprint(journal.MaxRecord)) {
		t.Errorf("refused %v, want 17 with the limit, 18 and 19", s.refused)
	}
	holds(t, w, 40, false, 17, 18, 19)
}

func TestJournalFull(t *testing.T) {
	w := newWorld(t)
	w.maxBytes = 4 << 20
	client, _ := w.replica()
	fill := make([]byte, 400<<10) // does not compress
	_, _ = crand.Read(fill)
	big := func(n int, r *cryptov1.SealRecord) {
		r.Plaintext = append(record(0, n).Plaintext, fill...)
	}
	ctx := within(t, 60*time.Second)
	s := &sender{w: w, total: 20, change: big}
	acked, err := s.stream(ctx, client, 0)
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "maximum bytes exceeded") {
		t.Fatalf("Seal into a full journal = %d, %v, want ResourceExhausted, maximum bytes exceeded", acked, err)
	}
	if acked == 0 || acked >= 20 {
		t.Fatalf("acknowledged %d of 20, want some", acked)
	}
	// The sender keeps what was not acknowledged; room comes when the publisher has
	// taken what is there.
	taken := map[int]int{}
	count := func() {
		for _, d := range w.journalled() {
			plain, err := w.unseal(d.Data)
			if err != nil {
				t.Fatal(err)
			}
			var n int
			if _, err := fmt.Sscanf(string(plain), `{"type":"DatabaseActivityMonitoringRecord","n":%d}`, &n); err != nil {
				t.Fatal(err)
			}
			taken[n]++
		}
	}
	for acked < 20 {
		count()
		through, err := s.stream(ctx, client, acked)
		if err != nil && status.Code(err) != codes.ResourceExhausted {
			t.Fatal(err)
		}
		acked = through
	}
	count()
	for n := 1; n <= 20; n++ {
		if taken[n] == 0 {
			t.Errorf("record %d was acknowledged and is not in the journal", n)
		}
	}
}

func TestNATSGoesAndComesBack(t *testing.T) {
	w := newWorld(t)
	client, _ := w.replica()
	const total = 1000
	s := &sender{w: w, total: total}
	s.heldFrom.Store(1)
	done := make(chan error, 1)
	go func() { done <- s.run(within(t, 60*time.Second), only(client)) }()
	for i := range 3 {
		s.let(t, 300*i+200, 300*i+50)
		broken := s.breaks.Load()
		w.nats.Stop()
		s.letBreak(t, 300*i+300, broken)
		w.startNATS()
	}
	s.letAll()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// The journal knows what it has, so that what was sent again is there once.
	holds(t, w, total, false)
}

// NATS comes back without its data: records are journalled again, and whoever asks
// hears that it is another journal.
func TestNATSLosesItsData(t *testing.T) {
	w := newWorld(t)
	client, _ := w.replica()
	where := func() (*cryptov1.GetJournalResponse, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return client.GetJournal(ctx, &cryptov1.GetJournalRequest{})
	}
	if err := (&sender{w: w, total: 30}).run(within(t, 60*time.Second), only(client)); err != nil {
		t.Fatal(err)
	}
	before, err := where()
	if err != nil || before.GetFirst() != 1 || before.GetLast() != 30 || before.GetMadeAt() == nil {
		t.Fatalf("GetJournal = %v, %v, want 30 records", before, err)
	}
	w.nats.Stop()
	if _, err := where(); status.Code(err) != codes.Unavailable {
		t.Errorf("GetJournal without NATS = %v, want UNAVAILABLE", err)
	}
	w.opts.Dir = t.TempDir()
	w.startNATS()
	if err := (&sender{w: w, total: 20}).run(within(t, 60*time.Second), only(client)); err != nil {
		t.Fatal(err)
	}
	after, err := where()
	if err != nil || after.GetMadeAt().AsTime().Equal(before.GetMadeAt().AsTime()) || after.GetLast() != 20 {
		t.Errorf("GetJournal = %v, %v, want another journal than %v", after, err, before)
	}
	holds(t, w, 20, false)
}

// A link that stalls, is slow and breaks must not cost a record, nor make crypto
// acknowledge what the journal has not.
func TestBadLinkToNATS(t *testing.T) {
	w := newWorld(t)
	proxy, err := faulty.NewProxy(strings.TrimPrefix(w.nats.URL(), "tls://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	w.journalURL = "tls://" + proxy.Addr()
	client, _ := w.replica()
	const total = 600
	s := &sender{w: w, total: total}
	s.heldFrom.Store(1)
	done := make(chan error, 1)
	go func() { done <- s.run(within(t, 90*time.Second), only(client)) }()
	for i := range 3 {
		s.let(t, 180*i+100, 180*i+50)
		proxy.Delay(20 * time.Millisecond)
		s.let(t, 180*i+150, 180*i+120)
		broken := s.breaks.Load()
		proxy.Stall()
		s.heldFrom.Store(int64(180*i + 180))
		time.Sleep(300 * time.Millisecond) // the link stands still, and then breaks
		proxy.Cut()
		s.letBreak(t, 180*i+180, broken)
		proxy.Resume()
	}
	s.letAll()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	holds(t, w, total, false)
}

// Both links, to crypto and from it to NATS, misbehave by a script that is made up
// anew each time, and printed: put its seed here to repeat it.
func TestScriptedLinks(t *testing.T) {
	w := newWorld(t)
	seed := rand.Uint64()
	front, back := faulty.NewScript(seed, 12, 400*time.Millisecond), faulty.NewScript(seed+1, 12, 400*time.Millisecond)
	proxy := func(target string) *faulty.Proxy {
		p, err := faulty.NewProxy(target)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		return p
	}
	nats := proxy(strings.TrimPrefix(w.nats.URL(), "tls://"))
	w.journalURL = "tls://" + nats.Addr()
	lis := listen(t)
	w.replica(func(c *crypto.Config) { _ = c.Listener.Close(); c.Listener = lis })
	door := proxy(lis.Addr().String())
	client := w.dial(door.Addr())

	const total = 800
	ctx := within(t, 120*time.Second)
	s := &sender{w: w, total: total}
	done := make(chan error, 1)
	go func() { done <- s.run(ctx, only(client)) }()
	var links sync.WaitGroup
	links.Go(func() { _ = door.Play(ctx, front) })
	links.Go(func() { _ = nats.Play(ctx, back) })
	links.Wait()
	err := <-done
	if err != nil {
		t.Error(err)
	} else {
		holds(t, w, total, false)
	}
	if t.Failed() {
		t.Logf("%v%v", front, back)
	}
}

// Replicas come and go; the sender goes on with another.
func TestTwoReplicas(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	clients := make([]cryptov1.CryptoServiceClient, 2)
	stops := make([]func(), 2)
	start := func(i int) {
		c, stop := w.replica()
		mu.Lock()
		defer mu.Unlock()
		clients[i], stops[i] = c, stop
	}
	start(0)
	start(1)
	turn := 0
	next := func() cryptov1.CryptoServiceClient {
		mu.Lock()
		defer mu.Unlock()
		turn++
		return clients[turn%2]
	}
	const total = 1000
	s := &sender{w: w, total: total}
	s.heldFrom.Store(1)
	done := make(chan error, 1)
	go func() { done <- s.run(within(t, 60*time.Second), next) }()
	for i := range 4 {
		s.let(t, 200*i+200, 200*i+50)
		stops[i%2]()
		start(i % 2)
	}
	s.letAll()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s.breaks.Load() == 0 {
		t.Error("no stream ever broke, though both replicas were stopped twice")
	}
	holds(t, w, total, false)
}

// Stopping acknowledges what is on its way, then ends the stream.
func TestDrain(t *testing.T) {
	w := newWorld(t)
	client, stop := w.replica()
	stream, err := client.Seal(within(t, 30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(opened(w.open(), nil)); err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&cryptov1.SealRequest{Message: &cryptov1.SealRequest_Record{Record: record(1, 1)}}); err != nil {
		t.Fatal(err)
	}
	if answer, err := stream.Recv(); err != nil || answer.GetDurableThrough() != 1 {
		t.Fatalf("Recv = %v, %v, want 1", answer, err)
	}
	began := time.Now()
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	if answer, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("Recv while draining = %v, %v, want Unavailable", answer, err)
	}
	<-stopped
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("stopping took %v with an idle stream, want to end it at once", d)
	}
}

func TestKMSOutageAndRefusal(t *testing.T) {
	w := newWorld(t)
	client, _ := w.replica(func(c *crypto.Config) { c.KeyMaxAge, c.KeyHardAge = time.Second, time.Hour })
	ctx := within(t, 60*time.Second)
	s := &sender{w: w, total: 1}
	if err := s.run(ctx, only(client)); err != nil {
		t.Fatal(err)
	}
	// An outage: the old key goes on being used.
	w.aws.KMS().Fail(inject.Fault{Code: "KMSInternalException"})
	time.Sleep(1500 * time.Millisecond)
	s.total = 50
	if _, err := s.stream(ctx, client, 1); err != nil {
		t.Fatalf("Seal in an outage of KMS = %v", err)
	}
	w.aws.KMS().ClearFaults()
	// A refusal: sealing stops at the renewal, with KMS's words.
	if err := w.aws.KMS().Disable(w.key); err != nil {
		t.Fatal(err)
	}
	s.total = 1000
	acked, err := 50, error(nil)
	for err == nil && ctx.Err() == nil {
		if acked, err = s.stream(ctx, client, acked); err == nil {
			s.total += 1000
		}
	}
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "DisabledException") {
		t.Fatalf("Seal with a disabled key = %v, want InvalidArgument with KMS's words", err)
	}
	// No record was refused for it: the same ones are taken when the key is back.
	if err := w.aws.KMS().Enable(w.key); err != nil {
		t.Fatal(err)
	}
	s.total = acked + 10
	s.refused = map[int]string{}
	for ctx.Err() == nil && acked < s.total {
		acked, _ = s.stream(ctx, client, acked)
		time.Sleep(100 * time.Millisecond)
	}
	if acked < s.total || len(s.refused) > 0 {
		t.Fatalf("acknowledged %d of %d, refused %v", acked, s.total, s.refused)
	}
	holds(t, w, s.total, false)
}

func TestOnlyCaptureMaySeal(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Listener = listen(t)
	cfg.RPC.Allow = map[string][]string{}
	if err := crypto.Run(within(t, 30*time.Second), cfg, quiet); err == nil || !strings.Contains(err.Error(), "weir.crypto.v1.CryptoService") {
		t.Errorf("Run without an allow-list = %v, want an error that names the service", err)
	}
}

// What compose mounts has no key that the service does not know, and none that is
// wrong but for the certificates, which are compose's own.
func TestDeployedConfiguration(t *testing.T) {
	cfg, err := service.Load[crypto.Config]("crypto", filepath.Join("..", "..", "deploy", "config", "crypto.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := certs.Ensure(dir); err != nil {
		t.Fatal(err)
	}
	cfg.TLS, cfg.Journal.TLS = certs.TLS(dir, "crypto"), rpc.TLS{}
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
	for want, change := range map[string]func(*crypto.Config){
		"rpc: listen":      func(c *crypto.Config) { c.RPC.Listen = "" },
		"tls: ":            func(c *crypto.Config) { c.TLS = rpc.TLS{} },
		"journal: url":     func(c *crypto.Config) { c.Journal.URL = "" },
		"key_max_age":      func(c *crypto.Config) { c.KeyMaxAge = time.Millisecond },
		"key_hard_age":     func(c *crypto.Config) { c.KeyHardAge = time.Minute },
		"key_max_bytes":    func(c *crypto.Config) { c.KeyMaxBytes = -1 },
		"signing_key_file": func(c *crypto.Config) { c.SigningKeyFile, c.SigningKMSKey = "f", "alias/k" },
		"gzip_level":       func(c *crypto.Config) { c.GzipLevel = 10 },
		"window_bytes":     func(c *crypto.Config) { c.WindowBytes = 10 },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want %q in it", err, want)
		}
	}
}
