package dev

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	capturev1 "github.com/weir-das/weir/proto/gen/weir/capture/v1"
	publisherv1 "github.com/weir-das/weir/proto/gen/weir/publisher/v1"
)

// drainLimit bounds how long a stop waits for each half of the way. What is
// not delivered by then waits in the ring or the journal for the next start.
const drainLimit = 30 * time.Second

// outcome is how far a stop got.
type outcome struct {
	recorded uint64 // events of this epoch that have a number
	lost     uint64 // those without a record
	// inRing and inJournal are what did not get further; inJournal counts
	// records, of many events each.
	inRing, inJournal uint64
}

// drain waits until everything that the database has recorded is in Kinesis.
// It works with the services while all of them still run, and stops waiting
// when ctx ends.
func (m *mesh) drain(ctx context.Context) (outcome, error) {
	var o outcome
	err := m.poll(ctx, m.file.Capture, func(ctx context.Context, conn *grpc.ClientConn) (bool, error) {
		st, err := capturev1.NewCaptureServiceClient(conn).GetStatus(ctx, &capturev1.GetStatusRequest{})
		if err != nil {
			return false, fmt.Errorf("asking capture: %w", err)
		}
		if o.recorded == 0 || m.db != nil {
			// Somebody else's server goes on: what it had recorded when the
			// stop began is enough.
			o.recorded = st.GetNumber()
		}
		o.lost, o.inRing = st.GetLost(), o.recorded-min(st.GetDurable(), o.recorded)
		return o.inRing == 0, nil
	})
	if err != nil {
		return o, err
	}
	err = m.poll(ctx, m.file.Publisher, func(ctx context.Context, conn *grpc.ClientConn) (bool, error) {
		st, err := publisherv1.NewPublisherServiceClient(conn).GetStatus(ctx, &publisherv1.GetStatusRequest{})
		if err != nil {
			return false, fmt.Errorf("asking publisher: %w", err)
		}
		o.inJournal = st.GetWaiting()
		return o.inJournal == 0, nil
	})
	return o, err
}

// poll asks until it is done or drainLimit is over. Not done in time is no
// error: what was counted last says it.
func (m *mesh) poll(ctx context.Context, dial func() (*grpc.ClientConn, error), ask func(context.Context, *grpc.ClientConn) (bool, error)) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := ask(ctx, conn)
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return nil
		case err != nil || done:
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// tell prints what became of everything recorded.
func (m *mesh) tell(o outcome, err error) {
	if err != nil {
		m.say("could not see everything delivered: %v", err)
	}
	if o.inRing > 0 || o.inJournal > 0 || err != nil {
		where := "the ring"
		if m.spool.config.Dir != "" {
			where = "the ring or the spool"
		}
		m.say("%d events recorded, %d lost; %d are still in %s and %d records in the journal: the next start with --data %s delivers them",
			o.recorded, o.lost, o.inRing, where, o.inJournal, m.dir.path)
		return
	}
	if o.lost == 0 {
		m.say("%d events recorded, and all of them delivered to Kinesis", o.recorded)
		return
	}
	m.say("%d events numbered, %d of them lost and told as gaps, all others delivered to Kinesis", o.recorded, o.lost)
}
