// Package watchdog tells when a capture falls silent that should record: nobody
// else can, for a capture that is gone says nothing, and its server goes on.
//
// The one idea: silence is what this replica itself has not heard, by its own
// clock, while it could hear. A report's time says since when; but that no newer
// one came counts only from when the registry could be read, so that a NATS
// server's restart, or this replica's, is no capture's silence.
//
// It is level-triggered. What is open lies with the notifier, so the replica
// that takes over the lease goes on with it.
//
// Before: internal/registry, where reports are kept. Next: services/notifier.
package watchdog

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/control/internal/registry"
)

const (
	lookEvery = 500 * time.Millisecond
	// settled is how long a capture must be heard again before it is back: one
	// that flaps is silent once.
	settled  = 5 * time.Second
	callWait = 3 * time.Second
)

// Reports is what a watchdog reads.
type Reports interface {
	SeenAll(keep func(registry.Cluster) bool) []registry.Cluster
	Reports(ctx context.Context, c registry.Cluster) (map[string]*controlv1.InstanceReport, error)
}

// Dog watches all captures. Make it with New; one replica should Run it at a
// time, several do no harm.
type Dog struct {
	reports  Reports
	notifier notifierv1.NotifierServiceClient
	silence  time.Duration
	log      *slog.Logger

	// All below belongs to Run.
	captures map[string]*capture // by instance id
	loaded   bool                // what the notifier has open is known
	warned   bool
}

// capture is what is known of one.
type capture struct {
	cluster  string
	reported time.Time // as its last report says
	heard    time.Time // when a newer report was seen last, or nothing could be heard
	back     time.Time // when it was heard first after a silence; zero otherwise
	window   *notifierv1.Window
	told     bool // that the window is open
	wanted   bool // in this look
}

// New returns a watchdog. silence is how long a capture, which reports every
// second, may say nothing.
func New(reports Reports, notifier notifierv1.NotifierServiceClient, silence time.Duration, log *slog.Logger) *Dog {
	return &Dog{reports: reports, notifier: notifier, silence: silence, log: log}
}

// Run watches until ctx ends.
func (d *Dog) Run(ctx context.Context) error {
	d.captures, d.loaded = make(map[string]*capture), false
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if d.load(ctx) {
			d.look(ctx, time.Now())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// load asks, once, which windows a replica before this one left open.
func (d *Dog) load(ctx context.Context) bool {
	if d.loaded {
		return true
	}
	call, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	answer, err := d.notifier.ListWindows(call, &notifierv1.ListWindowsRequest{OpenOnly: true})
	if err != nil {
		d.warn(ctx, err)
		return false
	}
	for _, w := range answer.GetWindows() {
		if w.GetCause() == notifierv1.Cause_CAUSE_CAPTURE_SILENT {
			d.captures[w.GetInstanceId()] = &capture{cluster: w.GetClusterId(), reported: w.GetBegin().AsTime(), heard: time.Now(), window: w, told: true}
		}
	}
	d.loaded = true
	return true
}

// look looks at every capture once.
func (d *Dog) look(ctx context.Context, now time.Time) {
	for _, c := range d.captures {
		c.wanted = false
	}
	for _, c := range d.reports.SeenAll(func(c registry.Cluster) bool { return c.Stream.Told.Recording }) {
		call, cancel := context.WithTimeout(ctx, callWait)
		reports, err := d.reports.Reports(call, c)
		cancel()
		for _, in := range c.Instances {
			known := d.captures[in.ID]
			if known == nil {
				known = &capture{cluster: c.ID, heard: now}
				d.captures[in.ID] = known
			}
			known.wanted = true
			known.hear(reports[in.ID], err == nil, now)
			d.judge(in.ID, known, reports[in.ID], now)
		}
	}
	for id, c := range d.captures {
		if !c.wanted && c.window == nil {
			delete(d.captures, id)
		}
		d.tell(ctx, id, c, now)
	}
}

// hear takes a report. could says whether the registry could be read.
func (c *capture) hear(report *controlv1.InstanceReport, could bool, now time.Time) {
	switch at := report.GetReportedAt().AsTime(); {
	case !could, report == nil:
		c.heard = now
		c.back = time.Time{}
	case at.After(c.reported):
		if c.window != nil && c.back.IsZero() {
			c.back = at
		}
		c.reported, c.heard = at, now
	}
}

// judge opens a window for one that is silent, and finds one that is back silent again.
func (d *Dog) judge(id string, c *capture, report *controlv1.InstanceReport, now time.Time) {
	if report == nil || now.Sub(c.heard) < d.silence {
		return
	}
	c.back = time.Time{}
	if c.window != nil {
		return
	}
	begin := timestamppb.New(c.reported)
	c.window = &notifierv1.Window{
		Id:        fmt.Sprintf("%s/%d/capture_silent/%d", id, report.GetEpoch(), c.reported.UnixMicro()),
		ClusterId: c.cluster, InstanceId: id, Epoch: report.GetEpoch(), Cause: notifierv1.Cause_CAUSE_CAPTURE_SILENT,
		Begin: begin, End: begin, Open: true, LowerBound: true,
	}
	d.log.Warn("a capture is silent", obs.KeyCluster, c.cluster, obs.KeyInstance, id, "since", c.reported)
}

// tell brings the notifier to where the window is. What it does not take is told
// at the next look.
func (d *Dog) tell(ctx context.Context, id string, c *capture, now time.Time) {
	if c.window == nil {
		return
	}
	call, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	if !c.told {
		answer, err := d.notifier.OpenWindow(call, &notifierv1.OpenWindowRequest{Window: c.window, Detail: "Control hears nothing of the capture."})
		if err != nil {
			d.warn(ctx, err)
			return
		}
		c.told = answer.GetRecorded()
	}
	end, detail := c.back, "Control hears of the capture again."
	switch {
	case !c.wanted:
		end, detail = now, "The instance is not to be recorded any more."
	case c.back.IsZero() || now.Sub(c.back) < settled || now.Sub(c.heard) > d.silence/2:
		return // silent still, or perhaps again
	}
	w := c.window
	w.End, w.Open = timestamppb.New(later(end, w.GetBegin().AsTime())), false
	answer, err := d.notifier.CloseWindow(call, &notifierv1.CloseWindowRequest{Window: w, Detail: detail})
	if err != nil {
		d.warn(ctx, err)
		return
	}
	if answer.GetRecorded() {
		d.log.Info("a capture is heard again", obs.KeyCluster, c.cluster, obs.KeyInstance, id, "after", w.GetEnd().AsTime().Sub(w.GetBegin().AsTime()))
		c.window, c.told, c.back = nil, false, time.Time{}
	}
	d.warned = false
}

func (d *Dog) warn(ctx context.Context, err error) {
	if !d.warned && ctx.Err() == nil {
		d.log.Warn("the notifier cannot be told of captures that are silent", obs.KeyErr, fault.FromStatus(err))
		d.warned = true
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
