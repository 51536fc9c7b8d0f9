package faulty

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// dialTimeout bounds a connection attempt to the target, which is on the same machine.
const dialTimeout = 5 * time.Second

// Proxy is a Link on loopback in front of a TCP server.
type Proxy struct {
	Link
	target string
	lis    net.Listener
	wg     sync.WaitGroup // every goroutine of the proxy
}

// NewProxy listens on a free loopback port and passes connections on to target, host:port, which it dials anew for each:
// the server may come and go. The caller owes it a Close.
func NewProxy(target string) (*Proxy, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("faulty: %w", err)
	}
	p := &Proxy{target: target}
	p.lis = p.Listener(lis)
	p.wg.Go(p.accept)
	return p, nil
}

// Addr is where clients connect, host:port.
func (p *Proxy) Addr() string { return p.lis.Addr().String() }

// Close stops listening, cuts what is open, and returns when all of it has ended.
func (p *Proxy) Close() error {
	err := p.lis.Close()
	p.Cut()
	p.wg.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		c, err := p.lis.Accept()
		if errors.Is(err, net.ErrClosed) {
			p.Cut() // what was accepted while Close was cutting
			return
		}
		if err != nil {
			continue // a client that left between its connect and our accept
		}
		p.wg.Go(func() { p.relay(c.(*Conn)) })
	}
}

// relay moves bytes between client and the target until both directions have ended or one has broken.
func (p *Proxy) relay(client *Conn) {
	defer client.Close()
	server, err := net.DialTimeout("tcp", p.target, dialTimeout)
	if err != nil {
		p.breakOff(client) // the nearest thing to a refused connection
		return
	}
	defer server.Close()
	var wg sync.WaitGroup
	move := func(dst, src net.Conn) {
		_, err := io.Copy(dst, src)
		if err == nil {
			err = dst.(interface{ CloseWrite() error }).CloseWrite()
		}
		if err != nil {
			reset(server)
			p.breakOff(client)
		}
	}
	wg.Go(func() { move(server, client) })
	wg.Go(func() { move(client, server) })
	wg.Wait()
}

// breakOff resets the client's connection, once the link lets even that through: behind a stalled one nobody learns that
// the server has gone.
func (p *Proxy) breakOff(client *Conn) {
	_ = client.pass(down, 0, client.writeBy)
	client.abort()
}
