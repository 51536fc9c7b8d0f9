package cluster_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/weir/internal/cluster"
)

var at = timestamppb.New(time.Date(2026, 1, 31, 15, 4, 5, 0, time.UTC))

func TestPrintStream(t *testing.T) {
	for _, c := range []struct {
		name   string
		stream *controlv1.Stream
		want   string
	}{
		{"none", nil, "stream       -\n"},
		{"stopped", &controlv1.Stream{Status: controlv1.StreamStatus_STREAM_STATUS_STOPPED}, "stream       stopped\n"},
		{"in trouble", &controlv1.Stream{
			Status: controlv1.StreamStatus_STREAM_STATUS_STARTING, StatusSince: at, Mode: controlv1.StreamMode_STREAM_MODE_ASYNC,
			KmsKeyId: "alias/a", KinesisStream: "aws-rds-das-cluster-A", RecordLayout: controlv1.RecordLayout_RECORD_LAYOUT_AURORA,
			Problem: "KMS is not\x1b[1m reached",
		}, `stream       starting since 2026-01-31 15:04:05Z
mode         async
KMS key      alias/a
Kinesis      aws-rds-das-cluster-A
layout       aurora
problem      KMS is not\x1b[1m reached
`},
		{"synchronous", &controlv1.Stream{
			Status: controlv1.StreamStatus_STREAM_STATUS_STARTED, Mode: controlv1.StreamMode_STREAM_MODE_SYNC, KmsKeyId: "k", KinesisStream: "s",
			SyncLevel: controlv1.SyncLevel_SYNC_LEVEL_STRICT, OnFailure: controlv1.FailurePolicy_FAILURE_POLICY_FAIL_OPERATION, SyncTimeout: durationpb.New(5 * time.Second),
			RecordLayout: controlv1.RecordLayout_RECORD_LAYOUT_PACKED,
		}, `stream       started
mode         sync, level strict, on failure fail_operation, time-out 5s
KMS key      k
Kinesis      s
layout       packed
`},
	} {
		var b strings.Builder
		if err := cluster.PrintStream(&b, c.stream); err != nil || b.String() != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", c.name, err, b.String(), c.want)
		}
	}
}

func TestPrintInstances(t *testing.T) {
	var b strings.Builder
	err := cluster.PrintInstances(&b, []*controlv1.Instance{
		{InstanceId: "a", InstanceResourceId: "db-A", Report: &controlv1.InstanceReport{
			ReportedAt: at, EngineRunning: true, EngineVersion: "PostgreSQL 15.20", Number: 12, Durable: 10, Lost: 1,
			Path: controlv1.PathState_PATH_STATE_DEGRADED, Released: 7, Refused: 3, Unnumbered: 2,
		}},
		{InstanceId: "b", InstanceResourceId: "db-B", Report: &controlv1.InstanceReport{
			ReportedAt: at, Source: "log (weaker)", Spool: &controlv1.Spool{MaxBytes: 1 << 30, State: controlv1.SpoolState_SPOOL_STATE_EMPTY},
		}},
		{InstanceId: "c", InstanceResourceId: "db-C"},
	})
	want := `
INSTANCE  ENGINE                      NUMBER  DURABLE  LOST  PATH      RELEASED  REFUSED  AS OF      RESOURCE ID
a         running (PostgreSQL 15.20)  12      10       1     degraded  7         3        15:04:05Z  db-A
b         down                        0       0        0     -         0         0        15:04:05Z  db-B
c         never heard of              -       -        -     -         -         -        -          db-C
without a number of a: 2 events, lost: the ring's lock was not to be had
source of b: log (weaker)
spool of b: empty, room for 1 GiB
`
	if err != nil || b.String() != want {
		t.Errorf("PrintInstances: %v\n%s\nwant\n%s", err, b.String(), want)
	}
	for state, want := range map[controlv1.SpoolState]string{
		controlv1.SpoolState_SPOOL_STATE_WAITING:     "spool of a: 12.5 MiB of 64 MiB, 3456 events since 2026-01-31 15:04:05Z, waiting for the journal\n",
		controlv1.SpoolState_SPOOL_STATE_DRAINING:    ", draining into the journal\n",
		controlv1.SpoolState_SPOOL_STATE_FULL:        ", FULL: what the ring has no room for is lost\n",
		controlv1.SpoolState_SPOOL_STATE_UNSPECIFIED: "15:04:05Z\n", // of a capture that is newer
	} {
		b.Reset()
		err := cluster.PrintInstances(&b, []*controlv1.Instance{{InstanceId: "a", Report: &controlv1.InstanceReport{
			ReportedAt: at, Spool: &controlv1.Spool{UsedBytes: 12<<20 + 512<<10, MaxBytes: 64 << 20, Events: 3456, Since: at, State: state},
		}}})
		if err != nil || !strings.HasSuffix(b.String(), want) {
			t.Errorf("PrintInstances with a spool: %v\n%s\nwant it to end with %q", err, b.String(), want)
		}
	}
	b.Reset()
	if err := cluster.PrintInstances(&b, nil); err != nil || b.String() != "\nno instances\n" {
		t.Errorf("PrintInstances(nil) = %v, %q", err, b.String())
	}
}
