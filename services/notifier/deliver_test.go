package notifier_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/journal/natsserver"
	"github.com/weir-das/weir/pkg/localaws"
	"github.com/weir-das/weir/pkg/localaws/inject"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/notifier"
	"github.com/weir-das/weir/services/notifier/internal/deliver"
	"github.com/weir-das/weir/services/notifier/internal/deliver/webhook"
)

// secret is what receivers of webhooks know.
const secret = "a secret of more than 16 bytes"

// receiver takes webhooks, and checks who sent them.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	refuse int // so many are answered with 500; below 0: all
	ids    []string
	events []*notifierv1.Event
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		id, at := req.Header.Get("Webhook-Id"), req.Header.Get("Webhook-Timestamp")
		if err != nil || req.Header.Get("Webhook-Signature") != webhook.Sign([]byte(secret), id, at, body) {
			t.Errorf("a webhook has signature %q over %s", req.Header.Get("Webhook-Signature"), body)
		}
		var event struct {
			SpecVersion, ID, Source, Type, Subject, DataContentType string
			Time                                                    time.Time
			Data                                                    json.RawMessage
		}
		e := &notifierv1.Event{}
		if err := json.Unmarshal(body, &event); err != nil || event.SpecVersion != "1.0" || event.ID == "" || event.Type == "" || event.Source == "" ||
			req.Header.Get("Content-Type") != "application/cloudevents+json; charset=utf-8" || protojson.Unmarshal(event.Data, e) != nil {
			t.Errorf("%s is no CloudEvent of Weir's: %v", body, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.refuse != 0 {
			r.refuse--
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		r.ids = append(r.ids, id)
		r.events = append(r.events, e)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) got() []*notifierv1.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*notifierv1.Event(nil), r.events...)
}

// delivering is a notifier with sinks, its NATS server and the AWS it delivers to.
type delivering struct {
	t       *testing.T
	dir     string
	natsDir string
	nats    *natsserver.Server
	aws     *localaws.Server
	config  notifier.Config
	stop    func()
}

// newDelivering starts a notifier with the sinks, which may deliver to the AWS at endpoint.
func newDelivering(t *testing.T, sinks func(endpoint string) []deliver.Config) *delivering {
	t.Helper()
	d := &delivering{t: t, dir: t.TempDir(), natsDir: t.TempDir()}
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	if err := certs.Ensure(d.dir); err != nil {
		t.Fatalf("certs.Ensure = %v", err)
	}
	var err error
	if d.aws, err = localaws.New(localaws.Options{}); err != nil {
		t.Fatalf("localaws.New = %v", err)
	}
	aws := httptest.NewServer(d.aws)
	t.Cleanup(aws.Close)
	d.startNATS(0)
	d.config = deployed(t, d.dir)
	d.config.Journal.URL = d.nats.URL()
	d.config.Obs.MetricsListen = ""
	d.config.RPC.Grace = time.Second
	d.config.Sinks = sinks(aws.URL)
	d.start()
	return d
}

func (d *delivering) startNATS(port int) {
	d.t.Helper()
	var err error
	d.nats, err = natsserver.Start(natsserver.Options{Dir: d.natsDir, Port: port, TLS: certs.TLS(d.dir, "nats"), MaxBytes: 1 << 30, LazySync: true})
	if err != nil {
		d.t.Fatalf("natsserver.Start = %v", err)
	}
	d.t.Cleanup(d.nats.Stop)
}

func (d *delivering) start() {
	d.t.Helper()
	var err error
	if d.config.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		d.t.Fatalf("Listen = %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- notifier.Run(ctx, d.config, slog.New(slog.NewTextHandler(d.t.Output(), nil))) }()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			d.t.Errorf("Run = %v, want nil after a clean stop", err)
		}
	})
	d.t.Cleanup(d.stop)
}

func (d *delivering) as(name string) notifierv1.NotifierServiceClient {
	d.t.Helper()
	conn, err := rpc.Dial(d.config.Listener.Addr().String(), "notifier.weir", certs.TLS(d.dir, name), obs.Discard())
	if err != nil {
		d.t.Fatalf("Dial as %s = %v", name, err)
	}
	d.t.Cleanup(func() { conn.Close() })
	return notifierv1.NewNotifierServiceClient(conn)
}

