package mesh_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	"github.com/weir-das/weir/pkg/localaws"
)

// cloud is a Kinesis and KMS in the test's own process, so that it can lay down
// faults, and that can go away with everything in it kept.
type cloud struct {
	*localaws.Server
	t    *testing.T
	addr string
	down func()
}

func startCloud(t *testing.T) *cloud {
	t.Helper()
	server, err := localaws.New(localaws.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{Server: server, t: t, addr: "127.0.0.1:0"}
	c.up()
	t.Cleanup(func() { c.down() })
	return c
}

// up listens where it did before.
func (c *cloud) up() {
	c.t.Helper()
	lis, err := net.Listen("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.addr = lis.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- c.Serve(ctx, lis) }()
	c.down = func() {
		cancel()
		if err := <-served; err != nil {
			c.t.Errorf("local AWS: %v", err)
		}
		c.down = func() {}
	}
}

// mark is a place in a program's log.
type mark int64

func now(t *testing.T, m *mesh.Mesh, program string) mark {
	t.Helper()
	info, err := os.Stat(m.Path(program + ".log"))
	if err != nil {
		t.Fatal(err)
	}
	return mark(info.Size())
}

// lostLine is how capture says what it also tells in the stream.
const lostLine = "events were lost, counted and told"

// complaints are the lines at warning or above that a program logged since
// then, without those that count what was lost.
func complaints(t *testing.T, m *mesh.Mesh, program string, since mark) []string {
	t.Helper()
	text, err := os.ReadFile(m.Path(program + ".log"))
	if err != nil {
		t.Fatal(err)
	}
	var bad []string
	for line := range bytes.Lines(text[since:]) {
		var entry struct{ Level, Msg string }
		if err := json.Unmarshal(line, &entry); err != nil {
			t.Fatalf("%s logged what is no JSON: %s", program, line)
		}
		if (entry.Level == "WARN" || entry.Level == "ERROR") && entry.Msg != lostLine {
			bad = append(bad, strings.TrimSpace(string(line)))
		}
	}
	return bad
}

// saidOnce waits for the line that has all of the words, and checks that it is
// the only complaint since then.
func saidOnce(t *testing.T, m *mesh.Mesh, program string, since mark, words ...string) {
	t.Helper()
	said(t, m, program, since, words)
}

// said waits for as many complaints as there are wants, and checks that there
// is one for each, with all of its words, and no other.
func said(t *testing.T, m *mesh.Mesh, program string, since mark, wants ...[]string) {
	t.Helper()
	var all []string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if all = complaints(t, m, program, since); len(all) >= len(wants) {
			break
		}
	}
	matched := 0
	for _, want := range wants {
		if slices.ContainsFunc(all, func(line string) bool { return containsAll(line, want...) }) {
			matched++
		}
	}
	if len(all) != len(wants) || matched != len(wants) {
		t.Errorf("%s complains %d times, want %d times, with %q:\n%s", program, len(all), len(wants), wants, strings.Join(all, "\n"))
	}
}
