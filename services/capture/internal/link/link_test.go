package link_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/capture/internal/link"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// control ends every stream: after one answer while it is there, before it
// while it is away.
type control struct {
	controlv1.UnimplementedControlServiceServer

	mu      sync.Mutex
	away    bool
	watches int
	wish    *controlv1.Desired // what is wanted; nil: something new with every stream
	unknown bool               // it does not know the instance
	last    *controlv1.InstanceReport
	lose    int // so many answers to reports are lost on the way
}

func (c *control) ReportInstance(_ context.Context, req *controlv1.ReportInstanceRequest) (*controlv1.ReportInstanceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := &controlv1.ReportInstanceResponse{}
	if req.GetAsk() {
		answer.Last = c.last
	} else {
		c.last = req.GetReport()
	}
	if c.lose > 0 {
		c.lose--
		return nil, status.Error(codes.Unavailable, "the answer was lost")
	}
	return answer, nil
}

func (c *control) WatchInstance(_ *controlv1.WatchInstanceRequest, out grpc.ServerStreamingServer[controlv1.WatchInstanceResponse]) error {
	c.mu.Lock()
	c.watches++
	away, unknown, wish := c.away, c.unknown, c.wish
	if wish == nil {
		wish = &controlv1.Desired{InstanceResourceId: "db-A", Generation: uint64(c.watches)}
	}
	c.mu.Unlock()
	if unknown {
		return status.Error(codes.InvalidArgument, "instance demo-1: not registered")
	}
	if away {
		return status.Error(codes.Unavailable, "away on purpose")
	}
	if err := out.Send(&controlv1.WatchInstanceResponse{Desired: wish}); err != nil {
		return err
	}
	return status.Error(codes.Unavailable, "this connection is old, take another")
}

// epochs has what it hears in channels.
type epochs struct {
	over  chan *controlv1.InstanceReport
	again chan []*controlv1.EndedEpoch

	mu     sync.Mutex
	untold []*controlv1.EndedEpoch
}

func newEpochs(untold ...*controlv1.EndedEpoch) *epochs {
	return &epochs{over: make(chan *controlv1.InstanceReport, 10), again: make(chan []*controlv1.EndedEpoch, 10), untold: untold}
}

func (e *epochs) Over(last *controlv1.InstanceReport) { e.over <- last }
func (e *epochs) Again(ends []*controlv1.EndedEpoch)  { e.again <- ends }
func (e *epochs) Untold() (ends []*controlv1.EndedEpoch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.untold
}
func (e *epochs) tell(untold ...*controlv1.EndedEpoch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.untold = untold
}

// reports waits until c has a report that is so.
func (c *control) reports(t *testing.T, what string, is func(*controlv1.InstanceReport) bool) *controlv1.InstanceReport {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c.mu.Lock()
		last := c.last
		c.mu.Unlock()
		if is(last) {
			return last
		}
		if time.Now().After(deadline) {
			t.Fatalf("control never heard %s, at last %v", what, last)
		}
	}
}

// serve serves c until the test ends, and returns a client of it.
func (c *control) serve(t *testing.T) controlv1.ControlServiceClient {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	controlv1.RegisterControlServiceServer(server, c)
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(lis) })
	t.Cleanup(func() { conn.Close(); server.Stop(); wg.Wait() })
	return controlv1.NewControlServiceClient(conn)
}

// run runs l until the test ends, or the function that it returns is called.
func run(t *testing.T, l *link.Link) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = l.Run(ctx) })
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return stop
}

// after returns when so many more streams have been opened.
func (c *control) after(t *testing.T, streams int, away bool) {
	t.Helper()
	c.mu.Lock()
	c.away = away
	want := c.watches + streams
	c.mu.Unlock()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		n := c.watches
		c.mu.Unlock()
		if n >= want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d streams were opened, want %d", n, want)
		}
	}
}

// said is a log that may be read while it is written.
type said struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *said) count(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.buf.String(), text)
}

