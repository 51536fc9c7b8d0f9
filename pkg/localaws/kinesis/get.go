package kinesis

import (
	"time"

	"github.com/weir-das/weir/pkg/localaws/internal/operation"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
	"github.com/weir-das/weir/pkg/localaws/kinesis/place"
)

// Where a shard iterator begins.
const (
	afterSequence = "AFTER_SEQUENCE_NUMBER"
	atSequence    = "AT_SEQUENCE_NUMBER"
	atTimestamp   = "AT_TIMESTAMP"
	latest        = "LATEST"
	trimHorizon   = "TRIM_HORIZON"
)

func (s *Service) getShardIterator(c operation.Call, out *wire.Writer) error {
	id, ok := parseShardName(c.Str("ShardId"))
	if !ok {
		name, err := s.name(c)
		if err != nil {
			return err
		}
		return wire.Errorf("ResourceNotFoundException", "Could not find shard %s in stream %s under account %s.",
			c.Str("ShardId"), name, s.opt.AccountID)
	}
	st, err := s.locked(c)
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	if st.state(c.Now); int(id) >= len(st.shards) {
		return s.noShard(id, st.name)
	}
	sh := st.shards[id]
	s.used.Add(-st.expire(c.Now))
	index, err := s.start(c, st, sh)
	if err != nil {
		return err
	}
	out.Map().Key("ShardIterator").Str(s.iterators.Seal(place.Iterator{Stream: st.name, Life: st.life, Shard: id, Index: index, Made: c.Now})).EndMap()
	return nil
}

// start is the index a new iterator begins at.
func (s *Service) start(c operation.Call, st *stream, sh *shard) (uint64, error) {
	kind, text := c.Str("ShardIteratorType"), c.Str("StartingSequenceNumber")
	const must = "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or " +
		"(2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified %s and %s StartingSequenceNumber."
	switch kind {
	case trimHorizon, latest, atTimestamp:
		if text != "" {
			return 0, wire.Errorf("InvalidArgumentException", must, kind, "also a")
		}
	default:
		if text == "" {
			return 0, wire.Errorf("InvalidArgumentException", must, kind, "no")
		}
		return s.startAtSequence(kind, text, st, sh)
	}
	switch kind {
	case trimHorizon:
		return sh.base, nil
	case latest:
		return sh.next(), nil
	}
	if !c.Has("Timestamp") {
		return 0, wire.Errorf("InvalidArgumentException",
			"Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.")
	}
	t := c.Time("Timestamp")
	if t.After(c.Now) {
		return 0, wire.Errorf("InvalidArgumentException",
			"The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: %d, currentTimestampInMillis: %d",
			t.UnixMilli(), c.Now.UnixMilli())
	}
	return sh.at(t), nil
}

func (s *Service) startAtSequence(kind, text string, st *stream, sh *shard) (uint64, error) {
	seq, ok := place.ParseSequence(text)
	if !ok {
		return 0, wire.Errorf("InvalidArgumentException", "StartingSequenceNumber %s used in GetShardIterator on shard %s in stream %s under account %s is invalid.",
			text, sh.name, st.name, s.opt.AccountID)
	}
	if seq.Shard != sh.id {
		return 0, wire.Errorf("InvalidArgumentException", "Invalid StartingSequenceNumber. It encodes %s, while it was used in a call to a shard with %s",
			shardName(seq.Shard), sh.name)
	}
	if seq.Created != sh.created.Unix() {
		return 0, wire.Errorf("InvalidArgumentException", "StartingSequenceNumber %s used in GetShardIterator on shard %s in stream %s under account %s is invalid because it did not come from this stream.",
			text, sh.name, st.name, s.opt.AccountID)
	}
	index := seq.Index
	if kind == afterSequence {
		index++
	}
	// Before the first record retained there is nothing; beyond the last one an iterator waits there.
	return max(index, sh.base), nil
}

