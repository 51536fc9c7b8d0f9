package outbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/capture/internal/outbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replica is a crypto that journals into memory and misbehaves as it is told.
type replica struct {
	cryptov1.UnsafeCryptoServiceServer

	// breakAfter ends a stream after about so many records; 0 never does.
	breakAfter int
	// stuck makes the first stream take records and never answer.
	stuck bool
	// refuse names the message id that can never be sealed.
	refuse string

	// mu guards journal and streams.
	mu      sync.Mutex
	journal map[string]int
	streams int
}

func (r *replica) CheckKey(context.Context, *cryptov1.CheckKeyRequest) (*cryptov1.CheckKeyResponse, error) {
	return nil, status.Error(codes.Unimplemented, "not part of these tests")
}

func (r *replica) Seal(stream grpc.BidiStreamingServer[cryptov1.SealRequest, cryptov1.SealResponse]) error {
	first, err := stream.Recv()
	if err != nil || first.GetOpen().GetClusterResourceId() == "" {
		return status.Error(codes.InvalidArgument, "the first message does not open the stream")
	}
	r.mu.Lock()
	r.streams++
	stuck := r.stuck && r.streams == 1
	r.mu.Unlock()
	for n := uint64(1); ; n++ {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if m.GetRecord().GetSequence() != n {
			return status.Errorf(codes.InvalidArgument, "sequence %d, want %d", m.GetRecord().GetSequence(), n)
		}
		if stuck {
			continue
		}
		id := m.GetRecord().GetMessageId()
		answer := &cryptov1.SealResponse{DurableThrough: n}
		if id == r.refuse {
			answer.RefusedSequence, answer.RefusedReason = n, "too large"
		} else {
			r.mu.Lock()
			r.journal[id]++
			r.mu.Unlock()
		}
		if r.breakAfter > 0 && rand.IntN(r.breakAfter) == 0 {
			// The record is in the journal, and the sender never hears of it.
			return status.Error(codes.Unavailable, "broken on purpose")
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// start serves r and returns an outbox that sends to it.
func start(t *testing.T, r *replica, streams int) *outbox.Outbox {
	t.Helper()
	r.journal = map[string]int{}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	cryptov1.RegisterCryptoServiceServer(server, r)
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	open := &cryptov1.SealOpen{ClusterResourceId: "cluster-TEST", InstanceResourceId: "db-TEST"}
	o := outbox.New(cryptov1.NewCryptoServiceClient(conn), open, streams, slog.New(slog.DiscardHandler))

	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(lis) })
	wg.Go(func() {
		if err := o.Run(ctx); err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	t.Cleanup(func() { cancel(); server.Stop(); conn.Close(); wg.Wait() })
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
		replica *replica
		records int
	}{
		{"a good day", &replica{}, 500},
		{"streams that break", &replica{breakAfter: 10}, 100},
		{"a replica that is stuck", &replica{stuck: true}, 50},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := start(t, test.replica, 2)
			sendAll(t, o, test.records)
			test.replica.mu.Lock()
			defer test.replica.mu.Unlock()
			for i := range test.records {
				if test.replica.journal[fmt.Sprint(i)] == 0 {
					t.Errorf("record %d has a result and is not in the journal", i)
				}
			}
		})
	}
}

func TestRefusedRecordIsToldAndDoesNotStopOthers(t *testing.T) {
	r := &replica{refuse: "7"}
	results := sendAll(t, start(t, r, 1), 20)
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
	r := &replica{breakAfter: 1}
	o := start(t, r, 1)
	o.Send(&outbox.Record{MessageID: "1"})
	deadline := time.Now().Add(10 * time.Second)
	for o.Healthy() {
		if time.Now().After(deadline) {
			t.Fatal("Healthy() = true with a crypto that breaks every stream")
		}
		time.Sleep(time.Millisecond)
	}
}
