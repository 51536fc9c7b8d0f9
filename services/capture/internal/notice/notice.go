// Package notice tells the notifier when the engine is no longer audited and
// when it is again. A notifier that is away is told later, with the true time.
//
// Before: the capture itself, which sees the engine come and go.
// Next: services/notifier, which keeps and delivers it.
package notice

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// queueLength bounds the notices that wait for a notifier that is away. An
// engine comes and goes a few times a day.
const queueLength = 1024

// Teller delivers notices in order. Make it with New, then Run it.
type Teller struct {
	notifier   notifierv1.NotifierServiceClient
	instanceID string
	log        *slog.Logger
	queue      chan *notifierv1.NotifyRequest
}

// New returns a teller for one instance.
func New(notifier notifierv1.NotifierServiceClient, instanceID string, log *slog.Logger) *Teller {
	return &Teller{notifier: notifier, instanceID: instanceID, log: log, queue: make(chan *notifierv1.NotifyRequest, queueLength)}
}

// Lost tells that the engine stopped being audited. starts is the ring's count
// of starts: with the epoch it names this life of the server.
func (t *Teller) Lost(epoch, starts uint64, detail string) {
	t.tell(notifierv1.EventKind_EVENT_KIND_ENGINE_LOST, fmt.Sprintf("%d/%d/lost", epoch, starts), detail)
}

// Returned tells that the engine is audited again.
func (t *Teller) Returned(epoch, starts uint64, detail string) {
	t.tell(notifierv1.EventKind_EVENT_KIND_ENGINE_RETURNED, fmt.Sprintf("%d/%d/returned", epoch, starts), detail)
}

func (t *Teller) tell(kind notifierv1.EventKind, key, detail string) {
	request := &notifierv1.NotifyRequest{
		Kind:           kind,
		SourceId:       t.instanceID,
		OccurredAt:     timestamppb.Now(),
		IdempotencyKey: t.instanceID + "/" + key,
		Detail:         detail,
	}
	select {
	case t.queue <- request:
	default:
		t.log.Error("too many notices wait for the notifier; one is dropped", "kind", kind.String(), "detail", detail)
	}
}

// Run delivers until ctx ends.
func (t *Teller) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case request := <-t.queue:
			t.deliver(ctx, request)
		}
	}
}

// deliver tries until the notifier has the notice on disk, or says that it will
// never take it. The key makes a second delivery harmless.
func (t *Teller) deliver(ctx context.Context, request *notifierv1.NotifyRequest) {
	wait := backoff.Backoff{Min: 100 * time.Millisecond, Max: 10 * time.Second}
	for warned := false; ; warned = true {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := t.notifier.Notify(attempt, request)
		cancel()
		if err == nil || ctx.Err() != nil {
			return
		}
		err = fault.FromStatus(err)
		if fault.Is(err, fault.Invalid) || fault.Is(err, fault.Denied) {
			t.log.Error("the notifier refuses a notice", "kind", request.GetKind().String(), obs.KeyErr, err)
			return
		}
		if !warned {
			t.log.Warn("the notifier is away; notices wait", obs.KeyErr, err)
		}
		if wait.Wait(ctx) != nil {
			return
		}
	}
}
