package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// Limits on what a request may say, in bytes. A longer detail is cut.
const (
	maxSource   = 63
	maxKey      = 256
	maxDetail   = 1024
	defaultPage = 100
	maxPage     = 1000
)

// Server implements weir.notifier.v1.NotifierService.
type Server struct {
	notifierv1.UnsafeNotifierServiceServer

	store     *Store
	catalogue map[notifierv1.EventKind]Entry
	hop       *obs.Hop
	now       func() time.Time
	log       *slog.Logger
}

var _ notifierv1.NotifierServiceServer = (*Server)(nil)

// NewServer returns a Server that keeps events in store and counts them in hop.
func NewServer(store *Store, hop *obs.Hop, now func() time.Time, log *slog.Logger) *Server {
	s := &Server{store: store, catalogue: make(map[notifierv1.EventKind]Entry), hop: hop, now: now, log: log}
	for _, e := range Catalogue() {
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
	if peer := rpc.PeerName(ctx); !slices.Contains(entry.From, peer) {
		return nil, fault.As(fault.Denied, fmt.Errorf("%s may not tell %s, %s may", peer, entry.ID, strings.Join(entry.From, " and ")))
	}
	s.hop.In(1)
	e, isNew, err := s.store.Keep(ctx, s.event(entry, req))
	if err != nil {
		return nil, err
	}
	s.hop.Out(1)
	if isNew {
		s.log.Info("event", "event", e.GetEventId(), "source", e.GetSourceId())
	}
	return &notifierv1.NotifyResponse{Event: e}, nil
}

// check reports everything that is wrong with a request.
func (s *Server) check(req *notifierv1.NotifyRequest) (Entry, error) {
	entry, known := s.catalogue[req.GetKind()]
	errs := []error{checkSource(req.GetSourceId()), checkKey(req.GetIdempotencyKey())}
	if !known {
		errs = append(errs, fmt.Errorf("kind %d: not one that can happen", req.GetKind()))
	}
	if known && !entry.Detail && req.GetDetail() != "" {
		errs = append(errs, fmt.Errorf("detail: %s has a text of its own and takes none", entry.ID))
	}
	if at := req.GetOccurredAt(); at != nil {
		if err := at.CheckValid(); err != nil {
			errs = append(errs, fmt.Errorf("occurred_at: %w", err))
		}
	}
	return entry, fault.As(fault.Invalid, errors.Join(errs...))
}

// checkSource accepts what control accepts as an id.
func checkSource(id string) error {
	if len(id) == 0 || len(id) > maxSource {
		return fmt.Errorf("source_id: %d characters, want 1 to %d letters, digits and hyphens", len(id), maxSource)
	}
	for i := range len(id) {
		if c := id[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return fmt.Errorf("source_id %q: character %q at %d, want letters, digits and hyphens", id, c, i+1)
		}
	}
	return nil
}

// checkKey accepts what fits on one line: the key travels in a NATS header,
// which a line break would end.
func checkKey(key string) error {
	if len(key) == 0 || len(key) > maxKey {
		return fmt.Errorf("idempotency_key: %d bytes, want 1 to %d", len(key), maxKey)
	}
	for i, r := range key {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("idempotency_key: character %q at %d, want printable text", r, i+1)
		}
	}
	return nil
}

// oneLine makes a detail fit to be shown. It is often an error's text: that it
// is long, or has a line break in it, is no reason to lose the event.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > maxDetail {
		s = strings.ToValidUTF8(s[:maxDetail], "") + "…"
	}
	return strings.TrimSpace(s)
}

// event is what is kept of a request.
func (s *Server) event(entry Entry, req *notifierv1.NotifyRequest) *notifierv1.Event {
	// A clock that is ahead of ours must not put an event into the future, where
	// nobody who asks for what is new would see it in time, nor after its
	// telling: see Store.List.
	at := s.now()
	if t := req.GetOccurredAt(); t != nil && t.AsTime().Before(at) {
		at = t.AsTime()
	}
	message := entry.Message
	if d := oneLine(req.GetDetail()); d != "" {
		message += " " + d
	}
	return &notifierv1.Event{
		EventId:        entry.ID,
		Kind:           entry.Kind,
		SourceType:     entry.SourceType,
		SourceId:       req.GetSourceId(),
		OccurredAt:     timestamppb.New(at),
		Categories:     []string{entry.Category},
		Message:        message,
		IdempotencyKey: req.GetIdempotencyKey(),
	}
}

// ListEvents lists what was told, in the order in which it was.
func (s *Server) ListEvents(ctx context.Context, req *notifierv1.ListEventsRequest) (*notifierv1.ListEventsResponse, error) {
	q, err := query(req)
	if err != nil {
		return nil, fault.As(fault.Invalid, err)
	}
	page, last, err := s.store.List(ctx, q)
	if err != nil {
		return nil, err
	}
	resp := &notifierv1.ListEventsResponse{Events: page}
	if last > 0 {
		resp.NextPageToken = strconv.FormatUint(last, 10)
	}
	return resp, nil
}

func query(req *notifierv1.ListEventsRequest) (Query, error) {
	q := Query{SourceID: req.GetSourceId(), Limit: int(req.GetPageSize())}
	var errs []error
	if q.SourceID != "" {
		errs = append(errs, checkSource(q.SourceID))
	}
	if req.GetSince() != nil {
		if err := req.GetSince().CheckValid(); err != nil {
			errs = append(errs, fmt.Errorf("since: %w", err))
		}
		q.Since = req.GetSince().AsTime()
	}
	switch {
	case q.Limit == 0:
		q.Limit = defaultPage
	case q.Limit > maxPage:
		errs = append(errs, fmt.Errorf("page_size: %d, want at most %d", q.Limit, maxPage))
	}
	if token := req.GetPageToken(); token != "" {
		var err error
		if q.After, err = strconv.ParseUint(token, 10, 63); err != nil || q.After == 0 {
			errs = append(errs, fmt.Errorf("page_token: %.32q, want one that ListEvents gave", token))
		}
	}
	return q, errors.Join(errs...)
}
