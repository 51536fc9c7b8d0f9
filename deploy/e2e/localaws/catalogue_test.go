package localaws_test

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// A step is one call of a sequence. Its arguments may hold references, which every endpoint fills in from its own earlier
// answers: sequence numbers and iterators are each server's own.
type step struct {
	op   string
	args map[string]any
}

// A ref stands for a value a server gave out earlier: "iterator", "sequence".
type ref string

// A script draws calls from a seed. It knows what the streams ought to look like, so that most calls make sense, and
// spoils some of them.
type script struct {
	rng     *rand.Rand
	streams map[string]int // shards by name
	ops     []string       // to draw from
}

func newScript(seed uint64, ops []string) *script {
	return &script{rng: rand.New(rand.NewPCG(seed, 1)), streams: map[string]int{}, ops: ops}
}

func (s *script) pick(of ...any) any { return of[s.rng.IntN(len(of))] }

// stream is mostly one that is there.
func (s *script) stream() string {
	names := []string{}
	for name := range s.streams {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) == 0 || s.rng.IntN(20) == 0 {
		return "missing"
	}
	return names[s.rng.IntN(len(names))]
}

func (s *script) shard(stream string) string {
	return fmt.Sprintf("shardId-%012d", s.rng.IntN(s.streams[stream]+1)) // sometimes one too many
}

func (s *script) data() string {
	b := make([]byte, s.rng.IntN(200))
	for i := range b {
		b[i] = byte(s.rng.UintN(256))
	}
	return base64.StdEncoding.EncodeToString(b)
}

func (s *script) record() map[string]any {
	r := map[string]any{"PartitionKey": fmt.Sprintf("key-%d", s.rng.IntN(50)), "Data": s.data()}
	if s.rng.IntN(4) == 0 {
		r["ExplicitHashKey"] = s.pick("0", "170141183460469231731687303715884105728", "340282366920938463463374607431768211455", "340282366920938463463374607431768211456", "01", "x")
	}
	return r
}

// next draws a call.
func (s *script) next() step {
	if len(s.streams) == 0 && s.rng.IntN(2) == 0 {
		return step{"CreateStream", map[string]any{"StreamName": "alpha", "ShardCount": 2}}
	}
	op := s.ops[s.rng.IntN(len(s.ops))]
	st := step{op, s.args(op)}
	if s.rng.IntN(4) == 0 {
		s.spoil(st.args)
	}
	return st
}

