package seal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/weir-das/weir/pkg/esdk"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/obs"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/crypto/internal/keys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeConn is a stream whose other end is the test.
type fakeConn struct {
	grpc.ServerStream
	ctx  context.Context
	recv chan *cryptov1.SealRequest // closed: the sender is done

	mu      sync.Mutex
	answers []*cryptov1.SealResponse
}

func (c *fakeConn) Context() context.Context { return c.ctx }

func (c *fakeConn) Recv() (*cryptov1.SealRequest, error) {
	select {
	case m, ok := <-c.recv:
		if !ok {
			return nil, io.EOF
		}
		return m, nil
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
}

func (c *fakeConn) Send(r *cryptov1.SealResponse) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers = append(c.answers, r)
	return nil
}

// durable is what has been acknowledged, and refused what was refused.
func (c *fakeConn) said(t *testing.T) (durable uint64, refused []uint64) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.answers {
		if a.GetDurableThrough() < durable {
			t.Errorf("durable_through %d after %d", a.GetDurableThrough(), durable)
		}
		durable = a.GetDurableThrough()
		if n := a.GetRefusedSequence(); n > 0 {
			if n != durable {
				t.Errorf("refused %d with durable_through %d, want it to count as acknowledged", n, durable)
			}
			refused = append(refused, n)
		}
	}
	return durable, refused
}

// heldJournal keeps every record until the test says what becomes of it.
type heldJournal struct {
	mu      sync.Mutex
	waiting map[string]chan error // by message id
}

func (j *heldJournal) Publish(ctx context.Context, m journal.Message) error {
	done := make(chan error, 1)
	j.mu.Lock()
	j.waiting[m.ID] = done
	j.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fault.As(fault.NotReady, ctx.Err())
	}
}

// finish settles the record with this sequence.
func (j *heldJournal) finish(t *testing.T, seq int, err error) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	done := j.waiting[fmt.Sprintf("db-A/%d", seq)]
	if done == nil {
		t.Fatalf("record %d has not been published; %d have", seq, len(j.waiting))
	}
	done <- err
}

func (j *heldJournal) count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.waiting)
}

// seal is one stream under test.
type testStream struct {
	conn    *fakeConn
	journal *heldJournal
	drain   chan struct{}
	ended   chan error
	cancel  context.CancelFunc
}

// start runs a stream in the bubble of the test.
func start(t *testing.T, window int64) *testStream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &testStream{
		conn:    &fakeConn{ctx: ctx, recv: make(chan *cryptov1.SealRequest)},
		journal: &heldJournal{waiting: map[string]chan error{}},
		drain:   make(chan struct{}),
		ended:   make(chan error, 1),
		cancel:  cancel,
	}
	key := &keys.Key{Sealer: esdk.NewSealer(&esdk.Key{1}), Ciphertext: make([]byte, 184)}
	srv, err := NewServer(Options{
		GzipLevel: 1, WindowBytes: window, Keys: oneKey{key}, Journal: s.journal,
		Log: slog.New(slog.DiscardHandler), Telemetry: obs.Discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	st := &stream{server: srv, conn: s.conn, open: &cryptov1.SealOpen{InstanceResourceId: "db-A", Version: "1.1"}}
	go func() {
		s.ended <- st.run(s.drain)
		cancel() // as gRPC does when the handler has returned
	}()
	return s
}

// send sends records first to last of size bytes each, and is false when the
// stream does not take one more.
func (s *testStream) send(first, last, size int) bool {
	for n := first; n <= last; n++ {
		synctest.Wait()
		select {
		case s.conn.recv <- &cryptov1.SealRequest{Message: &cryptov1.SealRequest_Record{Record: &cryptov1.SealRecord{
			Sequence: uint64(n), Plaintext: make([]byte, size), PartitionKey: "p", MessageId: fmt.Sprint(n),
		}}}:
		default:
			return false
		}
	}
	synctest.Wait()
	return true
}

func TestAcknowledgedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, 1<<20)
		s.send(1, 20, 100)
		for n := 20; n >= 2; n-- {
			s.journal.finish(t, n, nil)
			synctest.Wait()
			if d, _ := s.conn.said(t); d != 0 {
				t.Fatalf("acknowledged %d, and 1 is not on disk", d)
			}
		}
		s.journal.finish(t, 1, nil)
		synctest.Wait()
		if d, _ := s.conn.said(t); d != 20 || len(s.conn.answers) != 1 {
			t.Fatalf("acknowledged %d in %d answers, want 20 in one", d, len(s.conn.answers))
		}
		close(s.conn.recv)
		if err := <-s.ended; err != nil {
			t.Errorf("a stream whose sender is done ended with %v", err)
		}
	})
}

func TestFailureEndsTheStreamThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, 1<<20)
		s.send(1, 10, 100)
		full := fault.As(fault.Busy, errors.New("the journal is full"))
		s.journal.finish(t, 5, full)
		synctest.Wait()
		s.journal.finish(t, 9, fault.As(fault.NotReady, errors.New("another reason, later")))
		for _, n := range []int{10, 8, 7, 6} { // on disk, behind one that is not
			s.journal.finish(t, n, nil)
		}
		synctest.Wait()
		s.send(11, 13, 100)
		if s.journal.count() > 10 {
			t.Error("records are taken after one has failed")
		}
		select {
		case err := <-s.ended:
			t.Fatalf("ended with %v before 1 to 4 were settled", err)
		default:
		}
		for n := 1; n <= 4; n++ {
			s.journal.finish(t, n, nil)
		}
		if err := <-s.ended; !fault.Is(err, fault.Busy) {
			t.Errorf("ended with %v, want Busy", err)
		}
		if d, _ := s.conn.said(t); d != 4 {
			t.Errorf("acknowledged %d, want 4: 5 is not on disk", d)
		}
	})
}

func TestRefusedInItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, 1<<20)
		s.send(1, 6, 100)
		invalid := fault.As(fault.Invalid, errors.New("too large"))
		s.journal.finish(t, 3, invalid)
		s.journal.finish(t, 4, invalid)
		synctest.Wait()
		if d, r := s.conn.said(t); d != 0 || r != nil {
			t.Fatalf("said %d, %v before 1 and 2 were settled", d, r)
		}
		for _, n := range []int{2, 1, 6, 5} {
			s.journal.finish(t, n, nil)
			synctest.Wait()
		}
		if d, r := s.conn.said(t); d != 6 || !slices.Equal(r, []uint64{3, 4}) {
			t.Errorf("acknowledged %d, refused %v, want 6, [3 4]", d, r)
		}
		close(s.conn.recv)
		<-s.ended
	})
}

func TestWindowIsInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, 1<<20)
		const size = 300 << 10
		n := 0
		for s.send(n+1, n+1, size) {
			if n++; n > 10 {
				t.Fatal("the stream takes records without end")
			}
		}
		// Four reach the window of 1 MiB; one waits in the channel, one in receive.
		if got := s.journal.count(); got != 4 || n != 6 {
			t.Errorf("%d records on their way and %d taken, want 4 and 6", got, n)
		}
		s.journal.finish(t, 1, nil)
		synctest.Wait()
		if got := s.journal.count(); got != 5 {
			t.Errorf("%d records on their way after one was acknowledged, want 5", got)
		}
		s.cancel()
		if err := <-s.ended; !fault.Is(err, fault.NotReady) {
			t.Errorf("a broken stream ended with %v, want NotReady", err)
		}
	})
}

func TestWindowIsInRecordsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, 16<<20)
		n := 0
		for s.send(n+1, n+1, 10) {
			if n++; n > 10*windowRecords {
				t.Fatal("the stream takes records without end")
			}
		}
		if got := s.journal.count(); got != windowRecords {
			t.Errorf("%d records on their way, want %d", got, windowRecords)
		}
		s.cancel()
		<-s.ended
	})
}

func TestDrainingSettlesWhatIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, 1<<20)
		s.send(1, 3, 100)
		close(s.drain)
		synctest.Wait()
		for n := 1; n <= 3; n++ {
			s.journal.finish(t, n, nil)
		}
		if err := <-s.ended; !errors.Is(err, errDraining) {
			t.Errorf("ended with %v, want errDraining", err)
		}
		if d, _ := s.conn.said(t); d != 3 {
			t.Errorf("acknowledged %d, want 3", d)
		}
	})
}
