package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"github.com/weir-das/weir/pkg/obs"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/capture/internal/link"
	"github.com/weir-das/weir/services/capture/internal/notice"
	"github.com/weir-das/weir/services/capture/internal/pipeline"
	"github.com/weir-das/weir/services/capture/internal/render"
	"github.com/weir-das/weir/services/capture/internal/ring"
	"github.com/weir-das/weir/services/capture/internal/spool"
)

// superviseEvery is how often a station looks whether its engine lives and its
// ring is still the one in the file system.
const superviseEvery = time.Second

// station attaches to the ring, does what control wants with it, and attaches
// anew when the ring is replaced.
type station struct {
	cfg    Config
	crypto cryptov1.CryptoServiceClient
	link   *link.Link
	teller *notice.Teller
	spool  *spool.Spool // nil where there is none
	hop    *obs.Hop
	tracer trace.Tracer
	log    *slog.Logger

	progress pipeline.Progress
	epochs   epochs
	journey  journey

	// mu guards ring and carried, which others read for reports, and what lies in
	// the ring's settings: wanted, known and kept.
	mu      sync.Mutex
	ring    *ring.Ring         // nil while there is none
	carried *controlv1.Desired // what is wanted, as far as carried out
	wanted  *controlv1.Desired
	known   *controlv1.KnownJournal
	kept    string // the settings as they were written last
}

// errReplaced ends an attachment: the path names another file now, or none.
var errReplaced = errors.New("the ring's file was replaced")

// run attaches until ctx ends.
func (s *station) run(ctx context.Context) error {
	told := ""
	var missing absentRing
	for ctx.Err() == nil {
		err := s.attach(ctx, func() { told, missing = "", absentRing{} })
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ring.ErrOccupied) {
			// Two captures for one instance are a mistake that waiting does not mend.
			return err
		}
		if err != nil && err.Error() != told {
			s.log.Warn("no ring to read; waiting for one", "ring", s.cfg.RingFile, obs.KeyErr, err)
			told = err.Error()
		}
		missing.look(s, err)
		s.withoutRing(ctx)
	}
	return nil
}

// withoutRing waits a moment. An instance without a ring records nothing, so a
// wish to be off is carried out.
func (s *station) withoutRing(ctx context.Context) {
	if desired, _ := s.link.Desired(); desired != nil && !desired.GetRecording() {
		s.setCarried(desired)
	}
	select {
	case <-ctx.Done():
	case <-time.After(superviseEvery):
	}
}

// attach reads one ring until it is replaced, cannot be read, or ctx ends.
func (s *station) attach(ctx context.Context, attached func()) error {
	r, err := ring.Open(s.cfg.RingFile)
	if err != nil {
		return err
	}
	s.epochs.begin(r.Epoch()) // before a report can name the new one
	s.setRing(r)
	defer func() {
		s.setRing(nil)
		if err := r.Close(); err != nil {
			s.log.Warn("closing the ring", obs.KeyErr, err)
		}
	}()
	attached()
	status, err := r.Status()
	if err != nil {
		return err
	}
	s.log.Info("attached to the ring", "ring", s.cfg.RingFile, obs.KeyEpoch, status.Epoch, obs.KeyNumber, status.Number,
		"engine", status.Engine.String(), "version", status.ServerVersion)
	position := r.Reader().Position()
	s.teller.Attached(status.Epoch, position.Number, position.Lost)
	var known *controlv1.KnownJournal
	if settings, err := r.Settings(); err == nil {
		var desired *controlv1.Desired
		desired, known = link.Decode(settings)
		s.link.Remember(desired)
	}
	s.resumeJournal(status.Epoch, known)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.supervise(ctx, r); err != nil {
			cancel(err)
		}
	})
	wg.Go(func() { cancel(s.serve(ctx, r)) })
	wg.Go(func() { s.followJournal(ctx, r) })
	wg.Wait()
	s.epochs.end(r)
	err = context.Cause(ctx)
	if errors.Is(err, ring.ErrFault) || errors.Is(err, ring.ErrCorrupt) {
		s.teller.Interrupted(status.Epoch, time.Now(), err.Error())
	}
	return err
}

