package tail_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"go.uber.org/goleak"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/pkg/localaws/inject"
	"github.com/weir-das/weir/services/weir/internal/tail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reading is a tail.Run under way.
type reading struct {
	t      *testing.T
	finish chan struct{}
	ready  chan struct{}
	done   chan error
	sum    tail.Summary

	mu       sync.Mutex
	texts    []string // of the events, in the order taken
	refusals []string
	more     chan struct{}
}

// read begins to read; change may alter the options.
func (p *producer) read(from tail.Position, change func(*tail.Options)) *reading {
	r := &reading{t: p.t, finish: make(chan struct{}), ready: make(chan struct{}), done: make(chan error, 1), more: make(chan struct{}, 1)}
	opts := tail.Options{
		Kinesis: p.kinesis, KMS: p.kms, Stream: streamName, ResourceID: clusterID, From: from,
		Finish: r.finish, Take: r.take, Refuse: r.refuse, Log: slog.New(slog.DiscardHandler),
		Pace: time.Millisecond, Patience: time.Second, Ready: func() { close(r.ready) },
	}
	if change != nil {
		change(&opts)
	}
	ctx, cancel := context.WithCancel(p.t.Context())
	go func() {
		var err error
		r.sum, err = tail.Run(ctx, opts)
		r.done <- err
	}()
	p.t.Cleanup(cancel)
	return r
}

func (r *reading) take(rec tail.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range rec.Events {
		var ev struct {
			Text string `json:"commandText"`
		}
		if err := json.Unmarshal(e.JSON, &ev); err != nil {
			return err
		}
		r.texts = append(r.texts, ev.Text)
	}
	select {
	case r.more <- struct{}{}:
	default:
	}
	return nil
}

func (r *reading) refuse(_ tail.Record, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusals = append(r.refusals, err.Error())
}

// await waits until n events were taken.
func (r *reading) await(n int) {
	r.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		r.mu.Lock()
		have := len(r.texts)
		r.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-r.more:
		case err := <-r.done:
			r.t.Fatalf("Run ended with %v after %d events, want %d", err, have, n)
		case <-limit:
			r.t.Fatalf("%d events after 20 s, want %d", have, n)
		}
	}
}

// end finishes the reading and returns what was taken.
func (r *reading) end() []string {
	r.t.Helper()
	close(r.finish)
	if err := r.wait(); err != nil {
		r.t.Fatalf("Run = %v, want nil", err)
	}
	return r.texts
}

func (r *reading) wait() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(20 * time.Second):
		r.t.Fatal("Run has not ended after 20 s")
		return nil
	}
}

// sorted returns texts that are numbers in their order.
func sorted(texts []string) []string {
	s := slices.Clone(texts)
	slices.SortFunc(s, func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return x - y
	})
	return s
}

func TestReadsWhatIsThereAndEnds(t *testing.T) {
	p := newProducer(t, 3)
	for i := range 30 {
		p.putNumbers(strconv.Itoa(i), 1)
	}
	p.putHeartbeat(nil)
	r := p.read(tail.TrimHorizon, nil)
	texts := r.end()
	texts = slices.DeleteFunc(texts, func(s string) bool { return s == "" }) // the heartbeat
	if got, want := sorted(texts), numbers(1, 30); !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
	if want := (tail.Summary{Records: 31}); r.sum != want {
		t.Errorf("summary = %+v, want %+v", r.sum, want)
	}
	if got := p.called("Decrypt"); got != 1 {
		t.Errorf("asked KMS %d times for one data key, want once", got)
	}
}

// A second data key is asked for once, by whichever shard is first.
func TestAsksOnceForEachDataKey(t *testing.T) {
	p := newProducer(t, 4)
	for i := range 20 {
		if i%5 == 0 {
			p.newDataKey(map[string]string{"aws:rds:dbc-id": clusterID})
		}
		for partition := range 8 {
			p.putNumbers(strconv.Itoa(partition), 1)
		}
	}
	r := p.read(tail.TrimHorizon, nil)
	if got := len(r.end()); got != 160 {
		t.Errorf("read %d events, want 160", got)
	}
	if got := p.called("Decrypt"); got != 4 {
		t.Errorf("asked KMS %d times for four data keys, want 4", got)
	}
}

func TestLatestShowsOnlyWhatIsNew(t *testing.T) {
	p := newProducer(t, 2)
	for i := range 10 {
		p.putNumbers(strconv.Itoa(i), 1)
	}
	r := p.read(tail.Latest, nil)
	<-r.ready
	for i := range 10 {
		p.putNumbers(strconv.Itoa(i), 1)
	}
	r.await(10)
	if got, want := sorted(r.end()), numbers(11, 20); !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
}

func TestFromATime(t *testing.T) {
	p := newProducer(t, 1)
	p.putNumbers("a", 5)
	time.Sleep(20 * time.Millisecond) // Kinesis's clock counts in milliseconds
	from := time.Now()
	time.Sleep(20 * time.Millisecond)
	p.putNumbers("a", 5)
	r := p.read(tail.At(from), nil)
	if got, want := r.end(), numbers(6, 10); !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
}

