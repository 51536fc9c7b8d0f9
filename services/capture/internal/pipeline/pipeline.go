// Package pipeline takes what the engine wrote into the ring to the journal:
// read, rendered, chained, put into records, sealed by crypto, acknowledged.
//
// One idea carries it: the ring is the retransmission buffer. The pipeline
// holds nothing that the ring does not hold still. Its tail moves when the
// journal has an event on disk, or the spool, never when it is merely sent; so a
// pipeline that dies is forgotten, and the next one begins at the tail, with
// the chain's state that lies beside it.
//
// Before: internal/ring, where the events are read.
// Next: internal/outbox, which carries closed records to crypto.
package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/pkg/obs"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/capture/internal/chain"
	"github.com/weir-das/weir/services/capture/internal/outbox"
	"github.com/weir-das/weir/services/capture/internal/render"
	"github.com/weir-das/weir/services/capture/internal/ring"
	"github.com/weir-das/weir/services/capture/internal/spool"
)

// A record is closed at whichever comes first. A single number larger than the
// byte limits has a record of its own: rendering bounds it.
const (
	maxRecordBytes  = 512 << 10
	maxRecordEvents = 1000
	maxRecordAge    = 20 * time.Millisecond
	// maxAuroraBytes keeps the compressed payload within the 8 KiB that some
	// consumers read at once: gzip never makes it longer than its input by
	// more than the slack left here.
	maxAuroraBytes = 7 << 10
)

const (
	maxInFlight    = 16
	maxWindowBytes = 16 << 20

	// The pipeline naps while the ring is empty: it costs the engine nothing
	// and an idle capture next to nothing.
	minNap = time.Millisecond
	maxNap = 5 * time.Millisecond

	heartbeatEvery = time.Second
)

// Config is what one run of a pipeline needs.
type Config struct {
	Ring    *ring.Ring
	Desired *controlv1.Desired
	// ClusterID is the cluster as people know it.
	ClusterID string
	Crypto    cryptov1.CryptoServiceClient
	Renderer  *render.Renderer
	// Wanted is what is wanted now: recording, mode and policy may differ from
	// Desired while the stream is the same.
	Wanted func() *controlv1.Desired
	// Notice is told what the engine noticed, as it is read: after a restart
	// again, with the same number. It must not block. May be nil.
	Notice   func(epoch uint64, notice das.Notice)
	Streams  int           // to crypto
	Drain    time.Duration // how long Run goes on after ctx ends, to empty the ring
	Progress *Progress
	Hop      *obs.Hop
	Tracer   trace.Tracer
	Log      *slog.Logger
	// Witness hears of loss, and of sessions that go on before their records are durable.
	Witness Witness
	// Spool takes what the ring has no room for while the path is down. May be nil.
	Spool *spool.Spool
}

// Progress is where a pipeline stands, for others to read at any time.
type Progress struct {
	Durable atomic.Uint64 // every number to it is on the journal's disk, or told as a gap
	Lost    atomic.Uint64 // numbers without an event, in this epoch
	Oldest  atomic.Int64  // Unix µs of the oldest event that is not durable, but for the spool's; 0 when none waits

	outbox atomic.Pointer[outbox.Outbox] // of the pipeline that runs
}

// Trouble says why records do not reach the journal now; empty while they do.
func (p *Progress) Trouble() string {
	if o := p.outbox.Load(); o != nil {
		return o.Trouble()
	}
	return ""
}

type pipeline struct {
	cfg                                   Config
	epoch                                 uint64
	clusterResourceID, instanceResourceID string
	maxBytes                              int
	reader                                *ring.Reader
	outbox                                *outbox.Outbox
	spread                                spread
	notary                                notary

	// All below belongs to the run goroutine.
	window    window
	open      *record // being filled; nil when there is none
	hash      chain.Hash
	through   uint64 // the number that hash is after
	lost      uint64
	losses    losses  // as the log has to be told of them
	scratch   []byte  // one event's elements, before it is known where they go
	heartbeat *record // the one on its way; there is never a second
	nap       time.Duration
	nextBeat  time.Time
	stopped   bool // nothing more is read; what was read is delivered
	wanted    *controlv1.Desired
	sent      time.Time // when the last record was closed
	gathering time.Time // since when the open record waits for more sessions; zero when it does not
	crowd     crowd
	load      *load
	health    health
	spooling  spooling
}

// Run moves events until ctx ends, and then for at most cfg.Drain until what
// was read is acknowledged; if no server lives that could write more, until the
// ring is empty. It returns nil then; an error says that the ring cannot be
// read. What is not acknowledged when Run returns is still in the ring.
func Run(ctx context.Context, cfg Config) error {
	p := newPipeline(cfg)
	defer p.load.close()
	cfg.Progress.outbox.Store(p.outbox)
	defer cfg.Progress.outbox.Store(nil)

	// The outbox outlives ctx, to deliver what is drained.
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	sent := make(chan error, 1)
	go func() { sent <- p.outbox.Run(sending) }()
	var notary sync.WaitGroup
	notary.Go(func() { p.notary.run(sending, p) })
	err := p.run(ctx)
	stop()
	notary.Wait()
	return errors.Join(err, <-sent)
}

