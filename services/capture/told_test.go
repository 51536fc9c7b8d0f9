package capture

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/capture/internal/link"
	"github.com/weir-das/weir/services/capture/internal/notice"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// others are control, which keeps the last report, and the notifier, which keeps
// everything once and can be away.
type others struct {
	controlv1.ControlServiceClient
	notifierv1.NotifierServiceClient

	mu      sync.Mutex
	last    *controlv1.InstanceReport
	away    bool
	events  map[string]*notifierv1.NotifyRequest
	windows map[string]*notifierv1.Window
}

func (o *others) ReportInstance(_ context.Context, in *controlv1.ReportInstanceRequest, _ ...grpc.CallOption) (*controlv1.ReportInstanceResponse, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if in.GetAsk() {
		return &controlv1.ReportInstanceResponse{Last: o.last}, nil
	}
	o.last = proto.CloneOf(in.GetReport())
	o.last.ReportedAt = timestamppb.Now()
	return &controlv1.ReportInstanceResponse{}, nil
}

func (o *others) WatchInstance(ctx context.Context, _ *controlv1.WatchInstanceRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[controlv1.WatchInstanceResponse], error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// keep is what the notifier does with what it is told.
func (o *others) keep(what func()) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away {
		return status.Error(codes.Unavailable, "away on purpose")
	}
	what()
	return nil
}

func (o *others) Notify(_ context.Context, in *notifierv1.NotifyRequest, _ ...grpc.CallOption) (*notifierv1.NotifyResponse, error) {
	return &notifierv1.NotifyResponse{Recorded: true}, o.keep(func() {
		if o.events[in.GetIdempotencyKey()] == nil {
			o.events[in.GetIdempotencyKey()] = proto.CloneOf(in)
		}
	})
}

func (o *others) CloseWindow(_ context.Context, in *notifierv1.CloseWindowRequest, _ ...grpc.CallOption) (*notifierv1.CloseWindowResponse, error) {
	return &notifierv1.CloseWindowResponse{Recorded: true}, o.keep(func() {
		if o.windows[in.GetWindow().GetId()] == nil {
			o.windows[in.GetWindow().GetId()] = proto.CloneOf(in.GetWindow())
		}
	})
}

func (o *others) ListWindows(context.Context, *notifierv1.ListWindowsRequest, ...grpc.CallOption) (*notifierv1.ListWindowsResponse, error) {
	answer := &notifierv1.ListWindowsResponse{}
	return answer, o.keep(func() { answer.Windows = slices.Collect(maps.Values(o.windows)) })
}

func (o *others) set(away bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.away = away
}

// reported is what control knows.
func (o *others) reported() *controlv1.InstanceReport {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

// told checks that each of the epochs has one end and one window of loss: its
// numbers are ten times its name, a tenth of them durable.
func (o *others) told(t *testing.T, epochs ...uint64) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.events) != len(epochs) || len(o.windows) != len(epochs) {
		t.Errorf("told are the ends %v and the losses %v, want one each of %v", o.events, o.windows, epochs)
	}
	for _, epoch := range epochs {
		end := o.events[fmt.Sprintf("db1/%d/ended", epoch)].GetEpochEnd()
		w := o.windows[fmt.Sprintf("db1/%d/ring_gone/%d", epoch, epoch+1)]
		if end.GetLast() != 10*epoch || end.GetDurable() != epoch || w.GetCount() != 9*epoch || w.GetLast() != 10*epoch {
			t.Errorf("of epoch %d is told %v, and lost %v", epoch, end, w)
		}
	}
}

// process is what a capture is made of that tells ends. kill ends it, and what it
// had not told.
type process struct {
	epochs epochs
	mu     sync.Mutex
	epoch  uint64 // that it reads; 0 without a ring
	kill   func()
}

