package stream_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/fault"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/control/internal/registry"
	"github.com/weir-das/weir/services/control/internal/stream"
)

var (
	noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	k1   = registry.Params{Mode: stream.ModeAsync, KMSKeyID: "k1", RecordLayout: stream.LayoutPacked}
	k2   = registry.Params{Mode: stream.ModeAsync, KMSKeyID: "k2", RecordLayout: stream.LayoutPacked}
)

func TestStartAndStop(t *testing.T) {
	type ask struct {
		start *registry.Params // nil: stop
		del   bool
	}
	for name, tt := range map[string]struct {
		status  registry.Status
		deletes bool // the Kinesis stream, already
		ask     ask
		want    registry.Status
		del     bool
		fault   fault.Kind
	}{
		"start":                       {registry.Stopped, true, ask{start: &k1}, registry.Starting, false, 0},
		"start what starts":           {registry.Starting, false, ask{start: &k1}, registry.Starting, false, 0},
		"start what runs":             {registry.Started, false, ask{start: &k1}, registry.Started, false, 0},
		"start differently":           {registry.Started, false, ask{start: &k2}, registry.Started, false, fault.Conflict},
		"start differently, starting": {registry.Starting, false, ask{start: &k2}, registry.Starting, false, fault.Conflict},
		"start what stops":            {registry.Stopping, true, ask{start: &k1}, registry.Stopping, true, fault.Conflict},
		"stop":                        {registry.Started, false, ask{}, registry.Stopping, false, 0},
		"stop and delete":             {registry.Started, false, ask{del: true}, registry.Stopping, true, 0},
		"stop what starts":            {registry.Starting, false, ask{del: true}, registry.Stopping, true, 0},
		"stop what stops":             {registry.Stopping, false, ask{}, registry.Stopping, false, 0},
		"delete too":                  {registry.Stopping, false, ask{del: true}, registry.Stopping, true, 0},
		"not keep after all":          {registry.Stopping, true, ask{}, registry.Stopping, true, 0},
		"stop what has stopped":       {registry.Stopped, false, ask{}, registry.Stopped, false, 0},
		"deleted already":             {registry.Stopped, true, ask{del: true}, registry.Stopped, true, 0},
		"delete what was kept":        {registry.Stopped, false, ask{del: true}, registry.Stopped, false, fault.Conflict},
	} {
		was := registry.Stream{Status: tt.status, Since: noon.Add(-time.Hour), Params: k1, DeleteKinesis: tt.deletes, Problem: "old", Told: registry.Told{Generation: 4, Params: k1}}
		was.Told.Recording = tt.status == registry.Started
		c := registry.Cluster{ID: "orders", Stream: was}
		var err error
		if tt.ask.start != nil {
			err = stream.Start(&c, *tt.ask.start, noon)
		} else {
			err = stream.Stop(&c, tt.ask.del, noon)
		}
		s := c.Stream
		if fault.Of(err) != tt.fault || s.Status != tt.want || s.DeleteKinesis != tt.del {
			t.Errorf("%s: %v, %s, delete %v, want %v, %s, delete %v", name, err, s.Status, s.DeleteKinesis, tt.fault, tt.want, tt.del)
		}
		turned := s.Status != tt.status
		if turned != s.Since.Equal(noon) || turned != (s.Problem == "") {
			t.Errorf("%s: since %v, problem %q, want both new only with the status", name, s.Since, s.Problem)
		}
		if off := turned && s.Status == registry.Stopping; off != (s.Told.Generation == 5) || off && s.Told.Recording || s.Told.Params != k1 {
			t.Errorf("%s: told %+v, want a new generation only to stop, and the old key", name, s.Told)
		}
	}
}

func TestStopOfWhatNeverStarted(t *testing.T) {
	c := registry.Cluster{ID: "orders", Stream: registry.Stream{Status: registry.Stopped}}
	if err := stream.Stop(&c, true, noon); err != nil || c.Stream.Status != registry.Stopped {
		t.Errorf("Stop(never started) = %v, %s, want nothing to do", err, c.Stream.Status)
	}
}

