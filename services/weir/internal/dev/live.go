package dev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/weir/internal/tail"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

// serve runs what needs NATS and AWS: the services, the database, the stream;
// and stops the database and the services in that order.
func (m *mesh) serve(ctx context.Context) (err error) {
	open, err := m.openServices()
	if err != nil {
		return err
	}
	m.startServices(open)
	defer func() { err = errors.Join(err, m.parts.stop()) }()
	defer func() { err = errors.Join(err, m.stopDatabase()) }() // nothing to do after an orderly stop

	// A part that fails ends the start, or the mesh.
	work, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case err := <-m.parts.failed:
			cancel(err)
		case <-work.Done():
		}
	}()
	defer func() { cancel(nil); <-watched }()

	if err := m.begin(work, open.capture); err != nil {
		switch cause := context.Cause(work); {
		case ctx.Err() != nil:
			m.say("interrupted before it was ready")
			return ctx.Err()
		case cause != nil:
			return cause // what failed, rather than what missed it
		}
		return err
	}
	return m.live(work)
}

// begin is everything between services that run and a mesh that is ready.
func (m *mesh) begin(ctx context.Context, captureBase base) error {
	conn, err := m.file.Control()
	if err != nil {
		return err
	}
	defer conn.Close()
	control := controlv1.NewControlServiceClient(conn)

	if err := m.step("waiting for the services", func() error { return m.awaitServing(ctx) }); err != nil {
		return err
	}
	if err := m.register(ctx, control); err != nil {
		return err
	}
	if err := m.ensureKey(ctx); err != nil {
		return err
	}
	if m.private() {
		if err := m.startDatabase(ctx); err != nil {
			return err
		}
	} else if _, err := os.Stat(m.ring); m.Ring != "" && errors.Is(err, fs.ErrNotExist) {
		m.say("waiting for a server that writes %s: shared_preload_libraries = 'weir', weir.ring_file = '%s'", m.ring, m.ring)
	}
	m.startCapture(captureBase)
	if err := m.step("starting the activity stream", func() error { return m.startStream(ctx, control) }); err != nil {
		return err
	}
	return m.step("waiting for capture", func() error { return m.awaitCapture(ctx) })
}

// live shows the activity until ctx ends, and then stops the mesh in order:
// the database, then everything recorded on its way to Kinesis.
func (m *mesh) live(ctx context.Context) error {
	m.log.loud.Store(true)
	finish, shown := make(chan struct{}), make(chan struct{})
	showing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		defer close(shown)
		if !m.Quiet {
			m.show(showing, finish)
		}
	}()
	err := m.writeReady()
	if err == nil {
		m.announce()
		<-ctx.Done()
		if err = context.Cause(ctx); errors.Is(err, context.Canceled) {
			err = nil // asked to
		}
	}
	m.log.loud.Store(false)

	if err != nil {
		m.say("stopping, because of %v", err)
	}
	err = errors.Join(err, m.removeReady())
	if m.db != nil {
		err = errors.Join(err, m.slowly("stopping PostgreSQL", m.stopDatabase))
	}
	var o outcome
	drained := m.slowly("delivering what is recorded", func() (err error) { o, err = m.drain(context.WithoutCancel(ctx)); return err })
	close(finish)
	end := time.AfterFunc(drainLimit, stop)
	<-shown
	end.Stop()
	m.tell(o, drained)
	err = errors.Join(err, m.parts.stop())
	if m.private() && drained == nil && o.inRing == 0 {
		if removed := os.Remove(m.ring); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("removing the ring: %w", removed))
		}
	}
	return err
}

// show is the tail: a consumer like any other, over the network, and from the
// stream's beginning, for that was after this process's. A stream that is
// stopped and deleted does not end the mesh: the next one is shown.
func (m *mesh) show(ctx context.Context, finish <-chan struct{}) {
	printer := tail.NewPrinter(m.streams, terminal.StyleOf(m.streams.Out), m.Format, false)
	refusals := tail.NewRefusals(m.streams.Err)
	told := false
	for {
		cfg, err := m.file.AWS(ctx)
		if err == nil {
			_, err = tail.Run(ctx, tail.Options{
				Kinesis: kinesis.NewFromConfig(cfg), KMS: kms.NewFromConfig(cfg),
				Stream: m.file.KinesisStream, ResourceID: m.file.ClusterResourceID, From: tail.TrimHorizon,
				Finish: finish, Take: printer.Record, Refuse: refusals.Refuse, Log: m.log.of("tail"),
				Ready: func() { told = false },
			})
		}
		if err == nil || terminal.Gone(err) {
			return // read to the end, or nobody looks any more
		}
		if !told {
			told = true
			m.say("the activity is not shown for now: %v", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-finish:
			return
		case <-time.After(2 * time.Second):
		}
	}
}

// say tells the person at the terminal something.
func (m *mesh) say(format string, args ...any) {
	fmt.Fprintf(m.streams.Err, "weir dev: "+format+"\n", args...)
}

// slow is when a step is told of before it has ended.
const slow = 700 * time.Millisecond

// step runs f, and says what it is doing if that takes long.
func (m *mesh) step(doing string, f func() error) error {
	if err := m.slowly(doing, f); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// slowly is step for what names itself in its errors.
func (m *mesh) slowly(doing string, f func() error) error {
	t := time.AfterFunc(slow, func() { m.say("%s …", doing) })
	defer t.Stop()
	return f()
}
