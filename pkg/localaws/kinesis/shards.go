package kinesis

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"time"

	"github.com/weir-das/weir/pkg/localaws/internal/operation"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

// What ListShards can be asked for.
const (
	filterAfterShard      = "AFTER_SHARD_ID"
	filterAtTrimHorizon   = "AT_TRIM_HORIZON"
	filterFromTrimHorizon = "FROM_TRIM_HORIZON"
	filterAtLatest        = "AT_LATEST"
	filterAtTimestamp     = "AT_TIMESTAMP"
	filterFromTimestamp   = "FROM_TIMESTAMP"
)

const (
	listShardsDefault = 1000
	listTokenLife     = 300 * time.Second
)

// A listToken is where a ListShards goes on. Clients hold it as opaque text; it names nothing they may not see.
type listToken struct {
	Stream  string
	Life    uint64
	After   string
	Filter  string    `json:",omitempty"`
	Instant time.Time `json:",omitzero"`
	Shard   string    `json:",omitempty"`
	Made    int64     // unix milliseconds
}

func (t listToken) String() string {
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // plain fields
	}
	return base64.StdEncoding.EncodeToString(b)
}

func parseListToken(text string) (t listToken, ok bool) {
	b, err := base64.StdEncoding.DecodeString(text)
	return t, err == nil && json.Unmarshal(b, &t) == nil && t.Stream != ""
}

// listing is what a ListShards asks for: by the call, or by the token of the one before.
func (s *Service) listing(c operation.Call) (listToken, error) {
	filter := c.Struct("ShardFilter")
	if !c.Has("NextToken") {
		if !c.Has("StreamName") && !c.Has("StreamARN") {
			return listToken{}, wire.Errorf("InvalidArgumentException", "Either NextToken or StreamName should be provided.")
		}
		name, err := s.name(c)
		return listToken{Stream: name, After: c.Str("ExclusiveStartShardId"), Filter: filter.Str("Type"),
			Instant: filter.Time("Timestamp"), Shard: filter.Str("ShardId")}, err
	}
	if c.Has("StreamName") || c.Has("StreamARN") {
		return listToken{}, wire.Errorf("InvalidArgumentException", "NextToken and StreamName cannot be provided together.")
	}
	t, ok := parseListToken(c.Str("NextToken"))
	if !ok {
		return t, wire.Errorf("InvalidArgumentException", "NextToken is invalid.")
	}
	if c.Now.UnixMilli()-t.Made > listTokenLife.Milliseconds() {
		return t, wire.Errorf("ExpiredNextTokenException", "NextToken has expired.")
	}
	return t, nil
}

func (s *Service) listShards(c operation.Call, out *wire.Writer) error {
	want, err := s.listing(c)
	if err != nil {
		return err
	}
	s.mu.RLock()
	st := s.streams[want.Stream]
	s.mu.RUnlock()
	if st == nil || st.isOver(c.Now) || want.Life != 0 && want.Life != st.life {
		return s.notFound(want.Stream)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if state := st.state(c.Now); state == stateCreating || state == stateDeleting {
		return wire.Errorf("ResourceInUseException", "Stream %s under account %s not ACTIVE, instead in state %s", st.name, s.opt.AccountID, state)
	}
	shards, err := st.filtered(want, c.Now)
	if err != nil {
		return err
	}
	shards = after(shards, want.After)
	limit := int(c.Int("MaxResults", listShardsDefault))
	out.Map().Key("Shards").List()
	for _, sh := range shards[:min(limit, len(shards))] {
		writeShard(out, sh)
	}
	out.EndList()
	if len(shards) > limit {
		want.After, want.Life, want.Made = shards[limit-1].name, st.life, c.Now.UnixMilli()
		out.Key("NextToken").Str(want.String())
	}
	out.EndMap()
	return nil
}

// listed are the shards that exist for clients: open, or closed with records that could still be retained.
func (st *stream) listed(now time.Time) []*shard {
	return slices.DeleteFunc(slices.Clone(st.shards), func(sh *shard) bool {
		return !sh.open() && sh.closed.Add(st.retention).Before(now)
	})
}

// filtered are the shards a ShardFilter selects.
func (st *stream) filtered(want listToken, now time.Time) ([]*shard, error) {
	all := st.listed(now)
	keep := func(f func(*shard) bool) []*shard {
		return slices.DeleteFunc(all, func(sh *shard) bool { return !f(sh) })
	}
	horizon := now.Add(-st.retention)
	openAt := func(t time.Time) func(*shard) bool {
		return func(sh *shard) bool { return !sh.created.After(t) && (sh.open() || sh.closed.After(t)) }
	}
	fromThen := func(t time.Time) func(*shard) bool {
		return func(sh *shard) bool { return sh.open() || !sh.closed.Before(t) }
	}
	switch want.Filter {
	case filterAfterShard:
		if want.Shard == "" {
			return nil, wire.Errorf("InvalidArgumentException", "ShardId must be specified for a ShardFilter of type AFTER_SHARD_ID.")
		}
		return after(all, want.Shard), nil
	case filterAtLatest:
		return keep((*shard).open), nil
	case filterAtTrimHorizon:
		return keep(openAt(latestOf(horizon, st.created))), nil
	case filterAtTimestamp, filterFromTimestamp:
		if want.Instant.IsZero() {
			return nil, wire.Errorf("InvalidArgumentException", "Timestamp must be specified for a ShardFilter of type %s.", want.Filter)
		}
		t := latestOf(want.Instant, latestOf(horizon, st.created))
		if want.Filter == filterAtTimestamp {
			return keep(openAt(t)), nil
		}
		return keep(fromThen(t)), nil
	default: // none, FROM_TRIM_HORIZON
		return all, nil
	}
}

func latestOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// after is the rest of the shards, which are in order, beyond the one of that name.
func after(shards []*shard, name string) []*shard {
	i := 0
	for i < len(shards) && name != "" && shards[i].name <= name {
		i++
	}
	return shards[i:]
}

func writeShard(out *wire.Writer, sh *shard) {
	out.Map().Key("ShardId").Str(sh.name)
	if len(sh.parents) > 0 {
		out.Key("ParentShardId").Str(shardName(sh.parents[0]))
	}
	if len(sh.parents) > 1 {
		out.Key("AdjacentParentShardId").Str(shardName(sh.parents[1]))
	}
	writeHashRange(out, sh)
	out.Key("SequenceNumberRange").Map()
	out.Key("StartingSequenceNumber").Str(sh.sequence(0, sh.created).String())
	if !sh.open() {
		out.Key("EndingSequenceNumber").Str(sh.ending.String())
	}
	out.EndMap().EndMap()
}

func writeHashRange(out *wire.Writer, sh *shard) {
	out.Key("HashKeyRange").Map()
	out.Key("StartingHashKey").Str(sh.first.String())
	out.Key("EndingHashKey").Str(sh.last.String())
	out.EndMap()
}
