package watchdog_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/control/internal/registry"
	"github.com/weir-das/weir/services/control/internal/watchdog"
)

// world is a registry, a notifier, and one capture.
type world struct {
	notifierv1.NotifierServiceClient

	mu        sync.Mutex
	reported  time.Time
	forgotten bool  // the reports' server was restarted
	unread    error // of the registry
	away      bool  // the notifier
	unwanted  bool
	windows   map[string]*notifierv1.Window
	opened    []time.Time // when each was told first
}

func (w *world) SeenAll(keep func(registry.Cluster) bool) (some []registry.Cluster) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := registry.Cluster{ID: "orders", Instances: []registry.Instance{{ID: "db1"}}}
	c.Stream.Told.Recording = !w.unwanted
	if keep(c) {
		some = append(some, c)
	}
	return some
}

func (w *world) Reports(context.Context, registry.Cluster) (map[string]*controlv1.InstanceReport, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unread != nil {
		return nil, w.unread
	}
	if w.forgotten {
		return nil, nil
	}
	return map[string]*controlv1.InstanceReport{"db1": {ReportedAt: timestamppb.New(w.reported), Epoch: 7, Number: 40, Durable: 40}}, nil
}

func (w *world) put(in *notifierv1.Window) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away {
		return errors.New("away")
	}
	have := w.windows[in.GetId()]
	if have == nil {
		w.opened = append(w.opened, time.Now())
	}
	if have == nil || have.GetOpen() {
		w.windows[in.GetId()] = proto.CloneOf(in)
	}
	return nil
}

func (w *world) OpenWindow(_ context.Context, in *notifierv1.OpenWindowRequest, _ ...grpc.CallOption) (*notifierv1.OpenWindowResponse, error) {
	return &notifierv1.OpenWindowResponse{Recorded: true}, w.put(in.GetWindow())
}

func (w *world) CloseWindow(_ context.Context, in *notifierv1.CloseWindowRequest, _ ...grpc.CallOption) (*notifierv1.CloseWindowResponse, error) {
	return &notifierv1.CloseWindowResponse{Recorded: true}, w.put(in.GetWindow())
}

func (w *world) ListWindows(context.Context, *notifierv1.ListWindowsRequest, ...grpc.CallOption) (*notifierv1.ListWindowsResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away {
		return nil, errors.New("away")
	}
	answer := &notifierv1.ListWindowsResponse{}
	for _, win := range w.windows {
		if win.GetOpen() {
			answer.Windows = append(answer.Windows, proto.CloneOf(win))
		}
	}
	return answer, nil
}

func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// report has the capture report every second for so long.
func (w *world) report(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		w.change(func() { w.reported = time.Now() })
	}
}

func run(t *testing.T, test func(t *testing.T, w *world, start func() (stop func()))) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{windows: make(map[string]*notifierv1.Window), reported: time.Now()}
		test(t, w, func() func() {
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = watchdog.New(w, w, 4*time.Second, slog.New(slog.DiscardHandler)).Run(ctx)
			}()
			return func() { cancel(); <-done }
		})
	})
}

// only returns the one window there is.
func (w *world) only(t *testing.T) *notifierv1.Window {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.windows) != 1 {
		t.Fatalf("%d windows: %v, want one", len(w.windows), w.windows)
	}
	for _, win := range w.windows {
		return proto.CloneOf(win)
	}
	return nil
}

func TestSilenceIsToldInTimeAndEnds(t *testing.T) {
	run(t, func(t *testing.T, w *world, start func() func()) {
		defer start()()
		w.report(10 * time.Second)
		last := w.reported
		time.Sleep(time.Minute)
		win := w.only(t)
		if !win.GetOpen() || !win.GetBegin().AsTime().Equal(last) || win.GetCause() != notifierv1.Cause_CAUSE_CAPTURE_SILENT || win.GetEpoch() != 7 {
			t.Errorf("window = %v, want it open since the last report, %v", win, last)
		}
		if late := w.opened[0].Sub(last); late > 5*time.Second {
			t.Errorf("told %v after the last report, want 5 s at most", late)
		}
		back := time.Now()
		w.report(20 * time.Second)
		if win := w.only(t); win.GetOpen() || win.GetEnd().AsTime().Sub(back) > time.Second {
			t.Errorf("window = %v, want it closed at %v", win, back)
		}
	})
}

// A capture that is heard now and then is silent once, until it stays.
func TestFlappingIsOneWindow(t *testing.T) {
	run(t, func(t *testing.T, w *world, start func() func()) {
		defer start()()
		w.report(3 * time.Second)
		for range 5 {
			time.Sleep(6 * time.Second)
			w.report(2 * time.Second)
		}
		if win := w.only(t); !win.GetOpen() {
			t.Errorf("window = %v, want it open", win)
		}
		w.report(20 * time.Second)
		if win := w.only(t); win.GetOpen() {
			t.Errorf("window = %v, want it closed", win)
		}
	})
}

// That nothing can be read says nothing about captures.
func TestDeafnessIsNoSilence(t *testing.T) {
	run(t, func(t *testing.T, w *world, start func() func()) {
		defer start()()
		w.report(3 * time.Second)
		w.change(func() { w.unread = errors.New("NATS is away") })
		time.Sleep(time.Minute)
		w.change(func() { w.unread, w.forgotten = nil, true })
		time.Sleep(time.Minute)
		w.change(func() { w.forgotten = false })
		w.report(30 * time.Second)
		if len(w.windows) != 0 {
			t.Errorf("windows = %v, want none", w.windows)
		}
	})
}

// Another replica goes on with what the one before it opened; and a notifier
// that is away is told later, with the true times.
func TestAnotherReplicaAndALateNotifier(t *testing.T) {
	run(t, func(t *testing.T, w *world, start func() func()) {
		stop := start()
		w.report(3 * time.Second)
		last := w.reported
		w.change(func() { w.away = true })
		time.Sleep(time.Minute)
		w.change(func() { w.away = false })
		time.Sleep(time.Second)
		if win := w.only(t); !win.GetBegin().AsTime().Equal(last) {
			t.Errorf("window = %v, want it open since %v", win, last)
		}
		stop()
		stop = start()
		defer func() { stop() }()
		time.Sleep(10 * time.Second)
		w.report(20 * time.Second)
		if win := w.only(t); win.GetOpen() || !win.GetBegin().AsTime().Equal(last) {
			t.Errorf("window = %v, want the same one, closed", win)
		}
	})
}

// A stream that is stopped has nothing to be silent about.
func TestAStoppedStreamClosesIt(t *testing.T) {
	run(t, func(t *testing.T, w *world, start func() func()) {
		defer start()()
		w.report(3 * time.Second)
		time.Sleep(10 * time.Second)
		w.change(func() { w.unwanted = true })
		time.Sleep(2 * time.Second)
		if win := w.only(t); win.GetOpen() {
			t.Errorf("window = %v, want it closed", win)
		}
	})
}
