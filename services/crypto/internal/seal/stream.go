package seal

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
)

// windowRecords bounds the records of one stream that are on their way, beside
// the window in bytes: heartbeats are small, and each costs a goroutine.
const windowRecords = 256

// errDraining ends streams when the service stops.
var errDraining = fault.As(fault.NotReady, errors.New("this replica is stopping; go on with another"))

// stream is one Seal call.
type stream struct {
	server *Server
	conn   cryptov1.CryptoService_SealServer
	open   *cryptov1.SealOpen
	oldest atomic.Pointer[time.Time] // of the first item in flight; nil when none is

	// What follows belongs to the goroutine of run alone.
	flight  []*item // in order; the first has sequence durable+1, until broken
	bytes   int64   // of clear text in flight
	durable uint64  // everything up to this is on disk or refused
	last    uint64  // the last sequence taken
	broken  bool    // a record could not be journalled: nothing more is acknowledged
}

// item is one record on its way, with what became of it.
type item struct {
	seq   uint64
	size  int64
	since time.Time
	done  bool
	err   error
}

// run takes records until the sender is done, the service drains or a record
// cannot be journalled; then it waits for those in flight, acknowledges what
// there is to acknowledge and returns why it ended. Those in flight end soon: the
// journal and KMS have time limits, and all of them fail when the stream breaks.
func (st *stream) run(draining <-chan struct{}) error {
	ctx := st.conn.Context()
	records := make(chan *cryptov1.SealRecord, 1)
	stop := make(chan struct{})
	// received belongs to receive until records is closed. Nobody waits for
	// receive: it blocks in Recv, which ends only when the handler has returned.
	received := new(error)
	go st.receive(records, stop, received)
	defer close(stop)

	var work sync.WaitGroup
	defer work.Wait() // after this the connection is gone
	defer func() { st.returned(len(st.flight)) }()
	finished := make(chan *item, windowRecords)

	var ended error
	for taking := true; taking || len(st.flight) > 0; {
		source, drain := records, draining
		if !taking {
			source, drain = nil, nil
		} else if len(st.flight) > 0 && (st.bytes >= st.server.window || len(st.flight) >= windowRecords) {
			source = nil
		}
		select {
		case r, ok := <-source:
			if !ok {
				taking, ended = false, *received
				continue
			}
			it, err := st.take(r)
			if err != nil {
				taking, ended = false, err
				continue
			}
			work.Go(func() {
				it.err = st.server.sealer.seal(ctx, st.open, r)
				finished <- it // never blocks: it has room for all in flight
			})
		case it := <-finished:
			if err := st.finish(it, finished); err != nil && taking {
				taking, ended = false, err
			}
		case <-drain:
			taking, ended = false, errDraining
		case <-ctx.Done():
			return fault.As(fault.NotReady, ctx.Err())
		}
	}
	return ended
}

// receive passes on the sender's records until it is done or stop is closed. Of
// the records it holds one, beside the one in the channel.
func (st *stream) receive(records chan<- *cryptov1.SealRecord, stop <-chan struct{}, err *error) {
	defer close(records)
	for {
		msg, recvErr := st.conn.Recv()
		switch {
		case errors.Is(recvErr, io.EOF):
			return
		case recvErr != nil:
			*err = fault.As(fault.NotReady, fmt.Errorf("receiving records: %w", recvErr))
			return
		case msg.GetRecord() == nil:
			*err = fault.As(fault.Invalid, errors.New("a message after the first must carry a record"))
			return
		}
		select {
		case records <- msg.GetRecord():
		case <-stop:
			return
		}
	}
}

// take admits a record into the window.
func (st *stream) take(r *cryptov1.SealRecord) (*item, error) {
	if r.GetSequence() != st.last+1 {
		return nil, fault.As(fault.Invalid, fmt.Errorf("record %d after %d", r.GetSequence(), st.last))
	}
	st.last++
	it := &item{seq: st.last, size: int64(len(r.GetPlaintext()) + len(r.GetSealedPlaintext())), since: time.Now()}
	st.flight = append(st.flight, it)
	st.bytes += it.size
	st.setOldest()
	st.server.hop.In(1)
	return it, nil
}

// finish notes what became of it, and of whatever else is finished by now, and
// answers with one message, or one more for each refused record. It returns why
// the stream has to end, if it has.
func (st *stream) finish(it *item, finished <-chan *item) error {
	var ended error
	for more := true; more; {
		it.done = true
		if it.err != nil && !refusal(it.err) && ended == nil {
			ended = it.err
		}
		select {
		case it = <-finished:
		default:
			more = false
		}
	}
	return errors.Join(ended, st.acknowledge())
}

// refusal says whether a record, and nothing but the record, is at fault.
func refusal(err error) bool {
	return fault.Is(err, fault.Invalid) && !isKeyError(err)
}

func isKeyError(err error) bool {
	_, ok := errors.AsType[*keyError](err)
	return ok
}

// acknowledge answers for the finished records at the head of the flight. What
// is behind a record that failed is not acknowledged, even if it is on disk,
// since acknowledgements are cumulative: the sender sends it again, and the
// journal knows it.
func (st *stream) acknowledge() error {
	said := st.durable
	for len(st.flight) > 0 && st.flight[0].done {
		it := st.flight[0]
		st.drop()
		st.broken = st.broken || it.err != nil && !refusal(it.err)
		if st.broken {
			st.returned(1)
			continue
		}
		st.durable = it.seq
		if it.err == nil {
			st.server.hop.Out(1)
			continue
		}
		if err := st.refuse(it); err != nil {
			return err
		}
		said = st.durable
	}
	if st.durable == said {
		return nil
	}
	return st.send(&cryptov1.SealResponse{DurableThrough: st.durable})
}

// refuse tells the sender that a record can never be sealed. It counts as
// acknowledged, which the same message says.
func (st *stream) refuse(it *item) error {
	st.server.refused.Add(st.conn.Context(), 1)
	st.server.log.Error("record refused", obs.KeyCluster, st.open.GetClusterResourceId(),
		obs.KeyInstance, st.open.GetInstanceResourceId(), obs.KeySeq, it.seq, obs.KeyErr, it.err)
	return st.send(&cryptov1.SealResponse{
		DurableThrough: it.seq, RefusedSequence: it.seq, RefusedReason: it.err.Error(),
	})
}

// returned counts records that the sender will send again.
func (st *stream) returned(n int) {
	st.server.returned.Add(st.conn.Context(), int64(n))
}

// drop takes the head out of the flight.
func (st *stream) drop() {
	st.bytes -= st.flight[0].size
	st.flight[0] = nil
	st.flight = st.flight[1:]
	st.setOldest()
}

func (st *stream) setOldest() {
	if len(st.flight) == 0 {
		st.oldest.Store(nil)
		return
	}
	st.oldest.Store(&st.flight[0].since)
}

func (st *stream) send(r *cryptov1.SealResponse) error {
	if err := st.conn.Send(r); err != nil {
		return fault.As(fault.NotReady, fmt.Errorf("acknowledging: %w", err))
	}
	return nil
}
