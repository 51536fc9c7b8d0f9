package kinesis_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-das/weir/pkg/localaws/inject"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
	"github.com/weir-das/weir/pkg/localaws/kinesis"
)

func TestIterators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, kinesis.Options{})
		c.call("CreateStream", `{"StreamName":"s","ShardCount":1}`).ok()
		late := c.iterator("s", "LATEST")
		c.put("s", "k", "one")
		time.Sleep(time.Second)
		two := c.put("s", "k", "two")
		middle := time.Now()
		time.Sleep(time.Second)
		c.put("s", "k", "three")
		at := func(kind, field, value string) string {
			return c.call("GetShardIterator", `{"StreamName":"s","ShardId":"0","ShardIteratorType":%q,%q:%s}`, kind, field, value).str("ShardIterator")
		}
		for name, tc := range map[string]struct{ iterator, want string }{
			"TRIM_HORIZON":            {c.iterator("s", "TRIM_HORIZON"), "one two three"},
			"LATEST before":           {late, "one two three"},
			"LATEST after":            {c.iterator("s", "LATEST"), ""},
			"AT_SEQUENCE_NUMBER":      {at("AT_SEQUENCE_NUMBER", "StartingSequenceNumber", `"`+two+`"`), "two three"},
			"AFTER_SEQUENCE_NUMBER":   {at("AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber", `"`+two+`"`), "three"},
			"AT_TIMESTAMP of two":     {at("AT_TIMESTAMP", "Timestamp", seconds(middle)), "two three"},
			"AT_TIMESTAMP just after": {at("AT_TIMESTAMP", "Timestamp", seconds(middle.Add(time.Millisecond))), "three"},
			"AT_TIMESTAMP now":        {at("AT_TIMESTAMP", "Timestamp", seconds(time.Now())), "three"},
			"AT_TIMESTAMP long ago":   {at("AT_TIMESTAMP", "Timestamp", "0"), "one two three"},
		} {
			if got := c.read(tc.iterator); got != tc.want {
				t.Errorf("%s reads %q, want %q", name, got, tc.want)
			}
		}
	})
}

func TestGetRecordsGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, kinesis.Options{})
		c.call("CreateStream", `{"StreamName":"s","ShardCount":1}`).ok()
		for _, text := range []string{"a", "b", "c"} {
			c.put("s", "k", text)
			time.Sleep(time.Second)
		}
		a := c.call("GetRecords", `{"ShardIterator":%q,"Limit":2}`, c.iterator("s", "TRIM_HORIZON"))
		if data(a) != "a b" || a.int("MillisBehindLatest") != 2000 {
			t.Errorf("the first two = %q, %d ms behind; want a b, 2000", data(a), a.int("MillisBehindLatest"))
		}
		next := a.str("NextShardIterator")
		a = c.call("GetRecords", `{"ShardIterator":%q}`, next)
		if data(a) != "c" || a.int("MillisBehindLatest") != 0 {
			t.Errorf("the rest = %q, %d ms behind; want c, 0", data(a), a.int("MillisBehindLatest"))
		}
		tip := a.str("NextShardIterator")
		if got := c.read(tip); got != "" {
			t.Errorf("at the tip: %q, want nothing", got)
		}
		c.put("s", "k", "d")
		if got := c.read(tip); got != "d" {
			t.Errorf("the same iterator after a put: %q, want d", got)
		}
		time.Sleep(5*time.Minute + time.Second)
		c.call("GetRecords", `{"ShardIterator":%q}`, tip).refused("ExpiredIteratorException", "tolerated delay of 300000 milliseconds")
	})
}

// TestGetRecordsStopsAtTenMiB: a call gives 10 MiB at most, but always a record.
func TestGetRecordsStopsAtTenMiB(t *testing.T) {
	c := newClient(t, kinesis.Options{MaxBytes: 1 << 30})
	c.call("CreateStream", `{"StreamName":"s","ShardCount":1,"MaxRecordSizeInKiB":10240}`).ok()
	whole := strings.Repeat("x", 4<<20)
	for range 5 {
		c.put("s", "k", whole)
	}
	a := c.call("GetRecords", `{"ShardIterator":%q}`, c.iterator("s", "TRIM_HORIZON"))
	if n := a.len("Records"); n != 2 {
		t.Errorf("GetRecords over records of 4 MiB gives %d, want 2", n)
	}
}

