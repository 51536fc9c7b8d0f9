package kinesis

import (
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/weir-das/weir/pkg/localaws/internal/operation"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
	"github.com/weir-das/weir/pkg/localaws/kinesis/place"
)

const (
	minRetention     = 24 * time.Hour
	defaultMaxRecord = 1 << 20
	onDemandShards   = 4  // what AWS gives a new ON_DEMAND stream
	onDemandStreams  = 50 // how many an account may have
	describeShards   = 100
)

// name is the stream a call is about: by name, or by ARN.
func (s *Service) name(c operation.Call) (string, error) {
	name, arn := c.Str("StreamName"), c.Str("StreamARN")
	if arn == "" {
		arn = c.Str("ResourceARN")
	}
	if arn == "" && name == "" {
		return "", wire.Errorf("ValidationException", "1 validation error detected: Value null at 'streamName' failed to satisfy constraint: Member must not be null")
	}
	if arn == "" {
		return name, nil
	}
	_, byARN, _ := strings.Cut(arn, ":stream/")
	if arn != s.arn(byARN) {
		return "", wire.Errorf("ResourceNotFoundException", "Stream %s under account %s not found.", arn, s.opt.AccountID)
	}
	if name != "" && name != byARN {
		return "", wire.Errorf("InvalidArgumentException", "StreamName %s does not match StreamARN %s.", name, arn)
	}
	return byARN, nil
}

func (s *Service) arn(name string) string {
	return "arn:aws:kinesis:" + s.opt.Region + ":" + s.opt.AccountID + ":stream/" + name
}

// locked is the stream a call is about, locked. One whose deletion is over is not found.
func (s *Service) locked(c operation.Call) (*stream, error) {
	name, err := s.name(c)
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	st := s.streams[name]
	s.mu.RUnlock()
	if st == nil {
		return nil, s.notFound(name)
	}
	st.mu.Lock()
	if st.over(c.Now) {
		st.mu.Unlock()
		return nil, s.notFound(name)
	}
	return st, nil
}

// active is the stream a call wants to change, locked: it must not be changing already.
func (s *Service) active(c operation.Call) (*stream, error) {
	st, err := s.locked(c)
	if err != nil {
		return nil, err
	}
	if state := st.state(c.Now); state != stateActive {
		st.mu.Unlock()
		return nil, wire.Errorf("ResourceInUseException", "Stream %s under account %s not ACTIVE, instead in state %s",
			st.name, s.opt.AccountID, state)
	}
	return st, nil
}

// over says whether the stream's deletion is complete.
func (st *stream) over(now time.Time) bool {
	return st.gone && !now.Before(st.settled)
}

func (s *Service) notFound(name string) error {
	return wire.Errorf("ResourceNotFoundException", "Stream %s under account %s not found.", name, s.opt.AccountID)
}

func (s *Service) noShard(id uint32, name string) error {
	return wire.Errorf("ResourceNotFoundException", "Shard %s in stream %s under account %s does not exist", shardName(id), name, s.opt.AccountID)
}

// parseShardName reads "shardId-000000000007", or as AWS does only the digits.
func parseShardName(text string) (uint32, bool) {
	if _, after, ok := strings.Cut(text, "-"); ok {
		text = after
	}
	n, err := strconv.ParseUint(text, 10, 31)
	return uint32(n), err == nil && text[0] != '+'
}

func (s *Service) createStream(c operation.Call, _ *wire.Writer) error {
	name := c.Str("StreamName")
	mode := c.Struct("StreamModeDetails").Str("StreamMode")
	if mode == "" {
		mode = modeProvisioned
	}
	count := c.Int("ShardCount", 0)
	switch {
	case mode == modeProvisioned && count == 0:
		return wire.Errorf("ValidationException", "1 validation error detected: Value null at 'shardCount' failed to satisfy constraint: Member must not be null")
	case mode == modeOnDemand && count != 0:
		return wire.Errorf("ValidationException", "ShardCount must not be specified for a stream in ON_DEMAND mode.")
	case mode == modeOnDemand:
		count = onDemandShards
	}
	tags := c.StrMap("Tags")
	if err := s.checkTags("add tags to", name, tags, nil); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.streams, func(_ string, st *stream) bool { return st.isOver(c.Now) })
	if s.streams[name] != nil {
		return wire.Errorf("ResourceInUseException", "Stream %s under account %s already exists.", name, s.opt.AccountID)
	}
	if mode == modeOnDemand && s.onDemand() >= onDemandStreams {
		return wire.Errorf("LimitExceededException", "The account %s has %d streams in ON_DEMAND mode already, its limit.", s.opt.AccountID, onDemandStreams)
	}
	if mode == modeProvisioned {
		if err := s.room(count); err != nil {
			return err
		}
	}
	st := &stream{
		name: name, arn: s.arn(name), life: s.lives.Add(1), created: c.Now,
		mode: mode, retention: minRetention, tags: tags, maxRecord: c.Int("MaxRecordSizeInKiB", defaultMaxRecord>>10) << 10,
	}
	if st.tags == nil {
		st.tags = map[string]string{}
	}
	st.begin(stateCreating, c.Now, s.opt.StateDelay, func(time.Time) {
		st.cut(c.Now, uint64(count))
		st.route()
	})
	s.streams[name] = st
	return nil
}

// cut makes count shards of equal ranges. at is the call's time, not the change's: a record that arrives in the second
// the stream becomes active must not seem older than its shard.
func (st *stream) cut(at time.Time, count uint64) []*shard {
	var out []*shard
	for i := range count {
		last := place.HashKey{}.Previous() // 2^128−1
		if i+1 < count {
			last = place.Split(i+1, count).Previous()
		}
		out = append(out, st.addShard(at, place.Split(i, count), last))
	}
	return out
}

func (st *stream) isOver(now time.Time) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.over(now)
}

// openShards is how many shards count against the account's limit. s.mu is held.
func (s *Service) openShards() int64 {
	n := int64(0)
	for _, st := range s.streams {
		st.mu.Lock()
		if st.mode == modeProvisioned && !st.gone {
			n += int64(len(st.routes))
		}
		st.mu.Unlock()
	}
	return n
}

// onDemand is how many streams are in ON_DEMAND mode. s.mu is held.
func (s *Service) onDemand() int64 {
	n := int64(0)
	for _, st := range s.streams {
		st.mu.Lock()
		if st.mode == modeOnDemand && !st.gone {
			n++
		}
		st.mu.Unlock()
	}
	return n
}

// room says whether the account may have more shards. s.mu is held.
func (s *Service) room(more int64) error {
	open, limit := s.openShards(), int64(s.opt.ShardLimit)
	if open+more <= limit {
		return nil
	}
	return wire.Errorf("LimitExceededException", "This request would exceed the shard limit for the account %s in %s. "+
		"Current shard count for the account: %d. Limit: %d. Number of additional shards that would have resulted from this request: %d. "+
		"Refer to the AWS Service Limits page (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits "+
		"and how to request higher limits.", s.opt.AccountID, s.opt.Region, open, limit, more)
}

// deleteStream frees the records at once; the stream is seen as DELETING until its delay is over, and forgotten when the
// next one is created.
func (s *Service) deleteStream(c operation.Call, _ *wire.Writer) error {
	st, err := s.locked(c)
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	if !st.gone {
		st.state(c.Now)
		st.gone = true
		st.busy, st.settled, st.change = stateDeleting, c.Now.Add(s.opt.StateDelay), nil
		s.used.Add(-st.bytes)
		st.bytes = 0
		for _, sh := range st.shards {
			sh.base, sh.records = sh.next(), nil
		}
	}
	return nil
}
