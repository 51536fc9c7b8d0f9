package stream

import (
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
)

// Mode are the flags that say how sessions and the stream go together. What is
// left out is control's to choose.
type Mode struct {
	Mode        string        `enum:",async,sync" default:"" placeholder:"async" help:"async: sessions do not wait. sync: sessions wait until their record is durable. The default is async."`
	SyncLevel   string        `enum:",transaction,statement,strict" default:"" placeholder:"transaction" help:"When a session waits. transaction: before it is ready, with no transaction open. statement: before it is ready for any next query. strict: the same, and before a statement runs, until the record that it began is durable. The default is transaction."`
	OnFailure   string        `enum:",continue,fail_operation" default:"" placeholder:"continue" help:"When records do not become durable in time. continue: sessions go on, and the possible loss is told. fail_operation: statements are refused. The default is continue."`
	SyncTimeout time.Duration `placeholder:"5s" help:"How long a session waits at most, 10ms to 10m. The default is 5s."`
}

// Validate refuses what has no meaning.
func (m Mode) Validate() error {
	if m.Mode != "sync" && (m.SyncLevel != "" || m.OnFailure != "" || m.SyncTimeout != 0) {
		return errors.New("--sync-level, --on-failure and --sync-timeout are for --mode sync")
	}
	if m.SyncTimeout < 0 {
		return errors.New("--sync-timeout is negative, want 10ms to 10m")
	}
	return nil
}

// Fill puts the flags into a request.
func (m Mode) Fill(in *controlv1.StartStreamRequest) {
	in.Mode = controlv1.StreamMode_STREAM_MODE_ASYNC
	if m.Mode != "sync" {
		return
	}
	in.Mode = controlv1.StreamMode_STREAM_MODE_SYNC
	in.SyncLevel = map[string]controlv1.SyncLevel{
		"transaction": controlv1.SyncLevel_SYNC_LEVEL_TRANSACTION,
		"statement":   controlv1.SyncLevel_SYNC_LEVEL_STATEMENT,
		"strict":      controlv1.SyncLevel_SYNC_LEVEL_STRICT,
	}[m.SyncLevel]
	in.OnFailure = map[string]controlv1.FailurePolicy{
		"continue":       controlv1.FailurePolicy_FAILURE_POLICY_CONTINUE,
		"fail_operation": controlv1.FailurePolicy_FAILURE_POLICY_FAIL_OPERATION,
	}[m.OnFailure]
	if m.SyncTimeout != 0 {
		in.SyncTimeout = durationpb.New(m.SyncTimeout)
	}
}
