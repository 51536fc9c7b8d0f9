package capture

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

func TestPolicyOfWhatIsWanted(t *testing.T) {
	const (
		async, sync = controlv1.StreamMode_STREAM_MODE_ASYNC, controlv1.StreamMode_STREAM_MODE_SYNC
		statement   = controlv1.SyncLevel_SYNC_LEVEL_STATEMENT
		strict      = controlv1.SyncLevel_SYNC_LEVEL_STRICT
		fail        = controlv1.FailurePolicy_FAILURE_POLICY_FAIL_OPERATION
	)
	second := durationpb.New(time.Second)
	for _, tt := range []struct {
		desired *controlv1.Desired
		want    ring.Policy
	}{
		{&controlv1.Desired{Generation: 1, Mode: async}, ring.Policy{Mode: ring.ModeOff, Generation: 1}},
		{&controlv1.Desired{Generation: 2, Mode: async, Recording: true}, ring.Policy{Mode: ring.ModeAsync, Generation: 2}},
		{&controlv1.Desired{Generation: 3, Mode: sync, Recording: true, SyncTimeout: second},
			ring.Policy{Mode: ring.ModeSync, SyncLevel: ring.LevelTransaction, OnFailure: ring.FailureContinue, SyncTimeout: time.Second, Generation: 3}},
		{&controlv1.Desired{Generation: 4, Mode: sync, Recording: true, SyncTimeout: second, SyncLevel: statement, OnFailure: fail},
			ring.Policy{Mode: ring.ModeSync, SyncLevel: ring.LevelStatement, OnFailure: ring.FailureFailOperation, SyncTimeout: time.Second, Generation: 4}},
		{&controlv1.Desired{Generation: 5, Mode: sync, SyncTimeout: second, SyncLevel: strict},
			ring.Policy{Mode: ring.ModeOff, SyncLevel: ring.LevelStrict, OnFailure: ring.FailureContinue, SyncTimeout: time.Second, Generation: 5}},
	} {
		if got := policyOf(tt.desired); got != tt.want {
			t.Errorf("policyOf(%v) = %+v, want %+v", tt.desired, got, tt.want)
		}
	}
}

// Nobody can wait for a log: whatever is wanted of it, it is followed.
func TestPolicyOfALog(t *testing.T) {
	desired := &controlv1.Desired{Generation: 3, Mode: controlv1.StreamMode_STREAM_MODE_SYNC, Recording: true}
	s := &station{log: slog.New(slog.DiscardHandler)}
	if got := s.policy(desired).Mode; got != ring.ModeSync || s.source() != "" {
		t.Errorf("with the module: mode %d, source %q, want sync and none", got, s.source())
	}
	s.cfg.PgauditLog.Pattern = "/log/*.csv"
	if got := s.policy(desired).Mode; got != ring.ModeAsync || !strings.Contains(s.source(), "weaker") {
		t.Errorf("with a log: mode %d, source %q, want async and a weaker one", got, s.source())
	}
}

// A pipeline goes on when only the sessions' side changes, and another begins
// when records would be made or sealed otherwise.
func TestSameStream(t *testing.T) {
	was := &controlv1.Desired{Generation: 1, Recording: true, Mode: controlv1.StreamMode_STREAM_MODE_ASYNC, KmsKeyId: "k", KinesisStream: "s"}
	for name, change := range map[string]struct {
		do   func(*controlv1.Desired)
		same bool
	}{
		"nothing":    {func(*controlv1.Desired) {}, true},
		"off":        {func(d *controlv1.Desired) { d.Generation, d.Recording = 2, false }, true},
		"mode":       {func(d *controlv1.Desired) { d.Mode = controlv1.StreamMode_STREAM_MODE_SYNC }, true},
		"level":      {func(d *controlv1.Desired) { d.SyncLevel = controlv1.SyncLevel_SYNC_LEVEL_STRICT }, true},
		"on failure": {func(d *controlv1.Desired) { d.OnFailure = controlv1.FailurePolicy_FAILURE_POLICY_CONTINUE }, true},
		"time-out":   {func(d *controlv1.Desired) { d.SyncTimeout = durationpb.New(time.Second) }, true},
		"key":        {func(d *controlv1.Desired) { d.KmsKeyId = "other" }, false},
		"layout":     {func(d *controlv1.Desired) { d.RecordLayout = controlv1.RecordLayout_RECORD_LAYOUT_AURORA }, false},
	} {
		now := proto.CloneOf(was)
		change.do(now)
		if got := sameStream(was, now); got != change.same {
			t.Errorf("%s: sameStream = %v, want %v", name, got, change.same)
		}
	}
}
