// Package streamtest has the services around control as tests need them: they
// answer over gRPC, keep what they were asked for, and fail when told to.
//
// Before: the tests of control. Next: services/control/internal/stream.
package streamtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-das/weir/pkg/fault"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	publisherv1 "github.com/weir-das/weir/proto/gen/weir/publisher/v1"
)

// Told is an event as the notifier has kept it.
type Told struct {
	Key, Source string
	Kind        notifierv1.EventKind
	At          time.Time
}

// World is publisher, notifier and crypto in one. The zero value is not usable.
type World struct {
	publisherv1.UnsafePublisherServiceServer
	notifierv1.UnimplementedNotifierServiceServer
	cryptov1.UnsafeCryptoServiceServer

	// mu guards what follows. Never held while before or after run.
	mu      sync.Mutex
	kinesis map[string]bool
	waiting map[string]uint64 // by cluster resource id
	told    map[string][]Told // by source; each key once
	refused map[string]error  // CheckKey's answers, by key
	tried   []string          // keys that CheckKey was asked for
	before  func(method string) error
	after   func(method string)
}

// New returns a world in which nothing has happened and nothing fails.
func New() *World {
	return &World{kinesis: make(map[string]bool), waiting: make(map[string]uint64), told: make(map[string][]Told), refused: make(map[string]error)}
}

// Faults sets what happens before a call has its effect, where an error is its
// answer, and after it, before it is answered. Either may be nil.
func (w *World) Faults(before func(method string) error, after func(method string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before, w.after = before, after
}

// SetWaiting sets how many records of a cluster wait in the journal.
func (w *World) SetWaiting(clusterResourceID string, n uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting[clusterResourceID] = n
}

// Refuse makes CheckKey answer err for a key; nil makes it a good one.
func (w *World) Refuse(key string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refused[key] = err
}

// HasStream reports whether a Kinesis stream exists.
func (w *World) HasStream(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kinesis[name]
}

// Told returns the events about a source, in the order in which they were told.
func (w *World) Told(source string) []Told {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told[source])
}

// Tried returns the keys that CheckKey was asked for.
func (w *World) Tried() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.tried)
}

// call runs effect between the faults.
func (w *World) call(method string, effect func() error) error {
	w.mu.Lock()
	before, after := w.before, w.after
	w.mu.Unlock()
	if before != nil {
		if err := before(method); err != nil {
			return err
		}
	}
	w.mu.Lock()
	err := effect()
	w.mu.Unlock()
	if after != nil {
		after(method)
	}
	return err
}

// EnsureStream makes the stream exist.
func (w *World) EnsureStream(_ context.Context, req *publisherv1.EnsureStreamRequest) (*publisherv1.EnsureStreamResponse, error) {
	resp := &publisherv1.EnsureStreamResponse{Arn: "arn:aws:kinesis:eu-central-1:123456789012:stream/" + req.GetName()}
	return resp, w.call("EnsureStream", func() error {
		resp.Created = !w.kinesis[req.GetName()]
		w.kinesis[req.GetName()] = true
		return nil
	})
}

// DeleteStream makes it not exist.
func (w *World) DeleteStream(_ context.Context, req *publisherv1.DeleteStreamRequest) (*publisherv1.DeleteStreamResponse, error) {
	return &publisherv1.DeleteStreamResponse{}, w.call("DeleteStream", func() error {
		delete(w.kinesis, req.GetName())
		return nil
	})
}

// GetStatus says what SetWaiting set.
func (w *World) GetStatus(_ context.Context, req *publisherv1.GetStatusRequest) (*publisherv1.GetStatusResponse, error) {
	resp := &publisherv1.GetStatusResponse{}
	return resp, w.call("GetStatus", func() error {
		if resp.Waiting = w.waiting[req.GetClusterResourceId()]; resp.Waiting > 0 {
			resp.LastError = "ProvisionedThroughputExceededException"
		}
		return nil
	})
}

