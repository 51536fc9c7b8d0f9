package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/fault"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	publisherv1 "github.com/weir-das/weir/proto/gen/weir/publisher/v1"
	"github.com/weir-das/weir/services/control/internal/registry"
)

// How long a peer may take. Making and deleting a Kinesis stream returns when
// it is active or gone, which AWS takes up to a minute for.
const (
	callWait    = 10 * time.Second
	kinesisWait = 90 * time.Second
)

// errMoved says that the cluster is no longer where the step found it. It is no
// failure: who moved it has woken the reconciler.
var errMoved = errors.New("moved on")

// outcome is how far a pass has come.
type outcome struct {
	onItsWay bool  // the stream waits for captures or the journal
	stepErr  error // a peer or the registry stands in its way
	tellErr  error // events wait for the notifier, which holds up no stream
}

// pass takes a cluster as far as it goes now.
func (r *Reconciler) pass(ctx context.Context, c registry.Cluster) (o outcome) {
	for {
		c, o.tellErr = r.tellEvents(ctx, c)
		next, err := r.step(ctx, c)
		if errors.Is(err, errMoved) {
			return outcome{}
		}
		o.stepErr = err
		o.onItsWay = next.Stream.Status == registry.Starting || next.Stream.Status == registry.Stopping
		if err != nil || next.Revision == c.Revision {
			return o
		}
		if next.Stream.Status != c.Stream.Status {
			r.log.Info("stream has a new status", append(attrs(next), "problem", next.Stream.Problem)...)
		}
		c = next
	}
}

// step takes the next step, if there is one to take, and returns the cluster
// after it.
func (r *Reconciler) step(ctx context.Context, c registry.Cluster) (registry.Cluster, error) {
	switch {
	case c.Stream.Status == registry.Starting && !c.Stream.Told.Recording:
		return r.prepare(ctx, c)
	case c.Stream.Status == registry.Starting:
		return r.awaitRecording(ctx, c)
	case c.Stream.Status == registry.Stopping:
		return r.awaitDelivered(ctx, c)
	}
	return c, nil
}

// prepare makes the Kinesis stream, then has the captures record: no event may
// wait for a stream that cannot be made.
func (r *Reconciler) prepare(ctx context.Context, c registry.Cluster) (registry.Cluster, error) {
	call, cancel := context.WithTimeout(ctx, kinesisWait)
	defer cancel()
	name := c.Stream.KinesisStream
	if err := r.confirm(ctx, c); err != nil {
		return c, err
	}
	if _, err := r.publisher.EnsureStream(call, &publisherv1.EnsureStreamRequest{Name: name}); err != nil {
		return r.heldUp(ctx, c, fmt.Errorf("making the Kinesis stream %s: %w", name, fault.FromStatus(err)))
	}
	return r.change(ctx, c, func(s *registry.Stream) {
		s.Problem = ""
		tell(s, true, r.now())
	})
}

func (r *Reconciler) awaitRecording(ctx context.Context, c registry.Cluster) (registry.Cluster, error) {
	ok, problem, err := r.settled(ctx, c)
	if err != nil {
		return c, err
	}
	if !ok {
		return r.waiting(ctx, c, problem)
	}
	return r.change(ctx, c, func(s *registry.Stream) { reach(s, registry.Started, "", r.now()) })
}

func (r *Reconciler) awaitDelivered(ctx context.Context, c registry.Cluster) (registry.Cluster, error) {
	ok, left, err := r.settled(ctx, c)
	if err != nil {
		return c, err
	}
	if !ok {
		return r.waiting(ctx, c, left)
	}
	call, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	st, err := r.publisher.GetStatus(call, &publisherv1.GetStatusRequest{ClusterResourceId: c.ResourceID})
	if err != nil {
		return r.heldUp(ctx, c, fmt.Errorf("asking the publisher what waits in the journal: %w", fault.FromStatus(err)))
	}
	if n := st.GetWaiting(); n > 0 {
		problem := "records wait in the journal for Kinesis"
		if last := st.GetLastError(); last != "" {
			problem += ": " + last
		}
		return r.waiting(ctx, c, problem)
	}
	if c.Stream.DeleteKinesis {
		if err := r.confirm(ctx, c); err != nil {
			return c, err
		}
		name := c.Stream.KinesisStream
		call, cancel := context.WithTimeout(ctx, kinesisWait)
		defer cancel()
		if _, err := r.publisher.DeleteStream(call, &publisherv1.DeleteStreamRequest{Name: name}); err != nil {
			return r.heldUp(ctx, c, fmt.Errorf("deleting the Kinesis stream %s: %w", name, fault.FromStatus(err)))
		}
	}
	if left != "" {
		left = "stopped without waiting longer for: " + left
	}
	deleted := c.Stream.DeleteKinesis
	return r.change(ctx, c, func(s *registry.Stream) {
		// It may have been asked for while the last step was being taken: then
		// the stream is still stopping, and the next look deletes.
		if s.DeleteKinesis == deleted {
			reach(s, registry.Stopped, left, r.now())
		}
	})
}

