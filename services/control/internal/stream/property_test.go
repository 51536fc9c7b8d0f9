package stream_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/weir-das/weir/pkg/fault"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	publisherv1 "github.com/weir-das/weir/proto/gen/weir/publisher/v1"
	"github.com/weir-das/weir/services/control/internal/registry"
	"github.com/weir-das/weir/services/control/internal/registry/registrytest"
	"github.com/weir-das/weir/services/control/internal/stream"
	"github.com/weir-das/weir/services/control/internal/stream/streamtest"
)

// Whatever is asked for in whatever order, and whoever dies in the middle of
// whatever: once all is well again the stream is where it was wanted last, and
// every status it was in was told exactly once, in order, with its time.
func TestAnySequenceEndsWhereItIsWanted(t *testing.T) {
	nats := registrytest.Start(t)
	reg := nats.Open(registry.Options{})
	world := streamtest.New()
	conn := world.Conn(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		m := newMachine(rt, t.Context(), reg, world, fmt.Sprintf("c%d", n))
		m.rec = stream.New(reg, publisherv1.NewPublisherServiceClient(conn), notifierv1.NewNotifierServiceClient(conn),
			limits, time.Second, func() time.Time { return m.now }, slog.New(slog.DiscardHandler))
		rt.Repeat(m.actions())
		m.heal()
	})
}

var limits = stream.Limits{LiveFor: 10 * time.Second, InstanceWait: 30 * time.Second}

// capture is what a capture does, in short.
type capture struct {
	in              registry.Instance
	alive           bool
	generation      uint64
	recording       bool
	number, durable uint64
	said            *controlv1.InstanceReport // nil before it said anything
}

// machine drives one cluster and knows what must become of it.
type machine struct {
	t     *rapid.T
	ctx   context.Context
	reg   *registry.Registry
	rec   *stream.Reconciler
	world *streamtest.World
	id    string
	now   time.Time

	captures []*capture
	gone     string             // the call that fails
	waiting  bool               // records, in the journal
	views    []registry.Cluster // what frozen replicas may still see

	wanted   registry.Status // what was accepted last
	params   registry.Params
	deletes  bool
	last     registry.Cluster
	arrivals []streamtest.Told // the statuses it was seen to reach
}

func newMachine(t *rapid.T, ctx context.Context, reg *registry.Registry, world *streamtest.World, id string) *machine {
	m := &machine{t: t, ctx: ctx, reg: reg, world: world, id: id, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), wanted: registry.Stopped}
	if _, err := reg.Create(ctx, id, "postgres", m.now); err != nil {
		t.Fatalf("Create = %v", err)
	}
	for i := range 2 {
		in, err := reg.AddInstance(ctx, id, fmt.Sprintf("%s-db%d", id, i))
		if err != nil {
			t.Fatalf("AddInstance = %v", err)
		}
		m.captures = append(m.captures, &capture{in: in})
	}
	m.last = m.get()
	m.views = append(m.views, m.last)
	return m
}

func (m *machine) get() registry.Cluster {
	c, err := m.reg.Get(m.ctx, m.id)
	if err != nil {
		m.t.Fatalf("Get = %v", err)
	}
	return c
}

func (m *machine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"start":  m.start,
		"stop":   m.stop,
		"pass":   m.pass,
		"settle": m.settle,
		"lag":    m.lag,
		"crash":  m.crash,
		"outage": m.outage,
		"stale":  m.stale,
		"cross":  m.cross,
		"time": func(t *rapid.T) {
			m.now = m.now.Add(rapid.SampledFrom([]time.Duration{time.Second, 11 * time.Second, 31 * time.Second}).Draw(t, "later"))
		},
		"alive":  func(t *rapid.T) { m.some(t).alive = rapid.Bool().Draw(t, "alive") },
		"follow": func(t *rapid.T) { c := m.some(t); m.follow(c); m.report(c) },
		"record": m.record,
		"report": func(t *rapid.T) { m.report(m.some(t)) },
		"drain":  func(t *rapid.T) { c := m.some(t); m.drain(c); m.report(c) },
		"relay":  func(*rapid.T) { m.relay(0) },
		"":       m.check,
	}
}

func (m *machine) some(t *rapid.T) *capture { return rapid.SampledFrom(m.captures).Draw(t, "capture") }

func (m *machine) start(t *rapid.T) {
	p := registry.Params{Mode: stream.ModeAsync, KMSKeyID: rapid.SampledFrom([]string{"k1", "k2"}).Draw(t, "key"), RecordLayout: stream.LayoutPacked}
	if level := rapid.SampledFrom([]string{"", stream.LevelTransaction, stream.LevelStrict}).Draw(t, "level"); level != "" {
		p.Mode, p.SyncLevel, p.OnFailure, p.SyncTimeout = stream.ModeSync, level, stream.PolicyContinue, time.Second
	}
	was := m.get().Stream
	_, err := m.reg.Change(m.ctx, m.id, func(c *registry.Cluster) error { return stream.Start(c, p, m.now) })
	ok := was.Status == registry.Stopped || (was.Status != registry.Stopping && was.Params.SameRecords(p))
	switch {
	case ok && fault.Is(err, fault.NotReady): // too many events wait
	case ok != (err == nil), err != nil && !fault.Is(err, fault.Conflict):
		t.Fatalf("Start(%s) while %s with %s = %v", p.KMSKeyID, was.Status, was.Params.KMSKeyID, err)
	case ok:
		m.wanted, m.params, m.deletes = registry.Started, p, false
	}
}

