package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/control/internal/registry"
	"github.com/weir-das/weir/services/control/internal/stream"
)

// keyWait bounds the try of a key, of which the person who starts a stream
// waits for the end.
const keyWait = 15 * time.Second

// maxKeyID is KMS's limit on KeyId, in characters.
const maxKeyID = 2048

// StartStream tries the key and keeps what is wanted.
func (s *Server) StartStream(ctx context.Context, req *controlv1.StartStreamRequest) (*controlv1.StartStreamResponse, error) {
	if err := admit(ctx, people, "StartStream"); err != nil {
		return nil, err
	}
	id, p, err := params(req)
	if err != nil {
		return nil, err
	}
	c, err := s.reg.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if p.Mode == stream.ModeSync {
		if err := s.canWait(ctx, c); err != nil {
			return nil, err
		}
		if err := s.prove(ctx, id); err != nil {
			return nil, err
		}
	}
	resourceID, try := c.ResourceID, c.Stream.Status == registry.Stopped
	if try {
		if err := s.tryKey(ctx, resourceID, p.KMSKeyID); err != nil {
			return nil, err
		}
	}
	c, err = s.reg.Change(ctx, id, func(c *registry.Cluster) error {
		if c.ResourceID != resourceID || c.Stream.Status == registry.Stopped && !try { // the key is not tried, or not for this cluster
			return fault.As(fault.Conflict, fmt.Errorf("stream of %s: changed while it was being started, look at it and try again", id))
		}
		return stream.Start(c, p, s.now())
	})
	if err != nil {
		return nil, err
	}
	s.log.Info("stream is wanted", obs.KeyCluster, id, "mode", p.Mode, "level", p.SyncLevel, "on_failure", p.OnFailure, "key", p.KMSKeyID)
	return &controlv1.StartStreamResponse{Stream: s.stream(c, nil)}, nil
}

// params checks what a start says.
func params(req *controlv1.StartStreamRequest) (id string, p registry.Params, err error) {
	id, err = registry.ClusterID(req.GetClusterId())
	errs := []error{err}
	invalid := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf(format, args...))
	}
	switch mode := req.GetMode(); mode {
	case controlv1.StreamMode_STREAM_MODE_ASYNC:
		p.Mode = stream.ModeAsync
		if req.GetSyncLevel() != 0 || req.GetOnFailure() != 0 || req.GetSyncTimeout() != nil {
			invalid("mode async: sync_level, on_failure and sync_timeout are for mode sync")
		}
	case controlv1.StreamMode_STREAM_MODE_SYNC:
		p.Mode = stream.ModeSync
		errs = append(errs, syncParams(req, &p))
	case controlv1.StreamMode_STREAM_MODE_UNSPECIFIED:
		invalid("mode: missing, want async or sync")
	default:
		invalid("mode %d: unknown, want async or sync", mode)
	}
	switch layout := req.GetRecordLayout(); layout {
	case controlv1.RecordLayout_RECORD_LAYOUT_UNSPECIFIED, controlv1.RecordLayout_RECORD_LAYOUT_PACKED:
		p.RecordLayout = stream.LayoutPacked
	case controlv1.RecordLayout_RECORD_LAYOUT_AURORA:
		p.RecordLayout = stream.LayoutAurora
	default:
		invalid("record_layout %d: unknown, want packed or aurora", layout)
	}
	p.KMSKeyID = req.GetKmsKeyId()
	if err := checkKeyID(p.KMSKeyID); err != nil {
		errs = append(errs, err)
	}
	return id, p, fault.As(fault.Invalid, errors.Join(errs...))
}

// syncParams checks what a start in synchronous mode says beside, and fills in
// what it leaves out.
func syncParams(req *controlv1.StartStreamRequest, p *registry.Params) error {
	var errs []error
	switch level := req.GetSyncLevel(); level {
	case controlv1.SyncLevel_SYNC_LEVEL_UNSPECIFIED, controlv1.SyncLevel_SYNC_LEVEL_TRANSACTION:
		p.SyncLevel = stream.LevelTransaction
	case controlv1.SyncLevel_SYNC_LEVEL_STATEMENT:
		p.SyncLevel = stream.LevelStatement
	case controlv1.SyncLevel_SYNC_LEVEL_STRICT:
		p.SyncLevel = stream.LevelStrict
	default:
		errs = append(errs, fmt.Errorf("sync_level %d: unknown, want transaction, statement or strict", level))
	}
	switch policy := req.GetOnFailure(); policy {
	case controlv1.FailurePolicy_FAILURE_POLICY_UNSPECIFIED, controlv1.FailurePolicy_FAILURE_POLICY_CONTINUE:
		p.OnFailure = stream.PolicyContinue
	case controlv1.FailurePolicy_FAILURE_POLICY_FAIL_OPERATION:
		p.OnFailure = stream.PolicyFail
	default:
		errs = append(errs, fmt.Errorf("on_failure %d: unknown, want continue or fail_operation", policy))
	}
	p.SyncTimeout = stream.UsualSyncTimeout
	if d := req.GetSyncTimeout(); d != nil {
		// The engine counts milliseconds.
		p.SyncTimeout = d.AsDuration().Truncate(time.Millisecond)
		if !d.IsValid() || p.SyncTimeout < stream.MinSyncTimeout || p.SyncTimeout > stream.MaxSyncTimeout {
			errs = append(errs, fmt.Errorf("sync_timeout: %v, want %v to %v", d.AsDuration(), stream.MinSyncTimeout, stream.MaxSyncTimeout))
		}
	}
	return errors.Join(errs...)
}