func TestIteratorsAreRefused(t *testing.T) {
	c := newClient(t, kinesis.Options{})
	c.call("CreateStream", `{"StreamName":"s","ShardCount":2}`).ok()
	seq := c.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"","ExplicitHashKey":"0"}`).str("SequenceNumber")
	get := func(rest string) answer {
		return c.call("GetShardIterator", `{"StreamName":"s","ShardId":"shardId-000000000000",%s}`, rest)
	}
	get(`"ShardIteratorType":"TRIM_HORIZON","StartingSequenceNumber":"0"`).refused("InvalidArgumentException", "Request specified TRIM_HORIZON and also a StartingSequenceNumber.")
	get(`"ShardIteratorType":"AT_SEQUENCE_NUMBER"`).refused("InvalidArgumentException", "Request specified AT_SEQUENCE_NUMBER and no StartingSequenceNumber.")
	get(`"ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":"5"`).refused("InvalidArgumentException", "is invalid.")
	get(`"ShardIteratorType":"AT_TIMESTAMP"`).refused("InvalidArgumentException", "Must specify timestampInMillis")
	get(`"ShardIteratorType":"AT_TIMESTAMP","Timestamp":99999999999`).refused("InvalidArgumentException", "cannot be greater than the currentTimestampInMillis")
	get(`"ShardIteratorType":"NOWHERE"`).refused("ValidationException", "Member must satisfy enum value set")
	c.call("GetShardIterator", `{"StreamName":"s","ShardId":"shardId-000000000001","ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":%q}`, seq).
		refused("InvalidArgumentException", "It encodes shardId-000000000000, while it was used in a call to a shard with shardId-000000000001")
	c.call("GetShardIterator", `{"StreamName":"s","ShardId":"shardId-000000000002","ShardIteratorType":"LATEST"}`).refused("ResourceNotFoundException", "does not exist")
	c.call("GetShardIterator", `{"StreamName":"s","ShardId":"x","ShardIteratorType":"LATEST"}`).refused("ResourceNotFoundException", "Could not find shard x")
	c.call("GetShardIterator", `{"StreamName":"none","ShardId":"0","ShardIteratorType":"LATEST"}`).refused("ResourceNotFoundException", "")
	c.call("GetRecords", `{"ShardIterator":"AAAA"}`).refused("InvalidArgumentException", "Invalid ShardIterator.")

	it := c.iterator("s", "LATEST")
	other := newClient(t, kinesis.Options{})
	other.call("CreateStream", `{"StreamName":"s","ShardCount":2}`).ok()
	other.call("GetRecords", `{"ShardIterator":%q}`, it).refused("InvalidArgumentException", "Invalid ShardIterator.")
	c.call("DeleteStream", `{"StreamName":"s"}`).ok()
	c.call("GetRecords", `{"ShardIterator":%q}`, it).refused("ResourceNotFoundException", "does not exist")
	c.call("CreateStream", `{"StreamName":"s","ShardCount":2}`).ok()
	c.call("GetRecords", `{"ShardIterator":%q}`, it).refused("ResourceNotFoundException", "does not exist")
}

// FuzzIterator: what a service did not seal it does not open.
func FuzzIterator(f *testing.F) {
	s := kinesis.New(kinesis.Options{MaxBytes: 1})
	f.Add("AAAAAAAAAAEAAAAA")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if stream, index, ok := kinesis.OpenIterator(s, text); ok {
			t.Fatalf("an iterator that was never made opens: %q at %d", stream, index)
		}
	})
}

func TestPutRecordsRefused(t *testing.T) {
	c := newClient(t, kinesis.Options{MaxBytes: 64 << 20})
	c.call("CreateStream", `{"StreamName":"s","ShardCount":1}`).ok()
	one := `{"PartitionKey":"k","Data":"aGk="}`
	c.call("PutRecords", `{"StreamName":"s","Records":[%s]}`, strings.Repeat(one+",", 500)+one).refused("ValidationException", "Member must have length less than or equal to 500")
	c.call("PutRecords", `{"StreamName":"s","Records":[]}`).refused("ValidationException", "Member must have length greater than or equal to 1")
	c.call("PutRecords", `{"StreamName":"s","Records":[%s,{"Data":"aGk="}]}`, one).refused("ValidationException", "'records.2.member.partitionKey'")
	c.call("PutRecords", `{"StreamName":"none","Records":[%s]}`, one).refused("ResourceNotFoundException", "Stream none under account 000000000000 not found.")
	c.call("PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"k","Data":"","ExplicitHashKey":"340282366920938463463374607431768211456"}]}`).
		refused("InvalidArgumentException", "Invalid ExplicitHashKey")
	tooBig := b64(strings.Repeat("x", 1<<20+1))
	c.call("PutRecords", `{"StreamName":"s","Records":[%s,{"PartitionKey":"k","Data":"%s"}]}`, one, tooBig).refused("ValidationException", "Member must have length less than or equal to 1048576")
	full := `{"PartitionKey":"k","Data":"` + b64(strings.Repeat("x", 1<<20)) + `"}`
	c.call("PutRecords", `{"StreamName":"s","Records":[%s]}`, strings.Repeat(full+",", 9)+full).refused("InvalidArgumentException", "Records size exceeds 10 MB limit")
	if n := c.Bytes(); n != 0 {
		t.Errorf("after refusals %d bytes are stored, want 0", n)
	}
	c.call("PutRecords", `{"StreamName":"s","Records":[%s]}`, strings.Repeat(full+",", 8)+full).ok()
	c.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"","SequenceNumberForOrdering":"7"}`).refused("InvalidArgumentException", "ExclusiveMinimumSequenceNumber 7")
}

// TestFullMemory: full is answered as throttling, record by record, and ends when records expire.
func TestFullMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, kinesis.Options{MaxBytes: 10_000})
		c.call("CreateStream", `{"StreamName":"s","ShardCount":1}`).ok()
		c.call("CreateStream", `{"StreamName":"other","ShardCount":1}`).ok()
		four := `{"PartitionKey":"k","Data":"` + b64(strings.Repeat("x", 4000)) + `"}`
		put := func(stream string) answer {
			return c.call("PutRecords", `{"StreamName":%q,"Records":[%s,%s,%s]}`, stream, four, four, four)
		}
		a := put("s")
		if a.int("FailedRecordCount") != 1 || a.str("Records", 2, "ErrorCode") != "ProvisionedThroughputExceededException" {
			t.Errorf("three of 4000 bytes into 10000: %v, want the third throttled", a.fields)
		}
		c.call("PutRecord", `{"StreamName":"other","PartitionKey":"k","Data":%q}`, b64(strings.Repeat("x", 4000))).refused("ProvisionedThroughputExceededException", "memory")
		time.Sleep(24*time.Hour + time.Second)
		if a := put("other"); a.int("FailedRecordCount") != 1 {
			t.Errorf("after the retention %v, want room for two again", a.fields)
		}
		c.call("DeleteStream", `{"StreamName":"other"}`).ok()
		if n := c.Bytes(); n != 0 {
			t.Errorf("after deletion %d bytes are stored, want 0", n)
		}
	})
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, kinesis.Options{})
		c.call("CreateStream", `{"StreamName":"s","ShardCount":1}`).ok()
		first := c.put("s", "k", "one")
		time.Sleep(23 * time.Hour)
		c.put("s", "k", "two")
		if got := c.read(c.iterator("s", "TRIM_HORIZON")); got != "one two" {
			t.Errorf("after 23 h: %q, want one two", got)
		}
		time.Sleep(90 * time.Minute)
		if got := c.read(c.iterator("s", "TRIM_HORIZON")); got != "two" {
			t.Errorf("after 24.5 h: %q, want two", got)
		}
		it := c.call("GetShardIterator", `{"StreamName":"s","ShardId":"0","ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":%q}`, first).str("ShardIterator")
		if got := c.read(it); got != "two" {
			t.Errorf("at the sequence number of an expired record: %q, want two", got)
		}
		c.call("IncreaseStreamRetentionPeriod", `{"StreamName":"s","RetentionPeriodHours":48}`).ok()
		time.Sleep(24 * time.Hour)
		if got := c.read(c.iterator("s", "TRIM_HORIZON")); got != "two" {
			t.Errorf("with 48 h of retention: %q, want two", got)
		}
		c.call("DecreaseStreamRetentionPeriod", `{"StreamName":"s","RetentionPeriodHours":24}`).ok()
		if got := c.read(c.iterator("s", "TRIM_HORIZON")); got != "" {
			t.Errorf("back at 24 h: %q, want nothing", got)
		}
		if n := c.Bytes(); n != 0 {
			t.Errorf("%d bytes are stored, want 0", n)
		}
		c.call("IncreaseStreamRetentionPeriod", `{"StreamName":"s","RetentionPeriodHours":23}`).refused("InvalidArgumentException", "Minimum allowed retention period")
		c.call("DecreaseStreamRetentionPeriod", `{"StreamName":"s","RetentionPeriodHours":25}`).refused("InvalidArgumentException", "can not be longer")
	})
}

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, kinesis.Options{Throttle: true, MaxBytes: 64 << 20})
		c.call("CreateStream", `{"StreamName":"s","ShardCount":2}`).ok()
		record := func(hash string, size int) string {
			return `{"PartitionKey":"k","ExplicitHashKey":"` + hash + `","Data":"` + b64(strings.Repeat("x", size)) + `"}`
		}
		const low, high = "0", "340282366920938463463374607431768211455"
		a := c.call("PutRecords", `{"StreamName":"s","Records":[%s,%s,%s]}`, record(low, 1<<20-1), record(low, 1), record(high, 1))
		if a.int("FailedRecordCount") != 1 || a.str("Records", 1, "ErrorCode") != "ProvisionedThroughputExceededException" {
			t.Errorf("a byte more than 1 MiB into a shard: %v of 3 failed, want the second", a.int("FailedRecordCount"))
		}
		time.Sleep(time.Second)
		for i := range 3 {
			a = c.call("PutRecords", `{"StreamName":"s","Records":[%s]}`, strings.Repeat(record(low, 1)+",", 499)+record(low, 1))
			if want := 500 * (i / 2); a.int("FailedRecordCount") != want {
				t.Errorf("500 records, call %d in a second: %d failed, want %d", i, a.int("FailedRecordCount"), want)
			}
		}
		time.Sleep(time.Second)
		c.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":""}`).ok()
	})
}

