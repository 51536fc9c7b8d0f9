package pipeline

import (
	"strconv"
	"time"
)

const (
	// recordsPerShard is how many records a second one Kinesis shard takes
	// easily: it takes 1 MB a second, and a full record is sealed to about
	// 85 KB.
	recordsPerShard = 8
	// maxShards bounds how far one instance spreads.
	maxShards = 64
)

// spread makes partition keys: the instance and the record's number modulo k.
// k follows the rate, so that a busy instance is not bound to one shard and an
// idle one does not touch them all.
type spread struct {
	record uint64
	k      uint64

	second  time.Time // the second being counted began then
	counted uint64    // records in it
}

func (s *spread) key(instance string) string {
	s.record++
	s.counted++
	if now := time.Now(); now.Sub(s.second) >= time.Second {
		s.k = min(1+s.counted/recordsPerShard, maxShards)
		s.second, s.counted = now, 0
	}
	return instance + "/" + strconv.FormatUint(s.record%max(s.k, 1), 10)
}
