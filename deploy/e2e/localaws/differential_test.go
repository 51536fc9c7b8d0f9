package localaws_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// commonOps are the operations both oracles have.
var commonOps = []string{
	"CreateStream", "DescribeStream", "DescribeStreamSummary", "ListStreams", "ListShards", "PutRecord", "PutRecord", "PutRecords", "PutRecords",
	"GetShardIterator", "GetShardIterator", "GetShardIterator", "GetRecords", "GetRecords", "AddTagsToStream", "ListTagsForStream", "RemoveTagsFromStream",
	"IncreaseStreamRetentionPeriod", "DecreaseStreamRetentionPeriod", "DeleteStream", "SplitShard", "MergeShards",
}

// TestAgainstKinesalite and TestAgainstKinesisLocal play the same calls, drawn from a seed and a quarter of them spoilt, to
// ours and to another imitation. Status, error type and shape of each answer must be the same, but for what the table of
// differences explains; and every line of the table must have been seen.
func TestAgainstKinesalite(t *testing.T) { compare(t, kinesaliteName, 1500) }

// Fewer, because kinesis-local is slow.
func TestAgainstKinesisLocal(t *testing.T) { compare(t, kinesisLocalName, 300) }

const seed = 20131202

func compare(t *testing.T, name string, steps int) {
	t.Parallel()
	a, b := newSession(ours(t)), newSession(oracle(t, name))
	table := differencesFrom(name)
	seen := make([]int, len(table))
	s := newScript(seed, commonOps)
	same := 0
	for i, st := range append(edges(), make([]step, steps)...) {
		if st.op == "" {
			st = s.next()
		}
		got, want := a.play(t, st), b.play(t, st)
		if got.status == 200 && want.status == 200 {
			s.succeeded(st)
		}
		diff := difference(st, got, want, name)
		if diff == "" {
			same++
		} else if line := slices.IndexFunc(table, func(d known) bool { return d.explains(st, got, want, diff) }); line >= 0 {
			seen[line]++
		} else {
			t.Errorf("step %d of seed %d: %s %s\n%s\n ours: %s\n%s: %s", i, seed, st.op, a.text, diff, got, name, want)
		}
		if diff != "" { // what they gave out no longer means the same
			a.forget()
			b.forget()
		}
		if got.status != want.status && (got.status == 200 || want.status == 200) && !reads(st.op) {
			a.drop(t, st)
			b.drop(t, st)
			s.dropped(st)
		}
	}
	total := steps + len(edges())
	t.Logf("%d of %d answers are the same, %d differ", same, total, total-same)
	for i, n := range seen {
		t.Logf("%4d: %s", n, table[i].why)
		if n == 0 {
			t.Errorf("the table explains a difference from %s that was never seen: %s", name, table[i].why)
		}
	}
}

// TestTimestamps reads from an instant between two records, which a drawn call cannot know.
func TestTimestamps(t *testing.T) {
	t.Parallel()
	for _, e := range []endpoint{ours(t), oracle(t, kinesaliteName), oracle(t, kinesisLocalName)} {
		s := newSession(e)
		must := func(op string, args map[string]any) map[string]any {
			t.Helper()
			r := s.play(t, step{op, args})
			if r.status != 200 {
				t.Fatalf("%s of %s = %s", op, e.name, r)
			}
			m, _ := r.body.(map[string]any)
			return m
		}
		must("CreateStream", map[string]any{"StreamName": "s", "ShardCount": 1})
		put := func(data string) {
			must("PutRecord", map[string]any{"StreamName": "s", "PartitionKey": "k", "Data": data})
			time.Sleep(50 * time.Millisecond)
		}
		put("YWFh")
		between := time.Now().Add(-25 * time.Millisecond)
		put("YmJi")
		put("Y2Nj")
		must("GetShardIterator", map[string]any{"StreamName": "s", "ShardId": "shardId-000000000000", "ShardIteratorType": "AT_TIMESTAMP",
			"Timestamp": float64(between.UnixMilli()) / 1000})
		records, _ := must("GetRecords", map[string]any{"ShardIterator": ref("iterator")})["Records"].([]any)
		var got []any
		for _, r := range records {
			got = append(got, r.(map[string]any)["Data"])
		}
		if fmt.Sprint(got) != "[YmJi Y2Nj]" {
			t.Errorf("%s reads %v from the instant between the first record and the second, want [YmJi Y2Nj]", e.name, got)
		}
	}
}

// A session is an endpoint with what it has given out.
type session struct {
	endpoint
	text     []byte // the last request
	iterator string
	sequence string
	stream   string // whose they are
	shard    string // the sequence's
}

func newSession(e endpoint) *session {
	s := &session{endpoint: e}
	s.forget()
	return s
}

// forget drops what a deleted stream gave out.
func (s *session) forget() {
	s.iterator, s.sequence, s.stream, s.shard = "none", "1", "missing", "shardId-000000000000"
}

