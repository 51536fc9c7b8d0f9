package pipeline_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/pkg/obs"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/capture/internal/chain"
	"github.com/weir-das/weir/services/capture/internal/cryptotest"
	"github.com/weir-das/weir/services/capture/internal/notice"
	"github.com/weir-das/weir/services/capture/internal/pipeline"
	"github.com/weir-das/weir/services/capture/internal/render"
	"github.com/weir-das/weir/services/capture/internal/ring"
	"github.com/weir-das/weir/services/capture/internal/ring/ringtest"
	"github.com/weir-das/weir/services/capture/internal/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is an engine, a crypto, and what is wanted.
type bench struct {
	t        *testing.T
	engine   *ringtest.Writer
	crypto   *cryptotest.Replica
	desired  *controlv1.Desired
	progress *pipeline.Progress
	wanted   atomic.Pointer[controlv1.Desired] // desired, once a pipeline runs
	witness  witness
	teller   *notice.Teller // hears of loss in the witness's place; may be nil
	text     func(i int) string
	written  int

	mu      sync.Mutex
	noticed []das.Notice

	spoolDir   string // empty: no spool
	spoolLimit int64
	spool      *spool.Spool
}

func newBench(t *testing.T, ringSize int) *bench {
	return &bench{
		t: t, engine: ringtest.Create(t, ringSize), crypto: &cryptotest.Replica{}, progress: &pipeline.Progress{},
		desired: &controlv1.Desired{
			ClusterResourceId: "cluster-AAAAAAAAAAAAAAAAAAAAAAAAAA", InstanceResourceId: "db-BBBBBBBBBBBBBBBBBBBBBBBBBB",
			KmsKeyId: "key", KinesisStream: "aws-rds-das-cluster-AAAAAAAAAAAAAAAAAAAAAAAAAA", Recording: true,
		},
		text: func(i int) string { return fmt.Sprintf("SELECT %d", i) },
	}
}

// put writes n events.
func (b *bench) put(n int) {
	for range n {
		b.engine.Put(b.payload(), time.Now())
	}
}

// payload is the next event.
func (b *bench) payload() []byte {
	b.written++
	now := time.Now()
	payload, err := proto.Marshal(&activityv1.Activity{
		Kind: activityv1.Kind_KIND_STATEMENT, Class: activityv1.Class_CLASS_READ, Command: "SELECT",
		StartedAt: timestamppb.New(now), EndedAt: timestamppb.New(now), StatementId: uint64(b.written), SubstatementId: 1,
		Text: &activityv1.Text{Kept: []byte(b.text(b.written))},
		Session: &activityv1.Session{
			Pid: 7, BackendStartedAt: timestamppb.New(now), UserName: []byte("u"), DatabaseName: []byte("d"),
		},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return payload
}

func (b *bench) notice(_ uint64, n das.Notice) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.noticed = append(b.noticed, n)
}

// run starts a pipeline; the function that it returns stops it.
func (b *bench) run(drain time.Duration) (stop func()) {
	b.t.Helper()
	r, err := ring.Open(b.engine.Path)
	if err != nil {
		b.t.Fatal(err)
	}
	client := b.crypto.Serve(b.t)
	spool, closeSpool := b.openSpool()
	b.wanted.Store(b.desired)
	var hears pipeline.Witness = &b.witness
	if b.teller != nil {
		hears = b.teller
		position := r.Reader().Position()
		b.teller.Attached(r.Epoch(), position.Number, position.Lost)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := pipeline.Run(ctx, pipeline.Config{
			Ring: r, Desired: b.desired, Wanted: func() *controlv1.Desired { return b.wanted.Load() }, Witness: hears, Spool: spool,
			Crypto: client, Notice: b.notice,
			Renderer: render.New(render.Config{ServerVersion: "15.20", ServerHost: "h"}),
			Streams:  2, Drain: drain, Progress: b.progress, Hop: obs.NewHop(obs.Discard(), "capture"),
			Tracer: noop.NewTracerProvider().Tracer(""), Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			b.t.Errorf("Run = %v, want nil", err)
		}
	})
	return func() {
		cancel()
		wg.Wait()
		closeSpool()
		if err := r.Close(); err != nil {
			b.t.Error(err)
		}
	}
}

func (b *bench) eventually(what string, f func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("after 20 s: not %s (number %d, durable %d)", what, b.engine.Number(), b.engine.Durable())
		}
	}
}

func (b *bench) waitDurable() {
	b.t.Helper()
	b.eventually("everything durable", func() bool { return b.engine.Durable() == b.engine.Number() })
}

