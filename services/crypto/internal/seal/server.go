package seal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	"github.com/weir-das/weir/pkg/spoolkey"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/crypto/internal/keys"
	"github.com/weir-das/weir/services/crypto/internal/sign"
)

// Options of a Server.
type Options struct {
	GzipLevel   int
	WindowBytes int64 // of clear text, per stream
	KMS         keys.Generator
	Keys        Keys
	Journal     Journal
	// Position asks where the journal stands.
	Position  func(context.Context) (journal.Position, error)
	Signer    sign.Signer    // of checkpoints
	Spool     *spoolkey.Ring // opens what captures sealed while the path was down; nil where there is no key
	Log       *slog.Logger
	Telemetry *obs.Telemetry
}

// Server implements CryptoService.
type Server struct {
	cryptov1.UnsafeCryptoServiceServer

	sealer *sealer
	kms    keys.Generator
	signer sign.Signer
	window int64
	log    *slog.Logger
	hop    *obs.Hop
	// What is taken in and neither passed on nor waiting is one of these.
	refused, returned metric.Int64Counter

	troubles troubles
	position position

	// mu guards streams: those that are open, for the age of the oldest record.
	mu      sync.Mutex
	streams map[*stream]struct{}
}

// NewServer returns a server that seals.
func NewServer(o Options) (*Server, error) {
	s, err := newSealer(o.Keys, o.Journal, o.Telemetry.Tracer, runtime.GOMAXPROCS(0), o.GzipLevel)
	if err != nil {
		return nil, err
	}
	s.spool = o.Spool
	refused, err := o.Telemetry.Meter.Int64Counter("weir.crypto.refused",
		metric.WithDescription("Records that can never be sealed, told to their sender."))
	if err != nil {
		return nil, fmt.Errorf("making a metric: %w", err)
	}
	returned, err := o.Telemetry.Meter.Int64Counter("weir.crypto.returned",
		metric.WithDescription("Records that were not acknowledged when their stream ended: the sender sends them again."))
	if err != nil {
		return nil, fmt.Errorf("making a metric: %w", err)
	}
	srv := &Server{
		sealer: s, kms: o.KMS, signer: o.Signer, window: o.WindowBytes, log: o.Log,
		hop: obs.NewHop(o.Telemetry, "crypto"), refused: refused, returned: returned,
		streams: make(map[*stream]struct{}), troubles: troubles{last: make(map[trouble]time.Time)}, position: position{of: o.Position},
	}
	srv.hop.Oldest(srv.oldest)
	refused.Add(context.Background(), 0) // visible before the first one
	returned.Add(context.Background(), 0)
	return srv, nil
}

// oldest is since when the oldest record that is not acknowledged has been here.
func (s *Server) oldest() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest time.Time
	for st := range s.streams {
		if at := st.oldest.Load(); at != nil && (oldest.IsZero() || at.Before(oldest)) {
			oldest = *at
		}
	}
	return oldest
}

// Seal implements CryptoService. It returns NotReady or Busy when the journal or
// KMS does not take records now, Invalid or Denied when KMS says that the key may
// not be used, and NotReady when the service drains.
func (s *Server) Seal(conn cryptov1.CryptoService_SealServer) error {
	first, err := conn.Recv()
	if err != nil {
		return fault.As(fault.NotReady, fmt.Errorf("waiting for a stream to open: %w", err))
	}
	open := first.GetOpen()
	if err := checkOpen(open); err != nil {
		return fault.As(fault.Invalid, err)
	}
	st := &stream{server: s, conn: conn, open: open}
	s.mu.Lock()
	s.streams[st] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.streams, st)
		s.mu.Unlock()
	}()

	log := s.log.With(obs.KeyCluster, open.GetClusterResourceId(), obs.KeyInstance, open.GetInstanceResourceId(),
		obs.KeyPeer, rpc.PeerName(conn.Context()))
	log.Debug("stream opened")
	err = st.run(rpc.Draining(conn.Context()))
	switch {
	case err == nil, errors.Is(err, errDraining), conn.Context().Err() != nil:
		log.Debug("stream closed", "durable_through", st.durable)
	case isKeyError(err), !s.troubles.news(open.GetInstanceResourceId(), err):
		// Said by the cache of keys, or a moment ago: the sender tries again and again.
		log.Debug("stream ended", "durable_through", st.durable, obs.KeyErr, err)
	default:
		log.Warn("stream ended", "durable_through", st.durable, obs.KeyErr, err)
	}
	return err
}

// CheckKey implements CryptoService.
func (s *Server) CheckKey(ctx context.Context, req *cryptov1.CheckKeyRequest) (*cryptov1.CheckKeyResponse, error) {
	if err := errors.Join(
		check("cluster_resource_id", req.GetClusterResourceId(), clusterID),
		check("kms_key_id", req.GetKmsKeyId(), kmsKeyID),
	); err != nil {
		return nil, fault.As(fault.Invalid, err)
	}
	g, err := s.kms.Generate(ctx, req.GetKmsKeyId(), req.GetClusterResourceId())
	if err != nil {
		return nil, err
	}
	g.Wipe()
	return &cryptov1.CheckKeyResponse{KeyArn: g.ARN}, nil
}

var (
	clusterID     = regexp.MustCompile(`^cluster-[A-Z2-7]{26}$`)
	instanceID    = regexp.MustCompile(`^db-[A-Z2-7]{26}$`)
	kmsKeyID      = regexp.MustCompile(`^[!-~]+$`) // KMS limits its length
	kinesisStream = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)
	version       = regexp.MustCompile(`^[0-9]+\.[0-9]+$`)
	clusterName   = regexp.MustCompile(`^[a-zA-Z0-9-]{0,63}$`)
)

func check(field, value string, want *regexp.Regexp) error {
	if !want.MatchString(value) {
		return fmt.Errorf("%s: %.64q, want %s", field, value, want)
	}
	return nil
}

func checkOpen(o *cryptov1.SealOpen) error {
	if o == nil {
		return errors.New("the first message of a stream must open it")
	}
	return errors.Join(
		check("cluster_resource_id", o.GetClusterResourceId(), clusterID),
		check("instance_resource_id", o.GetInstanceResourceId(), instanceID),
		check("kms_key_id", o.GetKmsKeyId(), kmsKeyID),
		check("kinesis_stream", o.GetKinesisStream(), kinesisStream),
		check("version", o.GetVersion(), version),
		check("cluster_id", o.GetClusterId(), clusterName))
}