func (s *script) args(op string) map[string]any {
	name := s.stream()
	a := map[string]any{"StreamName": name}
	maybe := func(field string, of ...any) {
		if s.rng.IntN(3) == 0 {
			a[field] = s.pick(of...)
		}
	}
	switch op {
	case "CreateStream":
		a["StreamName"] = s.pick("alpha", "beta", "gam.ma", "del_ta-1")
		a["ShardCount"] = s.pick(1, 2, 3, 60)
	case "PutRecord":
		a = s.record()
		a["StreamName"] = name
		maybe("SequenceNumberForOrdering", ref("sequence"), "0", "49590338271490256608559692538361571095921575989136588898")
	case "PutRecords":
		var records []any
		for range 1 + s.rng.IntN(6) {
			records = append(records, s.record())
		}
		a["Records"] = records
	case "GetShardIterator":
		a["ShardId"] = s.shard(name)
		a["ShardIteratorType"] = s.pick("TRIM_HORIZON", "TRIM_HORIZON", "LATEST", "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "AT_TIMESTAMP")
		switch a["ShardIteratorType"] {
		case "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER":
			a["StartingSequenceNumber"] = ref("sequence")
			a["ShardId"] = ref("shard of the sequence")
			a["StreamName"] = ref("stream of the sequence")
		case "AT_TIMESTAMP":
			a["Timestamp"] = s.pick(4102444800, 4102444800.5) // in the future; the past is TestTimestamps's
		}
	case "GetRecords":
		a = map[string]any{"ShardIterator": ref("iterator")}
		maybe("Limit", 1, 2, 10, 10000, 10001, 0)
	case "DescribeStream":
		maybe("Limit", 1, 2, 10000, 10001)
	case "ListStreams":
		a = map[string]any{}
		maybe("Limit", 1, 2, 100, 0)
		maybe("ExclusiveStartStreamName", "alpha", "b", "zzz")
	case "ListShards":
		maybe("ExclusiveStartShardId", "shardId-000000000000", "shardId-000000000009")
	case "AddTagsToStream":
		a["Tags"] = s.pick(map[string]any{"a": "1", "b": ""}, map[string]any{"c d": "é"}, map[string]any{"bad!": "x"}, map[string]any{"50%": "x"}, map[string]any{})
	case "RemoveTagsFromStream":
		a["TagKeys"] = s.pick([]any{"a"}, []any{"b", "zz"}, []any{"bad!"}, []any{})
	case "ListTagsForStream":
		maybe("Limit", 1, 10, 0)
		maybe("ExclusiveStartTagKey", "a", "zz")
	case "IncreaseStreamRetentionPeriod", "DecreaseStreamRetentionPeriod":
		a["RetentionPeriodHours"] = s.pick(23, 24, 48, 72, 168, 0)
	case "SplitShard":
		a["ShardToSplit"] = s.shard(name)
		a["NewStartingHashKey"] = s.pick("0", "85070591730234615865843651857942052864", "x")
	case "MergeShards":
		a["ShardToMerge"], a["AdjacentShardToMerge"] = s.shard(name), s.shard(name)
	}
	return a
}

// spoil makes an argument wrong, or leaves it out.
func (s *script) spoil(a map[string]any) {
	names := []string{}
	for name := range a {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) == 0 {
		a["Unknown"] = true
		return
	}
	name := names[s.rng.IntN(len(names))]
	if s.rng.IntN(4) == 0 {
		delete(a, name)
		return
	}
	a[name] = s.pick(nil, true, 7, -1, "", "spa ced", "AAA", "A===", []any{}, []any{1}, map[string]any{}, strings.Repeat("x", 300))
}

// edges are calls about sizes and limits, which a draw would seldom make.
func edges() []step {
	record := func(key string, size int) map[string]any {
		return map[string]any{"PartitionKey": key, "Data": base64.StdEncoding.EncodeToString(make([]byte, size))}
	}
	many := func(n int, r map[string]any) map[string]any {
		return map[string]any{"StreamName": "edge", "Records": slices.Repeat([]any{r}, n)}
	}
	one := func(r map[string]any) map[string]any {
		r["StreamName"] = "edge"
		return r
	}
	return []step{
		{"CreateStream", map[string]any{"StreamName": "edge", "ShardCount": 1}},
		{"PutRecords", many(500, record("k", 10))},
		{"PutRecords", many(501, record("k", 10))},
		{"PutRecords", many(5, record("k", 100<<10))}, // more takes kinesis-local half a minute
		{"PutRecord", one(record("k", 1<<20))},
		{"PutRecord", one(record("k", 1<<20+1))},
		{"PutRecord", one(record("k", 0))},
		{"PutRecord", one(record(strings.Repeat("k", 256), 0))},
		{"PutRecord", one(record(strings.Repeat("k", 257), 0))},
		{"PutRecord", one(record("ключ", 1))},
		{"SplitShard", map[string]any{"StreamName": "edge", "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": "0"}},
		{"DeleteStream", map[string]any{"StreamName": "edge"}},
		{"CreateStream", map[string]any{"StreamName": strings.Repeat("n", 128), "ShardCount": 1}},
		{"DeleteStream", map[string]any{"StreamName": strings.Repeat("n", 128)}},
		{"CreateStream", map[string]any{"StreamName": strings.Repeat("n", 129), "ShardCount": 1}},
	}
}

// dropped is for a stream deleted because two endpoints did not agree about it.
func (s *script) dropped(st step) {
	name, _ := st.args["StreamName"].(string)
	delete(s.streams, name)
}

// succeeded keeps the script's idea of the streams up to date.
func (s *script) succeeded(st step) {
	name, _ := st.args["StreamName"].(string)
	switch st.op {
	case "CreateStream":
		n, _ := st.args["ShardCount"].(int)
		s.streams[name] = n
	case "DeleteStream":
		delete(s.streams, name)
	case "SplitShard":
		s.streams[name] += 2
	case "MergeShards":
		s.streams[name]++
	}
}
