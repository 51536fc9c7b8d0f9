// Package cryptotest is a crypto that journals into memory, and misbehaves as
// it is told, for the tests of what sends to it.
package cryptotest

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/spoolkey"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
)

// Replica is one crypto. Set its fields before Serve.
type Replica struct {
	cryptov1.UnsafeCryptoServiceServer

	BreakAfter int            // end a stream after about so many records, one of them journalled and not acknowledged; 0 never does
	Stuck      bool           // take the records of the first stream and never answer
	SpoolKeys  *spoolkey.Ring // opens what comes out of a spool; nil where there is no key
	Refuse     string         // the message id of a record that can never be sealed
	RefuseLast bool           // be away once it was refused

	// mu guards what follows.
	mu      sync.Mutex
	journal []*cryptov1.SealRecord
	streams int
	open    int
	away    bool
}

// Serve serves r until the test ends, and returns a client of it.
func (r *Replica) Serve(t testing.TB) cryptov1.CryptoServiceClient {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(32 << 20))
	cryptov1.RegisterCryptoServiceServer(server, r)
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(lis) })
	t.Cleanup(func() { conn.Close(); server.Stop(); wg.Wait() })
	return cryptov1.NewCryptoServiceClient(conn)
}

// Journal is every record journalled so far, in order; one may be there twice.
func (r *Replica) Journal() []*cryptov1.SealRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*cryptov1.SealRecord(nil), r.journal...)
}

// Streams is how many streams have been opened so far.
func (r *Replica) Streams() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.streams
}

// Open is how many streams are open. While one is, a record that a sender which
// is gone has sent may still be journalled.
func (r *Replica) Open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open
}

// GetSpoolKey implements CryptoService.
func (r *Replica) GetSpoolKey(context.Context, *cryptov1.GetSpoolKeyRequest) (*cryptov1.GetSpoolKeyResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return nil, status.Error(codes.Unavailable, "away on purpose")
	}
	if r.SpoolKeys == nil {
		return &cryptov1.GetSpoolKeyResponse{}, nil
	}
	public := r.SpoolKeys.Public()
	return &cryptov1.GetSpoolKeyResponse{PublicKey: public.Bytes(), KeyId: public.ID()}, nil
}

// GetJournal implements CryptoService.
func (r *Replica) GetJournal(context.Context, *cryptov1.GetJournalRequest) (*cryptov1.GetJournalResponse, error) {
	return nil, status.Error(codes.Unimplemented, "cryptotest's journal is never lost")
}

// unspool puts the record in clear in the place of one that comes out of a
// spool, which stays in it beside.
func (r *Replica) unspool(open *cryptov1.SealOpen, record *cryptov1.SealRecord) error {
	if len(record.GetSealedPlaintext()) == 0 {
		return nil
	}
	plaintext, err := r.SpoolKeys.Open(record.GetSpoolKeyId(), spoolkey.Binding{
		Cluster: open.GetClusterResourceId(), Instance: open.GetInstanceResourceId(), KMSKey: open.GetKmsKeyId(),
		KinesisStream: open.GetKinesisStream(), Version: open.GetVersion(), MessageID: record.GetMessageId(),
	}, record.GetSealedPlaintext())
	record.Plaintext = plaintext
	return err
}

// SignCheckpoint signs with the words "signed by cryptotest".
func (r *Replica) SignCheckpoint(context.Context, *cryptov1.SignCheckpointRequest) (*cryptov1.SignCheckpointResponse, error) {
	return &cryptov1.SignCheckpointResponse{Signature: []byte("signed by cryptotest"), Algorithm: "test", KeyId: "k", At: timestamppb.Now()}, nil
}

// SetAway makes the replica refuse to journal anything, or take it up again.
func (r *Replica) SetAway(away bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = away
}

// CheckKey implements CryptoService.
func (r *Replica) CheckKey(context.Context, *cryptov1.CheckKeyRequest) (*cryptov1.CheckKeyResponse, error) {
	return nil, status.Error(codes.Unimplemented, "cryptotest has no KMS")
}

// Seal implements CryptoService.
func (r *Replica) Seal(stream grpc.BidiStreamingServer[cryptov1.SealRequest, cryptov1.SealResponse]) error {
	r.mu.Lock()
	r.open++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.open--
	}()
	first, err := stream.Recv()
	if err != nil || first.GetOpen().GetClusterResourceId() == "" {
		return status.Error(codes.InvalidArgument, "the first message does not open the stream")
	}
	r.mu.Lock()
	r.streams++
	stuck := r.Stuck && r.streams == 1
	r.mu.Unlock()
	for n := uint64(1); ; n++ {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil // the sender is done
		}
		if err != nil {
			return err
		}
		record := m.GetRecord()
		if record.GetSequence() != n {
			return status.Errorf(codes.InvalidArgument, "sequence %d, want %d", record.GetSequence(), n)
		}
		if stuck {
			continue
		}
		answer := &cryptov1.SealResponse{DurableThrough: n}
		spoiled := r.unspool(first.GetOpen(), record)
		if spoiled != nil {
			answer.RefusedSequence, answer.RefusedReason = n, spoiled.Error()
		} else if r.Refuse != "" && record.GetMessageId() == r.Refuse {
			answer.RefusedSequence, answer.RefusedReason = n, "too large"
			if r.RefuseLast {
				r.SetAway(true)
			}
		} else if !r.keep(record) {
			return status.Error(codes.Unavailable, "away on purpose")
		}
		if r.BreakAfter > 0 && rand.IntN(r.BreakAfter) == 0 {
			return status.Error(codes.Unavailable, "broken on purpose")
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func (r *Replica) keep(record *cryptov1.SealRecord) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.away {
		r.journal = append(r.journal, record)
	}
	return !r.away
}
