package localaws_test

import "strings"

// A known difference between ours and an oracle, and why ours is right.
type known struct {
	oracle string
	why    string
	// explains says whether a difference is this one.
	explains func(st step, ours, theirs reply, diff string) bool
}

func differencesFrom(oracle string) []known {
	var out []known
	for _, d := range differences() {
		if d.oracle == oracle {
			out = append(out, d)
		}
	}
	return out
}

// newerFields are fields of AWS's that an oracle does not know; they are left out of the comparison of shapes.
func newerFields(oracle string) []string {
	fields := []string{"StreamSummaries", "NextToken", "MaxRecordSizeInKiB"}
	if oracle == kinesaliteName {
		fields = append(fields, "StreamModeDetails")
	}
	return fields
}

// valuedFields are the fields whose values must be the same, not only their types.
func valuedFields(oracle string) []string {
	fields := []string{"ShardId", "ParentShardId", "AdjacentParentShardId", "PartitionKey", "Data", "StreamName", "StreamNames", "StreamStatus",
		"HasMoreShards", "HasMoreStreams", "HasMoreTags", "RetentionPeriodHours", "FailedRecordCount", "OpenShardCount", "ConsumerCount", "Key", "Value",
		"StreamARN", "EncryptionType"}
	if oracle != kinesisLocalName { // which divides 2^128-1 instead of 2^128, so that its ranges end one earlier
		fields = append(fields, "StartingHashKey", "EndingHashKey")
	}
	return fields
}

// kinds says whether ours is an error of the first type and theirs one of the second.
func kinds(mine, other string) func(step, reply, reply, string) bool {
	return func(_ step, ours, theirs reply, _ string) bool {
		return ours.kind == mine && theirs.kind == other
	}
}

func shapes(op, part string) func(step, reply, reply, string) bool {
	return func(st step, _, _ reply, diff string) bool {
		return st.op == op && strings.HasPrefix(diff, "shape: ") && strings.Contains(diff, part)
	}
}

// differences is the whole table.
func differences() []known {
	return []known{
		{kinesaliteName, "its pattern for ExplicitHashKey is not anchored at the end, so that it takes 01 as 0",
			func(_ step, ours, _ reply, _ string) bool {
				return ours.kind == "ValidationException" && strings.Contains(ours.raw, "explicitHashKey") && strings.Contains(ours.raw, "'01'")
			}},
		{kinesaliteName, "it takes small numbers for sequence numbers of an older form",
			func(st step, ours, theirs reply, _ string) bool {
				return st.op == "PutRecord" && ours.kind == "InvalidArgumentException" && theirs.status == 200
			}},
		{kinesaliteName, "it gives all shards whatever DescribeStream's Limit", shapes("DescribeStream", "Shards")},
		{kinesaliteName, "it gives an iterator once more after the last record of a closed shard; ours says at once that there is no more",
			shapes("GetRecords", ".NextShardIterator is absent")},
		{kinesaliteName, "ChildShards came after it was written", shapes("GetRecords", ".ChildShards")},
		{kinesaliteName, "it splits and merges closed shards", kinds("ResourceInUseException", "InvalidArgumentException")},

		{kinesisLocalName, "it has no ValidationException: what breaks a constraint of the API's model is an invalid argument, an undecodable body or a stream not found",
			func(_ step, ours, theirs reply, _ string) bool {
				return ours.kind == "ValidationException" && theirs.status == 400
			}},
		{kinesisLocalName, "it takes empty tags and 501 records",
			func(st step, ours, theirs reply, _ string) bool {
				return ours.kind == "ValidationException" && theirs.status == 200 &&
					(st.op == "AddTagsToStream" || st.op == "RemoveTagsFromStream" || st.op == "PutRecords")
			}},
		{kinesisLocalName, "it falls over what is no base64, no number and no iterator",
			func(_ step, ours, theirs reply, _ string) bool { return ours.status == 400 && theirs.status == 500 }},
		{kinesisLocalName, "it lists all when there is nothing after the given start",
			func(st step, _, _ reply, diff string) bool {
				return strings.HasPrefix(st.op, "List") && strings.Contains(diff, "is a list of 0, want a list of ")
			}},
		{kinesisLocalName, "it gives iterators for a time to come",
			func(st step, ours, theirs reply, _ string) bool {
				return st.args["ShardIteratorType"] == "AT_TIMESTAMP" && ours.kind == "InvalidArgumentException" && theirs.status == 200
			}},
		{kinesisLocalName, "it does not take 0 as a sequence number for ordering; kinesalite does",
			func(st step, ours, theirs reply, _ string) bool {
				return st.args["SequenceNumberForOrdering"] == "0" && ours.status == 200 && theirs.kind == "InvalidArgumentException"
			}},
		{kinesisLocalName, "it splits at a shard's very beginning",
			func(st step, ours, theirs reply, _ string) bool {
				return st.op == "SplitShard" && ours.kind == "InvalidArgumentException" && theirs.status == 200
			}},
	}
}