func newPipeline(cfg Config) *pipeline {
	reader := cfg.Ring.Reader()
	position := reader.Position()
	p := &pipeline{
		cfg:                cfg,
		epoch:              cfg.Ring.Epoch(),
		clusterResourceID:  cfg.Desired.GetClusterResourceId(),
		instanceResourceID: cfg.Desired.GetInstanceResourceId(),
		maxBytes:           maxRecordBytes,
		reader:             reader,
		hash:               position.Hash,
		through:            position.Number,
		lost:               position.Lost,
		losses:             losses{log: cfg.Log},
		nap:                minNap,
		health:             newHealth(cfg),
		load:               newLoad(),
	}
	if position.Number == 0 {
		p.hash = chain.Genesis(p.epoch)
	}
	if cfg.Desired.GetRecordLayout() == controlv1.RecordLayout_RECORD_LAYOUT_AURORA {
		p.maxBytes = maxAuroraBytes
	}
	p.outbox = outbox.New(cfg.Crypto, &cryptov1.SealOpen{
		ClusterResourceId:  p.clusterResourceID,
		InstanceResourceId: p.instanceResourceID,
		KmsKeyId:           cfg.Desired.GetKmsKeyId(),
		KinesisStream:      cfg.Desired.GetKinesisStream(),
		Version:            das.VersionPostgreSQL,
		ClusterId:          cfg.ClusterID,
	}, cfg.Streams, cfg.Ring.Wake, cfg.Log)
	d := p.durable()
	p.notary.resumed = head{d.Number, d.Hash}
	cfg.Progress.Durable.Store(d.Number)
	cfg.Progress.Lost.Store(position.Lost)
	return p
}

// run is the only goroutine that reads the ring and moves its tail.
func (p *pipeline) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer func() { p.losses.tell(time.Now()) }()
	if err := p.resumeSpool(); err != nil {
		return err
	}
	done, deadline := ctx.Done(), time.Time{}
	for {
		now := time.Now()
		p.wanted = p.cfg.Wanted()
		if err := p.fill(now); err != nil {
			return err
		}
		if err := errors.Join(p.spill(now, !deadline.IsZero()), p.collect()); err != nil {
			return err
		}
		if !deadline.IsZero() && (p.drained() || now.After(deadline)) {
			return nil
		}
		nap := p.nap
		if p.synchronous() && !p.stopped && !p.window.full() {
			if err := p.sleep(); err != nil {
				return err
			}
			nap = 0 // what happened meanwhile is looked at below
		}
		timer.Reset(nap)
		select {
		case result := <-p.outbox.Results():
			if err := p.settle(result); err != nil {
				return err
			}
			p.nap = minNap
		case <-timer.C:
		case <-done:
			done, deadline = nil, time.Now().Add(p.cfg.Drain)
			p.stopped = p.cfg.Ring.EngineRunning()
			p.nap = minNap
		}
	}
}

// fill reads until the ring is empty or the window is full, and closes what is due.
func (p *pipeline) fill(now time.Time) error {
	read := false
	for !p.stopped && !p.window.full() {
		more, err := p.readOne(now)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		read = true
	}
	if read {
		p.nap = minNap
	} else {
		p.nap = min(2*p.nap, maxNap)
	}
	if p.open != nil && !p.window.full() && (now.Sub(p.open.begun) >= maxRecordAge || p.hurried(now)) {
		p.send()
		p.sent, p.gathering = now, time.Time{}
	}
	if now.After(p.nextBeat) {
		p.nextBeat = now.Add(heartbeatEvery)
		p.beat()
	}
	p.losses.flush(now)
	p.progress()
	return p.health.look(now, p.since(), p.wanted)
}

// drained says whether nothing is left to do.
func (p *pipeline) drained() bool {
	return p.open == nil && len(p.window.records) == 0
}

// send closes the open record and gives it to the outbox.
func (p *pipeline) send() {
	r := p.open
	p.open = nil
	p.crowd.turn()
	r.close(p, obs.InjectTraceparent(trace.ContextWithSpan(context.Background(), r.span)))
	p.window.add(r)
	p.cfg.Hop.In(int(r.events))
	p.deliver(r)
}

// beat sends a heartbeat: the stream lives, and the chain stands here. It is
// not sent while the one before is on its way: a path that is down needs no
// queue of them.
func (p *pipeline) beat() {
	if !p.wanted.GetRecording() || p.heartbeat != nil || !p.cfg.Ring.EngineRunning() {
		return
	}
	hash, through := p.hash, p.through
	if p.open != nil && !p.open.empty() {
		hash, through = p.open.prev, p.open.first-1
	}
	if p.spooling.pending {
		// What the spool holds arrives when it does.
		d := p.durable()
		hash, through = d.Hash, d.Number
	}
	p.heartbeat = &record{prev: hash, last: hash, through: through, begun: time.Now(), checkpoint: p.notary.signed.Swap(nil)}
	p.heartbeat.close(p, "")
	p.outbox.Send(&p.heartbeat.out)
}

// since is when the first was read of what is not durable; zero when nothing
// waits. Unlike the time of an event no step of the clock changes its age.
func (p *pipeline) since() time.Time {
	var since time.Time
	if p.spooling.pending {
		since = p.spooling.since
	} else if len(p.window.records) > 0 {
		since = p.window.records[0].begun
	} else if p.open != nil {
		since = p.open.begun
	}
	if p.heartbeat != nil && (since.IsZero() || p.heartbeat.begun.Before(since)) {
		since = p.heartbeat.begun
	}
	return since
}

func (p *pipeline) progress() {
	oldest := p.window.oldest()
	if oldest.IsZero() && p.open != nil {
		oldest = p.open.oldest
	}
	us := int64(0)
	if !oldest.IsZero() {
		us = oldest.UnixMicro()
	}
	p.cfg.Progress.Oldest.Store(us)
}
