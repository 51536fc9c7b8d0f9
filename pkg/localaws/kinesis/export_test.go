package kinesis

// ParseShardName reads the name of a shard.
func ParseShardName(text string) (uint32, bool) { return parseShardName(text) }

// OpenIterator opens what a service of its own would.
func OpenIterator(s *Service, text string) (stream string, index uint64, ok bool) {
	it, ok := s.iterators.Open(text)
	return it.Stream, it.Index, ok
}
