package notice

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

const (
	// maxItems bounds what waits for a notifier that is away, some 300 KiB.
	maxItems = 512
	// updateEvery is how often the notifier hears of an open window's count.
	updateEvery = 5 * time.Second
	// againAfter is when what notifier delivered but could not record is told again.
	againAfter = 2 * time.Second
	callWait   = 5 * time.Second
	lastWait   = 2 * time.Second
)

// item is one thing to tell: a window, or an event.
type item struct {
	window  *notifierv1.Window
	request *notifierv1.NotifyRequest
	detail  string // of a window
	says    string // of a notice: its place in Teller.notices
	more    int    // how many more said the same as this notice
	heard   int    // of which the notifier has been told

	version int // of what is to be told; one above sent or more: to be sent
	sent    int
	tried   bool      // the notifier may have it, though it did not answer
	next    time.Time // not before

	pushedOut bool // there was no room: it was not told
}

// outbox is what is told or will be, in order. Windows that are open stay in it.
type outbox struct {
	items []*item
}

// put adds a window that has just opened. It wants mu held, as all here.
func (t *Teller) put(w *notifierv1.Window) *item {
	if !t.heir.done {
		t.heir.own[w.GetId()] = true
	}
	return t.add(&item{window: w, version: 1})
}

// notify adds an event; nil if there is no room even for it.
func (t *Teller) notify(r *notifierv1.NotifyRequest) *item {
	r.SourceId = t.instanceID
	return t.add(&item{request: r, version: 1})
}

func (t *Teller) add(it *item) *item {
	if len(t.outbox.items) >= maxItems {
		t.makeRoom()
	}
	t.outbox.items = append(t.outbox.items, it)
	t.ring()
	return it
}

// close gives a window its end.
func (t *Teller) close(it *item, end time.Time) {
	w := it.window
	if end.Before(w.GetBegin().AsTime()) { // two clocks, or one that was set
		end = w.GetBegin().AsTime()
	}
	w.End, w.Open = timestamppb.New(end), false
	it.version++
	it.next = time.Time{}
	t.ring()
}

// makeRoom joins two windows that wait: the count stays exact, the times and
// numbers get coarser. Where there are no two, the oldest notice goes, and the
// log says so.
func (t *Teller) makeRoom() {
	var before *item
	for i, it := range t.outbox.items {
		if it.window == nil || it.window.GetOpen() || it.tried || !isLoss(it.window.GetCause()) {
			continue
		}
		if before != nil && before.window.GetEpoch() == it.window.GetEpoch() {
			w, more := before.window, it.window
			w.Last, w.End = more.GetLast(), more.GetEnd()
			w.Count += more.GetCount()
			w.LowerBound = w.GetLowerBound() || more.GetLowerBound()
			before.detail = "Several losses, told together because the notifier was away."
			before.version++
			t.outbox.items = slices.Delete(t.outbox.items, i, i+1)
			return
		}
		before = it
	}
	for _, it := range t.outbox.items {
		if it.window == nil || !it.window.GetOpen() {
			t.log.Error("too much waits for the notifier; the oldest is dropped", "what", it.name())
			it.pushedOut = true
			t.drop(it)
			return
		}
	}
}

func (t *Teller) drop(it *item) {
	if i := slices.Index(t.outbox.items, it); i >= 0 {
		t.outbox.items = slices.Delete(t.outbox.items, i, i+1)
	}
	if it.says != "" && t.notices[it.says] == it {
		delete(t.notices, it.says)
	}
}

func (it *item) name() string {
	if it.window != nil {
		return it.window.GetId()
	}
	return it.request.GetIdempotencyKey()
}