// play makes a call, waits until what it began is over, and keeps what it gave out.
func (s *session) play(t *testing.T, st step) reply {
	t.Helper()
	args := maps.Clone(st.args)
	for k, v := range args {
		switch v {
		case ref("iterator"):
			args[k] = s.iterator
		case ref("sequence"):
			args[k] = s.sequence
		case ref("stream of the sequence"):
			args[k] = s.stream
		case ref("shard of the sequence"):
			args[k] = s.shard
		}
	}
	var err error
	if s.text, err = json.Marshal(args); err != nil {
		t.Fatal(err)
	}
	r := s.send(t, st.op, s.text)
	name, _ := args["StreamName"].(string)
	if r.status == 200 {
		if !reads(st.op) && !strings.HasPrefix(st.op, "Put") {
			s.settle(t, name)
		}
		s.keep(r, st.op, name)
	}
	return r
}

// keep remembers sequence numbers and iterators given out. They are of one stream.
func (s *session) keep(r reply, op, stream string) {
	if op == "DeleteStream" {
		s.forget()
	}
	m, ok := r.body.(map[string]any)
	if !ok {
		return
	}
	if stream != "" && stream != s.stream && (op == "PutRecord" || op == "PutRecords" || op == "GetShardIterator") {
		s.forget()
		s.stream = stream
	}
	if records, ok := m["Records"].([]any); ok && op == "PutRecords" && len(records) > 0 {
		m, _ = records[len(records)-1].(map[string]any)
	}
	if text, ok := m["SequenceNumber"].(string); ok {
		s.sequence = text
		s.shard, _ = m["ShardId"].(string)
	}
	for _, field := range []string{"ShardIterator", "NextShardIterator"} {
		if text, ok := m[field].(string); ok {
			s.iterator = text
		}
	}
}

// settle waits until a stream is no longer changing.
func (s *session) settle(t *testing.T, name string) {
	t.Helper()
	body := fmt.Appendf(nil, `{"StreamName":%q}`, name)
	for range 2000 {
		r := s.send(t, "DescribeStreamSummary", body)
		m, _ := r.body.(map[string]any)
		m, _ = m["StreamDescriptionSummary"].(map[string]any)
		if status, _ := m["StreamStatus"].(string); status == "" || status == "ACTIVE" {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s: stream %s is still changing", s.name, name)
}

// drop deletes the stream of a call that one endpoint carried out and the other refused: both are in the same state again.
func (s *session) drop(t *testing.T, st step) {
	t.Helper()
	if name, _ := st.args["StreamName"].(string); name != "" {
		s.send(t, "DeleteStream", fmt.Appendf(nil, `{"StreamName":%q}`, name))
		s.settle(t, name)
	}
}

func reads(op string) bool {
	return strings.HasPrefix(op, "Get") || strings.HasPrefix(op, "List") || strings.HasPrefix(op, "Describe")
}

// difference says how two answers to one call differ; "" if not in what counts.
func difference(st step, got, want reply, name string) string {
	if got.status != want.status || got.kind != want.kind {
		return fmt.Sprintf("status or error: %d %s, want %d %s", got.status, got.kind, want.status, want.kind)
	}
	if got.status != 200 {
		return ""
	}
	g, w := shape(got.body, "", name), shape(want.body, "", name)
	for _, path := range slices.Sorted(maps.Keys(w)) {
		if g[path] != w[path] {
			return fmt.Sprintf("shape: %s is %s, want %s", path, or(g[path], "absent"), w[path])
		}
	}
	for _, path := range slices.Sorted(maps.Keys(g)) {
		if w[path] == "" {
			return fmt.Sprintf("shape: %s is %s, want it absent", path, g[path])
		}
	}
	return ""
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// shape is an answer as paths and what is there: a type, or for valuedFields the value. Null is as good as absent, and so
// is an encryption type of NONE: clients see no difference.
func shape(v any, path, oracle string) map[string]string {
	out := map[string]string{}
	field := path[strings.LastIndexByte(path, '.')+1:]
	field, _, _ = strings.Cut(field, "[")
	if v == nil || field == "EncryptionType" && v == "NONE" {
		return out
	}
	switch v := v.(type) {
	case map[string]any:
		for k, m := range v {
			if !slices.Contains(newerFields(oracle), k) {
				maps.Copy(out, shape(m, path+"."+k, oracle))
			}
		}
	case []any:
		out[path] = fmt.Sprintf("a list of %d", len(v))
		for i, m := range v {
			maps.Copy(out, shape(m, fmt.Sprintf("%s[%d]", path, i), oracle))
		}
	default:
		out[path] = fmt.Sprintf("a %T", v)
		if slices.Contains(valuedFields(oracle), field) {
			out[path] = fmt.Sprintf("%q", fmt.Sprint(v))
		}
	}
	return out
}
