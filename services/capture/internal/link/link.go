// Package link is a capture's tie to control: what is wanted comes down, what
// is done goes up.
//
// Control is never on the path of an event. While it is away, capture does what
// it was last told, which also lies in the ring's settings, so that even a
// capture that was started anew knows it.
//
// Before: services/control, which keeps what is wanted.
// Next: internal/pipeline, which is run with it.
package link

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
)

// reportEvery is how often control hears of an instance. Control calls an
// instance gone when it has heard nothing for ten times as long.
const reportEvery = time.Second

// unknownPatience is for how long control may not know an instance that it wanted
// recorded before that is told: a control that writes back what NATS has lost
// takes a moment.
const unknownPatience = 10 * time.Second

// Epochs are those that are over. Its methods are called by one goroutine.
type Epochs interface {
	// Over hears what was reported last of an epoch, before a report of another
	// takes its place.
	Over(last *controlv1.InstanceReport)
	// Again hears, before the first report, of which ends a capture before this one
	// did not know whether the notifier has them.
	Again(ends []*controlv1.EndedEpoch)
	// Untold returns the ends of which that is not known now. They go with every
	// report, for the capture that comes after this one.
	Untold() []*controlv1.EndedEpoch
}

// Link watches what control wants of one instance. Make it with New, then Run it.
type Link struct {
	// Unknown hears, once, that control has not known for a while an instance that is
	// recorded. It is set before Run, and may be nil.
	Unknown func(since time.Time, why string)

	control    controlv1.ControlServiceClient
	clusterID  string
	instanceID string
	report     func() *controlv1.InstanceReport
	epochs     Epochs
	log        *slog.Logger
	patience   time.Duration // unknownPatience, but for tests

	// known is the last report of a ring, by this capture or one before it; asked
	// says that control was asked for that. They belong to reportAlways.
	known *controlv1.InstanceReport
	asked bool

	// mu guards desired and changed.
	mu      sync.Mutex
	desired *controlv1.Desired
	changed chan struct{} // closed and replaced when desired changes
}

// New returns a link for one instance. report says what the capture does now.
func New(control controlv1.ControlServiceClient, clusterID, instanceID string, report func() *controlv1.InstanceReport,
	epochs Epochs, log *slog.Logger) *Link {
	return &Link{
		control:    control,
		clusterID:  clusterID,
		instanceID: instanceID,
		report:     report,
		epochs:     epochs,
		log:        log,
		patience:   unknownPatience,
		changed:    make(chan struct{}),
	}
}

// Desired returns what is wanted, nil if that is not known yet, and a channel
// that is closed when it changes.
func (l *Link) Desired() (*controlv1.Desired, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.desired, l.changed
}

// Remember offers what was wanted when somebody last looked: what the ring's
// settings say. What control says goes before it.
func (l *Link) Remember(d *controlv1.Desired) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.desired == nil && d != nil {
		l.set(d)
	}
}

// set needs mu.
func (l *Link) set(d *controlv1.Desired) {
	if proto.Equal(l.desired, d) {
		return
	}
	if isAnew(l.desired, d) {
		l.log.Warn("control has this instance registered anew, and no stream was ever started for it; recording goes on as it was wanted: "+
			"start the stream with `weir stream start`, and stop it then if it is not wanted",
			obs.KeyCluster, l.clusterID, obs.KeyInstance, l.instanceID, "resource", d.GetInstanceResourceId())
		return
	}
	l.desired = d
	close(l.changed)
	l.changed = make(chan struct{})
}

// isAnew says whether now is the wish of a registration of which nobody has ever
// wished anything, in the place of one that is recorded: NATS lost what was wanted,
// and the instance was registered again. That must not switch the audit off.
func isAnew(before, now *controlv1.Desired) bool {
	return before.GetRecording() && now.GetGeneration() == 0 && !now.GetRecording() &&
		before.GetInstanceResourceId() != now.GetInstanceResourceId()
}

// Run watches and reports until ctx ends. A control that is away is no error.
func (l *Link) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { l.watch(ctx) })
	wg.Go(func() { l.reportAlways(ctx) })
	wg.Wait()
	return nil
}

func (l *Link) watch(ctx context.Context) {
	wait := backoff.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	down := false
	var unknown time.Time // since when control does not know the instance; zero while it does, or is away
	told := false
	for ctx.Err() == nil {
		heard := false
		err := l.watchOnce(ctx, func() {
			heard, unknown, told = true, time.Time{}, false
			wait.Reset()
			if down {
				l.log.Info("control is back")
				down = false
			}
		})
		if ctx.Err() != nil {
			return
		}
		// A stream that was heard may end: control asks its connections to move
		// now and then. What counts is whether the next one is heard.
		err = fault.FromStatus(err)
		if !down && !heard {
			l.complain(err)
			down = true
		}
		desired, _ := l.Desired()
		switch {
		case heard || !fault.Is(err, fault.Invalid) || !desired.GetRecording():
			unknown = time.Time{}
		case unknown.IsZero():
			unknown = time.Now()
		case !told && time.Since(unknown) >= l.patience && l.Unknown != nil:
			told = true
			l.Unknown(unknown, err.Error())
		}
		if wait.Wait(ctx) != nil {
			return
		}
	}
}

