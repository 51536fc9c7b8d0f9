package events

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// kindsOf are the two events of a window: that it opened and that it closed.
func kindsOf(c notifierv1.Cause) (opened, closed notifierv1.EventKind) {
	switch c {
	case notifierv1.Cause_CAUSE_RELEASED:
		return notifierv1.EventKind_EVENT_KIND_POSSIBLE_LOSS_BEGAN, notifierv1.EventKind_EVENT_KIND_POSSIBLE_LOSS_ENDED
	case notifierv1.Cause_CAUSE_ENGINE_GONE:
		return notifierv1.EventKind_EVENT_KIND_ENGINE_LOST, notifierv1.EventKind_EVENT_KIND_ENGINE_RETURNED
	case notifierv1.Cause_CAUSE_CAPTURE_SILENT, notifierv1.Cause_CAUSE_RING_UNREADABLE:
		return notifierv1.EventKind_EVENT_KIND_AUDIT_INTERRUPTED, notifierv1.EventKind_EVENT_KIND_AUDIT_RESUMED
	}
	return notifierv1.EventKind_EVENT_KIND_LOSS_BEGAN, notifierv1.EventKind_EVENT_KIND_LOSS_ENDED
}

// OfWindow is the event that a window opened, if w is open, or that it closed.
func OfWindow(w *notifierv1.Window, detail string) *notifierv1.Event {
	opened, closed := kindsOf(w.GetCause())
	kind, at, key := opened, w.GetBegin(), w.GetId()+"/opened"
	if !w.GetOpen() {
		kind, at, key = closed, w.GetEnd(), w.GetId()+"/closed"
	}
	entry := entryOf(kind)
	return &notifierv1.Event{
		EventId: entry.ID, Kind: kind, SourceType: entry.SourceType, SourceId: w.GetInstanceId(),
		OccurredAt: at, Categories: []string{entry.Category},
		Message:        Join(entry.Message, describe(w), detail),
		IdempotencyKey: key,
		Window:         proto.CloneOf(w),
		Epoch:          w.GetEpoch(),
	}
}

// describe says in one sentence what is known of a window.
func describe(w *notifierv1.Window) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Cause: %s, since %s", CauseName(w.GetCause()), clock(w.GetBegin().AsTime()))
	if !w.GetOpen() {
		fmt.Fprintf(&b, ", until %s", clock(w.GetEnd().AsTime()))
	}
	if w.GetEpoch() != 0 {
		fmt.Fprintf(&b, "; epoch %d", w.GetEpoch())
	}
	switch {
	case w.GetFirst() != 0 && w.GetLast() != 0:
		fmt.Fprintf(&b, ", numbers %d to %d", w.GetFirst(), w.GetLast())
	case w.GetFirst() != 0:
		fmt.Fprintf(&b, ", from number %d", w.GetFirst())
	}
	if w.GetOpen() {
		return b.String() + "."
	}
	unit := "lost"
	if w.GetCause() == notifierv1.Cause_CAUSE_RELEASED {
		unit = "let go"
	}
	switch {
	case w.GetCause() == notifierv1.Cause_CAUSE_JOURNAL_LOST:
		fmt.Fprintf(&b, "; at most %d %s", w.GetCount(), unit)
	case w.GetLowerBound() && w.GetCount() == 0:
		b.WriteString("; how many are lost cannot be known")
	case w.GetLowerBound():
		fmt.Fprintf(&b, "; at least %d %s", w.GetCount(), unit)
	default:
		fmt.Fprintf(&b, "; %d %s", w.GetCount(), unit)
	}
	return b.String() + "."
}

// DescribeEpochEnd says in one sentence how an epoch ended.
func DescribeEpochEnd(e *notifierv1.EpochEnd) string {
	text := fmt.Sprintf("Epoch %d: the last number known is %d, all to %d is on disk or told", e.GetEpoch(), e.GetLast(), e.GetDurable())
	if e.GetLowerBound() {
		text += "; there may have been more"
	}
	return text + "."
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000000Z") }

// CauseName is a cause as people read it, and as a gap of the stream has it.
func CauseName(c notifierv1.Cause) string {
	return strings.ToLower(strings.TrimPrefix(c.String(), "CAUSE_"))
}

// Join puts what is known behind a text, in one line.
func Join(parts ...string) string {
	var some []string
	for _, p := range parts {
		if p != "" {
			some = append(some, p)
		}
	}
	return strings.Join(some, " ")
}

func entryOf(kind notifierv1.EventKind) Entry {
	for _, e := range Catalogue() {
		if e.Kind == kind {
			return e
		}
	}
	return Entry{}
}
