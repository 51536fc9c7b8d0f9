// Package stream decides what becomes of a cluster's activity stream, and does it.
//
// The one idea: it is level-triggered. Nothing is remembered between two looks
// at a cluster but its document; each look compares what is wanted with what
// is, takes the next step, and writes it by compare-and-swap. So a control that
// dies in the middle of anything goes on where it was by looking again, and it
// does not matter which replica looks.
//
//	stopped ──Start──► starting ──captures record──► started
//	   ▲                  │                             │
//	   │                 Stop                          Stop
//	   │                  ▼                             ▼
//	   └──delivered──  stopping  ◄──────────────────────┘
//
// starting: the Kinesis stream is made, the captures are told to record, and
// every capture that lives has said that it does. stopping: the captures are
// told to be off, have said so and that what they had is durable; the journal
// has handed it to Kinesis; the Kinesis stream is deleted if that was asked for.
//
// A capture that is gone holds neither up for ever: see settled. A stream that
// has started stays started whatever becomes of its captures afterwards, as
// Aurora's does; its problem then names them.
//
// What the steps do outside the registry (make or delete a Kinesis stream,
// record an event) may happen twice and then has no further effect.
//
// Before: services/control/internal/registry, which keeps the documents.
// Next: services/capture, which watches what it is told.
package stream

import (
	"fmt"
	"time"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/services/control/internal/registry"
)

// Layouts, modes, levels and policies as they are kept.
const (
	ModeAsync        = "async"
	ModeSync         = "sync"
	LayoutPacked     = "packed"
	LayoutAurora     = "aurora"
	LevelTransaction = "transaction"
	LevelStatement   = "statement"
	LevelStrict      = "strict"
	PolicyContinue   = "continue"
	PolicyFail       = "fail_operation"
	MinSyncTimeout   = 10 * time.Millisecond
	MaxSyncTimeout   = 10 * time.Minute
	UsualSyncTimeout = 5 * time.Second
)

// maxNotices bounds how many events may wait for a notifier that is away. The
// last place is kept for the stop of what was started.
const maxNotices = 32

// Start makes the stream start. With the parameters that it has already it
// changes nothing. Of a stream that runs, mode, level, policy and time-out are
// changed as it runs: the captures are told, and no record is lost or repeated.
// A fault.Conflict says why it cannot start now.
func Start(c *registry.Cluster, p registry.Params, now time.Time) error {
	s := &c.Stream
	switch s.Status {
	case registry.Starting, registry.Started:
		if !s.Params.SameRecords(p) {
			return fault.As(fault.Conflict, fmt.Errorf("stream of %s is %s with key %s and layout %s: stop it before it is started with others; only its mode can change while it runs",
				c.ID, s.Status, s.Params.KMSKeyID, s.Params.RecordLayout))
		}
		if s.Params != p {
			s.Params = p
			if s.Told.Recording { // else the captures are told when the Kinesis stream is there
				tell(s, true, now)
			}
		}
		return nil
	case registry.Stopping:
		return fault.As(fault.Conflict, fmt.Errorf("stream of %s is stopping: start it when it has stopped", c.ID))
	}
	if len(s.Notices) >= maxNotices-1 {
		return fault.As(fault.NotReady, fmt.Errorf("stream of %s: %d events wait for the notifier, which must be reached before another start", c.ID, len(s.Notices)))
	}
	s.Status, s.Since = registry.Starting, now
	s.Params = p
	s.DeleteKinesis = false
	s.Problem = ""
	return nil
}

// Stop makes the stream stop; it may still be starting. Where it is stopping
// or has stopped already it changes nothing, but that the Kinesis stream may
// still be asked to go.
func Stop(c *registry.Cluster, deleteKinesis bool, now time.Time) error {
	s := &c.Stream
	switch s.Status {
	case registry.Stopped:
		if deleteKinesis && !s.DeleteKinesis && s.Told.Generation > 0 {
			return fault.As(fault.Conflict, fmt.Errorf("stream of %s has stopped and kept its Kinesis stream: delete %s in Kinesis", c.ID, s.KinesisStream))
		}
		return nil
	case registry.Stopping:
		s.DeleteKinesis = s.DeleteKinesis || deleteKinesis
		return nil
	}
	s.Status, s.Since = registry.Stopping, now
	s.DeleteKinesis = deleteKinesis
	s.Problem = ""
	tell(s, false, now)
	return nil
}

// tell changes what the captures are told.
func tell(s *registry.Stream, recording bool, now time.Time) {
	s.Told.Generation++
	s.Told.Recording = recording
	s.Told.At = now
	if recording {
		s.Told.Params = s.Params
	}
}

// reach ends a transition: the status and the event about it are one write.
func reach(s *registry.Stream, status registry.Status, problem string, now time.Time) {
	s.Status, s.Since = status, now
	s.Problem = problem
	s.Notices = append(s.Notices, registry.Notice{Status: status, Generation: s.Told.Generation, At: now})
}

// AnySync says whether a stream is synchronous, or to be.
func AnySync(reg *registry.Registry) bool {
	return len(reg.SeenAll(func(c registry.Cluster) bool {
		return c.Stream.Params.Mode == ModeSync && c.Stream.Status != registry.Stopped
	})) > 0
}
