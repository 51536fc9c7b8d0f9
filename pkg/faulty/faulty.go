// Package faulty is a bad network for tests: connections that are cut, stalled, delayed, slowed or dribbled one byte at a
// time, by hand or by a seeded script.
//
// A Link is the state of a path; every connection made through it shares that state and feels a change at once, also one
// that is waiting. Proxy puts a link in front of any TCP server on loopback, Listener puts it under a server in memory.
// Bytes are never altered, lost or reordered within a connection, for TCP does not do that either: what a cut connection
// had not delivered is gone, and that is the fault.
//
//	p, err := faulty.NewProxy(natsAddr)  // clients dial p.Addr()
//	p.HalfOpen()                         // requests arrive, answers do not
//	p.Cut()                              // every connection is reset; new ones are welcome
//	p.Resume()                           // the path is healthy again
//
// Before: a test of anything that talks over a network. Next: the faults folder of deploy/e2e, which plays scripts.
package faulty

import (
	"net"
	"sync"
	"time"
)

// direction is a bit mask of the ways that bytes go.
type direction uint8

const (
	up   direction = 1 << iota // from the client to the server
	down                       // from the server to the client
)

// faults is what is wrong with a link. The zero value is a healthy one.
type faults struct {
	stall   direction     // bytes in these directions wait
	delay   time.Duration // that each piece of data waits
	rate    int           // bytes per second and direction of a connection, 0 for no limit
	dribble bool          // one byte at a time
	refuse  bool          // new connections are reset
}

// Link is a path whose faults can be changed while connections use it. Its zero value is healthy. Faults add up, except
// that Stall, HalfOpen and Resume replace each other; all methods are safe for concurrent use.
type Link struct {
	// mu guards what follows. Never held while bytes move.
	mu      sync.Mutex
	faults  faults
	changed chan struct{} // closed and replaced when faults change; nil until somebody waits
	conns   map[*Conn]struct{}
	made    int // connections so far
}

// Stall makes bytes wait, in both directions, until Resume. Connections stay open, new ones are accepted: the peer looks
// alive and says nothing, as after a pulled cable.
func (l *Link) Stall() { l.change(func(f *faults) { f.stall = up | down }) }

// HalfOpen lets requests through and makes answers wait until Resume: what was asked is done, and nobody hears of it.
func (l *Link) HalfOpen() { l.change(func(f *faults) { f.stall = down }) }

// Delay makes every piece of data (a read or a write of one side) wait for d; 0 ends that.
func (l *Link) Delay(d time.Duration) { l.change(func(f *faults) { f.delay = d }) }

// Slow limits each connection to about bytesPerSecond in each direction; 0 ends that.
func (l *Link) Slow(bytesPerSecond int) { l.change(func(f *faults) { f.rate = bytesPerSecond }) }

// Dribble delivers one byte at a time: it finds whoever believes that one read returns one message.
func (l *Link) Dribble() { l.change(func(f *faults) { f.dribble = true }) }

// Refuse resets every new connection, as a server does that is not there. Open ones go on: see Cut.
func (l *Link) Refuse() { l.change(func(f *faults) { f.refuse = true }) }

// Resume heals the link: no fault is left. What waited goes on; what was cut stays cut.
func (l *Link) Resume() { l.change(func(f *faults) { *f = faults{} }) }

// Cut resets every open connection, at once. It says nothing about new ones.
func (l *Link) Cut() {
	for _, c := range l.open() {
		c.abort()
	}
}

// Conns returns how many connections are open, and how many there have been.
func (l *Link) Conns() (open, made int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns), l.made
}

func (l *Link) open() []*Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	conns := make([]*Conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	return conns
}

func (l *Link) change(f func(*faults)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.faults)
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// now returns the faults of this moment and a channel that is closed when they change.
func (l *Link) now() (faults, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.faults, l.changed
}

// Wrap returns c, as a server has accepted it, behind the link.
func (l *Link) Wrap(c net.Conn) *Conn {
	w := &Conn{Conn: c, link: l, closed: make(chan struct{}), readBy: newDeadline(), writeBy: newDeadline()}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		l.conns = map[*Conn]struct{}{}
	}
	l.conns[w] = struct{}{}
	l.made++
	return w
}

func (l *Link) forget(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// Listener returns lis with every connection it accepts behind the link.
func (l *Link) Listener(lis net.Listener) net.Listener { return listener{lis, l} }

type listener struct {
	net.Listener
	link *Link
}

func (l listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if f, _ := l.link.now(); f.refuse {
			reset(c)
			continue
		}
		return l.link.Wrap(c), nil
	}
}

// reset closes c so that its peer sees an error rather than an end, where the transport can tell them apart.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}
