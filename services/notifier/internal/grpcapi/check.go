package grpcapi

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/weir-das/weir/pkg/fault"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/notifier/internal/events"
)

// Limits on what a request may say, in bytes. A longer detail is cut.
const (
	maxSource = 63
	maxKey    = 256
	maxWindow = 200
	maxDetail = 1024
)

// check reports everything that is wrong with a request.
func (s *Server) check(req *notifierv1.NotifyRequest) (events.Entry, error) {
	entry, known := s.catalogue[req.GetKind()]
	errs := []error{checkSource(req.GetSourceId()), checkKey(req.GetIdempotencyKey())}
	if !known {
		errs = append(errs, fmt.Errorf("kind %d: not one that can happen", req.GetKind()))
	}
	if known && entry.Window {
		errs = append(errs, fmt.Errorf("kind %v: told by opening or closing a window", req.GetKind()))
	}
	if (req.GetEpochEnd() != nil) != (req.GetKind() == notifierv1.EventKind_EVENT_KIND_EPOCH_ENDED) {
		errs = append(errs, errors.New("epoch_end: goes with the end of an epoch, and nothing else"))
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

// checkWindow reports everything that is wrong with a window.
func checkWindow(w *notifierv1.Window) error {
	errs := []error{checkSource(w.GetInstanceId())}
	invalid := func(format string, args ...any) { errs = append(errs, fmt.Errorf("window."+format, args...)) }
	if id := w.GetId(); len(id) > maxWindow || !strings.HasPrefix(id, w.GetInstanceId()+"/") || strings.Trim(id, idCharacters) != "" || strings.HasSuffix(id, "/") {
		invalid("id: %.220q, want the instance's id, a slash, and letters, digits, -, _ and / to at most %d", id, maxWindow)
	}
	if w.GetClusterId() != "" {
		if err := checkSource(w.GetClusterId()); err != nil {
			invalid("cluster_id: %w", err)
		}
	}
	if _, known := notifierv1.Cause_name[int32(w.GetCause())]; !known || w.GetCause() == notifierv1.Cause_CAUSE_UNSPECIFIED {
		invalid("cause %d: not one that can be", w.GetCause())
	}
	if w.GetFirst() > w.GetLast() && w.GetLast() != 0 {
		invalid("first: %d, after last, %d", w.GetFirst(), w.GetLast())
	}
	switch begin, end := w.GetBegin(), w.GetEnd(); {
	case begin == nil || begin.CheckValid() != nil:
		invalid("begin: missing, or no time")
	case end == nil && !w.GetOpen():
		invalid("end: missing")
	case end != nil && end.CheckValid() != nil:
		invalid("end: no time")
	case end != nil && end.AsTime().Before(begin.AsTime()):
		invalid("end: before its begin")
	}
	return fault.As(fault.Invalid, errors.Join(errs...))
}

// idCharacters are those of a window's id: it is a key in NATS.
const idCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/"
