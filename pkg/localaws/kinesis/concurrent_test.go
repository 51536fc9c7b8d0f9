package kinesis_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/weir-das/weir/pkg/localaws/kinesis"
)

// TestConcurrentUse puts from several sides while shards split and merge, then follows the shards from parents to children:
// every record accepted is there once, and the records of one producer and key in their order.
func TestConcurrentUse(t *testing.T) {
	const producers, puts = 6, 120
	c := newClient(t, kinesis.Options{MaxBytes: 64 << 20, ShardLimit: 100})
	c.call("CreateStream", `{"StreamName":"s","ShardCount":2}`).ok()
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			for i := range puts {
				a := c.call("PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"p%d","Data":%q},{"PartitionKey":"p%d","Data":%q}]}`,
					p, b64(fmt.Sprintf("%d %d", p, 2*i)), p, b64(fmt.Sprintf("%d %d", p, 2*i+1)))
				if a.err != nil || a.int("FailedRecordCount") != 0 {
					t.Errorf("a put = %v, %v, want it taken", a.fields, a.err)
				}
			}
		})
	}
	wg.Go(func() { reshard(c, 12) })
	wg.Go(func() {
		for range 100 {
			c.call("ListShards", `{"StreamName":"s"}`).ok()
			c.call("DescribeStreamSummary", `{"StreamName":"s"}`).ok()
			c.call("ListStreams", `{}`).ok()
			c.call("DescribeLimits", `{}`).ok()
		}
	})
	wg.Wait()

	next := make([]int, producers) // by producer: the record that must come next
	for _, text := range follow(c) {
		var p, i int
		if _, err := fmt.Sscan(text, &p, &i); err != nil {
			t.Fatal(err)
		}
		if next[p] != i {
			t.Fatalf("producer %d: record %d comes where %d must", p, i, next[p])
		}
		next[p]++
	}
	for p, n := range next {
		if n != 2*puts {
			t.Errorf("producer %d: %d records, want %d", p, n, 2*puts)
		}
	}
	c.call("DeleteStream", `{"StreamName":"s"}`).ok()
	if n := c.Bytes(); n != 0 {
		t.Errorf("after deletion %d bytes are stored, want 0", n)
	}
}

// reshard splits the first open shard and merges the first two, in turns.
func reshard(c client, times int) {
	for i := range times {
		a := c.call("ListShards", `{"StreamName":"s","ShardFilter":{"Type":"AT_LATEST"}}`)
		if i%2 == 0 {
			var from, to float64
			_, _ = fmt.Sscan(a.str("Shards", 0, "HashKeyRange", "StartingHashKey"), &from)
			_, _ = fmt.Sscan(a.str("Shards", 0, "HashKeyRange", "EndingHashKey"), &to)
			c.call("SplitShard", `{"StreamName":"s","ShardToSplit":%q,"NewStartingHashKey":"%.0f"}`, a.str("Shards", 0, "ShardId"), (from+to)/2).ok()
			continue
		}
		// The two youngest are the halves of one.
		n := a.len("Shards")
		c.call("MergeShards", `{"StreamName":"s","ShardToMerge":%q,"AdjacentShardToMerge":%q}`, a.str("Shards", n-2, "ShardId"), a.str("Shards", n-1, "ShardId")).ok()
	}
}

// follow reads all shards as a KCL does: in order of their ids, which is parents before children.
func follow(c client) []string {
	var all []string
	a := c.call("ListShards", `{"StreamName":"s"}`)
	for i := range a.len("Shards") {
		it := c.call("GetShardIterator", `{"StreamName":"s","ShardId":%q,"ShardIteratorType":"TRIM_HORIZON"}`, a.str("Shards", i, "ShardId")).str("ShardIterator")
		for it != "" {
			got := c.call("GetRecords", `{"ShardIterator":%q,"Limit":100}`, it).ok()
			for j := range got.len("Records") {
				all = append(all, data(answer{t: c.t, fields: map[string]any{"Records": []any{got.get("Records", j)}}}))
			}
			it, _ = got.get("NextShardIterator").(string)
			if got.len("Records") == 0 {
				break
			}
		}
	}
	return all
}

// TestConcurrentDeletion: whatever the interleaving, a deleted stream leaves nothing behind.
func TestConcurrentDeletion(t *testing.T) {
	c := newClient(t, kinesis.Options{MaxBytes: 64 << 20})
	body := `{"StreamName":"s","Records":[` + strings.Repeat(`{"PartitionKey":"k","Data":"aGk="},`, 9) + `{"PartitionKey":"k","Data":"aGk="}]}`
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 300 {
				if a := c.call("PutRecords", "%s", body); a.err != nil && a.err.Code != "ResourceNotFoundException" {
					t.Errorf("a put = %v, want it taken or no stream", a.err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 200 {
			c.call("CreateStream", `{"StreamName":"s","ShardCount":1}`).ok()
			c.call("DeleteStream", `{"StreamName":"s"}`).ok()
		}
	})
	wg.Wait()
	if n := c.Bytes(); n != 0 {
		t.Errorf("with no stream left %d bytes are stored, want 0", n)
	}
}