func (d *delivering) secretFile() string {
	file := filepath.Join(d.t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("whsec_"+base64.StdEncoding.EncodeToString([]byte(secret))), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return file
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("after 30 s: %v", err)
}

func secretFile(t *testing.T) string { return (&delivering{t: t}).secretFile() }

// A window's two events arrive everywhere, each in its receiver's own shape,
// though the AWS of one is refusing at first.
func TestEverySinkGetsItInItsShape(t *testing.T) {
	r := newReceiver(t)
	file := filepath.Join(t.TempDir(), "events.jsonl")
	const topic = "arn:aws:sns:us-east-1:000000000000:ops"
	d := newDelivering(t, func(endpoint string) []deliver.Config {
		return []deliver.Config{
			{Name: "bus", Type: "eventbridge", Region: "us-east-1", Endpoint: endpoint, EventBus: "audit"},
			{Name: "topic", Type: "sns", Endpoint: endpoint, TopicARN: topic},
			{Name: "hook", Type: "webhook", URL: r.URL, SecretFile: secretFile(t)},
			{Name: "file", Type: "log", File: file},
			{Name: "started", Type: "webhook", URL: r.URL + "/never", SecretFile: secretFile(t), Sources: []string{"elsewhere"}},
		}
	})
	d.aws.EventBridge().Fail(inject.Fault{Times: 1, Fraction: 1, Code: "ThrottlingException"})
	d.aws.SNS().Fail(inject.Fault{Operations: []string{"Publish"}, Times: 1})
	resp, err := http.PostForm(d.config.Sinks[1].Endpoint, nil)
	if err != nil || resp.StatusCode == http.StatusOK {
		t.Errorf("SNS without an action and a signature = %v, %v, want a refusal", resp, err)
	} else {
		resp.Body.Close()
	}
	createTopic(t, d.config.Sinks[1].Endpoint, "ops")

	w := &notifierv1.Window{
		Id: "db1/7/ring_full/10-0", ClusterId: "orders", InstanceId: "db1", Epoch: 7, Cause: notifierv1.Cause_CAUSE_RING_FULL,
		First: 10, Last: 20, Count: 11, Begin: timestamppb.New(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)), End: timestamppb.New(time.Date(2026, 5, 1, 12, 0, 5, 0, time.UTC)),
	}
	answer, err := d.as("capture").CloseWindow(t.Context(), &notifierv1.CloseWindowRequest{Window: w})
	if err != nil || !answer.GetRecorded() {
		t.Fatalf("CloseWindow = %v, %v", answer, err)
	}
	eventually(t, func() error {
		if a, b, c := len(r.got()), len(d.aws.EventBridge().Events()), len(d.aws.SNS().Messages()); a < 2 || b < 2 || c < 2 {
			return fmt.Errorf("%d posted, %d put, %d published, want two each", a, b, c)
		}
		lines, err := os.ReadFile(file)
		if n := strings.Count(string(lines), "\n"); err != nil || n < 2 {
			return fmt.Errorf("%d lines in the file, %v", n, err)
		}
		return nil
	})
	keys := map[string]bool{}
	for _, e := range r.got() {
		keys[e.GetIdempotencyKey()] = true
	}
	if !keys[w.GetId()+"/opened"] || !keys[w.GetId()+"/closed"] {
		t.Errorf("posted %v, want that it opened and that it closed", r.got())
	}
	closed := false
	for _, e := range d.aws.EventBridge().Events() {
		var detail struct {
			EventCategories                                                 []string
			SourceType, SourceArn, Date, Message, SourceIdentifier, EventID string
			Weir                                                            struct {
				IdempotencyKey string
				Window         map[string]any
			}
		}
		if err := json.Unmarshal([]byte(e.Detail), &detail); err != nil {
			t.Fatalf("detail %s: %v", e.Detail, err)
		}
		const arn = "arn:aws:rds:us-east-1:000000000000:db:db1"
		if e.Source != "weir.rds" || e.DetailType != "RDS DB Instance Event" || e.Bus != "audit" || len(e.Resources) != 1 || e.Resources[0] != arn ||
			detail.SourceArn != arn || detail.SourceType != "DB_INSTANCE" || detail.SourceIdentifier != "db1" || !keys[detail.Weir.IdempotencyKey] {
			t.Errorf("EventBridge has %+v", e)
		}
		if detail.EventID == "WEIR-EVENT-0004" {
			closed = detail.Weir.Window["count"] == "11" && strings.Contains(detail.Message, "; 11 lost.") && detail.Date == "2026-05-01T12:00:05.000Z" && detail.EventCategories[0] == "recovery"
		}
	}
	if !closed {
		t.Errorf("EventBridge has %v, want the end with its count", d.aws.EventBridge().Events())
	}
	for _, m := range d.aws.SNS().Messages() {
		var message map[string]string
		if err := json.Unmarshal([]byte(m.Text), &message); err != nil || message["Event Source"] != "db-instance" || message["Source ID"] != "db1" ||
			!strings.HasSuffix(message["Event ID"], "#"+m.Attributes["EventID"]) || m.Attributes["Resource"] != message["Source ARN"] || !keys[m.Attributes["WeirIdempotencyKey"]] {
			t.Errorf("SNS has %+v, %v", m, err)
		}
	}
}

