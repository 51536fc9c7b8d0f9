package notice_test

import (
	"context"
	"sync"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// notifier is what services/notifier promises, in memory: a window opens once
// and closes once, what is known of an open one grows, an event is kept once for
// each key. It can be away, be without NATS, and lose answers.
type notifier struct {
	notifierv1.NotifierServiceClient

	mu       sync.Mutex
	away     bool // nothing is heard
	unkept   bool // what is heard is delivered and not recorded
	lose     func() bool
	windows  map[string]*notifierv1.Window
	events   map[string]*notifierv1.NotifyRequest
	openings map[string]int // by window, how often it was seen to open: the events a sink gets, without repeats
	heard    int
}

func newNotifier() *notifier {
	return &notifier{
		windows: make(map[string]*notifierv1.Window), events: make(map[string]*notifierv1.NotifyRequest), openings: make(map[string]int),
		lose: func() bool { return false },
	}
}

// take is called for whatever is told. keep keeps it.
func (n *notifier) take(keep func()) (recorded bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away {
		return false, status.Error(codes.Unavailable, "away on purpose")
	}
	n.heard++
	if n.unkept {
		return false, nil
	}
	keep()
	if n.lose() {
		return false, status.Error(codes.Unavailable, "the answer was lost")
	}
	return true, nil
}

func (n *notifier) put(w *notifierv1.Window) {
	have := n.windows[w.GetId()]
	switch {
	case have == nil:
		n.openings[w.GetId()]++
		n.windows[w.GetId()] = proto.CloneOf(w)
	case !have.GetOpen():
	case !w.GetOpen(), w.GetCount() > have.GetCount(), w.GetLast() > have.GetLast():
		n.windows[w.GetId()] = proto.CloneOf(w)
	}
}

func (n *notifier) Notify(_ context.Context, in *notifierv1.NotifyRequest, _ ...grpc.CallOption) (*notifierv1.NotifyResponse, error) {
	recorded, err := n.take(func() {
		if n.events[in.GetIdempotencyKey()] == nil {
			n.events[in.GetIdempotencyKey()] = proto.CloneOf(in)
		}
	})
	return &notifierv1.NotifyResponse{Recorded: recorded}, err
}

func (n *notifier) OpenWindow(_ context.Context, in *notifierv1.OpenWindowRequest, _ ...grpc.CallOption) (*notifierv1.OpenWindowResponse, error) {
	recorded, err := n.take(func() { n.put(in.GetWindow()) })
	return &notifierv1.OpenWindowResponse{Recorded: recorded}, err
}

func (n *notifier) CloseWindow(_ context.Context, in *notifierv1.CloseWindowRequest, _ ...grpc.CallOption) (*notifierv1.CloseWindowResponse, error) {
	recorded, err := n.take(func() { n.put(in.GetWindow()) })
	return &notifierv1.CloseWindowResponse{Recorded: recorded}, err
}

func (n *notifier) ListWindows(_ context.Context, _ *notifierv1.ListWindowsRequest, _ ...grpc.CallOption) (*notifierv1.ListWindowsResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away || n.unkept {
		return nil, status.Error(codes.Unavailable, "away on purpose")
	}
	answer := &notifierv1.ListWindowsResponse{}
	for _, w := range n.windows {
		answer.Windows = append(answer.Windows, proto.CloneOf(w))
	}
	return answer, nil
}

// set changes how it behaves.
func (n *notifier) set(away, unkept bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.away, n.unkept = away, unkept
}

// losing changes when it loses an answer, and returns what it was.
func (n *notifier) losing(lose func() bool) (was func() bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	was, n.lose = n.lose, lose
	return was
}

// rest lets time pass in a bubble, until everybody else in it is done with it:
// what they did may be looked at then.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