func (m *machine) stop(t *rapid.T) {
	del := rapid.Bool().Draw(t, "delete")
	was := m.get().Stream
	_, err := m.reg.Change(m.ctx, m.id, func(c *registry.Cluster) error { return stream.Stop(c, del, m.now) })
	if refused := was.Status == registry.Stopped && del && !was.DeleteKinesis && was.Told.Generation > 0; refused != (err != nil) {
		t.Fatalf("Stop(delete %v) while %s = %v, want refused %v", del, was.Status, err, refused)
	}
	if err == nil && was.Status != registry.Stopped {
		m.wanted, m.deletes = registry.Stopped, del || (was.Status == registry.Stopping && m.deletes)
	}
}

// pass looks once. A service that is away is all that may stop it.
func (m *machine) pass(t *rapid.T) { m.look(t, m.get()) }

// stale looks with the eyes of a replica that has slept.
func (m *machine) stale(t *rapid.T) {
	m.look(t, rapid.SampledFrom(m.views[max(0, len(m.views)-8):]).Draw(t, "view"))
}

func (m *machine) look(t *rapid.T, c registry.Cluster) {
	if err := m.rec.Pass(m.ctx, c); err != nil && (!fault.Is(err, fault.NotReady) || m.gone == "") {
		t.Fatalf("Pass without %q = %v", m.gone, err)
	}
}

// crash looks, and dies right after the nth call has had its effect.
func (m *machine) crash(t *rapid.T) {
	ctx, die := context.WithCancel(m.ctx)
	defer die()
	left := rapid.IntRange(0, 3).Draw(t, "calls before the crash")
	m.world.Faults(m.away, func(string) {
		if left--; left < 0 {
			die()
		}
	})
	defer m.world.Faults(m.away, nil)
	_ = m.rec.Pass(ctx, m.get()) // whatever it returns, nobody is there to hear
}

// cross looks while somebody asks for the Kinesis stream to be deleted.
func (m *machine) cross(t *rapid.T) {
	asked := false
	m.world.Faults(m.away, func(method string) {
		if method != "GetStatus" || asked {
			return
		}
		asked = true
		if _, err := m.reg.Change(m.ctx, m.id, func(c *registry.Cluster) error { return stream.Stop(c, true, m.now) }); err != nil {
			t.Errorf("Stop(delete) while stopping = %v", err)
		}
		m.deletes = true
	})
	defer m.world.Faults(m.away, nil)
	m.pass(t)
}

// outage makes one of the calls fail, or none, until the next outage.
func (m *machine) outage(t *rapid.T) {
	m.gone = rapid.SampledFrom([]string{"EnsureStream", "GetStatus", "DeleteStream", "Notify", "Notify", ""}).Draw(t, "gone")
	m.world.Faults(m.away, nil)
}

func (m *machine) away(method string) error {
	if method == m.gone {
		return streamtest.Away(method)
	}
	return nil
}

// follow does what was told last.
func (m *machine) follow(c *capture) {
	if told := m.get().Stream.Told; c.alive {
		c.generation, c.recording = told.Generation, told.Recording
	}
}

func (m *machine) record(t *rapid.T) {
	if c := m.some(t); c.alive && c.recording {
		c.number += uint64(rapid.IntRange(1, 100).Draw(t, "events"))
		m.report(c)
	}
}

// drain makes durable what was recorded: it is in the journal then.
func (m *machine) drain(c *capture) {
	if c.alive && c.durable < c.number {
		c.durable = c.number
		m.relay(1)
	}
}

// relay sets how much waits in the journal.
func (m *machine) relay(left uint64) {
	m.waiting = left > 0
	m.world.SetWaiting(m.last.ResourceID, left)
}

func (m *machine) report(c *capture) {
	if !c.alive {
		return
	}
	c.said = &controlv1.InstanceReport{
		ReportedAt: timestamppb.New(m.now), Generation: c.generation, EngineRunning: true, Number: c.number, Durable: c.durable,
	}
	if err := m.reg.PutReport(m.ctx, c.in, c.said); err != nil {
		m.t.Fatalf("PutReport = %v", err)
	}
}

// legal are the ways a status may change in one step of this machine.
var legal = map[registry.Status][]registry.Status{
	registry.Stopped:  {registry.Starting},
	registry.Starting: {registry.Started, registry.Stopping},
	registry.Started:  {registry.Stopping},
	registry.Stopping: {registry.Stopped},
}