func (s *Service) getRecords(c operation.Call, out *wire.Writer) error {
	it, ok := s.iterators.Open(c.Str("ShardIterator"))
	if !ok {
		return wire.Errorf("InvalidArgumentException", "Invalid ShardIterator.")
	}
	if age := c.Now.Sub(it.Made); age > place.IteratorLife {
		const layout = "Mon Jan 02 15:04:05 MST 2006"
		return wire.Errorf("ExpiredIteratorException", "Iterator expired. The iterator was created at time %s while right now it is %s "+
			"which is further in the future than the tolerated delay of %d milliseconds.",
			it.Made.UTC().Format(layout), c.Now.UTC().Format(layout), place.IteratorLife.Milliseconds())
	}
	s.mu.RLock()
	st := s.streams[it.Stream]
	s.mu.RUnlock()
	if st == nil || st.life != it.Life {
		return s.noShard(it.Shard, it.Stream)
	}
	st.mu.Lock()
	state := st.state(c.Now)
	if st.gone || int(it.Shard) >= len(st.shards) || state == stateDeleting {
		st.mu.Unlock()
		return s.noShard(it.Shard, it.Stream)
	}
	sh := st.shards[it.Shard]
	s.used.Add(-st.expire(c.Now))
	from := max(it.Index, sh.base)
	got := sh.read(from, int(c.Int("Limit", maxGet)))
	next := from + uint64(len(got))
	behind := sh.behind(next, got, c.Now)
	ended := !sh.open() && next >= sh.next()
	children := st.childrenOf(sh)
	encrypted := st.keyID
	st.mu.Unlock() // records are never changed once stored: they are encoded without the lock

	if encrypted != "" {
		if err := s.checkKey(encrypted); err != nil {
			return err
		}
	}
	out.Map().Key("Records").List()
	for i := range got {
		writeRecord(out, sh, from+uint64(i), &got[i])
	}
	out.EndList()
	out.Key("MillisBehindLatest").Int(behind.Milliseconds())
	if !ended {
		out.Key("NextShardIterator").Str(s.iterators.Seal(place.Iterator{Stream: it.Stream, Life: it.Life, Shard: it.Shard, Index: next, Made: c.Now}))
	} else {
		writeChildren(out, children)
	}
	out.EndMap()
	return nil
}

// read copies out the headers of up to limit records from index on, at least one and at most maxGetBytes of data.
func (s *shard) read(index uint64, limit int) []record {
	if index >= s.next() {
		return nil
	}
	rest := s.records[index-s.base:]
	rest = rest[:min(limit, len(rest))]
	size := 0
	for i := range rest {
		if size += len(rest[i].data); size > maxGetBytes && i > 0 {
			rest = rest[:i]
			break
		}
	}
	return append([]record(nil), rest...)
}

// behind is how far the last record given is from the tip of the shard; zero at the tip.
func (s *shard) behind(next uint64, got []record, now time.Time) time.Duration {
	if next >= s.next() {
		return 0
	}
	if n := len(got); n > 0 {
		return max(0, now.Sub(time.UnixMilli(got[n-1].arrived)))
	}
	return max(0, now.Sub(time.UnixMilli(s.records[next-s.base].arrived)))
}

func writeRecord(out *wire.Writer, sh *shard, index uint64, r *record) {
	out.Map()
	arrived := time.UnixMilli(r.arrived)
	out.Key("SequenceNumber").Str(sh.sequence(index, arrived).String())
	out.Key("ApproximateArrivalTimestamp").Time(arrived)
	out.Key("Data").Blob(r.data)
	out.Key("PartitionKey").Str(r.key)
	if r.encrypted {
		out.Key("EncryptionType").Str(encryptionKMS)
	}
	out.EndMap()
}

// childrenOf are the shards that go on where a closed one ended. The stream is locked.
func (st *stream) childrenOf(sh *shard) []*shard {
	var out []*shard
	for _, id := range sh.children {
		out = append(out, st.shards[id])
	}
	return out
}

func writeChildren(out *wire.Writer, children []*shard) {
	out.Key("ChildShards").List()
	for _, ch := range children {
		out.Map().Key("ShardId").Str(ch.name)
		out.Key("ParentShards").List()
		for _, p := range ch.parents {
			out.Str(shardName(p))
		}
		out.EndList()
		writeHashRange(out, ch)
		out.EndMap()
	}
	out.EndList()
}
