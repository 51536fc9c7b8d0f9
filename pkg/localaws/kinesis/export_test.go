package kinesis

// For tests of the two parsers clients could feed with anything.

type Sequence struct {
	Created, Arrived int64
	Index            uint64
	Shard            uint32
}

func FormatSequence(s Sequence) string {
	return sequence{created: s.Created, arrived: s.Arrived, index: s.Index, shard: s.Shard}.String()
}

func ParseSequence(text string) (Sequence, bool) {
	s, ok := parseSequence(text)
	return Sequence{s.created, s.arrived, s.index, s.shard}, ok
}

func FormatHashKey(hi, lo uint64) string { return hashKey{hi, lo}.String() }

func ParseHashKey(text string) (hi, lo uint64, ok bool) {
	h, ok := parseHashKey(text)
	return h.hi, h.lo, ok
}

func Split(i, n uint64) string { return split(i, n).String() }

func ParseShardName(text string) (uint32, bool) { return parseShardName(text) }

// OpenIterator opens what a service of its own would.
func OpenIterator(s *Service, text string) (stream string, index uint64, ok bool) {
	it, ok := s.iterators.open(text)
	return it.stream, it.index, ok
}