// check is what holds after every step.
func (m *machine) check(t *rapid.T) {
	c := m.get()
	s, was := c.Stream, m.last.Stream
	m.last = c
	if c.Revision > m.views[len(m.views)-1].Revision {
		m.views = append(m.views, c)
	}
	if s.Status != was.Status {
		if !slices.Contains(legal[was.Status], s.Status) {
			t.Fatalf("status went from %s to %s", was.Status, s.Status)
		}
		switch s.Status {
		case registry.Started:
			m.arrived(notifierv1.EventKind_EVENT_KIND_STREAM_STARTED, s)
		case registry.Stopped:
			m.arrived(notifierv1.EventKind_EVENT_KIND_STREAM_STOPPED, s)
		}
	}
	if s.Told.Generation < was.Told.Generation {
		t.Fatalf("generation went from %d to %d", was.Told.Generation, s.Told.Generation)
	}
	if up := s.Status == registry.Starting || s.Status == registry.Started; s.Told.Recording && !up || !s.Told.Recording && s.Status == registry.Started {
		t.Fatalf("%s with recording %v", s.Status, s.Told.Recording)
	}
	if s.DeleteKinesis && (s.Status == registry.Starting || s.Status == registry.Started) {
		t.Fatalf("%s, and the Kinesis stream to be deleted", s.Status)
	}
	if s.Told.Recording && !m.world.HasStream(s.KinesisStream) {
		t.Fatalf("captures were told to record while there is no Kinesis stream")
	}
	if told := m.world.Told(m.id); len(told) > len(m.arrivals) || !slices.Equal(told, m.arrivals[:len(told)]) {
		t.Fatalf("told %v, want a beginning of %v", told, m.arrivals)
	}
}

// arrived checks that the status was due, and notes what is to be told.
func (m *machine) arrived(kind notifierv1.EventKind, s registry.Stream) {
	waited := s.Since.Sub(s.Told.At) >= limits.InstanceWait
	var done, lagging, gone int
	for _, c := range m.captures {
		switch {
		case c.said == nil || s.Since.Sub(c.said.GetReportedAt().AsTime()) > limits.LiveFor:
			gone++
		case c.said.GetGeneration() < s.Told.Generation,
			s.Status == registry.Stopped && (c.said.GetDurable() < c.said.GetNumber() || c.said.GetReportedAt().AsTime().Sub(s.Told.At) < time.Second):
			lagging++
		default:
			done++
		}
	}
	if s.Status == registry.Started && (done == 0 || lagging > 0 && !waited) || s.Status == registry.Stopped && lagging+gone > 0 && !waited {
		m.t.Fatalf("%s with %d captures that have done it, %d that lag and %d that are gone, %v after they were told", s.Status, done, lagging, gone, s.Since.Sub(s.Told.At))
	}
	if s.Status == registry.Stopped && m.waiting {
		m.t.Fatalf("stopped while records wait in the journal")
	}
	m.arrivals = append(m.arrivals, streamtest.Told{
		Key: fmt.Sprintf("%s/%d/%s", m.last.ResourceID, s.Told.Generation, s.Status), Source: m.id, Kind: kind, At: s.Since,
	})
}

// settle is one look while all is well.
func (m *machine) settle(t *rapid.T) {
	for _, c := range m.captures {
		c.alive = true
		m.follow(c)
		m.drain(c)
		m.report(c)
	}
	m.relay(0)
	m.pass(t)
	m.now = m.now.Add(time.Second)
}

// lag is one look while the captures follow, and drain nothing.
func (m *machine) lag(t *rapid.T) {
	m.now = m.now.Add(time.Second)
	for _, c := range m.captures {
		c.alive = true
		m.follow(c)
		m.report(c)
	}
	m.pass(t)
}

// heal makes all well and lets it run.
func (m *machine) heal() {
	m.gone = ""
	m.world.Faults(nil, nil)
	for range 6 {
		m.settle(m.t)
		m.check(m.t)
	}
	s := m.last.Stream
	if s.Status != m.wanted {
		m.t.Fatalf("stream is %s (%s), want %s", s.Status, s.Problem, m.wanted)
	}
	if s.Status == registry.Started && (s.Told.Params != m.params || s.Problem != "") {
		m.t.Fatalf("captures record with %+v (%q), want %+v", s.Told.Params, s.Problem, m.params)
	}
	if has := m.world.HasStream(s.KinesisStream); s.Status == registry.Stopped && m.deletes && has {
		m.t.Fatalf("the Kinesis stream is still there")
	}
	if len(s.Notices) > 0 || !slices.Equal(m.world.Told(m.id), m.arrivals) {
		m.t.Fatalf("told %v and %d to tell, want %v", m.world.Told(m.id), len(s.Notices), m.arrivals)
	}
	if err := m.rec.Pass(m.ctx, m.last); err != nil || m.get().Revision != m.last.Revision {
		m.t.Fatalf("Pass over a settled cluster = %v at %d, want nothing written after %d", err, m.get().Revision, m.last.Revision)
	}
}