func createTopic(t *testing.T, endpoint, name string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, endpoint, strings.NewReader("Action=CreateTopic&Version=2010-03-31&Name="+name))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Amz-Date", time.Now().UTC().Format("20060102T150405Z"))
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/"+time.Now().UTC().Format("20060102")+"/us-east-1/sns/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("0", 64))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "<TopicArn>arn:aws:sns:us-east-1:000000000000:"+name+"</TopicArn>") {
		t.Fatalf("CreateTopic = %s, %s", resp.Status, body)
	}
}

// A receiver that refuses for good holds up no other, and what it did not take is listed.
func TestDeadLetters(t *testing.T) {
	good, bad := newReceiver(t), newReceiver(t)
	bad.refuse = -1
	d := newDelivering(t, func(string) []deliver.Config {
		return []deliver.Config{
			{Name: "bad", Type: "webhook", URL: bad.URL, SecretFile: secretFile(t), MaxAttempts: 2},
			{Name: "good", Type: "webhook", URL: good.URL, SecretFile: secretFile(t)},
		}
	})
	for n := range 3 {
		if _, err := d.as("control").Notify(t.Context(), started(fmt.Sprint(n))); err != nil {
			t.Fatalf("Notify = %v", err)
		}
	}
	eventually(t, func() error {
		letters, err := d.as("client").ListDeadLetters(t.Context(), &notifierv1.ListDeadLettersRequest{Sink: "BAD"})
		if err != nil || len(letters.GetDeadLetters()) != 3 {
			return fmt.Errorf("dead letters = %v, %v, want three", letters, err)
		}
		for _, l := range letters.GetDeadLetters() {
			if l.GetSink() != "bad" || l.GetAttempts() != 2 || !strings.Contains(l.GetLastError(), "500") || l.GetEvent().GetEventId() != "RDS-EVENT-0179" || l.GetGivenUpAt() == nil {
				t.Errorf("dead letter = %v, want two tries that ended with 500", l)
			}
		}
		return nil
	})
	if got := good.got(); len(got) != 3 {
		t.Errorf("the good sink got %d events, want 3", len(got))
	}
	if letters, err := d.as("client").ListDeadLetters(t.Context(), &notifierv1.ListDeadLettersRequest{Sink: "good"}); err != nil || len(letters.GetDeadLetters()) != 0 {
		t.Errorf("dead letters of the good sink = %v, %v, want none", letters, err)
	}
}

// What a sink did not take is delivered by the notifier that comes after.
func TestAnotherNotifierDelivers(t *testing.T) {
	r := newReceiver(t)
	r.refuse = 1
	d := newDelivering(t, func(string) []deliver.Config {
		return []deliver.Config{{Name: "hook", Type: "webhook", URL: r.URL, SecretFile: secretFile(t)}}
	})
	if _, err := d.as("control").Notify(t.Context(), started("1")); err != nil {
		t.Fatalf("Notify = %v", err)
	}
	eventually(t, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.refuse != 0 {
			return fmt.Errorf("not tried yet")
		}
		return nil
	})
	d.stop()
	d.start()
	eventually(t, func() error {
		if n := len(r.got()); n != 1 {
			return fmt.Errorf("%d events, want one", n)
		}
		return nil
	})
}

