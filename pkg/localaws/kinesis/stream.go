package kinesis

import (
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/weir-das/weir/pkg/localaws/kinesis/place"
)

// recordOverhead is what a record costs beside its data and key, room for growth included: counted, so that empty records
// are bounded too.
const recordOverhead = 128

type record struct {
	key       string
	data      []byte // a slice of its request's slab
	arrived   int64  // unix milliseconds, AWS's precision
	encrypted bool
}

func (r *record) size() int64 { return int64(len(r.data)+len(r.key)) + recordOverhead }

// A shard holds the records of a range of hash keys in the order of their arrival. Indexes begin at 1 and have no holes,
// so a sequence number is found without a search.
type shard struct {
	id          uint32
	name        string
	created     time.Time
	first, last place.HashKey // inclusive
	parents     []uint32
	children    []uint32
	closed      time.Time      // zero: open
	ending      place.Sequence // when closed

	records []record
	base    uint64 // the index of records[0]

	// The second in which the limits were last counted, and what came in it.
	window       int64
	windowBytes  int64
	windowNumber int
}

func (s *shard) open() bool { return s.closed.IsZero() }

// next is the index the next record gets.
func (s *shard) next() uint64 { return s.base + uint64(len(s.records)) }

func (s *shard) sequence(index uint64, arrived time.Time) place.Sequence {
	return place.Sequence{Created: s.created.Unix(), Index: index, Arrived: arrived.Unix(), Shard: s.id}
}

// clock is when a record that arrives now is said to have arrived: time never goes back within a shard.
func (s *shard) clock(now time.Time) time.Time {
	ms := max(now.UnixMilli(), s.created.UnixMilli())
	if n := len(s.records); n > 0 {
		ms = max(ms, s.records[n-1].arrived)
	}
	return time.UnixMilli(ms)
}

// expire drops what arrived before cutoff and returns the bytes freed.
func (s *shard) expire(cutoff time.Time) int64 {
	n := s.at(cutoff) - s.base
	if n == 0 {
		return 0
	}
	var freed int64
	for i := range s.records[:n] {
		freed += s.records[i].size()
	}
	clear(s.records[:n]) // lets the data go although the array stays until the next growth
	s.records = s.records[n:]
	s.base += n
	return freed
}

// at is the index of the first record that arrived at t or later.
func (s *shard) at(t time.Time) uint64 {
	n := sort.Search(len(s.records), func(i int) bool { return s.records[i].arrived >= t.UnixMilli() })
	return s.base + uint64(n)
}

func shardName(id uint32) string { return fmt.Sprintf("shardId-%012d", id) }

// Stream modes, states and encryption types as AWS spells them.
const (
	modeProvisioned = "PROVISIONED"
	modeOnDemand    = "ON_DEMAND"

	stateCreating = "CREATING"
	stateActive   = "ACTIVE"
	stateUpdating = "UPDATING"
	stateDeleting = "DELETING"

	encryptionNone = "NONE"
	encryptionKMS  = "KMS"
)

// A stream's fields down to mu never change; the others belong to whoever holds it.
type stream struct {
	name    string
	arn     string
	life    uint64
	created time.Time

	mu        sync.Mutex
	mode      string
	maxRecord int64 // bytes
	retention time.Duration
	tags      map[string]string
	keyID     string // empty: not encrypted

	// The state is what busy says until settled, then active, or gone. What a change brings (shards, a key) is in force
	// once it has settled; settle runs it.
	busy    string
	settled time.Time
	change  func(at time.Time)

	shards []*shard // by id
	routes []*shard // the open ones by hash key
	bytes  int64    // of all records
	gone   bool     // deleted: nobody may put any more
}

// state is what the stream is doing now, after what has become due is done.
func (st *stream) state(now time.Time) string {
	if st.busy == "" || now.Before(st.settled) {
		if st.busy == "" {
			return stateActive
		}
		return st.busy
	}
	if st.busy == stateDeleting {
		return stateDeleting
	}
	st.busy = ""
	if change := st.change; change != nil {
		st.change = nil
		change(st.settled)
	}
	return stateActive
}

// begin puts the stream into a state for as long as delay, then applies change.
func (st *stream) begin(state string, now time.Time, delay time.Duration, change func(at time.Time)) {
	st.busy, st.settled, st.change = state, now.Add(delay), change
	st.state(now)
}

// addShard makes a shard of a range of hash keys. route must be called afterwards.
func (st *stream) addShard(at time.Time, first, last place.HashKey, parents ...uint32) *shard {
	id := uint32(len(st.shards))
	s := &shard{id: id, name: shardName(id), created: at, first: first, last: last, parents: parents, base: 1}
	for _, p := range parents {
		st.shards[p].children = append(st.shards[p].children, s.id)
	}
	st.shards = append(st.shards, s)
	return s
}

func (st *stream) closeShard(s *shard, at time.Time) {
	s.closed = s.clock(at)
	s.ending = s.sequence(place.LastIndex, s.closed)
}

// route puts the open shards in order. Their ranges cover all hash keys.
func (st *stream) route() {
	st.routes = st.routes[:0]
	for _, s := range st.shards {
		if s.open() {
			st.routes = append(st.routes, s)
		}
	}
	slices.SortFunc(st.routes, func(a, b *shard) int {
		if a.first.Less(b.first) {
			return -1
		}
		return 1
	})
}

// find is the open shard for a hash key.
func (st *stream) find(h place.HashKey) *shard {
	n := sort.Search(len(st.routes), func(i int) bool { return h.Less(st.routes[i].first) })
	return st.routes[n-1]
}

// expire drops what is older than the retention and returns the bytes freed.
func (st *stream) expire(now time.Time) int64 {
	var freed int64
	for _, s := range st.shards {
		freed += s.expire(now.Add(-st.retention))
	}
	st.bytes -= freed
	return freed
}
