package kinesis

import (
	"regexp"

	"github.com/weir-das/weir/pkg/localaws/internal/operation"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

// Limits of AWS's that are constraints of a request.
const (
	maxBatch      = 500      // records in a PutRecords
	maxBatchBytes = 10 << 20 // data and keys of a PutRecords
	maxRecord     = 10 << 20 // any stream's largest record
	maxGet        = 10000    // records in a GetRecords
	maxGetBytes   = 10 << 20 // data in a GetRecords
)

// operations is the table of what this service knows.
func (s *Service) operations() map[string]operation.Operation {
	var (
		nameRE = regexp.MustCompile(`^(?:[a-zA-Z0-9_.-]+)$`)
		seqRE  = regexp.MustCompile(`^(?:0|([1-9]\d{0,128}))$`)
		hashRE = regexp.MustCompile(`^(?:0|([1-9]\d{0,38}))$`)
		arnRE  = regexp.MustCompile(`^(?:arn:aws.*:kinesis:.*:\d{12}:stream/\S+)$`)
	)
	var (
		name     = wire.Field{Name: "StreamName", Pattern: nameRE, Min: 1, Max: 128}
		newName  = wire.Field{Name: "StreamName", Required: true, Pattern: nameRE, Min: 1, Max: 128}
		arn      = wire.Field{Name: "StreamARN", Pattern: arnRE, Min: 1, Max: 2048}
		resource = wire.Field{Name: "ResourceARN", Required: true, Pattern: arnRE, Min: 1, Max: 2048}
		hours    = wire.Field{Name: "RetentionPeriodHours", Type: wire.TypeInt, Required: true, Min: 1, Max: 8760}
		key      = wire.Field{Name: "PartitionKey", Required: true, Min: 1, Max: 256}
		hash     = wire.Field{Name: "ExplicitHashKey", Pattern: hashRE}
		data     = wire.Field{Name: "Data", Type: wire.TypeBlob, Required: true, Max: maxRecord}
		str      = &wire.Field{Type: wire.TypeString}
		tagMax   = func(n int64, required bool) wire.Field {
			return wire.Field{Name: "Tags", Type: wire.TypeMap, Required: required, Min: 1, Max: n, KeyMax: 128, ElemMax: 256, Elem: str}
		}
		tagKeys = func(n int64) wire.Field {
			return wire.Field{Name: "TagKeys", Type: wire.TypeList, Required: true, Min: 1, Max: n, ElemMax: 128, Elem: str}
		}
		count = func(field string, max int64, required bool) wire.Field {
			return wire.Field{Name: field, Type: wire.TypeInt, Required: required, Min: 1, Max: max}
		}
		shardID = func(field string, required bool) wire.Field {
			return wire.Field{Name: field, Required: required, Pattern: nameRE, Min: 1, Max: 128}
		}
		enum = func(field string, required bool, values ...string) wire.Field {
			return wire.Field{Name: field, Required: required, Enum: values}
		}
		mode = func(required bool) wire.Field {
			return wire.Field{Name: "StreamModeDetails", Type: wire.TypeStruct, Required: required,
				Fields: []wire.Field{enum("StreamMode", true, modeProvisioned, modeOnDemand)}}
		}
		size = func(required bool) wire.Field {
			return wire.Field{Name: "MaxRecordSizeInKiB", Type: wire.TypeInt, Required: required, Min: 1024, Max: 10240}
		}
		keyID  = wire.Field{Name: "KeyId", Required: true, Min: 1, Max: 2048}
		fields = func(fs ...wire.Field) []wire.Field { return append(fs, name, arn) }
		op     = func(do func(operation.Call, *wire.Writer) error, fs ...wire.Field) operation.Operation {
			return operation.Operation{Fields: fs, Do: do}
		}
	)
	records := wire.Field{Name: "Records", Type: wire.TypeList, Required: true, Min: 1, Max: maxBatch,
		Elem: &wire.Field{Type: wire.TypeStruct, Fields: []wire.Field{key, hash, data}}}
	filter := wire.Field{Name: "ShardFilter", Type: wire.TypeStruct, Fields: []wire.Field{
		enum("Type", true, filterAfterShard, filterAtTrimHorizon, filterFromTrimHorizon, filterAtLatest, filterAtTimestamp, filterFromTimestamp),
		shardID("ShardId", false),
		{Name: "Timestamp", Type: wire.TypeTime},
	}}
	return map[string]operation.Operation{
		"PutRecord":  op(s.putRecord, fields(wire.Field{Name: "SequenceNumberForOrdering", Pattern: seqRE}, key, hash, data)...),
		"PutRecords": {Do: s.putRecords, Fields: fields(records), PerRecord: true},
		"GetShardIterator": op(s.getShardIterator, fields(shardID("ShardId", true),
			enum("ShardIteratorType", true, afterSequence, latest, atTimestamp, atSequence, trimHorizon),
			wire.Field{Name: "StartingSequenceNumber", Pattern: seqRE}, wire.Field{Name: "Timestamp", Type: wire.TypeTime})...),
		"GetRecords": op(s.getRecords, count("Limit", maxGet, false), wire.Field{Name: "ShardIterator", Required: true, Min: 1, Max: 512}, arn),

		"CreateStream":          op(s.createStream, count("ShardCount", 100000, false), mode(false), size(false), tagMax(200, false), newName),
		"DeleteStream":          op(s.deleteStream, fields(wire.Field{Name: "EnforceConsumerDeletion", Type: wire.TypeBool})...),
		"DescribeStream":        op(s.describeStream, fields(count("Limit", 10000, false), shardID("ExclusiveStartShardId", false))...),
		"DescribeStreamSummary": op(s.describeStreamSummary, fields()...),
		"ListStreams":           op(s.listStreams, count("Limit", 10000, false), shardID("ExclusiveStartStreamName", false), nextToken()),
		"ListShards": op(s.listShards, fields(shardID("ExclusiveStartShardId", false), count("MaxResults", 10000, false), nextToken(),
			wire.Field{Name: "StreamCreationTimestamp", Type: wire.TypeTime}, filter)...),
		"DescribeLimits": op(s.describeLimits),

		"IncreaseStreamRetentionPeriod": op(s.increaseRetention, fields(hours)...),
		"DecreaseStreamRetentionPeriod": op(s.decreaseRetention, fields(hours)...),
		"StartStreamEncryption":         op(s.startEncryption, fields(enum("EncryptionType", true, encryptionNone, encryptionKMS), keyID)...),
		"StopStreamEncryption":          op(s.stopEncryption, fields(enum("EncryptionType", true, encryptionNone, encryptionKMS), keyID)...),
		"UpdateStreamMode":              op(s.updateMode, mode(true), arn),
		"UpdateMaxRecordSize":           op(s.updateMaxRecord, size(true), arn),

		"AddTagsToStream":      op(s.addTags, fields(tagMax(50, true))...),
		"RemoveTagsFromStream": op(s.removeTags, fields(tagKeys(50))...),
		"ListTagsForStream":    op(s.listTags, fields(count("Limit", 50, false), wire.Field{Name: "ExclusiveStartTagKey", Min: 1, Max: 128})...),
		"TagResource":          op(s.addTags, tagMax(200, true), resource),
		"UntagResource":        op(s.removeTags, tagKeys(50), resource),
		"ListTagsForResource":  op(s.listResourceTags, resource),

		"SplitShard":  op(s.splitShard, fields(wire.Field{Name: "NewStartingHashKey", Required: true, Pattern: hashRE}, shardID("ShardToSplit", true))...),
		"MergeShards": op(s.mergeShards, fields(shardID("ShardToMerge", true), shardID("AdjacentShardToMerge", true))...),
		"UpdateShardCount": op(s.updateShardCount, fields(count("TargetShardCount", 100000, true),
			enum("ScalingType", true, "UNIFORM_SCALING"))...),
	}
}

func nextToken() wire.Field { return wire.Field{Name: "NextToken", Min: 1, Max: 1 << 20} }
