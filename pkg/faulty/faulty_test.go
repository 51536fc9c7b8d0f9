package faulty_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"

	"github.com/weir-das/weir/pkg/faulty"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns a client and a server's end behind link, in memory.
func pair(t *testing.T, link *faulty.Link) (client net.Conn, server *faulty.Conn) {
	t.Helper()
	client, inner := net.Pipe()
	server = link.Wrap(inner)
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	return client, server
}

// send writes data in the background and returns a channel with when it was done.
func send(t *testing.T, w io.Writer, data string) <-chan time.Time {
	t.Helper()
	done := make(chan time.Time, 1)
	go func() {
		if _, err := io.WriteString(w, data); err == nil {
			done <- time.Now()
		}
		close(done)
	}()
	return done
}

func read(t *testing.T, r io.Reader, n int) string {
	t.Helper()
	buf := make([]byte, n)
	if _, err := io.ReadFull(r, buf); err != nil {
		t.Errorf("reading %d bytes: %v", n, err)
	}
	return string(buf)
}

// A healthy link is a connection like any other.
func TestConformance(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		var link faulty.Link
		client, server := net.Pipe()
		c2 = link.Wrap(server)
		return client, c2, func() { _ = client.Close(); _ = c2.Close() }, nil
	})
}

func TestStallHoldsBothDirections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var link faulty.Link
		client, server := pair(t, &link)
		began := time.Now()
		link.Stall()
		send(t, client, "ask")
		answered := send(t, server, "answer")
		time.AfterFunc(time.Hour, link.Resume)
		if got := read(t, server, 3); got != "ask" || time.Since(began) != time.Hour {
			t.Errorf("read %q after %v, want it after Resume", got, time.Since(began))
		}
		if got := read(t, client, 6); got != "answer" {
			t.Errorf("read %q, want the answer", got)
		}
		if at := <-answered; at.Sub(began) != time.Hour {
			t.Errorf("answer written after %v, want an hour", at.Sub(began))
		}
	})
}

// Data that was read from the wire before the link stalled has not been delivered yet.
func TestStallHoldsWhatIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var link faulty.Link
		client, server := pair(t, &link)
		began := time.Now()
		time.AfterFunc(time.Second, func() {
			link.Stall()
			_, _ = client.Write([]byte("x")) // its reader has been waiting for a second
			time.AfterFunc(time.Second, link.Resume)
		})
		read(t, server, 1)
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("delivered after %v, want 2s", d)
		}
	})
}

func TestHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var link faulty.Link
		client, server := pair(t, &link)
		link.HalfOpen()
		send(t, client, "ask")
		if got := read(t, server, 3); got != "ask" {
			t.Errorf("read %q, want the request to arrive", got)
		}
		_ = client.SetReadDeadline(time.Now().Add(time.Minute))
		answered := send(t, server, "answer")
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read = %v, want no answer within a minute", err)
		}
		link.Cut()
		if at, ok := <-answered; ok {
			t.Errorf("the answer was written at %v, want it lost with the cut", at)
		}
	})
}

func TestDelaySlowAndDribble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var link faulty.Link
		client, server := pair(t, &link)

		link.Delay(30 * time.Millisecond)
		began := time.Now()
		send(t, client, "x")
		read(t, server, 1)
		if d := time.Since(began); d != 30*time.Millisecond {
			t.Errorf("delayed by %v, want 30ms", d)
		}
		began = time.Now()
		send(t, server, "x")
		read(t, client, 1)
		if d := time.Since(began); d != 30*time.Millisecond {
			t.Errorf("answer delayed by %v, want 30ms", d)
		}

		link.Resume()
		link.Slow(1000)
		began = time.Now()
		send(t, server, strings.Repeat("x", 2000))
		read(t, client, 2000)
		if d := time.Since(began); d < 1900*time.Millisecond || d > 2*time.Second {
			t.Errorf("2000 bytes at 1000 B/s took %v, want about 2s", d)
		}

		link.Resume()
		link.Dribble()
		send(t, client, "abc")
		buf := make([]byte, 8)
		for _, want := range "abc" {
			if n, err := server.Read(buf); n != 1 || err != nil || rune(buf[0]) != want {
				t.Errorf("Read = %d, %v, %q, want 1 byte %q", n, err, buf[:n], want)
			}
		}
		send(t, server, "abc")
		for range 3 {
			if n, err := client.Read(buf); n != 1 || err != nil {
				t.Errorf("Read = %d, %v, want 1 byte at a time", n, err)
			}
		}
	})
}

// A deadline must end the waiting for a fault, and lose nothing.
func TestDeadlinesHoldWhileStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var link faulty.Link
		client, server := pair(t, &link)
		link.Stall()
		send(t, client, "ask")
		for range 2 {
			began := time.Now()
			_ = server.SetDeadline(began.Add(time.Second))
			if _, err := server.Read(make([]byte, 3)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
				t.Errorf("Read = %v after %v, want a deadline after 1s", err, time.Since(began))
			}
		}
		if n, err := server.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write = %d, %v, want a deadline", n, err)
		}
		_ = server.SetDeadline(time.Time{})
		link.Resume()
		if got := read(t, server, 3); got != "ask" {
			t.Errorf("read %q after the deadlines, want nothing lost", got)
		}
	})
}

// echoServer answers every connection with what it says, until it ends.
func echoServer(t *testing.T) net.Addr {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _, _ = io.Copy(c, c); _ = c.Close() })
		}
	})
	t.Cleanup(func() { _ = lis.Close(); wg.Wait() })
	return lis.Addr()
}