func begin(o *others, epoch uint64) *process {
	log := slog.New(slog.DiscardHandler)
	p := &process{}
	p.epochs.teller = notice.New(o, "orders", "db1", log)
	l := link.New(o, "orders", "db1", p.report, &p.epochs, log)
	p.reads(epoch)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = l.Run(ctx) })
	wg.Go(func() { _ = p.epochs.teller.Run(ctx) })
	p.kill = func() {
		was := func() bool { o.mu.Lock(); defer o.mu.Unlock(); was := o.away; o.away = true; return was }()
		cancel()
		wg.Wait()
		o.set(was)
	}
	time.Sleep(3 * time.Second)
	return p
}

// reads lets the ring be of that epoch from now on.
func (p *process) reads(epoch uint64) {
	if epoch != 0 {
		p.epochs.begin(epoch)
		p.epochs.teller.Attached(epoch, epoch, 0)
		p.epochs.seen(ring.Status{Epoch: epoch, Number: 10 * epoch, Durable: epoch})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epoch = epoch
}

func (p *process) report() *controlv1.InstanceReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &controlv1.InstanceReport{Epoch: p.epoch, Number: 10 * p.epoch, Durable: p.epoch}
}

func untold(o *others) (epochs []uint64) {
	for _, end := range o.reported().GetEnded() {
		epochs = append(epochs, end.GetEpoch())
	}
	return epochs
}

// While the notifier is away rings come and go, and every capture dies after its
// report of a new epoch has taken the place of the one before. The end of each is
// told once, by whoever lives when the notifier is back.
func TestAnEndOutlivesItsTeller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &others{events: map[string]*notifierv1.NotifyRequest{}, windows: map[string]*notifierv1.Window{}, away: true}
		p := begin(o, 1)
		p.reads(2) // seen by itself
		time.Sleep(3 * time.Second)
		p.kill()
		for range 3 {
			begin(o, 2).kill() // knows of 1 by the report alone
		}
		begin(o, 0).kill() // before the server
		p = begin(o, 3)    // 2 by the report too
		if got := untold(o); !slices.Equal(got, []uint64{1, 2}) {
			t.Errorf("reported as untold are %v, want 1 and 2", got)
		}
		p.kill()
		p = begin(o, 3)
		o.set(false)
		time.Sleep(10 * time.Second)
		o.told(t, 1, 2)
		if got := untold(o); len(got) != 0 {
			t.Errorf("reported as untold are %v, want none", got)
		}
		// The notifier has the next one; the capture dies before control hears that.
		p.reads(4)
		time.Sleep(500 * time.Millisecond)
		o.mu.Lock()
		o.last.Epoch, o.last.Ended = 4, []*controlv1.EndedEpoch{{
			Epoch: 3, Number: 30, Durable: 3, LowerBound: true, SeenAt: timestamppb.Now(), EndedAt: timestamppb.Now(),
		}}
		before := proto.CloneOf(o.last)
		o.mu.Unlock()
		p.kill()
		o.mu.Lock()
		o.last = before
		o.mu.Unlock()
		p = begin(o, 4)
		defer p.kill()
		time.Sleep(10 * time.Second)
		o.told(t, 1, 2, 3)
		if got := untold(o); len(got) != 0 {
			t.Errorf("reported as untold are %v, want none", got)
		}
	})
}

// More rings than a report has room for come and go: the oldest are left out of it,
// and told by the capture that saw them all the same.
func TestEndsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &others{events: map[string]*notifierv1.NotifyRequest{}, windows: map[string]*notifierv1.Window{}, away: true}
		p := begin(o, 1)
		var all []uint64
		for epoch := uint64(2); epoch <= maxEnds+4; epoch++ {
			all = append(all, epoch-1)
			p.reads(epoch)
			time.Sleep(2 * time.Second)
		}
		if got := untold(o); !slices.Equal(got, all[len(all)-maxEnds:]) {
			t.Errorf("reported as untold are %v, want the last %d", got, maxEnds)
		}
		o.set(false)
		time.Sleep(10 * time.Second)
		o.told(t, all...)
		p.kill()
	})
}
