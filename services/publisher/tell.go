package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

const (
	tellWait = 5 * time.Second
	// maxUntold bounds what waits for a notifier that is away: more streams are not
	// deleted behind anybody's back.
	maxUntold = 100
)

// teller tells the notifier that Kinesis streams were made again, as often as it
// takes while this process lives. Without a notifier the log alone says it.
type teller struct {
	notifier notifierv1.NotifierServiceClient // nil: none is configured
	log      *slog.Logger
	untold   chan *notifierv1.NotifyRequest
	now      func() time.Time
}

func newTeller(notifier notifierv1.NotifierServiceClient, log *slog.Logger) *teller {
	return &teller{notifier: notifier, log: log, untold: make(chan *notifierv1.NotifyRequest, maxUntold), now: time.Now}
}

// remade tells that a cluster's stream was gone and is made again. It does not wait.
func (t *teller) remade(stream, cluster string) {
	if t.notifier == nil {
		return
	}
	at := t.now()
	select {
	case t.untold <- &notifierv1.NotifyRequest{
		Kind: notifierv1.EventKind_EVENT_KIND_KINESIS_STREAM_REMADE, SourceId: cluster, OccurredAt: timestamppb.New(at),
		IdempotencyKey: fmt.Sprintf("%s/remade/%d", stream, at.UnixMicro()),
		Detail:         "Kinesis stream " + stream + ".",
	}:
	default:
		t.log.Error("too much waits for the notifier: it is not told that a Kinesis stream was made again", obs.KeyStream, stream)
	}
}

// run tells until ctx ends.
func (t *teller) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-t.untold:
			t.tell(ctx, event)
		}
	}
}

func (t *teller) tell(ctx context.Context, event *notifierv1.NotifyRequest) {
	wait := backoff.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	var said sync.Once
	for {
		err := t.try(ctx, event)
		if err == nil {
			return
		}
		if fault.Is(err, fault.Invalid) || fault.Is(err, fault.Denied) {
			t.log.Error("the notifier refuses to hear that a Kinesis stream was made again: does its rpc.allow name publisher.weir?", obs.KeyErr, err)
			return
		}
		said.Do(func() { t.log.Warn("the notifier does not record what it is told; telling it again", obs.KeyErr, err) })
		if wait.Wait(ctx) != nil {
			return
		}
	}
}

func (t *teller) try(ctx context.Context, event *notifierv1.NotifyRequest) error {
	ctx, cancel := context.WithTimeout(ctx, tellWait)
	defer cancel()
	answer, err := t.notifier.Notify(ctx, event)
	if err == nil && !answer.GetRecorded() {
		return fault.As(fault.NotReady, errors.New("the notifier delivers it and cannot record it"))
	}
	return fault.FromStatus(err)
}