// canWait refuses synchronous mode where an instance is recorded without the
// engine module: nobody there could make a session wait.
func (s *Server) canWait(ctx context.Context, c registry.Cluster) error {
	reports, err := s.reg.Reports(ctx, c)
	if err != nil {
		return err
	}
	if problem := cannotWait(c, reports); problem != "" {
		return fault.As(fault.Invalid, fmt.Errorf("stream of %s: mode sync is refused: %s; no session can be made to wait for it: "+
			"load the engine module there, or start with mode async", c.ID, problem))
	}
	return nil
}

// prove refuses synchronous mode where the journal acknowledges what a loss of
// power would take: sessions would wait for a promise that nobody keeps.
func (s *Server) prove(ctx context.Context, id string) error {
	err := s.proof.Ask(ctx)
	switch {
	case err == nil:
		return nil
	case fault.Is(err, fault.Invalid):
		return fault.As(fault.Invalid, fmt.Errorf("stream of %s: mode sync is refused: %w", id, err))
	}
	return fault.As(fault.NotReady, fmt.Errorf("stream of %s: mode sync is refused until the journal proves that it syncs every record: %w", id, err))
}

func checkKeyID(key string) error {
	if len(key) == 0 || len(key) > maxKeyID {
		return fmt.Errorf("kms_key_id: %d characters, want 1 to %d: a key's id, its ARN, an alias or the ARN of an alias", len(key), maxKeyID)
	}
	for i, r := range key {
		if r > unicode.MaxASCII || !unicode.IsPrint(r) || r == ' ' {
			return fmt.Errorf("kms_key_id: character %q at %d, want a key's id, its ARN, an alias or the ARN of an alias", r, i+1)
		}
	}
	return nil
}

// tryKey has crypto get a data key, and says in terms of the request why it
// cannot. That KMS denies the key to crypto is not our caller's lack of a
// right: another key, or another policy on this one, is what helps.
func (s *Server) tryKey(ctx context.Context, clusterResourceID, key string) error {
	ctx, cancel := context.WithTimeout(ctx, keyWait)
	defer cancel()
	_, err := s.crypto.CheckKey(ctx, &cryptov1.CheckKeyRequest{ClusterResourceId: clusterResourceID, KmsKeyId: key})
	if err = fault.FromStatus(err); err == nil {
		return nil
	}
	switch {
	case fault.Is(err, fault.Invalid):
		return fault.As(fault.Invalid, fmt.Errorf("KMS key %s cannot be used: %w", key, err))
	case fault.Is(err, fault.Denied):
		return fault.As(fault.Invalid, fmt.Errorf("KMS key %s is denied to Weir, its policy must allow kms:GenerateDataKey: %w", key, err))
	}
	return fault.As(fault.NotReady, fmt.Errorf("KMS key %s could not be tried, nothing was started: %w", key, err))
}

// StopStream keeps that no stream is wanted.
func (s *Server) StopStream(ctx context.Context, req *controlv1.StopStreamRequest) (*controlv1.StopStreamResponse, error) {
	if err := admit(ctx, people, "StopStream"); err != nil {
		return nil, err
	}
	id, err := registry.ClusterID(req.GetClusterId())
	if err != nil {
		return nil, err
	}
	c, err := s.reg.Change(ctx, id, func(c *registry.Cluster) error {
		return stream.Stop(c, req.GetDeleteKinesisStream(), s.now())
	})
	if err != nil {
		return nil, err
	}
	s.log.Info("stream is not wanted", obs.KeyCluster, id, "delete_kinesis_stream", c.Stream.DeleteKinesis)
	return &controlv1.StopStreamResponse{Stream: s.stream(c, nil)}, nil
}

// GetStream reports the stream and every instance behind it.
func (s *Server) GetStream(ctx context.Context, req *controlv1.GetStreamRequest) (*controlv1.GetStreamResponse, error) {
	if err := admit(ctx, people, "GetStream"); err != nil {
		return nil, err
	}
	id, err := registry.ClusterID(req.GetClusterId())
	if err != nil {
		return nil, err
	}
	c, err := s.reg.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	reports, err := s.reg.Reports(ctx, c)
	if err != nil {
		return nil, err
	}
	return &controlv1.GetStreamResponse{Stream: s.stream(c, reports), Instances: instances(c, reports)}, nil
}
