package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/journal/natsserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	cluster  = "cluster-ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	cluster2 = "cluster-ABCDEFGHIJKLMNOPQRSTUVWX22"
	instance = "db-ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// world is a NATS server that can be stopped and started again, and
// certificates for whoever wants to talk to it.
type world struct {
	t     *testing.T
	certs string
	opts  natsserver.Options
	s     *natsserver.Server
}

func newWorld(t *testing.T, change ...func(*natsserver.Options)) *world {
	t.Helper()
	w := &world{t: t, certs: t.TempDir()}
	if err := certs.Ensure(w.certs); err != nil {
		t.Fatal(err)
	}
	w.opts = natsserver.Options{Dir: t.TempDir(), TLS: certs.TLS(w.certs, "nats")}
	for _, c := range change {
		c(&w.opts)
	}
	w.start()
	t.Cleanup(func() { w.s.Stop() })
	return w
}

// start starts the server, on the port it had before.
func (w *world) start() {
	w.t.Helper()
	s, err := natsserver.Start(w.opts)
	if err != nil {
		w.t.Fatal(err)
	}
	w.s, w.opts.Port = s, s.Port()
}

func (w *world) config(name string) journal.Config {
	return journal.Config{URL: w.s.URL(), TLS: certs.TLS(w.certs, name)}
}

