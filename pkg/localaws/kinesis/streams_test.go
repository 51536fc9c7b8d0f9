package kinesis_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-das/weir/pkg/localaws/kinesis"
)

func TestLifeOfAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, kinesis.Options{StateDelay: 10 * time.Second})
		state := func() string {
			return c.call("DescribeStreamSummary", `{"StreamName":"s"}`).str("StreamDescriptionSummary", "StreamStatus")
		}
		c.call("CreateStream", `{"StreamName":"s","ShardCount":3,"Tags":{"a":"b"}}`).ok()
		if got := state(); got != "CREATING" {
			t.Errorf("at once: %s, want CREATING", got)
		}
		c.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":""}`).refused("ResourceNotFoundException", "not found")
		c.call("ListShards", `{"StreamName":"s"}`).refused("ResourceInUseException", "instead in state CREATING")
		c.call("CreateStream", `{"StreamName":"s","ShardCount":3}`).refused("ResourceInUseException", "already exists")
		c.call("IncreaseStreamRetentionPeriod", `{"StreamName":"s","RetentionPeriodHours":48}`).refused("ResourceInUseException", "not ACTIVE, instead in state CREATING")
		time.Sleep(10 * time.Second)
		if got := state(); got != "ACTIVE" {
			t.Errorf("after the delay: %s, want ACTIVE", got)
		}
		c.put("s", "k", "x")
		a := c.call("DescribeStream", `{"StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/s","Limit":2}`)
		if a.len("StreamDescription", "Shards") != 2 || a.get("StreamDescription", "HasMoreShards") != true {
			t.Errorf("DescribeStream limited to 2 = %v, want two shards and more", a.fields)
		}
		last := a.str("StreamDescription", "Shards", 1, "ShardId")
		a = c.call("DescribeStream", `{"StreamName":"s","ExclusiveStartShardId":%q}`, last)
		if a.len("StreamDescription", "Shards") != 1 || a.get("StreamDescription", "HasMoreShards") != false {
			t.Errorf("DescribeStream after %s = %v, want the last shard", last, a.fields)
		}
		c.call("DeleteStream", `{"StreamName":"s"}`).ok()
		if got := state(); got != "DELETING" {
			t.Errorf("after DeleteStream: %s, want DELETING", got)
		}
		c.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":""}`).refused("ResourceNotFoundException", "not found")
		c.call("CreateStream", `{"StreamName":"s","ShardCount":1}`).refused("ResourceInUseException", "already exists")
		time.Sleep(10 * time.Second)
		c.call("DescribeStreamSummary", `{"StreamName":"s"}`).refused("ResourceNotFoundException", "Stream s under account 000000000000 not found.")
		c.call("CreateStream", `{"StreamName":"s","ShardCount":1}`).ok()
	})
}

func TestCreateStream(t *testing.T) {
	c := newClient(t, kinesis.Options{})
	c.call("CreateStream", `{"StreamName":"s"}`).refused("ValidationException", "shardCount")
	c.call("CreateStream", `{"StreamName":"s","ShardCount":1,"StreamModeDetails":{"StreamMode":"ON_DEMAND"}}`).refused("ValidationException", "ON_DEMAND")
	c.call("CreateStream", `{"StreamName":"s s","ShardCount":1}`).refused("ValidationException", "[a-zA-Z0-9_.-]+")
	c.call("CreateStream", `{"StreamName":"s","ShardCount":11}`).refused("LimitExceededException", "Current shard count for the account: 0. Limit: 10.")
	c.call("CreateStream", `{"StreamName":"s","ShardCount":1,"Tags":{"a!":"b"}}`).refused("InvalidArgumentException", "invalid characters")
	c.call("CreateStream", `{"StreamName":"o","StreamModeDetails":{"StreamMode":"ON_DEMAND"}}`).ok()
	if n := c.call("DescribeStreamSummary", `{"StreamName":"o"}`).int("StreamDescriptionSummary", "OpenShardCount"); n != 4 {
		t.Errorf("an ON_DEMAND stream has %d shards, want 4", n)
	}
	c.call("UpdateShardCount", `{"StreamName":"o","TargetShardCount":5,"ScalingType":"UNIFORM_SCALING"}`).refused("ValidationException", "ON_DEMAND")
	c.call("CreateStream", `{"StreamName":"ten","ShardCount":10}`).ok()
	a := c.call("DescribeLimits", `{}`)
	if a.int("OpenShardCount") != 10 || a.int("OnDemandStreamCount") != 1 {
		t.Errorf("DescribeLimits = %v, want 10 shards and 1 ON_DEMAND stream", a.fields)
	}
	c.call("SplitShard", `{"StreamName":"ten","ShardToSplit":"0","NewStartingHashKey":"9"}`).refused("LimitExceededException", "")
	c.call("DeleteStream", `{"StreamARN":"arn:aws:kinesis:us-east-1:111111111111:stream/ten"}`).refused("ResourceNotFoundException", "")
	c.call("DeleteStream", `{"StreamName":"o","StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/ten"}`).refused("InvalidArgumentException", "does not match")
	c.call("DeleteStream", `{}`).refused("ValidationException", "streamName")
}

