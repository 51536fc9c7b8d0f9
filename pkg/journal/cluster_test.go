package journal_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/journal/natsserver"
)

// cluster of three servers.
type servers struct {
	t     *testing.T
	certs string
	opts  [3]natsserver.Options
	s     [3]*natsserver.Server
}

func newCluster(t *testing.T) *servers {
	t.Helper()
	c := &servers{t: t, certs: t.TempDir()}
	if err := certs.Ensure(c.certs); err != nil {
		t.Fatal(err)
	}
	var routes [3]string
	for i := range routes {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		routes[i] = lis.Addr().String()
		defer lis.Close()
	}
	for i := range c.opts {
		cl := &natsserver.Cluster{Listen: routes[i]}
		for _, r := range routes {
			cl.Routes = append(cl.Routes, "nats-route://"+r)
		}
		c.opts[i] = natsserver.Options{
			Name: fmt.Sprintf("nats-%d", i), Dir: t.TempDir(), TLS: certs.TLS(c.certs, "nats"), Cluster: cl,
		}
	}
	return c
}

func (c *servers) start(i int) {
	c.t.Helper()
	s, err := natsserver.Start(c.opts[i])
	if err != nil {
		c.t.Fatal(err)
	}
	c.s[i], c.opts[i].Port = s, s.Port()
	c.t.Cleanup(s.Stop)
}

func (c *servers) open(name string) (*journal.Conn, *journal.Journal) {
	c.t.Helper()
	var urls []string
	for _, s := range c.s {
		urls = append(urls, s.URL())
	}
	cfg := journal.Config{URL: strings.Join(urls, ","), TLS: certs.TLS(c.certs, name), Replicas: 3}
	ctx, cancel := context.WithTimeout(c.t.Context(), 60*time.Second)
	defer cancel()
	conn, err := journal.Connect(ctx, cfg, name, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(conn.Close)
	j, err := journal.Open(ctx, conn, cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return conn, j
}

// Three servers lose one after the other; what was acknowledged is there, once,
// although two senders send everything at the same time.
func TestCluster(t *testing.T) {
	c := newCluster(t)
	for i := range c.s {
		c.start(i)
	}
	conn, j := c.open("crypto")
	_, twin := c.open("crypto")
	eventually(t, "the proof of three servers", func() bool {
		err := journal.ProveDurable(t.Context(), conn)
		return err == nil
	})

	before, err := j.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const total = 400
	send := func(j *journal.Journal) {
		for n := 1; n <= total; n++ {
			var err error
			for range 600 {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				err = j.Publish(ctx, message(fmt.Sprint(n), 2000))
				cancel()
				if err == nil {
					break
				}
				if !fault.Is(err, fault.NotReady) {
					t.Errorf("Publish(%d) = %v, want NotReady", n, err)
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
			if err != nil {
				t.Errorf("Publish(%d) = %v", n, err)
				return
			}
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { send(j) })
	wg.Go(func() { send(twin) })
	for i := range c.s {
		time.Sleep(300 * time.Millisecond)
		c.s[i].Stop()
		time.Sleep(300 * time.Millisecond)
		c.start(i)
		// One at a time: wait until the three are together again.
		eventually(t, "the cluster to be whole", func() bool {
			return journal.ProveDurable(t.Context(), conn) == nil
		})
	}
	wg.Wait()

	_, out := c.open("publisher")
	var cons *journal.Consumer
	eventually(t, "the consumer", func() (made bool) { // a server that came back a moment ago may still be catching up
		cons, err = out.Consumer(t.Context())
		return err == nil
	})
	seen := map[string]int{}
	eventually(t, "all records", func() bool {
		if err := cons.Fetch(t.Context(), 4<<20, 300*time.Millisecond, func(d *journal.Delivery) {
			seen[d.ID]++
			_ = d.Ack()
		}); err != nil {
			t.Log(err)
		}
		return len(seen) >= total
	})
	// Whoever leads, it is the same journal.
	var p journal.Position
	eventually(t, "where the journal stands", func() bool {
		p, err = out.Position(t.Context())
		return err == nil
	})
	if !p.Made.Equal(before.Made) || p.Last < total {
		t.Errorf("Position = %+v, want that of the journal of %v, with %d records", p, before.Made, total)
	}
	for id, n := range seen {
		if n > 1 {
			t.Errorf("record %s is there %d times: the journal did not know it", id, n)
		}
	}
}

// One server that does not sync is enough to refuse, and is named.
func TestProveDurableNamesTheServer(t *testing.T) {
	c := newCluster(t)
	c.opts[1].LazySync = true
	for i := range c.s {
		c.start(i)
	}
	conn, _ := c.open("crypto")
	var err error
	eventually(t, "all three to answer", func() bool {
		err = journal.ProveDurable(t.Context(), conn)
		return !fault.Is(err, fault.NotReady)
	})
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "nats-1") || strings.Contains(err.Error(), "nats-0") {
		t.Errorf("ProveDurable = %v, want Invalid that names nats-1 and no other", err)
	}
}
