package faults_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/weir-das/weir/deploy/e2e/faults"
	"github.com/weir-das/weir/deploy/e2e/interop"
	"github.com/weir-das/weir/deploy/e2e/mesh"
)

// Nobody who holds the stream, or even its data key, can remove, alter, reorder,
// replay or forge an event without weir verify naming it. The stream is a real
// one; who tampers with it is a script in another language.
//
// It is the end of a world: nothing goes through it any more.
func tamperingIsNamed(t *testing.T, w *faults.World) {
	w.Rest()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	sealed, err := w.Mesh.Sealed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	messages := make([]interop.Message, len(sealed))
	for i, s := range sealed {
		messages[i] = interop.Message{Key: s.DataKey, Message: s.Events}
	}
	for _, c := range []struct {
		attack string
		exit   int
		says   []string // all of them must stand in the answer
	}{
		{"nothing", 0, []string{`"verdict": "whole"`}},
		{"remove", 1, []string{`"told": "no`, `"verdict": "loss, untold"`, `"found": 0`}},
		{"cut off the end", 1, []string{`"told": "no`, `"verdict": "loss, untold"`}},
		{"alter ciphertext", 1, []string{`"kind": "altered"`, "does not open"}},
		{"replay", 0, []string{`"repeats": [`}},
		{"alter a text", 1, []string{`"kind": "broken"`}},
		{"alter a text and its record", 1, []string{`"kind": "contradiction"`}},
		{"reorder", 1, []string{`"kind": "broken"`}},
		{"take an event out", 1, []string{`"kind": "altered"`, "within the record"}},
		{"replay under other numbers", 1, []string{`"kind": "contradiction"`}},
		{"splice epochs", 1, []string{`"told": "no`, `"verdict": "loss, untold"`}},
		{"splice a record into the past", 1, []string{`"kind": "contradiction"`}},
		{"forge", 1, []string{`"kind": "contradiction"`}},
		{"tell a loss that was none", 1, []string{`"kind": "contradiction"`}},
		{"write the past anew", 1, []string{`"kind": "unsigned"`}},
		{"write the past anew, and take the signatures out", 2, []string{"no signature covers epoch"}},
	} {
		t.Run(c.attack, func(t *testing.T) {
			tampered, err := interop.Tamper(ctx, c.attack, messages)
			if err != nil {
				t.Fatal(err)
			}
			replace(ctx, t, w.Mesh, sealed, tampered)
			out, exit := verify(ctx, w.Mesh)
			if exit != c.exit {
				t.Errorf("exit code %d, want %d", exit, c.exit)
			}
			for _, want := range c.says {
				if !strings.Contains(out, want) {
					t.Errorf("the answer does not say %s", want)
				}
			}
			if t.Failed() {
				t.Logf("%.6000s", out)
			}
		})
	}
}

func verify(ctx context.Context, m *mesh.Mesh) (out string, exit int) {
	out, _ = m.Weir(ctx, "verify", "--format", "json", "--public-key", m.Path("signing.pub"), "--patience", "0s")
	return out, faults.ParseVerdict(out).Exit
}

// replace puts other messages into the place of the stream.
func replace(ctx context.Context, t *testing.T, m *mesh.Mesh, sealed []mesh.Sealed, with interop.Tampered) {
	t.Helper()
	k := m.Kinesis()
	if _, err := k.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: &m.KinesisStream}); err != nil {
		t.Fatal(err)
	}
	mesh.Eventually(t, 30*time.Second, func() error {
		_, err := k.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: &m.KinesisStream, ShardCount: aws.Int32(2)})
		return err
	})
	mesh.Eventually(t, 30*time.Second, func() error {
		out, err := k.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &m.KinesisStream})
		if err == nil && out.StreamDescriptionSummary.StreamStatus != types.StreamStatusActive {
			err = fmt.Errorf("the stream is %s", out.StreamDescriptionSummary.StreamStatus)
		}
		return err
	})
	for i, message := range with.Messages {
		s := sealed[with.From[i]]
		data := fmt.Sprintf(`{"type":%q,"version":%q,"databaseActivityEvents":%q,"key":%q}`, s.Type, s.Version,
			base64.StdEncoding.EncodeToString(message), base64.StdEncoding.EncodeToString(s.Key))
		if _, err := k.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: &m.KinesisStream, PartitionKey: aws.String(fmt.Sprint(i)), Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
}