// Shards are split and merged under a reader that follows: it sees every
// event once, and those of one partition key in order.
func TestFollowsSplitsAndMerges(t *testing.T) {
	for _, from := range []tail.Position{tail.TrimHorizon, tail.Latest} {
		t.Run(from.String(), func(t *testing.T) {
			p := newProducer(t, 1)
			r := p.read(from, nil)
			<-r.ready
			n := 0
			put := func() {
				p.putNumbers("a", 10)
				n += 10
			}
			put()
			first := p.openShards(t.Context())
			_, err := p.kinesis.SplitShard(t.Context(), &kinesis.SplitShardInput{
				StreamName: aws.String(streamName), ShardToSplit: &first[0],
				NewStartingHashKey: aws.String("170141183460469231731687303715884105728"),
			})
			if err != nil {
				t.Fatal(err)
			}
			put()
			second := p.openShards(t.Context())
			if len(second) != 2 {
				t.Fatalf("open shards after a split: %v", second)
			}
			_, err = p.kinesis.MergeShards(t.Context(), &kinesis.MergeShardsInput{
				StreamName: aws.String(streamName), ShardToMerge: &second[0], AdjacentShardToMerge: &second[1],
			})
			if err != nil {
				t.Fatal(err)
			}
			put()
			r.await(n)
			put()
			r.await(n)
			if got, want := r.end(), numbers(1, n); !slices.Equal(got, want) {
				t.Errorf("read %v, want %v in order", got, want)
			}
		})
	}
}

// A reader that comes after the split reads the parent first.
func TestReadsParentsFirst(t *testing.T) {
	p := newProducer(t, 1)
	p.putNumbers("a", 50)
	first := p.openShards(t.Context())
	_, err := p.kinesis.SplitShard(t.Context(), &kinesis.SplitShardInput{
		StreamName: aws.String(streamName), ShardToSplit: &first[0], NewStartingHashKey: aws.String("1000"),
	})
	if err != nil {
		t.Fatal(err)
	}
	p.putNumbers("a", 50)
	if got, want := p.read(tail.TrimHorizon, nil).end(), numbers(1, 100); !slices.Equal(got, want) {
		t.Errorf("read %v, want 1 to 100 in order", got)
	}
}

// What does not open is told with its cause, and what does is read.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(p *producer)
		want  string
	}{
		{"no JSON", func(p *producer) { p.putData("a", []byte("hello")) }, "not an activity record"},
		{"another type", func(p *producer) { p.putData("a", []byte(`{"type":"Other"}`)) }, "not an activity record"},
		{"key of another cluster", func(p *producer) {
			p.newDataKey(map[string]string{"aws:rds:dbc-id": "cluster-CCCCCCCCCCCCCCCCCCCCCCCCCC"})
			p.putNumbers("a", 1)
			p.newKey()
		}, "it was not made for " + clusterID},
		{"disabled key", func(p *producer) {
			id := p.keyID
			p.putNumbers("a", 1)
			if _, err := p.kms.DisableKey(p.t.Context(), &kms.DisableKeyInput{KeyId: &id}); err != nil {
				p.t.Fatal(err)
			}
			p.newKey()
		}, "the KMS key is disabled: enable it"},
		{"key scheduled for deletion", func(p *producer) {
			id := p.keyID
			p.putNumbers("a", 1)
			if _, err := p.kms.ScheduleKeyDeletion(p.t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id}); err != nil {
				p.t.Fatal(err)
			}
			p.newKey()
		}, "scheduled for deletion"},
		{"changed payload", func(p *producer) {
			sealed := p.seal([]byte("{}"))
			outer, err := das.ParseOuter(sealed)
			if err != nil {
				p.t.Fatal(err)
			}
			outer.Events[len(outer.Events)-1] ^= 1
			p.putData("a", das.AppendOuter(nil, das.VersionPostgreSQL, outer.Events, outer.Key))
		}, "the payload does not open"},
		{"sealed, and no record", func(p *producer) { p.putData("a", p.seal([]byte(`[1]`))) }, "no activity record"},
		{"a list of numbers", func(p *producer) {
			p.putData("a", p.seal([]byte(`{"type":"DatabaseActivityMonitoringRecord","clusterId":"c","instanceId":"i","databaseActivityEventList":[1]}`)))
		}, "an event of the record is not as an activity stream has them"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProducer(t, 1)
			c.spoil(p)
			p.number = 0
			p.putNumbers("a", 1)
			r := p.read(tail.TrimHorizon, nil)
			if got := r.end(); !slices.Equal(got, []string{"1"}) {
				t.Errorf("read %v, want the good record alone", got)
			}
			if len(r.refusals) != 1 || !strings.Contains(r.refusals[0], c.want) {
				t.Errorf("refusals = %q, want one that says %q", r.refusals, c.want)
			}
			if want := (tail.Summary{Records: 1, Refused: 1}); r.sum != want {
				t.Errorf("summary = %+v, want %+v", r.sum, want)
			}
		})
	}
}

