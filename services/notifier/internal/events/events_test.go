package events_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/journal/natsserver"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/notifier/internal/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect starts a NATS server and connects to it as notifier does.
func connect(t *testing.T) jetstream.JetStream {
	t.Helper()
	dir := t.TempDir()
	if err := certs.Ensure(dir); err != nil {
		t.Fatalf("certs.Ensure = %v", err)
	}
	nats, err := natsserver.Start(natsserver.Options{Dir: t.TempDir(), TLS: certs.TLS(dir, "nats"), MaxBytes: 1 << 30, LazySync: true})
	if err != nil {
		t.Fatalf("natsserver.Start = %v", err)
	}
	t.Cleanup(nats.Stop)
	conn, err := journal.Connect(t.Context(), journal.Config{URL: nats.URL(), TLS: certs.TLS(dir, "notifier")}, "notifier", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("journal.Connect = %v", err)
	}
	t.Cleanup(conn.Close)
	return conn.JetStream()
}

func open(t *testing.T, js jetstream.JetStream) *events.Store {
	t.Helper()
	s, err := events.Open(t.Context(), js, events.Options{MaxBytes: 64 << 20})
	if err != nil {
		t.Fatalf("Open = %v", err)
	}
	return s
}

// happened is when the nth event of a test happened.
func happened(n int) time.Time {
	return time.Date(2026, 5, 1, 12, 0, n, 0, time.UTC)
}

func event(n int, source string) *notifierv1.Event {
	return &notifierv1.Event{
		EventId: "RDS-EVENT-0179", Kind: notifierv1.EventKind_EVENT_KIND_STREAM_STARTED,
		SourceType: "db-cluster", SourceId: source,
		OccurredAt: timestamppb.New(happened(n)), Categories: []string{"configuration change"},
		Message: "text", IdempotencyKey: fmt.Sprintf("key %d", n),
	}
}

func keep(t *testing.T, s *events.Store, e *notifierv1.Event) {
	t.Helper()
	kept, isNew, err := s.Keep(t.Context(), e)
	if err != nil || !isNew || !proto.Equal(kept, e) {
		t.Fatalf("Keep(%s) = %v, new %v, %v, want it kept", e.GetIdempotencyKey(), kept, isNew, err)
	}
}

// all lists to the end, by pages.
func all(t *testing.T, s *events.Store, q events.Query) (keys []string) {
	t.Helper()
	for range 100 {
		page, last, err := s.List(t.Context(), q)
		if err != nil {
			t.Fatalf("List(%+v) = %v", q, err)
		}
		if len(page) > q.Limit {
			t.Fatalf("List(%+v) = %d events, want at most %d", q, len(page), q.Limit)
		}
		for _, e := range page {
			keys = append(keys, e.GetIdempotencyKey())
		}
		if last == 0 {
			return keys
		}
		q.After = last
	}
	t.Fatalf("List(%+v) does not end", q)
	return nil
}

func TestAKeyIsOneEvent(t *testing.T) {
	s := open(t, connect(t))
	first := event(1, "orders")
	keep(t, s, first)
	second := event(2, "orders")
	second.IdempotencyKey = first.IdempotencyKey
	kept, isNew, err := s.Keep(t.Context(), second)
	if err != nil || isNew || !proto.Equal(kept, first) {
		t.Errorf("Keep(same key) = %v, new %v, %v, want the first", kept, isNew, err)
	}
	for what, change := range map[string]func(*notifierv1.Event){
		"source": func(e *notifierv1.Event) { e.SourceId = "accounts" },
		"kind":   func(e *notifierv1.Event) { e.Kind = notifierv1.EventKind_EVENT_KIND_STREAM_STOPPED },
	} {
		other := proto.CloneOf(first)
		change(other)
		if _, _, err := s.Keep(t.Context(), other); !fault.Is(err, fault.Conflict) {
			t.Errorf("Keep(same key, another %s) = %v, want conflict", what, err)
		}
	}
	if got := all(t, s, events.Query{Limit: 10}); len(got) != 1 {
		t.Errorf("kept = %v, want one event", got)
	}
}

// A key is known long after the server's duplicate window: here it has none.
func TestAKeyIsKnownForGood(t *testing.T) {
	js := connect(t)
	s := open(t, js)
	forget(t, js)
	first := event(1, "orders")
	keep(t, s, first)
	time.Sleep(300 * time.Millisecond) // the window is 100 ms now
	kept, isNew, err := s.Keep(t.Context(), first)
	if err != nil || isNew || !proto.Equal(kept, first) {
		t.Errorf("Keep(same key, after the window) = %v, new %v, %v, want the first", kept, isNew, err)
	}
	other := proto.CloneOf(first)
	other.SourceId = "accounts"
	if _, _, err := s.Keep(t.Context(), other); !fault.Is(err, fault.Conflict) {
		t.Errorf("Keep(same key, another source, after the window) = %v, want conflict", err)
	}
}

