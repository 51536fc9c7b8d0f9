package notice

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// JournalLost tells that some of the numbers first to last of an epoch went with
// the journal, between two times. It is no part of the ring's own account, for the
// ring lost nothing. The returned function says whether the notifier has recorded it.
func (t *Teller) JournalLost(epoch, first, last uint64, from, to time.Time) (told func() bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.window(epoch, notifierv1.Cause_CAUSE_JOURNAL_LOST, fmt.Sprint(first), from)
	w.First, w.Last, w.Count = first, last, last-first+1
	it := t.put(w)
	it.detail = "NATS lost the journal with records that Kinesis does not have: weir verify says which numbers."
	t.close(it, to)
	return func() bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		return !slices.Contains(t.outbox.items, it)
	}
}

// Unknown tells that control has not known the instance since then, though it is
// recorded: what was wanted of it is lost, and nobody watches this capture.
func (t *Teller) Unknown(since time.Time, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notify(&notifierv1.NotifyRequest{
		Kind:           notifierv1.EventKind_EVENT_KIND_INSTANCE_UNKNOWN,
		OccurredAt:     timestamppb.New(since),
		IdempotencyKey: fmt.Sprintf("%s/unknown/%d", t.instanceID, since.UnixMicro()),
		Detail:         "Control says: " + why,
	})
}