// serve runs the pipeline with what is wanted, and anew when that changes.
func (s *station) serve(ctx context.Context, r *ring.Ring) error {
	for ctx.Err() == nil {
		desired, changed := s.link.Desired()
		if err := s.carryOut(r, desired); err != nil {
			return err
		}
		if desired.GetKmsKeyId() == "" {
			// Not known yet, or never started: what the engine records on its
			// own stays in the ring.
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		if err := s.pump(ctx, r, desired); err != nil {
			return err
		}
	}
	return nil
}

// carryOut writes what is wanted into the ring: first where a capture that
// comes back finds it, then where the engine obeys it.
func (s *station) carryOut(r *ring.Ring, desired *controlv1.Desired) error {
	if desired == nil {
		return nil
	}
	if err := s.keep(r, desired, nil); err != nil {
		return fmt.Errorf("writing settings into the ring: %w", err)
	}
	if err := r.SetPolicy(s.policy(desired)); err != nil {
		return fmt.Errorf("writing the policy into the ring: %w", err)
	}
	s.setCarried(desired)
	return nil
}

// pump runs one pipeline for as long as its records belong to the same stream.
// Recording going on or off does not end it: what was recorded is delivered.
func (s *station) pump(ctx context.Context, r *ring.Ring, desired *controlv1.Desired) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	status, err := r.Status()
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- pipeline.Run(ctx, pipeline.Config{
			Ring:    r,
			Desired: desired, ClusterID: s.cfg.ClusterID,
			Wanted: func() *controlv1.Desired {
				d, _ := s.link.Desired()
				return d
			},
			Notice: s.noticed,
			Crypto: s.crypto,
			Renderer: render.New(render.Config{
				ServerVersion: shortVersion(status), ServiceName: s.cfg.ServiceName, ServerHost: s.cfg.ServerHost,
			}),
			Streams:  s.cfg.SealStreams,
			Drain:    s.cfg.Drain,
			Progress: &s.progress,
			Hop:      s.hop,
			Tracer:   s.tracer,
			Log:      s.log,
			Witness:  s.teller,
			Spool:    s.spool,
		})
	}()
	for {
		_, changed := s.link.Desired()
		select {
		case err := <-ended:
			return err
		case <-changed:
		}
		now, _ := s.link.Desired()
		if err := s.carryOut(r, now); err != nil {
			cancel()
			return errors.Join(err, <-ended)
		}
		if !sameStream(desired, now) {
			cancel()
			return <-ended
		}
	}
}

// policyOf is what is wanted, as the engine is told it.
func policyOf(desired *controlv1.Desired) ring.Policy {
	p := ring.Policy{Mode: ring.ModeOff, Generation: desired.GetGeneration()}
	switch {
	case !desired.GetRecording():
	case desired.GetMode() == controlv1.StreamMode_STREAM_MODE_SYNC:
		p.Mode = ring.ModeSync
	default:
		p.Mode = ring.ModeAsync
	}
	if desired.GetMode() != controlv1.StreamMode_STREAM_MODE_SYNC {
		return p
	}
	// Of a stream that is off too: a session that still waits knows how long.
	p.SyncLevel, p.OnFailure = ring.LevelTransaction, ring.FailureContinue
	switch desired.GetSyncLevel() {
	case controlv1.SyncLevel_SYNC_LEVEL_STATEMENT:
		p.SyncLevel = ring.LevelStatement
	case controlv1.SyncLevel_SYNC_LEVEL_STRICT:
		p.SyncLevel = ring.LevelStrict
	}
	if desired.GetOnFailure() == controlv1.FailurePolicy_FAILURE_POLICY_FAIL_OPERATION {
		p.OnFailure = ring.FailureFailOperation
	}
	p.SyncTimeout = desired.GetSyncTimeout().AsDuration()
	return p
}

// sameStream says whether records made for a can be sent for b. Whether to
// record, and how sessions and the stream go together, is no part of a record.
func sameStream(a, b *controlv1.Desired) bool {
	x, y := proto.CloneOf(a), proto.CloneOf(b)
	x.Generation, x.Recording, x.Mode = y.GetGeneration(), y.GetRecording(), y.GetMode()
	x.SyncLevel, x.OnFailure, x.SyncTimeout = y.GetSyncLevel(), y.GetOnFailure(), y.GetSyncTimeout()
	return proto.Equal(x, y)
}

// supervise watches the engine and the file until ctx ends.
func (s *station) supervise(ctx context.Context, r *ring.Ring) error {
	var watch engineWatch
	tick := time.NewTicker(superviseEvery)
	defer tick.Stop()
	for {
		if err := r.Seen(time.Now()); err != nil {
			return err
		}
		if err := watch.look(s, r); err != nil {
			return err
		}
		if r.Replaced() {
			if !r.EngineRunning() {
				return errReplaced
			}
			// The server still writes where we still read; nobody else could.
			watch.removed(s, r)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *station) setRing(r *ring.Ring) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring = r
	s.kept = "" // another ring may hold other settings
}

func (s *station) setCarried(desired *controlv1.Desired) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carried = desired
}

// oldest is when the oldest event that is not durable ended.
func (s *station) oldest() time.Time {
	var oldest time.Time
	if us := s.progress.Oldest.Load(); us != 0 {
		oldest = time.UnixMicro(us)
	}
	if s.spool != nil {
		if at := s.spool.Oldest(); !at.IsZero() && (oldest.IsZero() || at.Before(oldest)) {
			oldest = at
		}
	}
	return oldest
}