func (r *Reconciler) settled(ctx context.Context, c registry.Cluster) (ok bool, problem string, err error) {
	reports, err := r.reg.Reports(ctx, c)
	if err != nil {
		return false, "", err
	}
	ok, problem = settled(c, reports, r.now(), r.lim)
	return ok, problem, nil
}

// confirm looks again whether the stream is where the step found it, right
// before something is done that no later write takes back. A replica that was
// frozen, and has lost the lease without knowing, sees the stream of long ago:
// it must neither delete what is recorded into now nor make what was deleted.
func (r *Reconciler) confirm(ctx context.Context, c registry.Cluster) error {
	_, err := r.change(ctx, c, func(*registry.Stream) {})
	return err
}

// change writes a step, if the stream is still where the step found it.
func (r *Reconciler) change(ctx context.Context, was registry.Cluster, step func(*registry.Stream)) (registry.Cluster, error) {
	c, err := r.reg.Change(ctx, was.ID, func(c *registry.Cluster) error {
		if c.ResourceID != was.ResourceID || c.Stream.Status != was.Stream.Status || c.Stream.Told.Generation != was.Stream.Told.Generation {
			return errMoved
		}
		step(&c.Stream)
		return nil
	})
	if fault.Is(err, fault.Invalid) { // deleted in the meantime
		return c, errMoved
	}
	return c, err
}

// waiting keeps what is waited for, so that GetStream tells. It is written only
// when it has changed, and is no step: the caller gets the cluster it had.
func (r *Reconciler) waiting(ctx context.Context, c registry.Cluster, problem string) (registry.Cluster, error) {
	if problem == c.Stream.Problem {
		return c, nil
	}
	_, err := r.change(ctx, c, func(s *registry.Stream) { s.Problem = problem })
	return c, err
}

// heldUp keeps an error as the stream's problem and returns it.
func (r *Reconciler) heldUp(ctx context.Context, c registry.Cluster, cause error) (registry.Cluster, error) {
	if ctx.Err() != nil { // we are stopping: nothing is wrong with the stream
		return c, cause
	}
	if _, err := r.waiting(ctx, c, cause.Error()); err != nil {
		return c, errors.Join(cause, err)
	}
	return c, cause
}

// tellEvents has the notifier record what it has not recorded yet, oldest
// first. A notifier that is away holds up no stream.
func (r *Reconciler) tellEvents(ctx context.Context, c registry.Cluster) (registry.Cluster, error) {
	for len(c.Stream.Notices) > 0 {
		n := c.Stream.Notices[0]
		if err := r.tellEvent(ctx, c, n); err != nil {
			return c, fmt.Errorf("telling that the stream has %s in generation %d: %w", n.Status, n.Generation, err)
		}
		next, err := r.reg.Change(ctx, c.ID, func(now *registry.Cluster) error {
			if now.ResourceID != c.ResourceID {
				return errMoved
			}
			now.Stream.Notices = slices.DeleteFunc(now.Stream.Notices, func(o registry.Notice) bool {
				return o.Generation == n.Generation && o.Status == n.Status && o.At.Equal(n.At)
			})
			return nil
		})
		if err != nil {
			return c, fmt.Errorf("crossing out an event that was told: %w", err)
		}
		c = next
	}
	return c, nil
}

func (r *Reconciler) tellEvent(ctx context.Context, c registry.Cluster, n registry.Notice) error {
	// The resource id, for a name may be used again and generations begin anew.
	key := fmt.Sprintf("%s/%d/%s", c.ResourceID, n.Generation, n.Status)
	kind := notifierv1.EventKind_EVENT_KIND_STREAM_STARTED
	switch n.Status {
	case registry.Stopped:
		kind = notifierv1.EventKind_EVENT_KIND_STREAM_STOPPED
	case registry.Restored:
		kind = notifierv1.EventKind_EVENT_KIND_REGISTRY_RESTORED
		key += fmt.Sprintf("/%d", n.At.UnixMicro())
	}
	call, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	answer, err := r.notifier.Notify(call, &notifierv1.NotifyRequest{
		Kind:           kind,
		SourceId:       c.ID,
		OccurredAt:     timestamppb.New(n.At),
		IdempotencyKey: key,
	})
	if err == nil && !answer.GetRecorded() {
		return fault.As(fault.NotReady, errors.New("the notifier delivers it and cannot record it"))
	}
	return fault.FromStatus(err)
}