// forget makes the server's duplicate window as short as it may be.
func forget(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	stream, err := js.Stream(t.Context(), "WEIR_EVENTS")
	if err != nil {
		t.Fatalf("Stream = %v", err)
	}
	cfg := stream.CachedInfo().Config
	cfg.Duplicates = 100 * time.Millisecond
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatalf("UpdateStream = %v", err)
	}
}

// Many replicas that are told the same at once keep it once.
func TestOneOfManyIsNew(t *testing.T) {
	js := connect(t)
	s := open(t, js)
	forget(t, js)
	const keys, tellers = 20, 5
	var wg sync.WaitGroup
	var mu sync.Mutex
	fresh := make(map[string]int)
	for range tellers {
		wg.Go(func() {
			for n := range keys {
				e := event(n, "orders")
				_, isNew, err := s.Keep(t.Context(), e)
				if err != nil {
					t.Errorf("Keep = %v", err)
				}
				if isNew {
					mu.Lock()
					fresh[e.GetIdempotencyKey()]++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if got := all(t, s, events.Query{Limit: 1000}); len(got) != keys {
		t.Errorf("kept %d events, want %d", len(got), keys)
	}
	for key, n := range fresh {
		if n != 1 {
			t.Errorf("%s was new %d times", key, n)
		}
	}
	if len(fresh) != keys {
		t.Errorf("%d keys were new, want %d", len(fresh), keys)
	}
}

func TestListByPageSourceAndTime(t *testing.T) {
	s := open(t, connect(t))
	if got := all(t, s, events.Query{Limit: 10}); len(got) != 0 {
		t.Errorf("List(nothing kept) = %v", got)
	}
	const n = 450 // more than two fetches
	for i := range n {
		source := "orders"
		if i%10 == 3 {
			source = "Accounts"
		}
		keep(t, s, event(i, source))
	}
	every := make([]string, n)
	for i := range every {
		every[i] = fmt.Sprintf("key %d", i)
	}
	var accounts []string
	for i := 3; i < n; i += 10 {
		accounts = append(accounts, every[i])
	}
	for name, tt := range map[string]struct {
		q    events.Query
		want []string
	}{
		"one page":           {events.Query{Limit: 1000}, every},
		"full last page":     {events.Query{Limit: n}, every},
		"many pages":         {events.Query{Limit: 7}, every},
		"pages of one":       {events.Query{Limit: 1, SourceID: "Accounts", Since: happened(400)}, accounts[40:]},
		"source":             {events.Query{Limit: 1000, SourceID: "Accounts"}, accounts},
		"source, lower case": {events.Query{Limit: 10, SourceID: "accounts"}, accounts},
		"unknown source":     {events.Query{Limit: 10, SourceID: "nobody"}, nil},
		"since":              {events.Query{Limit: 20, Since: happened(445)}, every[445:]},
		"since the future":   {events.Query{Limit: 20, Since: time.Now().Add(24 * time.Hour)}, nil},
		"after the end":      {events.Query{Limit: 20, After: n + 5}, nil},
	} {
		if got := all(t, s, tt.q); fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: List = %v, want %v", name, got, tt.want)
		}
	}
}

// Listing leaves no reader behind at the server.
func TestListCleansUp(t *testing.T) {
	js := connect(t)
	s := open(t, js)
	keep(t, s, event(1, "orders"))
	for range 5 {
		all(t, s, events.Query{Limit: 10})
	}
	stream, err := js.Stream(t.Context(), "WEIR_EVENTS")
	if err != nil {
		t.Fatalf("Stream = %v", err)
	}
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Consumers != 0 {
		t.Errorf("consumers = %d, %v, want none", info.State.Consumers, err)
	}
}

func TestWithoutAServer(t *testing.T) {
	s := open(t, connect(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Keep(ctx, event(1, "orders")); !fault.Is(err, fault.NotReady) {
		t.Errorf("Keep = %v, want not ready", err)
	}
	if _, _, err := s.List(ctx, events.Query{Limit: 1}); !fault.Is(err, fault.NotReady) {
		t.Errorf("List = %v, want not ready", err)
	}
}

// Nobody edits what was told, not even the service's own certificate.
func TestEventsCannotBeDeleted(t *testing.T) {
	js := connect(t)
	s := open(t, js)
	keep(t, s, event(1, "orders"))
	stream, err := js.Stream(t.Context(), "WEIR_EVENTS")
	if err != nil {
		t.Fatalf("Stream = %v", err)
	}
	if err := stream.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("DeleteMsg = nil, want a refusal")
	}
	if err := stream.Purge(t.Context()); err == nil {
		t.Error("Purge = nil, want a refusal")
	}
	if got := all(t, s, events.Query{Limit: 10}); len(got) != 1 {
		t.Errorf("kept = %v, want one event", got)
	}
}