// What a session waits for changes while the stream runs; the captures are told
// once they were told to record at all.
func TestModeChangesAsTheStreamRuns(t *testing.T) {
	sync := k1
	sync.Mode, sync.SyncLevel, sync.OnFailure, sync.SyncTimeout = stream.ModeSync, stream.LevelStrict, stream.PolicyFail, time.Second
	for _, tt := range []struct {
		status   registry.Status
		told     bool
		from, to registry.Params
		next     uint64 // the generation after
	}{
		{registry.Started, true, k1, sync, 5},
		{registry.Started, true, sync, k1, 5},
		{registry.Started, true, sync, sync, 4},
		{registry.Starting, true, k1, sync, 5},
		{registry.Starting, false, k1, sync, 4},
	} {
		c := registry.Cluster{ID: "orders", Stream: registry.Stream{Status: tt.status, Since: noon, Params: tt.from}}
		c.Stream.Told = registry.Told{Generation: 4, Recording: tt.told, At: noon}
		if tt.told {
			c.Stream.Told.Params = tt.from
		}
		err := stream.Start(&c, tt.to, noon.Add(time.Minute))
		s := c.Stream
		if err != nil || s.Params != tt.to || s.Status != tt.status || !s.Since.Equal(noon) || s.Told.Generation != tt.next || tt.told && s.Told.Params != tt.to {
			t.Errorf("from %s to %s while %s: %v, %+v, want generation %d and nothing else new", tt.from.Mode, tt.to.Mode, tt.status, err, s, tt.next)
		}
	}
}

// A notifier that is away for long keeps streams from being started, not from
// being stopped.
func TestEventsThatWaitAreBounded(t *testing.T) {
	c := registry.Cluster{ID: "orders", Stream: registry.Stream{Status: registry.Stopped, Notices: make([]registry.Notice, stream.MaxNotices-1)}}
	if err := stream.Start(&c, k1, noon); !fault.Is(err, fault.NotReady) {
		t.Errorf("Start with %d events that wait = %v, want not ready", len(c.Stream.Notices), err)
	}
	c.Stream.Status = registry.Started
	if err := stream.Stop(&c, false, noon); err != nil {
		t.Errorf("Stop with %d events that wait = %v", len(c.Stream.Notices), err)
	}
}

