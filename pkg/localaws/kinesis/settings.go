package kinesis

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/weir-das/weir/pkg/localaws/internal/operation"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

const maxTags = 50

func (s *Service) increaseRetention(c operation.Call, _ *wire.Writer) error { return s.retain(c, true) }
func (s *Service) decreaseRetention(c operation.Call, _ *wire.Writer) error {
	return s.retain(c, false)
}

func (s *Service) retain(c operation.Call, longer bool) error {
	st, err := s.active(c)
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	hours, old := c.Int("RetentionPeriodHours", 0), int64(st.retention/time.Hour)
	switch {
	case hours < int64(minRetention/time.Hour):
		return wire.Errorf("InvalidArgumentException", "Minimum allowed retention period is 24 hours. Requested retention period (%d hours) is too short.", hours)
	case longer && hours < old:
		return wire.Errorf("InvalidArgumentException", "Requested retention period (%d hours) for stream %s can not be shorter than existing retention period (%d hours). Use DecreaseRetentionPeriod API.", hours, st.name, old)
	case !longer && hours > old:
		return wire.Errorf("InvalidArgumentException", "Requested retention period (%d hours) for stream %s can not be longer than existing retention period (%d hours). Use IncreaseRetentionPeriod API.", hours, st.name, old)
	}
	st.retention = time.Duration(hours) * time.Hour
	s.used.Add(-st.expire(c.Now))
	st.begin(stateUpdating, c.Now, s.opt.StateDelay, nil)
	return nil
}

func (s *Service) startEncryption(c operation.Call, _ *wire.Writer) error {
	return s.encrypt(c, c.Str("KeyId"))
}

func (s *Service) stopEncryption(c operation.Call, _ *wire.Writer) error { return s.encrypt(c, "") }

func (s *Service) encrypt(c operation.Call, key string) error {
	if c.Str("EncryptionType") != encryptionKMS {
		return wire.Errorf("InvalidArgumentException", "EncryptionType must be KMS.")
	}
	st, err := s.active(c)
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	if key != "" {
		if err := s.checkKey(key); err != nil {
			return err
		}
	}
	st.begin(stateUpdating, c.Now, s.opt.StateDelay, func(time.Time) { st.keyID = key })
	return nil
}

// updateMode changes what the mode promises, not the shards there are.
func (s *Service) updateMode(c operation.Call, _ *wire.Writer) error {
	st, err := s.active(c)
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	mode := c.Struct("StreamModeDetails").Str("StreamMode")
	st.begin(stateUpdating, c.Now, s.opt.StateDelay, func(time.Time) { st.mode = mode })
	return nil
}

func (s *Service) updateMaxRecord(c operation.Call, _ *wire.Writer) error {
	st, err := s.active(c)
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	size := c.Int("MaxRecordSizeInKiB", 0) << 10
	st.begin(stateUpdating, c.Now, s.opt.StateDelay, func(time.Time) { st.maxRecord = size })
	return nil
}

// tagRE holds what may stand in a tag; '%' passes here and is refused with another text, as at AWS.
var tagRE = regexp.MustCompile(`^[\x{00C0}-\x{1FFF}\x{2C00}-\x{D7FF}\w./\-=+: @%]*$`)

// checkTags refuses tags, or keys of tags, with characters AWS does not take.
func (s *Service) checkTags(verb, stream string, tags map[string]string, keys []string) error {
	for k, v := range tags {
		keys = append(keys, k, v)
	}
	percent := false
	for _, text := range keys {
		if !tagRE.MatchString(text) {
			return wire.Errorf("InvalidArgumentException", "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - %% @.")
		}
		percent = percent || strings.Contains(text, "%")
	}
	if percent {
		return wire.Errorf("InvalidArgumentException", "Failed to %s stream %s under account %s because some tags contained illegal characters. "+
			"The allowed characters are Unicode letters, white-spaces, '_',',','/','=','+','-','@'.", verb, stream, s.opt.AccountID)
	}
	return nil
}

func (s *Service) addTags(c operation.Call, _ *wire.Writer) error {
	st, err := s.locked(c)
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	tags := c.StrMap("Tags")
	if err := s.checkTags("add tags to", st.name, tags, nil); err != nil {
		return err
	}
	all := maps.Clone(st.tags)
	maps.Copy(all, tags)
	if len(all) > maxTags {
		return wire.Errorf("InvalidArgumentException", "Failed to add tags to stream %s under account %s because a given stream cannot have more than %d tags associated with it.",
			st.name, s.opt.AccountID, maxTags)
	}
	st.tags = all
	return nil
}

func (s *Service) removeTags(c operation.Call, _ *wire.Writer) error {
	st, err := s.locked(c)
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	keys := c.Strs("TagKeys")
	if err := s.checkTags("remove tags from", st.name, nil, keys); err != nil {
		return err
	}
	for _, k := range keys {
		delete(st.tags, k)
	}
	return nil
}

func (s *Service) listTags(c operation.Call, out *wire.Writer) error {
	st, err := s.locked(c)
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	start, limit := c.Str("ExclusiveStartTagKey"), int(c.Int("Limit", maxTags))
	keys := slices.DeleteFunc(slices.Sorted(maps.Keys(st.tags)), func(k string) bool { return k <= start && start != "" })
	out.Map()
	writeTags(out, keys[:min(limit, len(keys))], st.tags)
	out.Key("HasMoreTags").Bool(len(keys) > limit)
	out.EndMap()
	return nil
}

func (s *Service) listResourceTags(c operation.Call, out *wire.Writer) error {
	st, err := s.locked(c)
	if err != nil {
		return err
	}
	defer st.mu.Unlock()
	out.Map()
	writeTags(out, slices.Sorted(maps.Keys(st.tags)), st.tags)
	out.EndMap()
	return nil
}

func writeTags(out *wire.Writer, keys []string, tags map[string]string) {
	out.Key("Tags").List()
	for _, k := range keys {
		out.Map().Key("Key").Str(k)
		out.Key("Value").Str(tags[k])
		out.EndMap()
	}
	out.EndList()
}