// KMS is not asked again for every record under a key that it refuses.
func TestARefusedKeyIsAskedForOnce(t *testing.T) {
	p := newProducer(t, 1)
	p.newDataKey(map[string]string{"aws:rds:dbc-id": "cluster-CCCCCCCCCCCCCCCCCCCCCCCCCC"})
	p.putNumbers("a", 100)
	r := p.read(tail.TrimHorizon, nil)
	r.end()
	if r.sum.Refused != 100 {
		t.Errorf("refused %d records, want 100", r.sum.Refused)
	}
	if got := p.called("Decrypt"); got != 1 {
		t.Errorf("asked KMS %d times, want once", got)
	}
}

// Throttling, broken answers and expired iterators cost time and no record.
func TestPersists(t *testing.T) {
	p := newProducer(t, 2)
	for i := range 50 {
		p.putNumbers(strconv.Itoa(i), 1)
	}
	for _, f := range []inject.Fault{
		{Operations: []string{"GetRecords"}, Code: "ProvisionedThroughputExceededException", Times: 5},
		{Operations: []string{"GetRecords"}, Code: "ExpiredIteratorException", After: 1, Times: 2},
		{Operations: []string{"ListShards", "GetShardIterator"}, Code: "LimitExceededException", Times: 2},
		{Operations: []string{"GetRecords"}, Code: "InternalFailure", Times: 2},
	} {
		p.aws.Kinesis().Fail(f)
	}
	p.aws.KMS().Fail(inject.Fault{Operations: []string{"Decrypt"}, Code: "ThrottlingException", Times: 3})
	r := p.read(tail.TrimHorizon, nil)
	if got, want := sorted(r.end()), numbers(1, 50); !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
	if r.sum.Refused != 0 {
		t.Errorf("refused %d records: %q", r.sum.Refused, r.refusals)
	}
}

func TestSaysWhatIsWrong(t *testing.T) {
	p := newProducer(t, 1)
	p.putNumbers("a", 1)
	for _, c := range []struct {
		name   string
		change func(*tail.Options)
		want   string
	}{
		{"no such stream", func(o *tail.Options) { o.Stream = "aws-rds-das-cluster-none" }, "no Kinesis stream"},
		{"nobody there", func(o *tail.Options) {
			o.Kinesis = kinesis.New(o.Kinesis.Options(), func(k *kinesis.Options) { k.BaseEndpoint = aws.String("http://127.0.0.1:1") })
			o.Patience = 50 * time.Millisecond
		}, "Kinesis does not answer"},
		{"KMS is not there", func(o *tail.Options) {
			o.KMS = kms.New(o.KMS.Options(), func(k *kms.Options) { k.BaseEndpoint = aws.String("http://127.0.0.1:1") })
			o.Patience = 20 * time.Millisecond
			closed := make(chan struct{})
			close(closed)
			o.Finish = closed
		}, "KMS does not answer"},
		{"nobody reads", func(o *tail.Options) { o.Take = func(tail.Record) error { return syscall.EPIPE } }, "broken pipe"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := p.read(tail.TrimHorizon, c.change)
			if err := r.wait(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Run = %v, want an error that says %q", err, c.want)
			}
		})
	}
}

func TestStopsWhenAsked(t *testing.T) {
	p := newProducer(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		_, err := tail.Run(ctx, tail.Options{
			Kinesis: p.kinesis, KMS: p.kms, Stream: streamName, ResourceID: clusterID,
			Take: func(tail.Record) error { return nil }, Refuse: func(tail.Record, error) {},
			Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) },
		})
		done <- err
	}()
	<-ready
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v after its context ended, want nil", err)
	}
}

func TestParsePosition(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct{ in, want string }{
		{"latest", "latest"},
		{"LATEST", "latest"},
		{"trim-horizon", "trim-horizon"},
		{"TRIM_HORIZON", "trim-horizon"},
		{"2026-01-31T15:04:05Z", "2026-01-31T15:04:05Z"},
		{"2026-01-31T15:04:05.25+01:00", "2026-01-31T15:04:05.25+01:00"},
		{"90m", "2026-01-31T10:30:00Z"},
		{"yesterday", ""},
		{"-5m", ""},
		{"", ""},
	} {
		got, err := tail.ParsePosition(c.in, now)
		switch {
		case c.want == "" && err == nil:
			t.Errorf("ParsePosition(%q) = %s, want an error", c.in, got)
		case c.want != "" && (err != nil || got.String() != c.want):
			t.Errorf("ParsePosition(%q) = %s, %v, want %s", c.in, got, err, c.want)
		}
	}
}

func TestResourceOf(t *testing.T) {
	if got, err := tail.ResourceOf(streamName); err != nil || got != clusterID {
		t.Errorf("ResourceOf(%s) = %q, %v", streamName, got, err)
	}
	for _, name := range []string{"", "orders", "aws-rds-das-"} {
		if got, err := tail.ResourceOf(name); err == nil {
			t.Errorf("ResourceOf(%q) = %q, want an error", name, got)
		}
	}
}