func TestListStreams(t *testing.T) {
	c := newClient(t, kinesis.Options{})
	for i := range 5 {
		c.call("CreateStream", `{"StreamName":"s%d","ShardCount":1}`, i).ok()
	}
	var names []string
	token := ""
	for range 10 {
		a := c.call("ListStreams", `{"Limit":2%s}`, token)
		for i := range a.len("StreamNames") {
			names = append(names, a.str("StreamNames", i))
		}
		if a.get("HasMoreStreams") == false {
			break
		}
		token = fmt.Sprintf(`,"NextToken":%q`, a.str("NextToken"))
	}
	if got := strings.Join(names, " "); got != "s0 s1 s2 s3 s4" {
		t.Errorf("ListStreams in pages of 2 = %s, want s0 s1 s2 s3 s4", got)
	}
	a := c.call("ListStreams", `{"ExclusiveStartStreamName":"s2"}`)
	if a.len("StreamNames") != 2 || a.str("StreamSummaries", 0, "StreamStatus") != "ACTIVE" {
		t.Errorf("ListStreams after s2 = %v, want two, ACTIVE", a.fields)
	}
}

func shardIDs(a answer) string {
	var ids []string
	for i := range a.len("Shards") {
		ids = append(ids, strings.TrimLeft(strings.TrimPrefix(a.str("Shards", i, "ShardId"), "shardId-"), "0"))
	}
	return strings.Join(ids, " ")
}

func TestListShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, kinesis.Options{})
		c.call("CreateStream", `{"StreamName":"s","ShardCount":3}`).ok()
		time.Sleep(time.Hour)
		c.call("MergeShards", `{"StreamName":"s","ShardToMerge":"shardId-000000000001","AdjacentShardToMerge":"shardId-000000000002"}`).ok()
		merged := time.Now()
		time.Sleep(time.Hour)
		filter := func(text string) string {
			return shardIDs(c.call("ListShards", `{"StreamName":"s","ShardFilter":{%s}}`, text))
		}
		for text, want := range map[string]string{
			`"Type":"FROM_TRIM_HORIZON"`:                                                  " 1 2 3",
			`"Type":"AT_TRIM_HORIZON"`:                                                    " 1 2",
			`"Type":"AT_LATEST"`:                                                          " 3",
			`"Type":"AFTER_SHARD_ID","ShardId":"shardId-000000000001"`:                    "2 3",
			`"Type":"AT_TIMESTAMP","Timestamp":` + seconds(merged.Add(-time.Minute)):      " 1 2",
			`"Type":"AT_TIMESTAMP","Timestamp":` + seconds(merged.Add(time.Minute)):       " 3",
			`"Type":"FROM_TIMESTAMP","Timestamp":` + seconds(merged.Add(-time.Minute)):    " 1 2 3",
			`"Type":"FROM_TIMESTAMP","Timestamp":` + seconds(merged.Add(time.Minute)):     " 3",
			`"Type":"FROM_TIMESTAMP","Timestamp":` + seconds(merged.Add(-1000*time.Hour)): " 1 2 3",
		} {
			if got := filter(text); got != want {
				t.Errorf("ListShards %s = %q, want %q", text, got, want)
			}
		}
		c.call("ListShards", `{"StreamName":"s","ShardFilter":{"Type":"AFTER_SHARD_ID"}}`).refused("InvalidArgumentException", "ShardId")
		c.call("ListShards", `{"StreamName":"s","ShardFilter":{"Type":"AT_TIMESTAMP"}}`).refused("InvalidArgumentException", "Timestamp")
		c.call("ListShards", `{}`).refused("InvalidArgumentException", "Either NextToken or StreamName")
		c.call("ListShards", `{"StreamName":"s","NextToken":"x"}`).refused("InvalidArgumentException", "cannot be provided together")
		c.call("ListShards", `{"NextToken":"x"}`).refused("InvalidArgumentException", "NextToken is invalid")

		a := c.call("ListShards", `{"StreamName":"s","MaxResults":3}`)
		if got := shardIDs(a); got != " 1 2" {
			t.Errorf("the first page = %q, want 0 1 2", got)
		}
		token := a.str("NextToken")
		a = c.call("ListShards", `{"NextToken":%q}`, token)
		if got := shardIDs(a); got != "3" || a.get("NextToken") != nil {
			t.Errorf("the second page = %q, %v, want 3 and no more", got, a.get("NextToken"))
		}
		time.Sleep(6 * time.Minute)
		c.call("ListShards", `{"NextToken":%q}`, token).refused("ExpiredNextTokenException", "")
		time.Sleep(24 * time.Hour)
		if got := shardIDs(c.call("ListShards", `{"StreamName":"s"}`)); got != " 3" {
			t.Errorf("a day later = %q, want the closed shards gone", got)
		}
	})
}

