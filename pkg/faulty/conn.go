package faulty

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// pieces is how many parts a second of a slow link's traffic is cut into.
const pieces = 50

// Conn is the server's end of a connection behind a Link: what it reads went up, what it writes goes down. Deadlines hold
// while a fault makes it wait, and Close ends the waiting.
type Conn struct {
	net.Conn
	link   *Link
	once   sync.Once
	closed chan struct{} // closed by Close and by a cut

	readBy, writeBy *deadline

	// readMu guards what has arrived and not yet been delivered.
	readMu  sync.Mutex
	buf     [32 << 10]byte
	waiting []byte    // part of buf
	readErr error     // comes after waiting
	due     time.Time // when waiting may be delivered

	writeMu sync.Mutex // one Write at a time, however many pieces it takes
}

// Read reads what the link lets through.
func (c *Conn) Read(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	if len(c.waiting) == 0 && c.readErr == nil {
		n, err := c.Conn.Read(c.buf[:])
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err // and the next Read may have more luck
		}
		f, _ := c.link.now()
		c.waiting, c.readErr, c.due = c.buf[:n], err, time.Now().Add(f.delay)
	}
	// Held here, after reading, a piece that was already on its way when the link stalled waits too.
	if err := c.pass(up, time.Until(c.due), c.readBy); err != nil {
		return 0, err
	}
	if len(c.waiting) == 0 {
		return 0, c.readErr
	}
	f, _ := c.link.now()
	n := copy(p[:f.limit(len(p))], c.waiting)
	c.waiting = c.waiting[n:]
	c.due = time.Now().Add(f.cost(n))
	return n, nil
}

// Write writes as the link lets it: in pieces, late, or not until Resume.
func (c *Conn) Write(p []byte) (written int, err error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	f, _ := c.link.now()
	pause := f.delay
	for {
		if err := c.pass(down, pause, c.writeBy); err != nil {
			return written, err
		}
		f, _ = c.link.now()
		n, err := c.Conn.Write(p[:f.limit(len(p))])
		written, p = written+n, p[n:]
		if err != nil || len(p) == 0 {
			return written, err
		}
		pause = f.cost(n)
	}
}

// limit is how many of n bytes may go at once.
func (f faults) limit(n int) int {
	if f.dribble {
		return min(n, 1)
	}
	if f.rate > 0 {
		return min(n, max(1, f.rate/pieces))
	}
	return n
}

// cost is how long n bytes take.
func (f faults) cost(n int) time.Duration {
	if f.rate <= 0 {
		return 0
	}
	return time.Duration(n) * time.Second / time.Duration(f.rate)
}

// pass waits for d, and then for as long as the link stalls dir.
func (c *Conn) pass(dir direction, d time.Duration, by *deadline) error {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.closed:
			return net.ErrClosed
		case <-by.passed():
			return os.ErrDeadlineExceeded
		}
	}
	for {
		f, changed := c.link.now()
		if f.stall&dir == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-c.closed:
			return net.ErrClosed
		case <-by.passed():
			return os.ErrDeadlineExceeded
		}
	}
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.end()
	return c.Conn.Close()
}

// CloseWrite ends what goes down, where the transport can, as soon as the link lets the end through.
func (c *Conn) CloseWrite() error {
	if err := c.pass(down, 0, c.writeBy); err != nil {
		return err
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// abort closes the connection the hard way.
func (c *Conn) abort() {
	c.end()
	reset(c.Conn)
}

func (c *Conn) end() {
	c.once.Do(func() { close(c.closed) })
	c.link.forget(c)
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.readBy.set(t)
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.writeBy.set(t)
	return c.Conn.SetWriteDeadline(t)
}

// deadline is a point in time that can be moved while somebody waits for it.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	done  chan struct{} // closed when the time has come
}

func newDeadline() *deadline { return &deadline{done: make(chan struct{})} }

func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.done // it has fired or is about to: let it, or it would close the next channel
	}
	d.timer = nil
	select {
	case <-d.done:
		d.done = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return
	}
	done := d.done
	if left := time.Until(t); left > 0 {
		d.timer = time.AfterFunc(left, func() { close(done) })
	} else {
		close(done)
	}
}