func TestFaults(t *testing.T) {
	c := newClient(t, kinesis.Options{})
	c.call("CreateStream", `{"StreamName":"s","ShardCount":1}`).ok()
	put := func() answer {
		return c.call("PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"a","Data":""},{"PartitionKey":"b","Data":""}]}`)
	}
	c.FailPut(inject.Fault{After: 1, Times: 1})
	c.FailPut(inject.Fault{After: 1, Times: 1, Code: "AccessDeniedException"})
	put().ok()
	a := put()
	a.refused("InternalFailure", "injected by a test")
	if a.err.Status != 500 {
		t.Errorf("InternalFailure has status %d, want 500", a.err.Status)
	}
	put().refused("AccessDeniedException", "")
	put().ok()

	remove := c.FailPut(inject.Fault{Fraction: 1, Code: "ProvisionedThroughputExceededException"})
	if n := put().int("FailedRecordCount"); n != 2 {
		t.Errorf("%d of 2 records failed, want both", n)
	}
	c.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":""}`).refused("ProvisionedThroughputExceededException", "")
	remove()

	before := c.Bytes()
	c.FailPut(inject.Fault{Times: 1, Lost: true})
	put().refused("InternalFailure", "")
	if c.Bytes() == before {
		t.Error("a call whose answer is lost stored nothing, want it carried out")
	}
	c.Fail(inject.Fault{Operations: []string{"DescribeLimits"}})
	c.call("DescribeLimits", `{}`).refused("InternalFailure", "")
	put().ok()
	c.ClearFaults()
	c.call("DescribeLimits", `{}`).ok()
}

func TestFaultDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, kinesis.Options{})
		c.call("CreateStream", `{"StreamName":"s","ShardCount":1}`).ok()
		c.FailPut(inject.Fault{Delay: time.Minute, DelayOnly: true})
		from := time.Now()
		c.put("s", "k", "x")
		if took := time.Since(from); took != time.Minute {
			t.Errorf("the put took %v, want a minute", took)
		}
	})
}