// account checks every record of the journal and returns what became of each
// number: its bytes, or the cause of its loss.
func (b *bench) account() (events map[uint64]string, lost map[uint64]string) {
	b.t.Helper()
	events, lost = map[uint64]string{}, map[uint64]string{}
	after := map[uint64]das.Hash{0: das.Hash(chain.Genesis(b.engine.Epoch))}
	for _, sealed := range b.crypto.Journal() {
		r, err := das.ParseRecord(sealed.GetPlaintext())
		if err != nil {
			b.t.Fatal(err)
		}
		b.accountRecord(r, events, lost, after)
	}
	return events, lost
}

func (b *bench) accountRecord(r *das.Record, events, lost map[uint64]string, after map[uint64]das.Hash) {
	b.t.Helper()
	hash, refused := chain.Hash(r.Weir.Prev), false
	items := map[uint64]string{} // by number; a gap by its last one
	for i, n := range r.Weir.Numbers {
		items[n] = string(r.Elements[i])
	}
	for i, s := range r.Weir.Started {
		items[s.N] = string(r.StartedObjects[i])
	}
	for i, n := range r.Weir.Notices {
		items[n.N] = string(r.NoticeObjects[i])
	}
	for n, item := range items {
		if was, seen := events[n]; seen && was != item {
			b.t.Fatalf("number %d has two shapes:\n%s\n%s", n, was, item)
		}
		events[n] = item
	}
	for i, gap := range r.Weir.Gaps {
		for n := gap.First; n <= gap.Last; n++ {
			lost[n] = gap.Cause
		}
		refused = refused || gap.Cause == das.CauseRefused
		items[gap.Last] = string(r.GapObjects[i])
	}
	for _, n := range slices.Sorted(maps.Keys(items)) {
		hash = hash.Event(n, []byte(items[n]))
		if was, seen := after[n]; seen && was != das.Hash(hash) && !refused {
			b.t.Fatalf("number %d has two hashes", n)
		}
		if !refused {
			after[n] = das.Hash(hash)
		}
	}
	if at := r.Weir.Through; at.Valid != (len(items) == 0) {
		b.t.Fatalf("a record of %d items: through %v", len(items), at)
	} else if was, seen := after[at.Value]; at.Valid && seen && was != r.Weir.Prev {
		b.t.Fatalf("a heartbeat says that the chain is at %v after %d, the records say %v", r.Weir.Prev, at.Value, was)
	}
	if das.Hash(hash) != r.Weir.Last && !refused {
		b.t.Fatalf("the chain of a record leads to %v, it says %v", das.Hash(hash), r.Weir.Last)
	}
}

func TestEveryEventArrivesOnceInOrder(t *testing.T) {
	b := newBench(t, 1<<20)
	stop := b.run(time.Second)
	for range 20 {
		b.put(100)
		time.Sleep(5 * time.Millisecond)
	}
	b.waitDurable()
	stop()
	events, lost := b.account()
	if len(events) != 2000 || len(lost) != 0 {
		t.Fatalf("%d events and %d lost, want 2000 and none", len(events), len(lost))
	}
	for n := uint64(1); n <= 2000; n++ {
		if want := fmt.Sprintf(`"commandText":"SELECT %d"`, n); !strings.Contains(events[n], want) {
			t.Fatalf("number %d is %s, want %s in it", n, events[n], want)
		}
	}
}

func TestFullRingIsTellingExactlyWhatIsLost(t *testing.T) {
	b := newBench(t, 64<<10)
	b.put(3000)
	fit := int(b.engine.Number() - b.engine.Lost())
	if b.engine.Lost() == 0 {
		t.Fatal("3000 events fit into 64 KiB")
	}
	stop := b.run(time.Second)
	b.waitDurable()
	b.put(10)
	b.waitDurable()
	stop()
	events, lost := b.account()
	if len(events) != fit+10 || len(lost) != 3000-fit {
		t.Fatalf("%d events and %d lost, want %d and %d", len(events), len(lost), fit+10, 3000-fit)
	}
	for n := uint64(1); n <= 3010; n++ {
		_, there := events[n]
		cause, told := lost[n]
		if there == told || told && cause != das.CauseRingFull {
			t.Fatalf("number %d: there %t, told %t (%s)", n, there, told, cause)
		}
	}
	if got := b.progress.Lost.Load(); got != uint64(3000-fit) {
		t.Errorf("Progress.Lost = %d, want %d", got, 3000-fit)
	}
}

