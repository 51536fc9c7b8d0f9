package kinesis

import (
	"slices"
	"time"

	"github.com/weir-das/weir/pkg/localaws/internal/operation"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
	"github.com/weir-das/weir/pkg/localaws/kinesis/place"
)

// shardOf is the shard of that name. The stream is locked.
func (s *Service) shardOf(st *stream, text string) (*shard, error) {
	id, ok := parseShardName(text)
	if !ok || int(id) >= len(st.shards) {
		return nil, wire.Errorf("ResourceNotFoundException", "Could not find shard %s in stream %s under account %s.", text, st.name, s.opt.AccountID)
	}
	return st.shards[id], nil
}

// changeable is the stream that is to be resharded, locked. Only one that would grow by more shards asks for room.
func (s *Service) changeable(c operation.Call, more func(*stream) int64) (*stream, error) {
	st, err := s.active(c)
	if err != nil {
		return nil, err
	}
	if n := more(st); n > 0 && st.mode == modeProvisioned {
		// The lock order is the table's first: let go, count, take again. A change in between is caught by active.
		st.mu.Unlock()
		s.mu.RLock()
		err = s.room(n)
		s.mu.RUnlock()
		if err != nil {
			return nil, err
		}
		return s.active(c)
	}
	return st, nil
}

func (s *Service) splitShard(c operation.Call, _ *wire.Writer) error {
	st, err := s.changeable(c, func(*stream) int64 { return 1 })
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	sh, err := s.shardOf(st, c.Str("ShardToSplit"))
	if err != nil {
		return err
	}
	if !sh.open() {
		return s.notOpen(sh, st)
	}
	text := c.Str("NewStartingHashKey")
	middle, ok := place.ParseHashKey(text)
	if !ok || !sh.first.Next().Less(middle) || !middle.Less(sh.last) {
		return wire.Errorf("InvalidArgumentException", "NewStartingHashKey %s used in SplitShard() on shard %s in stream %s under account %s "+
			"is not both greater than one plus the shard's StartingHashKey %s and less than the shard's EndingHashKey %s.",
			text, sh.name, st.name, s.opt.AccountID, sh.first, sh.last)
	}
	st.begin(stateUpdating, c.Now, s.opt.StateDelay, func(at time.Time) {
		st.closeShard(sh, at)
		st.addShard(at, sh.first, middle.Previous(), sh.id)
		st.addShard(at, middle, sh.last, sh.id)
		st.route()
	})
	return nil
}

func (s *Service) mergeShards(c operation.Call, _ *wire.Writer) error {
	st, err := s.active(c)
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	a, err := s.shardOf(st, c.Str("ShardToMerge"))
	if err != nil {
		return err
	}
	b, err := s.shardOf(st, c.Str("AdjacentShardToMerge"))
	if err != nil {
		return err
	}
	for _, sh := range []*shard{a, b} {
		if !sh.open() {
			return s.notOpen(sh, st)
		}
	}
	if a.last == (place.HashKey{}).Previous() || a.last.Next() != b.first { // the lower one must be named first
		return wire.Errorf("InvalidArgumentException", "Shards %s and %s in stream %s under account %s are not an adjacent pair of shards eligible for merging",
			a.name, b.name, st.name, s.opt.AccountID)
	}
	st.begin(stateUpdating, c.Now, s.opt.StateDelay, func(at time.Time) {
		st.closeShard(a, at)
		st.closeShard(b, at)
		st.addShard(at, a.first, b.last, a.id, b.id)
		st.route()
	})
	return nil
}

func (s *Service) notOpen(sh *shard, st *stream) error {
	return wire.Errorf("ResourceInUseException", "Shard %s in stream %s under account %s is not open.", sh.name, st.name, s.opt.AccountID)
}

// updateShardCount closes all shards and opens as many new ones, of equal ranges, in one step. AWS takes several, of at
// most two parents each; so does a shard here have the parents whose ranges it overlaps, the first two.
func (s *Service) updateShardCount(c operation.Call, out *wire.Writer) error {
	target := uint64(c.Int("TargetShardCount", 0))
	current := 0
	st, err := s.changeable(c, func(st *stream) int64 { return int64(target) - int64(len(st.routes)) })
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	current = len(st.routes)
	if st.mode == modeOnDemand {
		return wire.Errorf("ValidationException", "UpdateShardCount is not supported for a stream in ON_DEMAND mode.")
	}
	if target > 2*uint64(current) || 2*target < uint64(current) {
		return wire.Errorf("LimitExceededException", "UpdateShardCount cannot scale up over double or down below half your current open shard count. "+
			"Current open shard count: %d Target shard count: %d", current, target)
	}
	st.begin(stateUpdating, c.Now, s.opt.StateDelay, func(at time.Time) { st.rescale(at, target) })
	out.Map().Key("StreamName").Str(st.name)
	out.Key("StreamARN").Str(st.arn)
	out.Key("CurrentShardCount").Int(int64(current))
	out.Key("TargetShardCount").Int(int64(target))
	out.EndMap()
	return nil
}

func (st *stream) rescale(at time.Time, target uint64) {
	old := slices.Clone(st.routes)
	if uint64(len(old)) == target {
		return
	}
	for _, sh := range old {
		st.closeShard(sh, at)
	}
	for _, sh := range st.cut(at, target) {
		for _, p := range old {
			overlaps := !sh.last.Less(p.first) && !p.last.Less(sh.first)
			if overlaps && len(sh.parents) < 2 {
				sh.parents = append(sh.parents, p.id)
			}
			if overlaps {
				p.children = append(p.children, sh.id)
			}
		}
	}
	st.route()
}