// TestReshard follows records through a split and a merge as a KCL does: parents to their end, then children.
func TestReshard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, kinesis.Options{})
		c.call("CreateStream", `{"StreamName":"s","ShardCount":1}`).ok()
		put := func(hash, text string) string {
			return c.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","ExplicitHashKey":%q,"Data":%q}`, hash, b64(text)).str("ShardId")
		}
		put("5", "before")
		c.call("SplitShard", `{"StreamName":"s","ShardToSplit":"0","NewStartingHashKey":"1"}`).refused("InvalidArgumentException", "is not both greater")
		c.call("SplitShard", `{"StreamName":"s","ShardToSplit":"0","NewStartingHashKey":"100"}`).ok()
		if low, high := put("99", "low"), put("100", "high"); low != "shardId-000000000001" || high != "shardId-000000000002" {
			t.Errorf("hash keys 99 and 100 go to %s and %s, want shards 1 and 2", low, high)
		}
		c.call("SplitShard", `{"StreamName":"s","ShardToSplit":"0","NewStartingHashKey":"10"}`).refused("ResourceInUseException", "not open")
		a := c.call("GetRecords", `{"ShardIterator":%q}`, c.iterator("s", "TRIM_HORIZON"))
		if data(a) != "before" || a.get("NextShardIterator") != nil || a.len("ChildShards") != 2 {
			t.Errorf("the closed parent gives %v, want its record, no next iterator and two children", a.fields)
		}
		if got := a.str("ChildShards", 1, "ParentShards", 0); got != "shardId-000000000000" {
			t.Errorf("the child's parent is %s, want shard 0", got)
		}
		c.call("MergeShards", `{"StreamName":"s","ShardToMerge":"2","AdjacentShardToMerge":"1"}`).refused("InvalidArgumentException", "not an adjacent pair")
		c.call("MergeShards", `{"StreamName":"s","ShardToMerge":"1","AdjacentShardToMerge":"2"}`).ok()
		if got := put("5", "after"); got != "shardId-000000000003" {
			t.Errorf("after the merge a record goes to %s, want shard 3", got)
		}
		a = c.call("ListShards", `{"StreamName":"s"}`)
		if a.str("Shards", 3, "ParentShardId") != "shardId-000000000001" || a.str("Shards", 3, "AdjacentParentShardId") != "shardId-000000000002" {
			t.Errorf("the merged shard = %v, want parents 1 and 2", a.get("Shards", 3))
		}
		start, end := a.str("Shards", 0, "SequenceNumberRange", "StartingSequenceNumber"), a.str("Shards", 0, "SequenceNumberRange", "EndingSequenceNumber")
		if start >= end {
			t.Errorf("shard 0 goes from %s to %s, want them in order", start, end)
		}

		c.call("UpdateShardCount", `{"StreamName":"s","TargetShardCount":3,"ScalingType":"UNIFORM_SCALING"}`).refused("LimitExceededException", "double")
		c.call("UpdateShardCount", `{"StreamName":"s","TargetShardCount":2,"ScalingType":"UNIFORM_SCALING"}`).ok()
		if n := c.call("DescribeStreamSummary", `{"StreamName":"s"}`).int("StreamDescriptionSummary", "OpenShardCount"); n != 2 {
			t.Errorf("after UpdateShardCount %d shards are open, want 2", n)
		}
		if got := put("340282366920938463463374607431768211455", "last"); got != "shardId-000000000005" {
			t.Errorf("the last hash key goes to %s, want shard 5", got)
		}
		c.call("MergeShards", `{"StreamName":"s","ShardToMerge":"4","AdjacentShardToMerge":"4"}`).refused("InvalidArgumentException", "not an adjacent pair")
		c.call("MergeShards", `{"StreamName":"s","ShardToMerge":"4","AdjacentShardToMerge":"9"}`).refused("ResourceNotFoundException", "Could not find shard")
	})
}

