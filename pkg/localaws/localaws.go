// Package localaws is an endpoint on one port that answers as Kinesis Data Streams and as the Key Management Service: for
// `weir dev`, tests, and anybody without an AWS account at hand. For senders of events it also answers as EventBridge's
// PutEvents and SNS's Publish.
//
// The one idea: clients cannot tell. The AWS SDKs, the aws command line and KCL-style readers are pointed at it with
// AWS_ENDPOINT_URL and work; what AWS refuses is refused with the same error. deploy/e2e/localaws holds it against those
// clients and against two other Kinesis imitations.
//
// What it is not: not durable (streams live in memory; only KMS keys may be kept in a file), not for production (keys lie
// in clear in that file), not IAM (whoever has any configured credential may do anything). Memory is bounded by
// Options.MaxBytes; when it is full, puts are answered as throttled, see pkg/localaws/kinesis.
//
// Before: services/crypto and services/publisher call it as they would AWS. Next: pkg/localaws/kinesis and
// pkg/localaws/kms carry the calls out.
package localaws

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/weir-das/weir/pkg/localaws/eventbridge"
	"github.com/weir-das/weir/pkg/localaws/internal/sigv4"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
	"github.com/weir-das/weir/pkg/localaws/kinesis"
	"github.com/weir-das/weir/pkg/localaws/kms"
	"github.com/weir-das/weir/pkg/localaws/sns"
)

// Options configure a Server. The zero value works.
type Options struct {
	Region    string // default us-east-1
	AccountID string // default 000000000000
	// Credentials maps access keys to secrets. Empty: any signature is taken, but there must be one.
	Credentials map[string]string
	// KMSStateFile keeps KMS keys across restarts; empty: in memory.
	KMSStateFile string
	// MaxBytes bounds the records of all streams together; default 1 GiB.
	MaxBytes int64
	// StateDelay is how long streams stay CREATING, UPDATING and DELETING; default none.
	StateDelay time.Duration
	// ShardLimit is the account's limit of provisioned open shards; default 500.
	ShardLimit int
	// Throttle enforces a shard's limits: 1 MiB and 1,000 records a second, each record by itself.
	Throttle bool
}

// Server is the endpoint, an http.Handler. It may be used concurrently.
type Server struct {
	verifier sigv4.Verifier
	kinesis  *kinesis.Service
	kms      *kms.Service
	events   *eventbridge.Service
	topics   *sns.Service
	slots    chan struct{} // one for each request in memory
}

// New makes a server with no streams and the keys of Options.KMSStateFile.
func New(opt Options) (*Server, error) {
	if opt.Region == "" {
		opt.Region = "us-east-1"
	}
	if opt.AccountID == "" {
		opt.AccountID = "000000000000"
	}
	if opt.MaxBytes == 0 {
		opt.MaxBytes = 1 << 30
	}
	if opt.ShardLimit == 0 {
		opt.ShardLimit = 500
	}
	if opt.MaxBytes < 0 || opt.ShardLimit < 0 || opt.StateDelay < 0 {
		return nil, errors.New("local aws: negative MaxBytes, ShardLimit or StateDelay")
	}
	keys, err := kms.New(kms.Options{Region: opt.Region, AccountID: opt.AccountID, StateFile: opt.KMSStateFile})
	if err != nil {
		return nil, fmt.Errorf("local aws: %w", err)
	}
	s := &Server{
		verifier: sigv4.Verifier{Secrets: opt.Credentials, Region: opt.Region},
		kms:      keys,
		events:   eventbridge.New(),
		topics:   sns.New(sns.Options{Region: opt.Region, AccountID: opt.AccountID}),
		slots:    make(chan struct{}, maxCalls),
	}
	s.kinesis = kinesis.New(kinesis.Options{Region: opt.Region, AccountID: opt.AccountID, MaxBytes: opt.MaxBytes,
		StateDelay: opt.StateDelay, ShardLimit: opt.ShardLimit, Throttle: opt.Throttle, CheckKey: s.checkKey})
	return s, nil
}

// Kinesis is the Kinesis behind the endpoint, for tests that lay down faults.
func (s *Server) Kinesis() *kinesis.Service { return s.kinesis }

// KMS is the KMS behind the endpoint, for tests that lay down faults and take keys away.
func (s *Server) KMS() *kms.Service { return s.kms }

// EventBridge is the EventBridge behind the endpoint: what was put there, and faults.
func (s *Server) EventBridge() *eventbridge.Service { return s.events }

// SNS is the SNS behind the endpoint: what was published, and faults.
func (s *Server) SNS() *sns.Service { return s.topics }

// defaultStreamKey is the key AWS manages for Kinesis itself; it is always there.
const defaultStreamKey = "alias/aws/kinesis"

// checkKey says in Kinesis's words why a stream cannot use a key.
func (s *Server) checkKey(id string) error {
	if id == defaultStreamKey {
		return nil
	}
	err := s.kms.Usable(id)
	var refused *wire.Error
	if !errors.As(err, &refused) {
		return err
	}
	code, ok := map[string]string{
		"NotFoundException":        "KMSNotFoundException",
		"DisabledException":        "KMSDisabledException",
		"KMSInvalidStateException": "KMSInvalidStateException",
		"AccessDeniedException":    "KMSAccessDeniedException",
	}[refused.Code]
	if !ok {
		return err
	}
	return wire.Errorf(code, "%s", refused.Message)
}

// drain is how long requests under way may take when Serve ends.
const drain = 5 * time.Second

// Serve answers on lis until ctx ends, then lets requests under way finish for a few seconds. It closes lis, and returns
// nil after an orderly end.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       60 * time.Second,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx }, // ends injected delays
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	select {
	case err := <-served:
		return fmt.Errorf("local aws: serving: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		_ = srv.Close() // what does not finish in time is cut
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("local aws: serving: %w", err)
	}
	return nil
}