// due returns the first item to send now, and a copy of what to send.
func (t *Teller) due(now time.Time) (it *item, what proto.Message, version int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, it := range t.outbox.items {
		if it.version == it.sent || now.Before(it.next) {
			continue
		}
		it.tried = true
		switch {
		case it.request != nil:
			r := proto.CloneOf(it.request)
			if it.more > 0 {
				r.Detail += fmt.Sprintf(" (and %d more times)", it.more)
			}
			it.heard = it.more
			return it, r, it.version
		case it.window.GetOpen():
			return it, &notifierv1.OpenWindowRequest{Window: proto.CloneOf(it.window), Detail: it.detail}, it.version
		default:
			return it, &notifierv1.CloseWindowRequest{Window: proto.CloneOf(it.window), Detail: it.detail}, it.version
		}
	}
	return nil, nil, 0
}

// sender is Run's.
type sender struct {
	teller *Teller
	wait   backoff.Backoff
	next   time.Time // the notifier is away, not before
	warned bool
}

// deliver sends what is due until nothing is, or the notifier is away.
func (s *sender) deliver(ctx context.Context) {
	t := s.teller
	if s.wait.Max == 0 {
		s.wait = backoff.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	}
	if time.Now().Before(s.next) || !s.inherit(ctx) {
		return
	}
	for ctx.Err() == nil {
		it, what, version := t.due(time.Now())
		if it == nil {
			return
		}
		recorded, err := s.send(ctx, what)
		if err != nil && ctx.Err() == nil {
			err = fault.FromStatus(err)
			if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.Denied) && !fault.Is(err, fault.Conflict) {
				s.away(err)
				return
			}
			t.log.Error("the notifier refuses what it is told", "what", it.name(), obs.KeyErr, err)
			recorded = true // telling it again does not help
		}
		if err == nil {
			s.back()
		}
		t.sent(it, version, recorded)
	}
}

// deliverLast sends what is left, until ctx ends.
func (s *sender) deliverLast(ctx context.Context) {
	s.wait.Reset()
	for ctx.Err() == nil {
		s.next = time.Time{}
		s.deliver(ctx)
		if s.teller.hurry() == 0 {
			return
		}
		_ = s.wait.Wait(ctx)
	}
}

// hurry makes everything due that is to be sent, and counts it.
func (t *Teller) hurry() (left int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, it := range t.outbox.items {
		if it.version != it.sent {
			it.next = time.Time{}
			left++
		}
	}
	return left
}

func (s *sender) send(ctx context.Context, what proto.Message) (recorded bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	switch what := what.(type) {
	case *notifierv1.OpenWindowRequest:
		answer, err := s.teller.notifier.OpenWindow(ctx, what)
		return answer.GetRecorded(), err
	case *notifierv1.CloseWindowRequest:
		answer, err := s.teller.notifier.CloseWindow(ctx, what)
		return answer.GetRecorded(), err
	default:
		answer, err := s.teller.notifier.Notify(ctx, what.(*notifierv1.NotifyRequest))
		return answer.GetRecorded(), err
	}
}

// sent follows a call that was answered.
func (t *Teller) sent(it *item, version int, recorded bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !recorded {
		it.next = time.Now().Add(againAfter)
		return
	}
	it.sent = version
	switch {
	case it.more > it.heard: // said again while it was told: the rest is told together, later
		it.request.IdempotencyKey += fmt.Sprintf("/%d", it.heard)
		it.more, it.heard = it.more-it.heard-1, 0
		it.version++
		it.next = time.Now().Add(updateEvery)
	case it.request != nil, !it.window.GetOpen() && it.version == version:
		t.drop(it)
	case it.window.GetOpen():
		it.next = time.Now().Add(updateEvery)
	}
}

func (s *sender) away(err error) {
	s.next = time.Now().Add(s.wait.Next())
	if !s.warned {
		s.teller.log.Warn("the notifier is away; what it should hear waits", obs.KeyErr, err)
		s.warned = true
	}
}

func (s *sender) back() {
	s.wait.Reset()
	if s.warned {
		s.teller.log.Info("the notifier is back")
		s.warned = false
	}
}
