package pipeline_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/capture/internal/notice"
)

// promised is how soon the first event of a window comes (docs/events.md).
const promised = 5 * time.Second

// notifier keeps windows, and when it heard of each.
type notifier struct {
	notifierv1.NotifierServiceClient

	mu      sync.Mutex
	windows map[string]*notifierv1.Window
	heard   map[string]time.Time
}

func (n *notifier) put(w *notifierv1.Window) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.windows[w.GetId()] == nil {
		n.heard[w.GetId()] = time.Now()
	}
	n.windows[w.GetId()] = proto.CloneOf(w)
}

func (n *notifier) OpenWindow(_ context.Context, in *notifierv1.OpenWindowRequest, _ ...grpc.CallOption) (*notifierv1.OpenWindowResponse, error) {
	n.put(in.GetWindow())
	return &notifierv1.OpenWindowResponse{Recorded: true}, nil
}

func (n *notifier) CloseWindow(_ context.Context, in *notifierv1.CloseWindowRequest, _ ...grpc.CallOption) (*notifierv1.CloseWindowResponse, error) {
	n.put(in.GetWindow())
	return &notifierv1.CloseWindowResponse{Recorded: true}, nil
}

func (n *notifier) ListWindows(context.Context, *notifierv1.ListWindowsRequest, ...grpc.CallOption) (*notifierv1.ListWindowsResponse, error) {
	return &notifierv1.ListWindowsResponse{}, nil
}

// opened returns when the notifier first heard of a window of that cause.
func (n *notifier) opened(cause string) (w *notifierv1.Window, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, w := range n.windows {
		if notice.CauseName(w.GetCause()) == cause {
			return w, n.heard[id]
		}
	}
	return nil, time.Time{}
}

// A loss opens its window when it is found, whatever its cause, and not when the
// journal has its gap: in all of these the journal takes nothing any more. When it
// does, the windows count what the stream tells as lost.
func TestLossIsToldWhenItIsFound(t *testing.T) {
	// spooled leaves a spool, and no capture to read it.
	spooled := func(b *bench, run func(time.Duration) func()) {
		stop := run(0)
		b.keyed()
		b.put(10)
		b.waitDurable()
		b.crypto.SetAway(true)
		b.outlast(30)
		stop()
		b.eventually("all streams over", func() bool { return b.crypto.Open() == 0 })
	}
	type runs = func(time.Duration) func()
	for name, c := range map[string]struct {
		cause string
		lose  func(b *bench, run runs) (found time.Time, stop func())
	}{
		"torn": {"torn", func(b *bench, run runs) (time.Time, func()) {
			b.put(3)
			stop := run(time.Second)
			b.waitDurable()
			b.crypto.SetAway(true)
			b.engine.Reserve(100, time.Now())
			b.put(1)
			found := time.Now()
			b.engine.Recover()
			return found, stop
		}},
		"corrupt": {"corrupt", func(b *bench, run runs) (time.Time, func()) {
			b.put(3)
			stop := run(time.Second)
			b.waitDurable()
			b.crypto.SetAway(true)
			found := time.Now()
			b.engine.Put([]byte("no activity"), time.Now())
			return found, stop
		}},
		"refused": {"refused", func(b *bench, run runs) (time.Time, func()) {
			b.crypto.Refuse, b.crypto.RefuseLast = fmt.Sprintf("%s/%d/1-10", b.desired.GetInstanceResourceId(), b.engine.Epoch), true
			b.put(10)
			return time.Now(), run(time.Second)
		}},
		"the spool removed": {"refused", func(b *bench, run runs) (time.Time, func()) {
			spooled(b, run)
			for _, f := range segments(b.t, b.spoolDir) {
				if err := os.Remove(f); err != nil {
					b.t.Fatal(err)
				}
			}
			return time.Now(), run(time.Second)
		}},
		"the spool damaged": {"refused", func(b *bench, run runs) (time.Time, func()) {
			spooled(b, run)
			f := segments(b.t, b.spoolDir)[0]
			data, err := os.ReadFile(f)
			if err != nil {
				b.t.Fatal(err)
			}
			data[len(data)/2] ^= 4
			if err := os.WriteFile(f, data, 0o600); err != nil {
				b.t.Fatal(err)
			}
			return time.Now(), run(time.Second)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := spooling(t, 64<<10, 64<<20)
			n := &notifier{windows: map[string]*notifierv1.Window{}, heard: map[string]time.Time{}}
			// Each run has a teller of its own, as each capture has.
			found, stop := c.lose(b, func(drain time.Duration) func() {
				b.teller = notice.New(n, "orders", "db1", slog.New(slog.DiscardHandler))
				ctx, cancel := context.WithCancel(context.Background())
				var wg sync.WaitGroup
				wg.Go(func() { _ = b.teller.Run(ctx) })
				end := b.run(drain)
				return func() { end(); cancel(); wg.Wait() }
			})
			var at time.Time
			b.eventually("told as "+c.cause, func() bool { _, at = n.opened(c.cause); return !at.IsZero() })
			if late := at.Sub(found); late > promised {
				t.Errorf("told %v after it was found, want within %v", late, promised)
			}
			if w, _ := n.opened(c.cause); !w.GetOpen() || w.GetCount() != 0 {
				t.Errorf("window = %v, want it open: nobody can count it yet", w)
			}
			b.crypto.SetAway(false)
			b.waitDurable()
			b.put(1)
			b.waitDurable()
			stop()
			_, lost := b.account()
			w, _ := n.opened(c.cause)
			if len(lost) == 0 || w.GetOpen() || w.GetCount() != uint64(len(lost)) || w.GetLowerBound() {
				t.Errorf("window = %v, want it closed, of the %d numbers that the stream tells as lost", w, len(lost))
			}
			for number, cause := range lost {
				if cause != c.cause || number < w.GetFirst() || number > w.GetLast() {
					t.Errorf("number %d is lost by %s, the window is %v", number, cause, w)
				}
			}
		})
	}
}