// Notify keeps each key once.
func (w *World) Notify(_ context.Context, req *notifierv1.NotifyRequest) (*notifierv1.NotifyResponse, error) {
	if req.GetIdempotencyKey() == "" || req.GetOccurredAt() == nil {
		return nil, fault.As(fault.Invalid, errors.New("no key or no time"))
	}
	return &notifierv1.NotifyResponse{Event: &notifierv1.Event{Kind: req.GetKind()}, Recorded: true}, w.call("Notify", func() error {
		source := req.GetSourceId()
		for _, t := range w.told[source] {
			if t.Key == req.GetIdempotencyKey() {
				if t.Kind != req.GetKind() {
					return fault.As(fault.Conflict, errors.New("kept for something else"))
				}
				return nil
			}
		}
		w.told[source] = append(w.told[source], Told{Key: req.GetIdempotencyKey(), Source: source, Kind: req.GetKind(), At: req.GetOccurredAt().AsTime()})
		return nil
	})
}

// ListEvents is not what control calls.
func (w *World) ListEvents(context.Context, *notifierv1.ListEventsRequest) (*notifierv1.ListEventsResponse, error) {
	return nil, fault.As(fault.Invalid, errors.New("not in this world"))
}

// GetJournal has none: nobody here asks.
func (w *World) GetJournal(context.Context, *cryptov1.GetJournalRequest) (*cryptov1.GetJournalResponse, error) {
	return &cryptov1.GetJournalResponse{}, nil
}

// SignCheckpoint has no key: nobody here asks.
func (w *World) SignCheckpoint(context.Context, *cryptov1.SignCheckpointRequest) (*cryptov1.SignCheckpointResponse, error) {
	return &cryptov1.SignCheckpointResponse{}, nil
}

// GetSpoolKey has no key: nobody here asks.
func (w *World) GetSpoolKey(context.Context, *cryptov1.GetSpoolKeyRequest) (*cryptov1.GetSpoolKeyResponse, error) {
	return &cryptov1.GetSpoolKeyResponse{}, nil
}

// CheckKey answers what Refuse set.
func (w *World) CheckKey(_ context.Context, req *cryptov1.CheckKeyRequest) (*cryptov1.CheckKeyResponse, error) {
	return &cryptov1.CheckKeyResponse{KeyArn: "arn:aws:kms:eu-central-1:123456789012:key/" + req.GetKmsKeyId()}, w.call("CheckKey", func() error {
		w.tried = append(w.tried, req.GetKmsKeyId())
		return w.refused[req.GetKmsKeyId()]
	})
}

// Seal is not what control calls.
func (w *World) Seal(grpc.BidiStreamingServer[cryptov1.SealRequest, cryptov1.SealResponse]) error {
	return fault.As(fault.Invalid, errors.New("not in this world"))
}

// Register puts all three services on a server.
func (w *World) Register(s grpc.ServiceRegistrar) {
	publisherv1.RegisterPublisherServiceServer(s, w)
	notifierv1.RegisterNotifierServiceServer(s, w)
	cryptov1.RegisterCryptoServiceServer(s, w)
}

// Conn serves the world on loopback, in clear, and returns a connection to it.
func (w *World) Conn(tb testing.TB) *grpc.ClientConn {
	tb.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("Listen = %v", err)
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		resp, err := handle(ctx, req)
		return resp, fault.Status(err).Err() // as pkg/rpc does
	}))
	w.Register(s)
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatalf("NewClient = %v", err)
	}
	tb.Cleanup(func() {
		if err := conn.Close(); err != nil {
			tb.Errorf("Close = %v", err)
		}
		s.Stop()
		if err := <-served; err != nil {
			tb.Errorf("Serve = %v", err)
		}
	})
	return conn
}

// Away is the answer of a service that cannot serve.
func Away(method string) error {
	return fault.As(fault.NotReady, fmt.Errorf("%s: connection refused", method))
}