// Without NATS events are delivered and not recorded; told again when it is
// back they are recorded, and not delivered again.
func TestWithoutNATSEventsAreDelivered(t *testing.T) {
	r := newReceiver(t)
	d := newDelivering(t, func(string) []deliver.Config {
		return []deliver.Config{{Name: "hook", Type: "webhook", URL: r.URL, SecretFile: secretFile(t)}}
	})
	control, capture := d.as("control"), d.as("capture")
	if _, err := control.Notify(t.Context(), started("before")); err != nil {
		t.Fatalf("Notify = %v", err)
	}
	eventually(t, func() error {
		if len(r.got()) != 1 {
			return fmt.Errorf("not delivered yet")
		}
		return nil
	})
	port := d.nats.Port()
	d.nats.Stop()
	w := &notifierv1.Window{
		Id: "db1/7/torn/3-0", InstanceId: "db1", Epoch: 7, Cause: notifierv1.Cause_CAUSE_TORN, First: 3, Last: 3, Count: 1,
		Begin: timestamppb.New(time.Now()), End: timestamppb.New(time.Now()),
	}
	for range 2 { // a teller tells it again until it is recorded
		n, err := control.Notify(t.Context(), started("during"))
		if err != nil || n.GetRecorded() {
			t.Fatalf("Notify without NATS = %v, %v, want it taken and not recorded", n, err)
		}
		c, err := capture.CloseWindow(t.Context(), &notifierv1.CloseWindowRequest{Window: w})
		if err != nil || c.GetRecorded() {
			t.Fatalf("CloseWindow without NATS = %v, %v, want it taken and not recorded", c, err)
		}
	}
	eventually(t, func() error {
		if n := len(r.got()); n != 4 {
			return fmt.Errorf("%d events delivered, want four", n)
		}
		return nil
	})
	d.startNATS(port)
	eventually(t, func() error {
		n, err := control.Notify(t.Context(), started("during"))
		if err != nil || !n.GetRecorded() {
			return fmt.Errorf("Notify = %v, %v, want it recorded", n, err)
		}
		c, err := capture.CloseWindow(t.Context(), &notifierv1.CloseWindowRequest{Window: w})
		if err != nil || !c.GetRecorded() {
			return fmt.Errorf("CloseWindow = %v, %v, want it recorded", c, err)
		}
		return nil
	})
	if _, err := control.Notify(t.Context(), started("after")); err != nil {
		t.Fatalf("Notify = %v", err)
	}
	eventually(t, func() error { // the last one comes after those that are not delivered again
		got := r.got()
		if len(got) == 0 || got[len(got)-1].GetIdempotencyKey() != "after" {
			return fmt.Errorf("the last event is not delivered")
		}
		return nil
	})
	seen := map[string]int{}
	for _, e := range r.got() {
		seen[e.GetIdempotencyKey()]++
	}
	for _, key := range []string{"before", "during", "after", w.GetId() + "/opened", w.GetId() + "/closed"} {
		if seen[key] != 1 {
			t.Errorf("%s was delivered %d times, want once", key, seen[key])
		}
	}
	list, err := d.as("client").ListEvents(t.Context(), &notifierv1.ListEventsRequest{})
	if err != nil || len(list.GetEvents()) != 5 {
		t.Errorf("ListEvents = %v, %v, want all five recorded", list, err)
	}
}

// NATS comes back without its data: what is told then is recorded, delivered and
// watched, though nothing is left of what was.
func TestNATSLosesItsData(t *testing.T) {
	r := newReceiver(t)
	d := newDelivering(t, func(string) []deliver.Config {
		return []deliver.Config{{Name: "hook", Type: "webhook", URL: r.URL, SecretFile: secretFile(t)}}
	})
	control, client := d.as("control"), d.as("client")
	delivered := func(key string) {
		t.Helper()
		eventually(t, func() error {
			for _, e := range r.got() {
				if e.GetIdempotencyKey() == key {
					return nil
				}
			}
			return fmt.Errorf("%s is not delivered", key)
		})
	}
	if _, err := control.Notify(t.Context(), started("before")); err != nil {
		t.Fatalf("Notify = %v", err)
	}
	delivered("before")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	watch, err := client.WatchEvents(ctx, &notifierv1.WatchEventsRequest{Since: timestamppb.New(time.Now().Add(-time.Hour))})
	if err != nil {
		t.Fatalf("WatchEvents = %v", err)
	}
	watched := func(key string) {
		t.Helper()
		for {
			m, err := watch.Recv()
			if err != nil {
				t.Fatalf("the watch ended before %s: %v", key, err)
			}
			if m.GetEvent().GetIdempotencyKey() == key {
				return
			}
		}
	}
	watched("before")
	port := d.nats.Port()
	d.nats.Stop()
	d.natsDir = t.TempDir()
	d.startNATS(port)
	eventually(t, func() error {
		n, err := control.Notify(t.Context(), started("after"))
		if err == nil && !n.GetRecorded() {
			err = fmt.Errorf("taken and not recorded")
		}
		return err
	})
	// Not by the way that delivers what cannot be recorded.
	if n, err := control.Notify(t.Context(), started("later")); err != nil || !n.GetRecorded() {
		t.Fatalf("Notify = %v, %v, want it recorded", n, err)
	}
	delivered("later")
	watched("later")
	now := timestamppb.New(time.Now())
	c, err := d.as("capture").CloseWindow(t.Context(), &notifierv1.CloseWindowRequest{Window: &notifierv1.Window{
		Id: "db1/7/journal_lost/3", InstanceId: "db1", Epoch: 7, Cause: notifierv1.Cause_CAUSE_JOURNAL_LOST, First: 3, Last: 5, Count: 3, Begin: now, End: now,
	}})
	if err != nil || !c.GetRecorded() {
		t.Errorf("CloseWindow = %v, %v, want it recorded", c, err)
	}
	list, err := client.ListEvents(t.Context(), &notifierv1.ListEventsRequest{})
	if err != nil || len(list.GetEvents()) != 4 || !strings.Contains(list.GetEvents()[3].GetMessage(), "numbers 3 to 5; at most 3 lost") {
		t.Errorf("ListEvents = %v, %v, want two events and a window's two", list, err)
	}
}