func TestSettled(t *testing.T) {
	const told = 4
	report := func(at time.Duration, generation, number, durable uint64) *controlv1.InstanceReport {
		return &controlv1.InstanceReport{ReportedAt: timestamppb.New(noon.Add(at)), Generation: generation, EngineRunning: true, Number: number, Durable: durable}
	}
	noEngine := report(2*time.Second, told, 0, 0)
	noEngine.EngineRunning = false
	idle := report(2*time.Second, 3, 0, 0)
	idle.EngineRunning = false
	stuck := report(2*time.Second, told, 9, 8)
	stuck.Trouble = "the disk is full"
	over := report(2*time.Second, told, 9, 9) // and heartbeats still do not get through
	over.Trouble = "the disk is full"
	at := 3 * time.Second // since they were told
	late := 40 * time.Second
	for name, tt := range map[string]struct {
		recording bool
		now       time.Duration
		db1, db2  *controlv1.InstanceReport
		ok        bool
		problem   string // its words; empty: none
	}{
		"start: nobody":             {true, at, nil, nil, false, "db1: no capture has reported; db2: no capture has reported"},
		"start: nobody for long":    {true, late, nil, nil, false, "db1: no capture has reported"},
		"start: both":               {true, at, report(2*time.Second, told, 9, 0), report(2*time.Second, told, 9, 0), true, ""},
		"start: one, one unknown":   {true, at, report(2*time.Second, told, 9, 0), nil, true, "db2: no capture has reported"},
		"start: one, one gone":      {true, at, report(2*time.Second, told, 9, 0), report(-8*time.Second, 3, 9, 9), true, "db2: its capture has not reported since 2026-05-01T11:59:52Z"},
		"start: one, one lags":      {true, at, report(2*time.Second, told, 9, 0), report(2*time.Second, 3, 0, 0), false, "db2: its capture lives and has carried out generation 3, not yet 4"},
		"start: one, one lags long": {true, late, report(late, told, 9, 0), report(late, 3, 0, 0), true, "generation 3, not yet 4"},
		"start: all lag long":       {true, late, report(late, 3, 9, 0), nil, false, "generation 3, not yet 4"},
		"start: no engine":          {true, at, noEngine, nil, true, "db1: no server with the module is running"},
		"start: no ring":            {true, at, idle, nil, false, "not yet 4; no server with the module is running"},
		"start: no way":             {true, at, stuck, report(2*time.Second, told, 9, 0), true, "db1: its records do not reach the journal: the disk is full"},
		"stop: no way":              {false, at, stuck, over, false, "db1: some of its events are not durable yet; db1: its records do not reach the journal: the disk is full"},
		"stop: no way any more":     {false, at, over, over, true, ""},
		"stop: both":                {false, at, report(2*time.Second, told, 9, 9), report(2*time.Second, told+1, 0, 0), true, ""},
		"stop: not durable":         {false, at, report(2*time.Second, told, 9, 8), report(2*time.Second, told, 9, 9), false, "db1: some of its events are not durable yet"},
		"stop: too early":           {false, at, report(900*time.Millisecond, told, 9, 9), report(2*time.Second, told, 9, 9), false, "db1: its last events are waited for"},
		"stop: not told yet":        {false, at, report(2*time.Second, 3, 9, 9), report(2*time.Second, told, 9, 9), false, "generation 3, not yet 4"},
		"stop: gone":                {false, at, nil, report(2*time.Second, told, 9, 9), false, "db1: no capture has reported"},
		"stop: gone for long":       {false, late, nil, report(late, told, 9, 9), true, "db1: no capture has reported"},
		"stop: lags for long":       {false, late, report(late, told, 9, 8), report(late, told, 9, 9), true, "db1: some of its events"},
		"stop: no engine":           {false, at, noEngine, noEngine, true, ""},
	} {
		c := registry.Cluster{ID: "orders", Instances: []registry.Instance{{ID: "db1"}, {ID: "db2"}}}
		c.Stream.Told = registry.Told{Generation: told, Recording: tt.recording, At: noon}
		reports := map[string]*controlv1.InstanceReport{}
		if tt.db1 != nil {
			reports["db1"] = tt.db1
		}
		if tt.db2 != nil {
			reports["db2"] = tt.db2
		}
		ok, problem := stream.Settled(c, reports, noon.Add(tt.now), limits)
		if ok != tt.ok || !strings.Contains(problem, tt.problem) || (tt.problem == "") != (problem == "") {
			t.Errorf("%s: %v, %q, want %v with %q", name, ok, problem, tt.ok, tt.problem)
		}
	}
}

func TestSettledWithoutInstances(t *testing.T) {
	c := registry.Cluster{ID: "orders"}
	c.Stream.Told = registry.Told{Generation: 1, Recording: true, At: noon}
	if ok, problem := stream.Settled(c, nil, noon.Add(time.Hour), limits); ok || problem != "no instance is registered" {
		t.Errorf("start: %v, %q, want to wait for an instance", ok, problem)
	}
	c.Stream.Told.Recording = false
	if ok, problem := stream.Settled(c, nil, noon, limits); !ok || problem != "" {
		t.Errorf("stop: %v, %q, want nothing to wait for", ok, problem)
	}
}

// The text stays readable with hundreds of instances.
func TestProblemsAreSummedUp(t *testing.T) {
	c := registry.Cluster{ID: "orders"}
	c.Stream.Status = registry.Started
	for range 100 {
		c.Instances = append(c.Instances, registry.Instance{ID: "db"})
	}
	problem := stream.Problem(c, nil, noon, limits)
	if n := strings.Count(problem, "db: "); n != 10 || !strings.HasSuffix(problem, "; and 90 more instances") {
		t.Errorf("Problem = %q, want ten and a count", problem)
	}
}
