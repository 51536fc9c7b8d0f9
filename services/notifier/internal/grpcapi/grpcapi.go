// Package grpcapi is NotifierService: it holds what it is told against the
// catalogue, and who tells it, and has it kept.
//
// While NATS is away nothing can be kept. Then what is told is delivered from
// memory, answered as not recorded, and told again by whoever told it: that
// loses nothing, and the sinks know the second by its key.
//
// Before: services/control, capture and publisher, which tell; services/weir,
// which asks. Next: internal/events and internal/window; internal/deliver, while
// nothing can be kept.
package grpcapi

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/notifier/internal/events"
	"github.com/weir-das/weir/services/notifier/internal/window"
)

// keepWait bounds a write, so that a caller hears in time that NATS is away.
const keepWait = 3 * time.Second

// Server implements weir.notifier.v1.NotifierService.
type Server struct {
	notifierv1.UnsafeNotifierServiceServer

	store     *events.Store
	windows   *window.Store
	letters   *events.DeadLetters
	sinks     Sinks
	catalogue map[notifierv1.EventKind]events.Entry
	hop       *obs.Hop
	now       func() time.Time
	log       *slog.Logger
}

var _ notifierv1.NotifierServiceServer = (*Server)(nil)

// Sinks deliver what cannot be recorded.
type Sinks interface {
	// Direct delivers an event from memory, once for each key. It returns false
	// where it will not be delivered.
	Direct(e *notifierv1.Event) bool
	// Retry tries once to deliver an event to a sink that did not take it.
	Retry(ctx context.Context, sink string, e *notifierv1.Event) error
}

// New returns a Server that keeps events in store and windows in windows, and
// counts them in hop.
func New(store *events.Store, windows *window.Store, letters *events.DeadLetters, sinks Sinks, hop *obs.Hop, now func() time.Time, log *slog.Logger) *Server {
	s := &Server{store: store, windows: windows, letters: letters, sinks: sinks, catalogue: make(map[notifierv1.EventKind]events.Entry), hop: hop, now: now, log: log}
	for _, e := range events.Catalogue() {
		s.catalogue[e.Kind] = e
	}
	return s
}

// Notify records an event, once for each key. Who tells is checked by kind:
// a key is taken by whoever comes first, so one who may not tell an event must
// not be able to tell it before it happens either.
func (s *Server) Notify(ctx context.Context, req *notifierv1.NotifyRequest) (*notifierv1.NotifyResponse, error) {
	entry, err := s.check(req)
	if err != nil {
		return nil, err
	}
	if err := may(ctx, entry); err != nil {
		return nil, err
	}
	s.hop.In(1)
	ctx, cancel := context.WithTimeout(ctx, keepWait)
	defer cancel()
	told := s.event(entry, req)
	e, isNew, err := s.store.Keep(ctx, told)
	if s.unrecorded(err, told) {
		return &notifierv1.NotifyResponse{Event: told}, nil
	}
	if err != nil {
		return nil, err
	}
	s.hop.Out(1)
	if isNew {
		s.log.Info("event", "event", e.GetEventId(), "source", e.GetSourceId())
	}
	return &notifierv1.NotifyResponse{Event: e, Recorded: true}, nil
}

// event is what is kept of a request.
func (s *Server) event(entry events.Entry, req *notifierv1.NotifyRequest) *notifierv1.Event {
	// A clock that is ahead of ours must not put an event into the future, where
	// nobody who asks for what is new would see it in time, nor after its
	// telling: see Store.List.
	at := s.now()
	if t := req.GetOccurredAt(); t != nil && t.AsTime().Before(at) {
		at = t.AsTime()
	}
	detail := oneLine(req.GetDetail())
	if e := req.GetEpochEnd(); e != nil {
		detail = events.Join(events.DescribeEpochEnd(e), detail)
	}
	return &notifierv1.Event{
		EventId:        entry.ID,
		Kind:           entry.Kind,
		SourceType:     entry.SourceType,
		SourceId:       req.GetSourceId(),
		OccurredAt:     timestamppb.New(at),
		Categories:     []string{entry.Category},
		Message:        events.Join(entry.Message, detail),
		IdempotencyKey: req.GetIdempotencyKey(),
		Epoch:          req.GetEpoch(),
		Number:         req.GetNumber(),
		EpochEnd:       req.GetEpochEnd(),
	}
}

// unrecorded says whether events that could not be kept are on their way all
// the same, so that their teller may go on and tell them again later.
func (s *Server) unrecorded(err error, told ...*notifierv1.Event) bool {
	if !fault.Is(err, fault.NotReady) {
		return false
	}
	taken := true
	for _, e := range told {
		taken = s.sinks.Direct(e) && taken
	}
	return taken
}

// may says whether the caller may tell what entry says.
func may(ctx context.Context, entry events.Entry) error {
	if peer := rpc.PeerName(ctx); !slices.Contains(entry.From, peer) {
		return fault.As(fault.Denied, fmt.Errorf("%s may not tell %s, %s may", peer, entry.ID, strings.Join(entry.From, " and ")))
	}
	return nil
}
