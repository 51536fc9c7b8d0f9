package outbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/capture/internal/cryptotest"
	"github.com/weir-das/weir/services/capture/internal/outbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves r and returns an outbox that sends to it.
func start(t *testing.T, r *cryptotest.Replica, streams int, options ...func(*outbox.Outbox)) *outbox.Outbox {
	t.Helper()
	open := &cryptov1.SealOpen{ClusterResourceId: "cluster-TEST", InstanceResourceId: "db-TEST"}
	o := outbox.New(r.Serve(t), open, streams, func() {}, slog.New(slog.DiscardHandler))
	for _, option := range options {
		option(o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := o.Run(ctx); err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return o
}

// sendAll sends n records, at most 16 at a time as the pipeline does, and
// returns the results by message id.
func sendAll(t *testing.T, o *outbox.Outbox, n int) map[string]string {
	t.Helper()
	results := map[string]string{}
	limit := time.After(30 * time.Second)
	for sent := 0; len(results) < n; {
		for ; sent < n && sent-len(results) < 16; sent++ {
			o.Send(&outbox.Record{Plaintext: []byte("{}"), MessageID: fmt.Sprint(sent)})
		}
		select {
		case result := <-o.Results():
			if _, twice := results[result.Record.MessageID]; twice {
				t.Fatalf("record %s has two results", result.Record.MessageID)
			}
			results[result.Record.MessageID] = result.Refused
		case <-limit:
			t.Fatalf("%d results for %d records", len(results), n)
		}
	}
	return results
}

func TestEveryRecordHasOneResult(t *testing.T) {
	for _, test := range []struct {
		name    string
		replica *cryptotest.Replica
		records int
	}{
		{"a good day", &cryptotest.Replica{}, 500},
		{"streams that break", &cryptotest.Replica{BreakAfter: 10}, 100},
		{"a replica that is stuck", &cryptotest.Replica{Stuck: true}, 50},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := start(t, test.replica, 2)
			sendAll(t, o, test.records)
			journalled := map[string]bool{}
			for _, r := range test.replica.Journal() {
				journalled[r.GetMessageId()] = true
			}
			for i := range test.records {
				if !journalled[fmt.Sprint(i)] {
					t.Errorf("record %d has a result and is not in the journal", i)
				}
			}
		})
	}
}

// A stream that has had its turn gives no record back: what it took, it
// delivered.
func TestTurnsLoseAndRepeatNothing(t *testing.T) {
	r := &cryptotest.Replica{}
	o := start(t, r, 3, func(o *outbox.Outbox) { o.SetTimes(4*time.Millisecond, time.Hour) })
	const records = 2000
	sendAll(t, o, records)
	times := map[string]int{}
	for _, record := range r.Journal() {
		times[record.GetMessageId()]++
	}
	for i := range records {
		if n := times[fmt.Sprint(i)]; n != 1 {
			t.Errorf("record %d is in the journal %d times, want once", i, n)
		}
	}
	if n := r.Streams(); n <= 3 {
		t.Errorf("%d streams were opened, want many: none had its turn", n)
	}
	if !o.Healthy() {
		t.Error("Healthy = false after streams had their turn, want true")
	}
}

func TestRefusedRecordIsToldAndDoesNotStopOthers(t *testing.T) {
	results := sendAll(t, start(t, &cryptotest.Replica{Refuse: "7"}, 1), 20)
	if results["7"] != "too large" {
		t.Errorf("record 7 has the result %q, want the reason it was refused for", results["7"])
	}
	for id, refused := range results {
		if id != "7" && refused != "" {
			t.Errorf("record %s was refused: %s", id, refused)
		}
	}
}

func TestHealthFollowsThePath(t *testing.T) {
	r := &cryptotest.Replica{}
	r.SetAway(true)
	o := start(t, r, 1)
	o.Send(&outbox.Record{MessageID: "1"})
	eventually(t, "unhealthy while crypto is away", func() bool { return !o.Healthy() && strings.Contains(o.Trouble(), "away on purpose") })
	r.SetAway(false)
	eventually(t, "healthy once it is back", func() bool { return o.Healthy() && o.Trouble() == "" })
	<-o.Results()
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not %s after 10 s", what)
		}
	}
}