// A watcher gets what was, then what comes, and goes on where it was cut off.
func TestWatch(t *testing.T) {
	d := newDelivering(t, func(string) []deliver.Config { return nil })
	control, client := d.as("control"), d.as("client")
	notify := func(key string) {
		t.Helper()
		if _, err := control.Notify(t.Context(), started(key)); err != nil {
			t.Fatalf("Notify = %v", err)
		}
	}
	notify("1")
	watch := func(in *notifierv1.WatchEventsRequest) (next func() (*notifierv1.Event, string), stop func()) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		stream, err := client.WatchEvents(ctx, in)
		if err != nil {
			t.Fatalf("WatchEvents = %v", err)
		}
		if first, err := stream.Recv(); err != nil || first.GetEvent() != nil {
			t.Fatalf("first message = %v, %v, want one without an event", first, err)
		}
		return func() (*notifierv1.Event, string) {
			t.Helper()
			m, err := stream.Recv()
			if err != nil {
				t.Fatalf("Recv = %v", err)
			}
			return m.GetEvent(), m.GetResumeToken()
		}, cancel
	}
	next, stop := watch(&notifierv1.WatchEventsRequest{Since: timestamppb.New(time.Now().Add(-time.Hour))})
	if e, _ := next(); e.GetIdempotencyKey() != "1" {
		t.Errorf("watched %v, want what was there", e)
	}
	notify("2")
	e, token := next()
	if e.GetIdempotencyKey() != "2" || token == "" {
		t.Errorf("watched %v, token %q, want what came", e, token)
	}
	stop()
	notify("3")
	next, stop = watch(&notifierv1.WatchEventsRequest{ResumeToken: token})
	if e, _ := next(); e.GetIdempotencyKey() != "3" {
		t.Errorf("resumed at %v, want what came meanwhile", e)
	}
	stop()
	next, stop = watch(&notifierv1.WatchEventsRequest{SourceId: "orders"})
	notify("4")
	if e, _ := next(); e.GetIdempotencyKey() != "4" {
		t.Errorf("watched %v, want only what is new", e)
	}
	stop()
}

func TestSinksAreChecked(t *testing.T) {
	for want, c := range map[string]deliver.Config{
		`name: ""`:               {Type: "log"},
		`type: "carrier pigeon"`: {Name: "x", Type: "carrier pigeon"},
		"is AWS's own":           {Name: "x", Type: "eventbridge", Source: "aws.rds"},
		"topic_arn":              {Name: "x", Type: "sns"},
		`url: "example"`:         {Name: "x", Type: "webhook", URL: "example", SecretFile: "s"},
		"secret_file: empty":     {Name: "x", Type: "webhook", URL: "https://example.com"},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate(%+v) = %v, want it to say %s", c, err, want)
		}
	}
	if err := deliver.ValidateAll([]deliver.Config{{Name: "a", Type: "log"}, {Name: "A", Type: "log"}}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("ValidateAll = %v, want it to refuse the second", err)
	}
}