// A pipeline that is stopped without a drain is one that died: what was not
// acknowledged is sent again, cut into other records, and must be the same.
func TestKilledPipelineSendsTheSameAgain(t *testing.T) {
	b := newBench(t, 64<<10)
	b.crypto.BreakAfter = 5
	random := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		stop := b.run(0)
		for range 1 + random.IntN(4) {
			b.put(random.IntN(120))
			time.Sleep(time.Duration(random.IntN(8)) * time.Millisecond)
		}
		stop()
	}
	stop := b.run(time.Second)
	b.waitDurable()
	stop()
	events, lost := b.account()
	if got := uint64(len(events) + len(lost)); got != b.engine.Number() {
		t.Errorf("%d numbers accounted for, the engine gave %d", got, b.engine.Number())
	}
	if got := uint64(len(lost)); got != b.engine.Lost() {
		t.Errorf("%d numbers told as lost, the engine lost %d", got, b.engine.Lost())
	}
}

func TestRefusedRecordBecomesAGap(t *testing.T) {
	b := newBench(t, 1<<20)
	b.put(10)
	b.crypto.Refuse = fmt.Sprintf("%s/%d/1-10", b.desired.GetInstanceResourceId(), b.engine.Epoch)
	stop := b.run(time.Second)
	b.waitDurable()
	b.put(5)
	b.waitDurable()
	stop()
	events, lost := b.account()
	if len(events) != 5 || len(lost) != 10 || lost[1] != das.CauseRefused {
		t.Fatalf("%d events, lost %v; want 5, and numbers 1 to 10 refused", len(events), lost)
	}
}

func TestMalformedEventIsAGapOfOneNumber(t *testing.T) {
	b := newBench(t, 1<<20)
	b.put(3)
	b.engine.Put([]byte("no activity"), time.Now())
	b.written++
	b.put(3)
	stop := b.run(time.Second)
	b.waitDurable()
	stop()
	events, lost := b.account()
	if len(events) != 6 || len(lost) != 1 || lost[4] != das.CauseCorrupt {
		t.Fatalf("%d events, lost %v; want 6, and number 4 corrupt", len(events), lost)
	}
}

func TestRecordsKeepTheirLimits(t *testing.T) {
	for _, test := range []struct {
		layout controlv1.RecordLayout
		limit  int
	}{
		{controlv1.RecordLayout_RECORD_LAYOUT_PACKED, 560 << 10},
		{controlv1.RecordLayout_RECORD_LAYOUT_AURORA, 8 << 10},
	} {
		t.Run(test.layout.String(), func(t *testing.T) {
			b := newBench(t, 8<<20)
			b.desired.RecordLayout = test.layout
			b.text = func(i int) string { return strings.Repeat("x", i%3000) }
			b.put(3000)
			stop := b.run(time.Second)
			b.waitDurable()
			stop()
			for _, r := range b.crypto.Journal() {
				if len(r.GetPlaintext()) > test.limit {
					t.Fatalf("a record of %d bytes, the limit is %d", len(r.GetPlaintext()), test.limit)
				}
			}
			if events, _ := b.account(); len(events) != 3000 {
				t.Errorf("%d events, want 3000", len(events))
			}
		})
	}
}

func TestHeartbeatGoesWithTheStream(t *testing.T) {
	b := newBench(t, 64<<10)
	stop := b.run(time.Second)
	b.put(3)
	beats := func() (n int) {
		for _, r := range b.crypto.Journal() {
			if bytes.Contains(r.GetPlaintext(), []byte(`"databaseActivityEventList":[{"type":"heartbeat"}]`)) {
				n++
			}
		}
		return n
	}
	b.eventually("two heartbeats", func() bool { return beats() >= 2 })
	b.eventually("a heartbeat that says where the chain stands", func() bool {
		for _, r := range b.crypto.Journal() {
			if bytes.Contains(r.GetPlaintext(), []byte(`"n":[],"through":3,"prev"`)) {
				return true
			}
		}
		return false
	})
	b.eventually("a heartbeat with what crypto signed", func() bool {
		for _, r := range b.crypto.Journal() {
			if p, err := das.ParseRecord(r.GetPlaintext()); err == nil && p.Weir.Checkpoint != nil {
				c := p.Weir.Checkpoint
				if c.N != 3 || c.Hash != p.Weir.Prev || c.Epoch != b.engine.Epoch || string(c.Signature) != "signed by cryptotest" {
					b.t.Fatalf("checkpoint %+v beside %+v", c, p.Weir)
				}
				return true
			}
		}
		return false
	})
	stop()
	b.account()

	before := beats()
	b.desired.Recording = false
	stop = b.run(time.Second)
	time.Sleep(1200 * time.Millisecond)
	stop()
	if got := beats(); got != before {
		t.Errorf("%d heartbeats of a stream that is stopped", got-before)
	}
}

func TestStoppedEngineIsDrainedToTheEnd(t *testing.T) {
	b := newBench(t, 4<<20)
	b.put(5000)
	b.engine.Stop()
	stop := b.run(10 * time.Second)
	stop()
	if b.engine.Durable() != 5000 {
		t.Errorf("durable = %d after the drain, want 5000", b.engine.Durable())
	}
}
