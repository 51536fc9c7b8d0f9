package kinesis

import (
	"crypto/md5"
	"time"

	"github.com/weir-das/weir/pkg/localaws/internal/operation"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
	"github.com/weir-das/weir/pkg/localaws/kinesis/place"
)

// A shard's limits when Options.Throttle is set.
const (
	shardBytesPerSecond   = 1 << 20
	shardRecordsPerSecond = 1000
)

const throttled = "ProvisionedThroughputExceededException"

// A placed record is one that may be stored: its hash key is known and right.
type placed struct {
	key  string
	hash place.HashKey
	data []byte
}

// place reads a record's fields.
func (s *Service) place(in wire.Input) (placed, error) {
	p := placed{key: in.Str("PartitionKey"), data: in.Blob("Data")}
	if !in.Has("ExplicitHashKey") {
		p.hash = place.HashOf(md5.Sum([]byte(p.key)))
		return p, nil
	}
	text := in.Str("ExplicitHashKey")
	h, ok := place.ParseHashKey(text)
	if !ok {
		return p, wire.Errorf("InvalidArgumentException",
			"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was %s", text)
	}
	p.hash = h
	return p, nil
}

// store puts one record into its shard, or says why it cannot. The stream is locked.
func (s *Service) store(st *stream, p placed, now time.Time) (*shard, place.Sequence, *wire.Error) {
	sh := st.find(p.hash)
	if s.opt.Throttle && !sh.admit(int64(len(p.data)+len(p.key)), now) {
		return nil, place.Sequence{}, wire.Errorf(throttled, "Rate exceeded for shard %s in stream %s under account %s.",
			sh.name, st.name, s.opt.AccountID)
	}
	arrived := sh.clock(now)
	r := record{key: p.key, data: p.data, arrived: arrived.UnixMilli(), encrypted: st.keyID != ""}
	size := r.size()
	if s.used.Add(size) > s.opt.MaxBytes {
		s.used.Add(-size)
		return nil, place.Sequence{}, wire.Errorf(throttled, "The local endpoint's memory of %d bytes is full of records still retained.", s.opt.MaxBytes)
	}
	st.bytes += size
	seq := sh.sequence(sh.next(), arrived)
	sh.records = append(sh.records, r)
	return sh, seq, nil
}

// admit counts a record against its shard's second.
func (s *shard) admit(size int64, now time.Time) bool {
	if sec := now.Unix(); sec != s.window {
		s.window, s.windowBytes, s.windowNumber = sec, 0, 0
	}
	if s.windowNumber+1 > shardRecordsPerSecond || s.windowBytes+size > shardBytesPerSecond && s.windowNumber > 0 {
		return false
	}
	s.windowNumber++
	s.windowBytes += size
	return true
}

// writable is the named stream, locked, if records may be put into it now; the caller unlocks it.
func (s *Service) writable(c operation.Call) (*stream, error) {
	s.sweep(c.Now)
	st, err := s.locked(c)
	if err != nil {
		return nil, err
	}
	if state := st.state(c.Now); state != stateActive && state != stateUpdating {
		st.mu.Unlock()
		return nil, s.notFound(st.name)
	}
	if st.keyID != "" {
		if err := s.checkKey(st.keyID); err != nil {
			st.mu.Unlock()
			return nil, err
		}
	}
	return st, nil
}

func (s *Service) putRecord(c operation.Call, out *wire.Writer) error {
	p, misplaced := s.place(c.Input)
	st, err := s.writable(c)
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	if misplaced != nil {
		return misplaced
	}
	if err := s.fits(st, p); err != nil {
		return err
	}
	if text := c.Str("SequenceNumberForOrdering"); text != "" && text != "0" {
		if seq, ok := place.ParseSequence(text); !ok || seq.Time().After(c.Now) {
			return wire.Errorf("InvalidArgumentException", "ExclusiveMinimumSequenceNumber %s used in PutRecord on stream %s under account %s is invalid.",
				text, st.name, s.opt.AccountID)
		}
	}
	sh, seq, refused := s.store(st, p, c.Now)
	if refused != nil {
		return refused
	}
	out.Map()
	writePlace(out, st, sh, seq)
	out.EndMap()
	return nil
}

func (s *Service) putRecords(c operation.Call, out *wire.Writer) error {
	all, misplaced := s.placeAll(c) // outside the lock; told after the stream is known to be there, as AWS does
	st, err := s.writable(c)
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	if misplaced != nil {
		return misplaced
	}
	for i := range all {
		if err := s.fits(st, all[i]); err != nil {
			return err
		}
	}
	failed := int64(0)
	out.Map().Key("Records").List()
	for i := range all {
		refused := c.Record()
		var (
			sh  *shard
			seq place.Sequence
		)
		if refused == nil {
			sh, seq, refused = s.store(st, all[i], c.Now)
		}
		out.Map()
		if refused != nil {
			failed++
			out.Key("ErrorCode").Str(refused.Code)
			out.Key("ErrorMessage").Str(refused.Message)
		} else {
			writePlace(out, st, sh, seq)
		}
		out.EndMap()
	}
	out.EndList()
	out.Key("FailedRecordCount").Int(failed)
	writeEncryption(out, st)
	out.EndMap()
	return nil
}

// placeAll reads the fields of all records of a PutRecords.
func (s *Service) placeAll(c operation.Call) ([]placed, error) {
	all := make([]placed, c.Len("Records"))
	total := 0
	for i := range all {
		var err error
		if all[i], err = s.place(c.At("Records", i)); err != nil {
			return nil, err
		}
		total += len(all[i].data) + len(all[i].key)
	}
	if total > maxBatchBytes {
		return nil, wire.Errorf("InvalidArgumentException", "Records size exceeds %d MB limit", maxBatchBytes>>20)
	}
	return all, nil
}

// fits refuses a record larger than its stream allows. Larger than any stream may allow was refused by the schema.
func (s *Service) fits(st *stream, p placed) error {
	if int64(len(p.data)) > st.maxRecord {
		return wire.Errorf("ValidationException", "1 validation error detected: Value at 'data' failed to satisfy constraint: "+
			"Member must have length less than or equal to %d", st.maxRecord)
	}
	return nil
}

func writePlace(out *wire.Writer, st *stream, sh *shard, seq place.Sequence) {
	out.Key("ShardId").Str(sh.name)
	out.Key("SequenceNumber").Str(seq.String())
	writeEncryption(out, st)
}

func writeEncryption(out *wire.Writer, st *stream) {
	if st.keyID != "" {
		out.Key("EncryptionType").Str(encryptionKMS)
	}
}

// sweep lets the records of all streams expire, once a second at most: a stream nobody touches must not fill the memory.
func (s *Service) sweep(now time.Time) {
	last := s.swept.Load()
	if now.Unix() == last || !s.swept.CompareAndSwap(last, now.Unix()) {
		return
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, st := range s.streams {
		st.mu.Lock()
		s.used.Add(-st.expire(now))
		st.mu.Unlock()
	}
}

func (s *Service) checkKey(id string) error {
	if s.opt.CheckKey == nil {
		return nil
	}
	return s.opt.CheckKey(id)
}
