package kinesis

import (
	"slices"
	"strings"
	"time"

	"github.com/weir-das/weir/pkg/localaws/internal/operation"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

func (s *Service) describeStream(c operation.Call, out *wire.Writer) error {
	st, err := s.locked(c)
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	state := st.state(c.Now)
	shards := after(st.listed(c.Now), c.Str("ExclusiveStartShardId"))
	limit := int(c.Int("Limit", describeShards))
	more := len(shards) > limit
	out.Map().Key("StreamDescription").Map()
	s.writeStream(out, st, state)
	out.Key("HasMoreShards").Bool(more)
	out.Key("Shards").List()
	for _, sh := range shards[:min(limit, len(shards))] {
		writeShard(out, sh)
	}
	out.EndList().EndMap().EndMap()
	return nil
}

func (s *Service) describeStreamSummary(c operation.Call, out *wire.Writer) error {
	st, err := s.locked(c)
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	state := st.state(c.Now)
	out.Map().Key("StreamDescriptionSummary").Map()
	s.writeStream(out, st, state)
	out.Key("OpenShardCount").Int(int64(len(st.routes)))
	out.Key("ConsumerCount").Int(0)
	out.Key("MaxRecordSizeInKiB").Int(st.maxRecord >> 10)
	out.EndMap().EndMap()
	return nil
}

// writeStream is what both descriptions have in common.
func (s *Service) writeStream(out *wire.Writer, st *stream, state string) {
	out.Key("StreamName").Str(st.name)
	out.Key("StreamARN").Str(st.arn)
	out.Key("StreamStatus").Str(state)
	out.Key("StreamModeDetails").Map().Key("StreamMode").Str(st.mode)
	out.EndMap()
	out.Key("RetentionPeriodHours").Int(int64(st.retention / time.Hour))
	out.Key("StreamCreationTimestamp").Time(st.created)
	out.Key("EnhancedMonitoring").List().Map().Key("ShardLevelMetrics").List().EndList().EndMap().EndList()
	if st.keyID == "" {
		out.Key("EncryptionType").Str(encryptionNone)
		return
	}
	out.Key("EncryptionType").Str(encryptionKMS)
	out.Key("KeyId").Str(st.keyID)
}

func (s *Service) listStreams(c operation.Call, out *wire.Writer) error {
	start := max(c.Str("ExclusiveStartStreamName"), c.Str("NextToken"))
	limit := int(c.Int("Limit", 100))
	s.mu.RLock()
	var found []*stream
	for name, st := range s.streams {
		if name > start && !st.isOver(c.Now) {
			found = append(found, st)
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(found, func(a, b *stream) int { return strings.Compare(a.name, b.name) })
	more := len(found) > limit
	found = found[:min(limit, len(found))]
	out.Map().Key("StreamNames").List()
	for _, st := range found {
		out.Str(st.name)
	}
	out.EndList().Key("HasMoreStreams").Bool(more)
	if more {
		out.Key("NextToken").Str(found[limit-1].name)
	}
	out.Key("StreamSummaries").List()
	for _, st := range found {
		st.mu.Lock()
		out.Map().Key("StreamName").Str(st.name)
		out.Key("StreamARN").Str(st.arn)
		out.Key("StreamStatus").Str(st.state(c.Now))
		out.Key("StreamModeDetails").Map().Key("StreamMode").Str(st.mode)
		out.EndMap().Key("StreamCreationTimestamp").Time(st.created)
		out.EndMap()
		st.mu.Unlock()
	}
	out.EndList().EndMap()
	return nil
}

func (s *Service) describeLimits(_ operation.Call, out *wire.Writer) error {
	s.mu.RLock()
	open, onDemand := s.openShards(), s.onDemand()
	s.mu.RUnlock()
	out.Map().Key("ShardLimit").Int(int64(s.opt.ShardLimit))
	out.Key("OpenShardCount").Int(open)
	out.Key("OnDemandStreamCount").Int(onDemand)
	out.Key("OnDemandStreamCountLimit").Int(onDemandStreams)
	out.EndMap()
	return nil
}