func (w *world) connect(name string) *journal.Conn {
	w.t.Helper()
	conn, err := journal.Connect(w.t.Context(), w.config(name), name, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(conn.Close)
	return conn
}

func (w *world) open(name string, change ...func(*journal.Config)) *journal.Journal {
	w.t.Helper()
	cfg := w.config(name)
	for _, c := range change {
		c(&cfg)
	}
	j, err := journal.Open(w.t.Context(), w.connect(name), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

func message(id string, size int) journal.Message {
	return journal.Message{
		Cluster: cluster, Instance: instance, KinesisStream: "aws-rds-das-" + cluster,
		PartitionKey: "db-A.0", ID: id, Data: bytes.Repeat([]byte("x"), size),
	}
}

func TestPublishAndConsume(t *testing.T) {
	w := newWorld(t)
	j := w.open("crypto")
	sent := message("7.1", 1000)
	sent.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for range 3 { // a duplicate is a success
		if err := j.Publish(t.Context(), sent); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Publish(t.Context(), message("", journal.MaxRecord)); err != nil {
		t.Fatalf("Publish of %d bytes = %v", journal.MaxRecord, err)
	}
	pub := w.open("publisher")
	st, err := pub.State(t.Context(), cluster)
	if err != nil || st.Records != 2 || time.Since(st.Oldest) > time.Minute {
		t.Fatalf("State = %+v, %v, want 2 records", st, err)
	}
	if st, err := pub.State(t.Context(), cluster2); err != nil || st.Records != 0 || !st.Oldest.IsZero() {
		t.Fatalf("State of another cluster = %+v, %v, want none", st, err)
	}
	cons, err := pub.Consumer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []*journal.Delivery
	for len(got) < 2 {
		if err := cons.Fetch(t.Context(), 2<<20, 200*time.Millisecond, func(d *journal.Delivery) {
			got = append(got, d)
		}); err != nil {
			t.Fatal(err)
		}
	}
	first := got[0].Message
	if first.Cluster != sent.Cluster || first.Instance != sent.Instance || first.KinesisStream != sent.KinesisStream ||
		first.PartitionKey != sent.PartitionKey || first.ID != sent.ID || first.Traceparent != sent.Traceparent ||
		!bytes.Equal(first.Data, sent.Data) {
		t.Errorf("Fetch gave %+v, want what was published", first)
	}
	if got[0].Deliveries != 1 || got[0].Stored.IsZero() || got[0].Sequence == 0 {
		t.Errorf("Delivery{Sequence: %d, Deliveries: %d, Stored: %v}, want all set", got[0].Sequence, got[0].Deliveries, got[0].Stored)
	}
	if err := errors.Join(got[0].Ack(), got[1].Return(0)); err != nil {
		t.Fatal(err)
	}
	again := 0
	for again == 0 {
		if err := cons.Fetch(t.Context(), 2<<20, 200*time.Millisecond, func(d *journal.Delivery) {
			again++
			if d.Deliveries != 2 {
				t.Errorf("after Return: Deliveries = %d, want 2", d.Deliveries)
			}
			_ = d.Drop("a test")
		}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "an empty journal", func() bool {
		st, err := pub.State(t.Context(), "")
		return err == nil && st.Records == 0 && st.Oldest.IsZero()
	})
}

func TestPublishErrors(t *testing.T) {
	w := newWorld(t)
	j := w.open("crypto", func(c *journal.Config) { c.MaxBytes = 4 << 20 })

	t.Run("malformed", func(t *testing.T) {
		for what, change := range map[string]func(*journal.Message){
			"too large":           func(m *journal.Message) { m.Data = make([]byte, journal.MaxRecord+1) },
			"empty":               func(m *journal.Message) { m.Data = nil },
			"cluster":             func(m *journal.Message) { m.Cluster = "cluster-*" },
			"instance":            func(m *journal.Message) { m.Instance = "db-A.B" },
			"no kinesis stream":   func(m *journal.Message) { m.KinesisStream = "" },
			"no partition key":    func(m *journal.Message) { m.PartitionKey = "" },
			"header in a header":  func(m *journal.Message) { m.PartitionKey = "a\r\nNats-Rollup: all" },
			"long message id":     func(m *journal.Message) { m.ID = strings.Repeat("x", 513) },
			"line break in trace": func(m *journal.Message) { m.Traceparent = "\n" },
		} {
			m := message("", 10)
			change(&m)
			if err := j.Publish(t.Context(), m); !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: Publish = %v, want Invalid", what, err)
			}
		}
	})
	t.Run("full", func(t *testing.T) {
		var err error
		for i := 0; err == nil; i++ {
			if i > 10 {
				t.Fatal("a journal of 4 MiB took 10 records of 900 KiB")
			}
			err = j.Publish(t.Context(), message(fmt.Sprint(i), journal.MaxRecord))
		}
		if !fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), "maximum bytes exceeded") {
			t.Fatalf("Publish to a full journal = %v, want Busy, maximum bytes exceeded", err)
		}
		// Raised, it goes on.
		j = w.open("crypto", func(c *journal.Config) { c.MaxBytes = 8 << 20 })
		if err := j.Publish(t.Context(), message("more", journal.MaxRecord)); err != nil {
			t.Fatalf("Publish after raising max_bytes = %v", err)
		}
		// A service with a smaller limit in its configuration does not cut it down.
		w.open("publisher", func(c *journal.Config) { c.MaxBytes = 4 << 20 })
		if st, err := j.State(t.Context(), ""); err != nil || st.MaxBytes != 8<<20 {
			t.Fatalf("State = %+v, %v, want MaxBytes 8 MiB", st, err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := j.Publish(ctx, message("", 10)); !fault.Is(err, fault.NotReady) {
			t.Errorf("Publish with a context that has ended = %v, want NotReady", err)
		}
	})
}

func TestServerGoesAndComesBack(t *testing.T) {
	w := newWorld(t)
	j := w.open("crypto")
	if err := j.Publish(t.Context(), message("before", 100)); err != nil {
		t.Fatal(err)
	}
	w.s.Stop()
	began := time.Now()
	if err := j.Publish(t.Context(), message("during", 100)); !fault.Is(err, fault.NotReady) {
		t.Fatalf("Publish without a server = %v, want NotReady", err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("Publish without a server took %v, want to fail at once", d)
	}
	w.start()
	eventually(t, "the connection to come back", func() bool {
		return j.Publish(t.Context(), message("after", 100)) == nil
	})
	// What was acknowledged before is still there and still known.
	if err := j.Publish(t.Context(), message("before", 100)); err != nil {
		t.Fatal(err)
	}
	if st, err := j.State(t.Context(), ""); err != nil || st.Records != 2 {
		t.Fatalf("State = %+v, %v, want 2 records", st, err)
	}
}

// The server comes back with nothing. Whoever keeps the journal makes it again; it is
// another one, and what the old one had is not in it.
func TestServerLosesItsData(t *testing.T) {
	w := newWorld(t)
	j, pub := w.open("crypto"), w.open("publisher")
	for _, each := range []*journal.Journal{j, pub} { // both do, in the mesh
		keeping, stop := context.WithCancel(t.Context())
		var kept sync.WaitGroup
		kept.Go(func() { each.Keep(keeping) })
		t.Cleanup(func() { stop(); kept.Wait() })
	}
	cons, err := pub.Consumer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before, err := j.Position(t.Context())
	if err != nil || before.Last != 0 || before.First != 1 || before.Made.IsZero() {
		t.Fatalf("Position of an empty journal = %+v, %v", before, err)
	}
	if err := errors.Join(j.Publish(t.Context(), message("1", 100)), j.Publish(t.Context(), message("2", 100))); err != nil {
		t.Fatal(err)
	}
	if p, err := j.Position(t.Context()); err != nil || p != (journal.Position{Made: before.Made, First: 1, Last: 2}) {
		t.Fatalf("Position with two records = %+v, %v", p, err)
	}
	taken := 0
	for taken < 2 {
		if err := cons.Fetch(t.Context(), 1<<20, 200*time.Millisecond, func(d *journal.Delivery) {
			taken++
			if err := d.Ack(); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "what was acknowledged to leave", func() bool {
		p, err := j.Position(t.Context())
		return err == nil && p.First == 3 && p.Last == 2
	})
	w.s.Stop()
	w.start() // a restart is no other journal
	eventually(t, "the connection to come back", func() bool {
		p, err := j.Position(t.Context())
		return err == nil && p.Made.Equal(before.Made)
	})
	w.s.Stop()
	w.opts.Dir = t.TempDir()
	w.start()
	eventually(t, "the journal to be made again", func() bool { return j.Publish(t.Context(), message("1", 100)) == nil })
	if p, err := j.Position(t.Context()); err != nil || p.Made.Equal(before.Made) || p.Last != 1 {
		t.Fatalf("Position = %+v, %v, want that of another journal than of %v", p, err, before.Made)
	}
	// The consumer says that it is gone, and is made again like any that was deleted.
	eventually(t, "the consumer to be known as gone", func() bool {
		err := cons.Fetch(t.Context(), 1<<20, 200*time.Millisecond, func(*journal.Delivery) { t.Error("a record for a consumer that is gone") })
		return fault.Is(err, fault.Conflict)
	})
	if cons, err = pub.Consumer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := cons.Fetch(t.Context(), 1<<20, time.Second, func(d *journal.Delivery) { taken++ }); err != nil || taken != 3 {
		t.Fatalf("Fetch = %v, %d records, want the new one", err, taken)
	}
}

func TestManyInFlightWhileServerStops(t *testing.T) {
	w := newWorld(t)
	j := w.open("crypto")
	var mu sync.Mutex
	acked := map[string]bool{}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d.%d", g, i)
				err := j.Publish(t.Context(), message(id, 20_000))
				if fault.Is(err, fault.NotReady) {
					return
				}
				if err != nil {
					t.Errorf("Publish = %v, want NotReady", err)
					return
				}
				mu.Lock()
				acked[id] = true
				mu.Unlock()
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	w.s.Stop()
	wg.Wait()
	w.start()
	pub := w.open("publisher")
	cons, err := pub.Consumer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(acked) == 0 {
		t.Fatal("nothing was acknowledged before the server stopped")
	}
	eventually(t, "all acknowledged records", func() bool {
		if err := cons.Fetch(t.Context(), 4<<20, 100*time.Millisecond, func(d *journal.Delivery) {
			delete(acked, d.ID)
			_ = d.Ack()
		}); err != nil {
			t.Fatal(err)
		}
		return len(acked) == 0
	})
}

func TestOpenRefusesUnfitStream(t *testing.T) {
	fit := jetstream.StreamConfig{
		Name: journal.Stream, Subjects: []string{"weir.journal.*.*"}, Retention: jetstream.WorkQueuePolicy,
		Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew, MaxBytes: 8 << 20,
	}
	for what, change := range map[string]func(*jetstream.StreamConfig){
		"retention":    func(c *jetstream.StreamConfig) { c.Retention = jetstream.LimitsPolicy },
		"discard":      func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		"max_age":      func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"max_msg_size": func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 },
		"subjects":     func(c *jetstream.StreamConfig) { c.Subjects = []string{"weir.journal.x.*"} },
		"no_ack":       func(c *jetstream.StreamConfig) { c.NoAck = true },
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			conn := w.connect("crypto")
			c := fit
			change(&c)
			if _, err := conn.JetStream().CreateStream(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := journal.Open(ctx, conn, w.config("crypto"))
			if err == nil || !strings.Contains(err.Error(), what) || ctx.Err() != nil {
				t.Errorf("Open = %v, want an error about %s", err, what)
			}
		})
	}
}

func TestOpenRefusesSmallPayload(t *testing.T) {
	w := newWorld(t, func(o *natsserver.Options) { o.MaxPayload = 512 << 10 })
	_, err := journal.Open(t.Context(), w.connect("crypto"), w.config("crypto"))
	if err == nil || !strings.Contains(err.Error(), "max_payload") {
		t.Fatalf("Open = %v, want an error that names max_payload", err)
	}
}

func TestOpenWaitsForServer(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("crypto")
	w.s.Stop()
	opened := make(chan error, 1)
	go func() {
		conn, err := journal.Connect(t.Context(), cfg, "crypto", nil)
		if err == nil {
			defer conn.Close()
			_, err = journal.Open(t.Context(), conn, cfg)
		}
		opened <- err
	}()
	time.Sleep(300 * time.Millisecond)
	w.start()
	select {
	case err := <-opened:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Open did not return after the server had come")
	}

	w.s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := journal.Connect(ctx, cfg, "crypto", nil); !fault.Is(err, fault.NotReady) {
		t.Fatalf("Connect without a server = %v, want NotReady", err)
	}
}

func TestProveDurable(t *testing.T) {
	synced := newWorld(t)
	synced.open("crypto") // makes the stream
	lazy := newWorld(t, func(o *natsserver.Options) { o.LazySync = true })
	lazy.open("crypto")
	for _, who := range []string{"crypto", "control"} {
		if err := journal.ProveDurable(t.Context(), synced.connect(who)); err != nil {
			t.Errorf("%s: ProveDurable = %v, want nil", who, err)
		}
		err := journal.ProveDurable(t.Context(), lazy.connect(who))
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "sync_interval: always") {
			t.Errorf("%s: ProveDurable of a lazy server = %v, want Invalid that names sync_interval", who, err)
		}
	}
	// Who may not ask has no proof, and no server is no proof either.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := journal.ProveDurable(ctx, synced.connect("publisher")); !fault.Is(err, fault.NotReady) {
		t.Errorf("publisher: ProveDurable = %v, want NotReady: it has no right to ask", err)
	}
	conn := synced.connect("control")
	synced.s.Stop()
	if err := journal.ProveDurable(ctx, conn); !fault.Is(err, fault.NotReady) {
		t.Errorf("ProveDurable without a server = %v, want NotReady", err)
	}
}

// TestPermissions holds the server's configuration against what each service may
// and may not do.
func TestPermissions(t *testing.T) {
	w := newWorld(t)
	j := w.open("crypto")
	if err := j.Publish(t.Context(), message("1", 10)); err != nil {
		t.Fatal(err)
	}
	subject, err := journal.Subject(cluster, instance)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ who, subject string }{
		{"publisher", subject},
		{"control", subject},
		{"notifier", subject},
		{"crypto", "$JS.API.STREAM.DELETE.WEIR_JOURNAL"},
		{"crypto", "$JS.API.STREAM.PURGE.WEIR_JOURNAL"},
		{"crypto", "$JS.API.STREAM.MSG.GET.WEIR_JOURNAL"},
		{"crypto", "$JS.API.DIRECT.GET.WEIR_JOURNAL"},
		{"crypto", "$JS.API.CONSUMER.CREATE.WEIR_JOURNAL.x"},
		{"publisher", "$JS.API.STREAM.DELETE.WEIR_JOURNAL"},
		{"publisher", "$JS.API.CONSUMER.DELETE.WEIR_JOURNAL.publisher"},
		{"control", "$JS.API.STREAM.DELETE.WEIR_JOURNAL"},
		{"control", "$JS.API.STREAM.PURGE.WEIR_JOURNAL"},
		{"control", "$JS.API.DIRECT.GET.WEIR_JOURNAL"},
		{"control", "$JS.API.CONSUMER.MSG.NEXT.WEIR_JOURNAL.publisher"},
		{"control", "$JS.ACK.WEIR_JOURNAL.publisher.1.1.1.1.0"},
		{"notifier", "$JS.API.STREAM.INFO.WEIR_JOURNAL"},
		{"publisher", "$SYS.REQ.SERVER.PING.CONNZ"},
		{"crypto", "$SYS.REQ.SERVER.PING.CONNZ"},
	} {
		conn := w.connect(tt.who)
		denied := make(chan error, 4)
		conn.NATS().SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })
		if err := errors.Join(conn.NATS().Publish(tt.subject, nil), conn.NATS().Flush()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-denied:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s publishing to %s: %v, want a permission violation", tt.who, tt.subject, err)
			}
		case <-time.After(2 * time.Second):
			t.Errorf("%s may publish to %s", tt.who, tt.subject)
		}
		conn.Close()
	}
	// Nobody listens in on the journal or on another's replies.
	for _, who := range []string{"crypto", "publisher", "control", "notifier"} {
		conn := w.connect(who)
		denied := make(chan error, 4)
		conn.NATS().SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })
		for _, subject := range []string{"weir.journal.>", ">", "_INBOX.>"} {
			if _, err := conn.NATS().SubscribeSync(subject); err != nil {
				t.Fatal(err)
			}
			if err := conn.NATS().Flush(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-denied:
			case <-time.After(2 * time.Second):
				t.Errorf("%s may subscribe to %s", who, subject)
			}
		}
		conn.Close()
	}
	// A certificate of our CA that belongs to no user.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	cfg := w.config("probe")
	if conn, err := journal.Connect(ctx, cfg, "probe", nil); err == nil {
		conn.Close()
		t.Error("probe.weir may connect")
	}
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	if err := certs.Ensure(dir); err != nil {
		t.Fatal(err)
	}
	good := journal.Config{URL: "tls://a:4222, tls://b:4222", TLS: certs.TLS(dir, "crypto"), Replicas: 3, MaxBytes: 1 << 30}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := (journal.Config{URL: "nats://127.0.0.1:4222"}).Validate(); err != nil {
		t.Errorf("loopback without TLS: %v", err)
	}
	for what, change := range map[string]func(*journal.Config){
		"url: empty":    func(c *journal.Config) { c.URL = "" },
		"not encrypted": func(c *journal.Config) { c.URL = "nats://10.0.0.1:4222" },
		"scheme":        func(c *journal.Config) { c.URL = "http://a" },
		"user and pass": func(c *journal.Config) { c.URL = "tls://u:p@a:4222" },
		"no host":       func(c *journal.Config) { c.URL = "tls://" },
		"replicas":      func(c *journal.Config) { c.Replicas = 2 },
		"max_bytes":     func(c *journal.Config) { c.MaxBytes = 100 },
		"tls: ":         func(c *journal.Config) { c.TLS.CertFile = "" },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("Validate = %v, want %q in it", err, what)
		}
	}
}

func FuzzSubject(f *testing.F) {
	f.Add(cluster, instance)
	f.Add("cluster-*", "db->")
	f.Fuzz(func(t *testing.T, c, i string) {
		s, err := journal.Subject(c, i)
		if err != nil {
			return
		}
		if strings.Count(s, ".") != 3 || strings.ContainsAny(s, "*> \t\r\n") {
			t.Fatalf("Subject(%q, %q) = %q", c, i, s)
		}
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

// BenchmarkPublish measures synced publishing; the journal's disk is the limit.
func BenchmarkPublish(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 512 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			dir := b.TempDir()
			if err := certs.Ensure(dir); err != nil {
				b.Fatal(err)
			}
			s, err := natsserver.Start(natsserver.Options{Dir: b.TempDir(), TLS: certs.TLS(dir, "nats")})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Stop()
			cfg := journal.Config{URL: s.URL(), TLS: certs.TLS(dir, "crypto"), MaxBytes: 32 << 30}
			conn, err := journal.Connect(b.Context(), cfg, "crypto", nil)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			j, err := journal.Open(b.Context(), conn, cfg)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			b.SetParallelism(8)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if err := j.Publish(b.Context(), message("", size)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