// TestStreamKey: a stream whose key cannot be used neither takes nor gives records.
func TestStreamKey(t *testing.T) {
	var refusal error
	c := newClient(t, kinesis.Options{CheckKey: func(string) error { return refusal }})
	c.call("CreateStream", `{"StreamName":"s","ShardCount":1}`).ok()
	c.call("StartStreamEncryption", `{"StreamName":"s","EncryptionType":"KMS","KeyId":"alias/x"}`).ok()
	a := c.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":""}`)
	if got := a.str("EncryptionType"); got != "KMS" {
		t.Errorf("EncryptionType = %s, want KMS", got)
	}
	it := c.iterator("s", "TRIM_HORIZON")
	if got := c.call("GetRecords", `{"ShardIterator":%q}`, it).str("Records", 0, "EncryptionType"); got != "KMS" {
		t.Errorf("the record's EncryptionType = %s, want KMS", got)
	}
	if got := c.call("DescribeStreamSummary", `{"StreamName":"s"}`).str("StreamDescriptionSummary", "KeyId"); got != "alias/x" {
		t.Errorf("KeyId = %s, want alias/x", got)
	}
	refusal = wire.Errorf("KMSDisabledException", "disabled")
	c.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":""}`).refused("KMSDisabledException", "disabled")
	c.call("GetRecords", `{"ShardIterator":%q}`, it).refused("KMSDisabledException", "disabled")
	refusal = nil
	c.call("StopStreamEncryption", `{"StreamName":"s","EncryptionType":"KMS","KeyId":"alias/x"}`).ok()
	c.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":""}`).ok()
}
