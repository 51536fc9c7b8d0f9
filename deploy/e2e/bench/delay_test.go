//go:build bench

package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/weir-das/weir/deploy/e2e/mesh"
)

// TestDelay measures how long a statement takes from its end to its arrival in
// Kinesis, at three fixed rates.
func TestDelay(t *testing.T) {
	m := mesh.Start(t, mesh.Options{})
	m.MustPgbench("-i", "-q", "-s", "1")
	fmt.Printf("\n| statements a second | p50 | p99 | slowest | events |\n|---|---|---|---|---|\n")
	for _, rate := range []int{10, 1000, 4000} {
		m.Settle(t)
		begin := time.Now()
		m.MustPgbench("-S", "-n", "-c", "4", "-R", strconv.Itoa(rate), "-T", "8")
		m.Settle(t)
		delays := delaysSince(t, m, begin)
		slices.Sort(delays)
		n := len(delays)
		fmt.Printf("| %d | %v | %v | %v | %d |\n", rate, delays[n/2], delays[n*99/100], delays[n-1], n)
	}
}

func delaysSince(t *testing.T, m *mesh.Mesh, begin time.Time) (delays []time.Duration) {
	t.Helper()
	ctx := context.Background()
	k := m.Kinesis()
	shards, err := k.ListShards(ctx, &kinesis.ListShardsInput{StreamName: &m.KinesisStream})
	if err != nil {
		t.Fatal(err)
	}
	for _, shard := range shards.Shards {
		it, err := k.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
			StreamName: &m.KinesisStream, ShardId: shard.ShardId, ShardIteratorType: types.ShardIteratorTypeAtTimestamp, Timestamp: &begin,
		})
		if err != nil {
			t.Fatal(err)
		}
		for next := it.ShardIterator; ; {
			page, err := k.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: next})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page.Records {
				delays = append(delays, delaysOf(t, m, r, begin)...)
			}
			if next = page.NextShardIterator; len(page.Records) == 0 {
				break
			}
		}
	}
	return delays
}

func delaysOf(t *testing.T, m *mesh.Mesh, r types.Record, begin time.Time) (delays []time.Duration) {
	t.Helper()
	record, err := m.OpenRecord(context.Background(), r.Data)
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range record.Events {
		var e struct {
			LogTime string `json:"logTime"`
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatal(err)
		}
		if at, err := time.Parse("2006-01-02 15:04:05.999999-07", e.LogTime); err == nil && at.After(begin) {
			delays = append(delays, r.ApproximateArrivalTimestamp.Sub(at))
		}
	}
	return delays
}