// A control that ends streams so that connections move is no news. One that is
// away is, once.
func TestControlIsAwayOnlyWhenItIsNotHeard(t *testing.T) {
	c := &control{}
	log := &said{}
	l := link.New(c.serve(t), "demo", "demo-1",
		func() *controlv1.InstanceReport { return nil }, newEpochs(), slog.New(slog.NewTextHandler(log, nil)))
	run(t, l)

	c.after(t, 5, false)
	if n := log.count("control is away"); n != 0 {
		t.Errorf("streams that were heard ended, and control was called away %d times, want none", n)
	}
	if desired, _ := l.Desired(); desired.GetGeneration() < 4 {
		t.Errorf("generation %d is wanted, want that of one of the last streams", desired.GetGeneration())
	}
	c.after(t, 4, true)
	c.after(t, 2, false)
	if away, back := log.count("control is away"), log.count("control is back"); away != 1 || back != 1 {
		t.Errorf("control was called away %d times and back %d times, want once each", away, back)
	}
}

// What was reported last of another epoch is heard once, before a report of the
// new one takes its place, though answers are lost.
func TestTheEpochBeforeIsHeardOf(t *testing.T) {
	c := &control{last: &controlv1.InstanceReport{Epoch: 1, Number: 70, Durable: 60}, lose: 2}
	e := newEpochs()
	l := link.New(c.serve(t), "demo", "demo-1",
		func() *controlv1.InstanceReport { return &controlv1.InstanceReport{Epoch: 2, Number: 5} },
		e, slog.New(slog.DiscardHandler))
	run(t, l)
	select {
	case last := <-e.over:
		if last.GetEpoch() != 1 || last.GetNumber() != 70 || last.GetDurable() != 60 {
			t.Errorf("heard %v, want what was reported last of epoch 1", last)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nothing was heard of the epoch before")
	}
	c.reports(t, "of epoch 2", func(r *controlv1.InstanceReport) bool { return r.GetEpoch() == 2 })
	if len(e.over) != 0 || len(e.again) != 0 {
		t.Errorf("heard of it %d times more, want once", len(e.over)+len(e.again))
	}
}

// What the notifier may not have goes with every report, with a ring or without,
// until it has it; a capture that comes then hears of it once.
func TestWhatMayBeUntoldIsReported(t *testing.T) {
	end := &controlv1.EndedEpoch{Epoch: 1, Number: 70, Durable: 60, Detail: "gone"}
	c := &control{last: &controlv1.InstanceReport{Epoch: 2, Number: 5}}
	client := c.serve(t)
	e := newEpochs(end)
	for generation, ring := range []*controlv1.InstanceReport{{}, {Epoch: 2, Number: 5}} {
		if generation > 0 {
			e = newEpochs() // another capture, which has not told it yet
		}
		ring.Generation = uint64(generation) + 1
		l := link.New(client, "demo", "demo-1", func() *controlv1.InstanceReport { return proto.CloneOf(ring) }, e, slog.New(slog.DiscardHandler))
		stop := run(t, l)
		if generation > 0 {
			select {
			case ends := <-e.again:
				if len(ends) != 1 || !proto.Equal(ends[0], end) {
					t.Errorf("heard %v, want %v", ends, end)
				}
				e.tell(ends...)
			case <-time.After(30 * time.Second):
				t.Fatal("the capture that came then heard nothing of the end")
			}
		}
		last := c.reports(t, "of the end", func(r *controlv1.InstanceReport) bool {
			return r.GetGeneration() == ring.GetGeneration() && len(r.GetEnded()) > 0
		})
		if len(last.GetEnded()) != 1 || !proto.Equal(last.GetEnded()[0], end) || last.GetEpoch() != 2 {
			t.Errorf("reported %v, want %v of epoch 2", last, end)
		}
		if generation > 0 {
			e.tell()
			c.reports(t, "that it was told", func(r *controlv1.InstanceReport) bool { return len(r.GetEnded()) == 0 })
		}
		stop()
		if len(e.again) != 0 || len(e.over) != 0 {
			t.Errorf("heard of an end %d times more", len(e.again)+len(e.over))
		}
	}
}

// A capture that has no ring yet does not make control forget the last one, not
// even if it is started again: whoever finds the next ring hears of the one before.
func TestWithoutARingTheLastOneIsReportedOn(t *testing.T) {
	seen := timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	c := &control{last: &controlv1.InstanceReport{Epoch: 1, Number: 70, Durable: 60, ReportedAt: seen}}
	client := c.serve(t)
	for _, ring := range []*controlv1.InstanceReport{{Generation: 1}, {Generation: 2}, {Generation: 3, Epoch: 2, Number: 5, EngineRunning: true}} {
		e := newEpochs()
		l := link.New(client, "demo", "demo-1",
			func() *controlv1.InstanceReport { return proto.CloneOf(ring) }, e, slog.New(slog.DiscardHandler))
		stop := run(t, l)
		last := c.reports(t, fmt.Sprint("generation ", ring.GetGeneration()), func(r *controlv1.InstanceReport) bool {
			return r.GetGeneration() == ring.GetGeneration()
		})
		stop()
		if ring.GetEpoch() != 0 {
			if before := <-e.over; before.GetEpoch() != 1 || before.GetNumber() != 70 || before.GetDurable() != 60 || !before.GetSeenAt().AsTime().Equal(seen.AsTime()) {
				t.Errorf("heard %v, want what was seen last of epoch 1", before)
			}
			continue
		}
		if last.GetEpoch() != 1 || last.GetNumber() != 70 || last.GetDurable() != 60 || last.GetEngineRunning() || !last.GetSeenAt().AsTime().Equal(seen.AsTime()) {
			t.Errorf("reported %v, want what is known of epoch 1", last)
		}
		if len(e.over) != 0 {
			t.Errorf("without a ring, heard %v", <-e.over)
		}
	}
}

// A control that has lost what was wanted takes nothing away: not while it does not
// know the instance, which is told once, and not when it is registered anew. A
// stream that is started there counts.
func TestWhatControlHasForgottenIsStillWanted(t *testing.T) {
	wish := &controlv1.Desired{InstanceResourceId: "db-A", Generation: 3, Recording: true}
	c := &control{wish: wish}
	log := &said{}
	l := link.New(c.serve(t), "demo", "demo-1",
		func() *controlv1.InstanceReport { return nil }, newEpochs(), slog.New(slog.NewTextHandler(log, nil)))
	l.SetPatience(10 * time.Millisecond)
	told := make(chan string, 10)
	l.Unknown = func(_ time.Time, why string) { told <- why }
	run(t, l)
	set := func(unknown bool, wish *controlv1.Desired) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.unknown, c.wish = unknown, wish
	}
	wanted := func(want *controlv1.Desired) {
		t.Helper()
		if have, _ := l.Desired(); !proto.Equal(have, want) {
			t.Errorf("wanted is %v, want %v", have, want)
		}
	}
	c.after(t, 3, false)
	wanted(wish)
	set(true, nil)
	select {
	case why := <-told:
		if !strings.Contains(why, "not registered") {
			t.Errorf("told %q", why)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nobody was told that control does not know the instance")
	}
	c.after(t, 3, false)
	wanted(wish)
	set(false, &controlv1.Desired{InstanceResourceId: "db-B"})
	c.after(t, 3, false)
	wanted(wish)
	if len(told) != 0 || log.count("registered anew") == 0 {
		t.Errorf("told %d times more, and the log says %d times that it is registered anew", len(told), log.count("registered anew"))
	}
	started := &controlv1.Desired{InstanceResourceId: "db-B", Generation: 1, Recording: true}
	set(false, started)
	c.after(t, 3, false)
	wanted(started)
	off := &controlv1.Desired{InstanceResourceId: "db-B", Generation: 2}
	set(false, off)
	c.after(t, 3, false)
	wanted(off)
}