func newProxy(t *testing.T) *faulty.Proxy {
	t.Helper()
	p, err := faulty.NewProxy(echoServer(t).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return p
}

func dial(t *testing.T, p *faulty.Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

func echoes(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Errorf("Write = %v", err)
	}
	if got := read(t, c, 5); got != "hello" {
		t.Errorf("echo = %q", got)
	}
}

func TestProxyPassesEverything(t *testing.T) {
	p := newProxy(t)
	for name, fault := range map[string]func(){"healthy": p.Resume, "dribble": p.Dribble} {
		t.Run(name, func(t *testing.T) {
			fault()
			c := dial(t, p)
			want := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
			go func() { _, _ = c.Write(want); _ = c.(*net.TCPConn).CloseWrite() }()
			got, err := io.ReadAll(c) // ends because the end travels too
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("echo of %d bytes = %d bytes, %v", len(want), len(got), err)
			}
		})
	}
	if _, made := p.Conns(); made != 2 {
		t.Errorf("%d connections made, want 2", made)
	}
}

func TestProxyCut(t *testing.T) {
	p := newProxy(t)
	c := dial(t, p)
	echoes(t, c)
	p.Cut()
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("Read after Cut = %v, want a reset", err)
	}
	echoes(t, dial(t, p))

	stalled := dial(t, p)
	echoes(t, stalled)
	p.Stall()
	_, _ = io.WriteString(stalled, "hello")
	p.Cut()
	p.Resume()
	if _, err := stalled.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("Read after Stall and Cut = %v, want a reset", err)
	}
}

// Behind a cable that is pulled, nobody learns that the server has gone.
func TestProxyStallHidesTheServersEnd(t *testing.T) {
	for name, end := range map[string]func(*net.TCPConn){
		"end":   func(c *net.TCPConn) { _ = c.Close() },
		"reset": func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer lis.Close()
			p, err := faulty.NewProxy(lis.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			c := dial(t, p)
			server, err := lis.Accept()
			if err != nil {
				t.Fatal(err)
			}
			p.Stall()
			end(server.(*net.TCPConn))
			_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Read while stalled = %v, want nothing to be heard", err)
			}
			p.Resume()
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Read after Resume = %v, want the server's end", err)
			}
		})
	}
}

func TestProxyRefuse(t *testing.T) {
	p := newProxy(t)
	old := dial(t, p)
	echoes(t, old)
	p.Refuse()
	// The kernel completes the handshake before we can refuse; the reset follows it.
	if c, err := net.Dial("tcp", p.Addr()); err == nil {
		if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("Read from a refused connection = %v, want a reset", err)
		}
		_ = c.Close()
	}
	echoes(t, old)
	p.Resume()
	echoes(t, dial(t, p))
}

func TestProxyWithoutTarget(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := lis.Addr().String()
	_ = lis.Close()
	p, err := faulty.NewProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	// The reset may come before the client knows that it is connected.
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		return
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("Read = %v, want a reset: nobody is behind the proxy", err)
	}
}

func TestScriptsRepeat(t *testing.T) {
	a, b := faulty.NewScript(7, 50, time.Second), faulty.NewScript(7, 50, time.Second)
	if a.String() != b.String() || !strings.Contains(a.String(), "seed 7") {
		t.Errorf("two scripts of one seed:\n%v%v", a, b)
	}
	if c := faulty.NewScript(8, 50, time.Second); c.String() == strings.Replace(a.String(), "seed 7", "seed 8", 1) {
		t.Error("scripts of two seeds are the same")
	}
	for _, fault := range []string{"cut", "refuse", "stall", "half-open", "delay", "slow", "dribble"} {
		if !strings.Contains(a.String(), fault) {
			t.Errorf("50 steps without %s:\n%v", fault, a)
		}
	}
}

func TestPlay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var link faulty.Link
		client, server := pair(t, &link)
		script := faulty.NewScript(1, 20, time.Second)
		var length time.Duration
		for _, s := range script.Steps {
			length += s.After + s.For
		}
		began := time.Now()
		if err := link.Play(t.Context(), script); err != nil || time.Since(began) != length {
			t.Errorf("Play = %v after %v, want %v\n%v", err, time.Since(began), length, script)
		}
		if open, made := link.Conns(); open != 0 || made != 1 {
			t.Errorf("%d of %d connections open after a script with cuts", open, made)
		}
		_, _ = client, server

		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := link.Play(ctx, script); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Play = %v, want the deadline of its context", err)
		}
		client, server = pair(t, &link)
		began = time.Now()
		send(t, client, "x")
		read(t, server, 1)
		if d := time.Since(began); d != 0 {
			t.Errorf("a byte took %v after Play, want a healthy link", d)
		}
	})
}

// A client that repeats what was not answered gets through any script in the end.
func TestScriptedProxy(t *testing.T) {
	p := newProxy(t)
	script := faulty.NewScript(42, 12, 30*time.Millisecond)
	played := make(chan error, 1)
	go func() { played <- p.Play(context.Background(), script) }()
	deadline := time.Now().Add(30 * time.Second)
	for done := false; !done; {
		if time.Now().After(deadline) {
			t.Fatalf("never got through\n%v", script)
		}
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			continue // reset before it was connected
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		buf := make([]byte, 100)
		for err == nil {
			if _, err = c.Write(bytes.Repeat([]byte("x"), len(buf))); err == nil {
				_, err = io.ReadFull(c, buf)
			}
			if err == nil && strings.Trim(string(buf), "x") != "" {
				t.Errorf("echo = %q: bytes were changed\n%v", buf, script)
			}
			if err == nil && len(played) > 0 {
				done = true
				break
			}
		}
		_ = c.Close()
	}
	if err := <-played; err != nil {
		t.Errorf("Play = %v\n%v", err, script)
	}
}
