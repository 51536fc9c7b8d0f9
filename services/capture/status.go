package capture

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	capturev1 "github.com/weir-das/weir/proto/gen/weir/capture/v1"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// engineWatch turns what the ring says of the engine into notices.
type engineWatch struct {
	state  ring.EngineState
	starts uint64
	told   bool // that the file was removed
	loss   lossWatch
}

// removed tells once that the ring's file is gone while its server lives.
func (w *engineWatch) removed(s *station, r *ring.Ring) {
	if w.told {
		return
	}
	w.told = true
	const detail = "the ring's file was removed or replaced while the server runs: recorded on until the server or this capture restarts"
	s.log.Error(detail, "ring", s.cfg.RingFile)
	s.teller.Interrupted(r.Epoch(), time.Now(), detail)
}

// look compares the engine with what it was a moment ago. A server that was
// killed and started between two looks is seen by its count of starts.
func (w *engineWatch) look(s *station, r *ring.Ring) error {
	status, err := r.Status()
	if err != nil {
		return err
	}
	before, starts := w.state, w.starts
	w.state, w.starts = status.State, status.Starts
	w.loss.look(s, r, status)
	s.teller.Unnumbered(status.Epoch, status.Unnumbered, time.Now())
	s.epochs.seen(status)
	desired, _ := s.link.Desired()
	running := status.State == ring.EngineRunning
	switch {
	case !desired.GetRecording():
		s.teller.Unwanted()
		return nil
	case running && before == ring.EngineRunning && status.Starts != starts:
		s.teller.Lost(status.Epoch, starts, "the server restarted after a crash")
		s.teller.Returned(status.Epoch, status.Starts, "the server is back")
	case running && before == ring.EngineUnknown:
		s.teller.Returned(status.Epoch, status.Starts, "") // of what a capture before this one told
	case running && before != ring.EngineRunning:
		s.log.Info("the engine is back", "version", status.ServerVersion)
		s.teller.Returned(status.Epoch, status.Starts, "the server is back")
	case !running && before != status.State:
		detail := "the server is gone and did not say that it would stop"
		if status.State == ring.EngineStopped {
			detail = "the server was stopped by its operator"
		}
		s.log.Warn("the engine is gone", "detail", detail)
		s.teller.Lost(status.Epoch, status.Starts, detail)
	}
	return nil
}

// noticed is told what the engine noticed about its own audit.
func (s *station) noticed(epoch uint64, n das.Notice) {
	s.log.Warn("the engine noticed something that concerns the audit", "kind", n.Kind, "subject", n.Subject,
		obs.KeyEpoch, epoch, obs.KeyNumber, n.N, "user", n.DBUserName, "session", n.SessionID, "time", n.Time)
	s.teller.Notice(epoch, n.N, n.Kind, n.Subject, n.Time)
}

// snapshot reads the ring that is attached now; false if none is.
func (s *station) snapshot() (status ring.Status, carried *controlv1.Desired, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ring == nil {
		return ring.Status{}, s.carried, false
	}
	status, err := s.ring.Status()
	return status, s.carried, err == nil
}

// report is what control hears.
func (s *station) report() *controlv1.InstanceReport {
	status, carried, ok := s.snapshot()
	report := &controlv1.InstanceReport{
		Generation: carried.GetGeneration(), InstanceResourceId: carried.GetInstanceResourceId(),
		Source: s.source(), Spool: s.spoolReport(), Trouble: shorten(s.progress.Trouble()),
	}
	if !ok {
		return report
	}
	report.EngineRunning = status.State == ring.EngineRunning
	report.EngineVersion = engineVersion(status)
	report.Epoch = status.Epoch
	report.Number = status.Number
	report.Durable = status.Durable
	report.Lost = s.progress.Lost.Load()
	report.Path = controlv1.PathState(status.Path)
	report.Released = status.Released
	report.Refused = status.Refused
	report.Unnumbered = status.Unnumbered
	return report
}

// spoolReport is what control hears of the spool, nil where there is none.
func (s *station) spoolReport() *controlv1.Spool {
	if s.spool == nil {
		return nil
	}
	status := s.spool.Status()
	report := &controlv1.Spool{
		UsedBytes: uint64(status.Used), MaxBytes: uint64(status.Limit), Events: status.Events, State: controlv1.SpoolState(status.State),
	}
	if !status.Since.IsZero() {
		report.Since = timestamppb.New(status.Since)
	}
	return report
}

// maxTrouble bounds what control is told of a trouble, in bytes.
const maxTrouble = 600

func shorten(text string) string {
	if len(text) > maxTrouble {
		text = strings.ToValidUTF8(text[:maxTrouble], "") + "…"
	}
	return text
}

// statusServer answers CaptureService.
type statusServer struct {
	capturev1.UnsafeCaptureServiceServer
	station *station
}

// GetStatus implements CaptureService.
func (s *statusServer) GetStatus(context.Context, *capturev1.GetStatusRequest) (*capturev1.GetStatusResponse, error) {
	status, _, ok := s.station.snapshot()
	if !ok {
		return nil, fault.As(fault.NotReady, fmt.Errorf("no ring at %s: is the server running with the module loaded?", s.station.cfg.RingFile))
	}
	answer := &capturev1.GetStatusResponse{
		InstanceId:    s.station.cfg.InstanceID,
		RingFile:      s.station.cfg.RingFile,
		Epoch:         status.Epoch,
		Number:        status.Number,
		Stored:        status.Stored,
		Durable:       status.Durable,
		Lost:          s.station.progress.Lost.Load(),
		RingBytes:     status.Size,
		RingUsedBytes: status.Used(),
		EngineState:   capturev1.EngineState(status.State),
		Mode:          capturev1.Mode(status.Mode),
		EngineVersion: engineVersion(status),
		Path:          capturev1.PathState(status.Path),
		Released:      status.Released,
		Refused:       status.Refused,
		Source:        s.station.source(),
		Unnumbered:    status.Unnumbered,
	}
	if s.station.spool != nil {
		answer.SpoolUsedBytes, answer.SpoolBytes = uint64(s.station.spool.Used()), uint64(s.station.spool.Limit())
	}
	if oldest := s.station.oldest(); !oldest.IsZero() {
		answer.OldestWaitingSince = timestamppb.New(oldest)
	}
	return answer, nil
}

func engineVersion(status ring.Status) string {
	return strings.TrimSpace(fmt.Sprintf("%s %s", status.Engine, shortVersion(status))) // a log does not say its server's
}

// shortVersion is the server's version without what its packager adds:
// 15.20 of 15.20 (Debian 15.20-0+deb12u1).
func shortVersion(status ring.Status) string {
	version, _, _ := strings.Cut(status.ServerVersion, " ")
	return version
}