func TestTags(t *testing.T) {
	c := newClient(t, kinesis.Options{})
	const arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
	c.call("CreateStream", `{"StreamName":"s","ShardCount":1,"Tags":{"made":"yes"}}`).ok()
	c.call("AddTagsToStream", `{"StreamName":"s","Tags":{"b":"2","a":"1","c":""}}`).ok()
	c.call("TagResource", `{"ResourceARN":%q,"Tags":{"d":"4"}}`, arn).ok()
	c.call("RemoveTagsFromStream", `{"StreamName":"s","TagKeys":["b","zzz"]}`).ok()
	c.call("UntagResource", `{"ResourceARN":%q,"TagKeys":["made"]}`, arn).ok()
	a := c.call("ListTagsForStream", `{"StreamName":"s","Limit":2}`)
	if a.len("Tags") != 2 || a.str("Tags", 0, "Key") != "a" || a.str("Tags", 1, "Key") != "c" || a.get("HasMoreTags") != true {
		t.Errorf("the first two tags = %v, want a, c and more", a.fields)
	}
	a = c.call("ListTagsForStream", `{"StreamName":"s","ExclusiveStartTagKey":"c"}`)
	if a.len("Tags") != 1 || a.str("Tags", 0, "Value") != "4" {
		t.Errorf("the tags after c = %v, want d", a.fields)
	}
	if n := c.call("ListTagsForResource", `{"ResourceARN":%q}`, arn).len("Tags"); n != 3 {
		t.Errorf("ListTagsForResource gives %d tags, want 3", n)
	}
	c.call("AddTagsToStream", `{"StreamName":"s","Tags":{"a%%b":"x"}}`).refused("InvalidArgumentException", "illegal characters")
	c.call("RemoveTagsFromStream", `{"StreamName":"s","TagKeys":["!"]}`).refused("InvalidArgumentException", "invalid characters")
	var many []string
	for i := range 48 {
		many = append(many, fmt.Sprintf(`"t%d":""`, i))
	}
	c.call("AddTagsToStream", `{"StreamName":"s","Tags":{%s}}`, strings.Join(many, ",")).refused("InvalidArgumentException", "more than 50 tags")
}

func TestSettings(t *testing.T) {
	c := newClient(t, kinesis.Options{MaxBytes: 64 << 20})
	const arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
	c.call("CreateStream", `{"StreamName":"s","ShardCount":1}`).ok()
	two := b64(strings.Repeat("x", 2<<20))
	c.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"%s"}`, two).refused("ValidationException", "1048576")
	c.call("UpdateMaxRecordSize", `{"StreamARN":%q,"MaxRecordSizeInKiB":2048}`, arn).ok()
	c.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"%s"}`, two).ok()
	c.call("UpdateStreamMode", `{"StreamARN":%q,"StreamModeDetails":{"StreamMode":"ON_DEMAND"}}`, arn).ok()
	if got := c.call("DescribeStreamSummary", `{"StreamName":"s"}`).str("StreamDescriptionSummary", "StreamModeDetails", "StreamMode"); got != "ON_DEMAND" {
		t.Errorf("the mode is %s, want ON_DEMAND", got)
	}
	c.call("StartStreamEncryption", `{"StreamName":"s","EncryptionType":"NONE","KeyId":"k"}`).refused("InvalidArgumentException", "EncryptionType")
}

func TestParseShardName(t *testing.T) {
	for text, want := range map[string]int64{
		"shardId-000000000007": 7, "7": 7, "x-12": 12, "shardId-2147483647": math.MaxInt32,
		"shardId-2147483648": -1, "shardId-": -1, "": -1, "shardId-+1": -1, "shardId--1": -1, "shardId-1x": -1,
	} {
		id, ok := kinesis.ParseShardName(text)
		if ok != (want >= 0) || ok && int64(id) != want {
			t.Errorf("ParseShardName(%q) = %d, %t, want %d", text, id, ok, want)
		}
	}
}