// complain says why control is not heard, and what to do where waiting is not enough.
func (l *Link) complain(err error) {
	if fault.Is(err, fault.Invalid) {
		l.log.Warn("control does not know this instance; what was wanted last goes on; register it with `weir cluster create` and `weir instance add`",
			obs.KeyCluster, l.clusterID, obs.KeyInstance, l.instanceID, obs.KeyErr, err)
		return
	}
	if fault.Is(err, fault.Denied) {
		l.log.Error("control refuses this capture's certificate; see rpc.allow in control's configuration", obs.KeyErr, err)
		return
	}
	l.log.Warn("control is away; going on with what it said last", obs.KeyErr, err)
}

// watchOnce follows one stream of control's until it breaks.
func (l *Link) watchOnce(ctx context.Context, heard func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := l.control.WatchInstance(ctx, &controlv1.WatchInstanceRequest{ClusterId: l.clusterID, InstanceId: l.instanceID})
	if err != nil {
		return err
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		heard()
		l.mu.Lock()
		l.set(answer.GetDesired())
		l.mu.Unlock()
	}
}

func (l *Link) reportAlways(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		_, changed := l.Desired()
		l.reportOnce(ctx)
		select {
		case <-ctx.Done():
			return
		case <-changed:
			// Whoever waits for a change to be carried out waits less.
			pause(ctx, reportEvery/10)
		case <-tick.C:
		}
	}
}

// reportOnce is best effort: the next report says more than this one.
func (l *Link) reportOnce(ctx context.Context) {
	report := l.report()
	if report == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reportEvery)
	defer cancel()
	err := l.askBefore(ctx)
	if err == nil {
		l.compare(report)
		report.Ended = l.epochs.Untold()
		_, err = l.control.ReportInstance(ctx, &controlv1.ReportInstanceRequest{
			ClusterId: l.clusterID, InstanceId: l.instanceID, Report: report,
		})
	}
	if err != nil && ctx.Err() == nil {
		l.log.Debug("report not taken", obs.KeyErr, fault.FromStatus(err))
	}
}

// askBefore asks what was reported last, before the first report takes its place,
// and be it of a capture that has no ring yet: one that went with its host is
// known by that alone.
func (l *Link) askBefore(ctx context.Context) error {
	if l.asked {
		return nil
	}
	answer, err := l.control.ReportInstance(ctx, &controlv1.ReportInstanceRequest{ClusterId: l.clusterID, InstanceId: l.instanceID, Ask: true})
	if err != nil {
		return err
	}
	l.asked = true
	last := answer.GetLast()
	if last.GetEpoch() != 0 {
		l.known = last
	}
	if ends := last.GetEnded(); len(ends) > 0 {
		l.epochs.Again(ends)
	}
	return nil
}

// compare holds a report against what is known. One of a capture without a ring
// says what that is: the next capture must still hear of it.
func (l *Link) compare(report *controlv1.InstanceReport) {
	known := l.known
	if report.GetEpoch() != 0 {
		if known != nil && known.GetEpoch() != report.GetEpoch() {
			l.epochs.Over(known)
		}
		l.known = proto.CloneOf(report)
		l.known.ReportedAt = timestamppb.Now()
		return
	}
	if known == nil {
		return
	}
	report.Epoch, report.Number, report.Durable, report.Lost = known.GetEpoch(), known.GetNumber(), known.GetDurable(), known.GetLost()
	report.Released, report.Refused, report.Unnumbered = known.GetReleased(), known.GetRefused(), known.GetUnnumbered()
	report.EngineVersion, report.SeenAt = known.GetEngineVersion(), known.GetReportedAt()
	if known.GetSeenAt() != nil {
		report.SeenAt = known.GetSeenAt()
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// Encode returns d, and what is known of the journal, as the ring's settings keep it.
func Encode(d *controlv1.Desired, known *controlv1.KnownJournal) ([]byte, error) {
	d = proto.CloneOf(d)
	if d != nil {
		d.KnownJournal = known
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encoding settings: %w", err)
	}
	return b, nil
}

// Decode is Encode's reverse. Settings that are not its output give nil: then
// control has to be asked.
func Decode(settings []byte) (*controlv1.Desired, *controlv1.KnownJournal) {
	d := new(controlv1.Desired)
	if len(settings) == 0 || proto.Unmarshal(settings, d) != nil || d.GetInstanceResourceId() == "" {
		return nil, nil
	}
	known := d.GetKnownJournal()
	d.KnownJournal = nil
	return d, known
}
