package ring_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	"github.com/weir-das/weir/services/capture/internal/ring"
	"github.com/weir-das/weir/services/capture/internal/ring/ringtest"
)

const base = 1_700_000_000_000_000 // µs

// whole fails the test if item is not the event that engine/ring/test put with that time.
func whole(t testing.TB, item ring.Item) {
	t.Helper()
	if want := pattern(len(item.Payload), uint64(item.Time.UnixMicro())); !bytes.Equal(item.Payload, want) {
		t.Fatalf("event %d of %d bytes is not what was put", item.Number, len(item.Payload))
	}
}

func TestGoReadsWhatCWrites(t *testing.T) {
	path := memoryPath(t)
	e := startEngine(t, path, 64<<10)
	r := open(t, path)
	reader := r.Reader()

	var told []string
	take := func() {
		for {
			item, err := reader.Next()
			if err != nil {
				t.Fatal(err)
			}
			if item.Kind == ring.Nothing {
				return
			}
			if item.Kind == ring.Event {
				whole(t, item)
			}
			told = append(told, words(item))
		}
	}
	// Frames of every length, round the ring several times, up to an eighth of it and one byte more.
	var want []string
	for i := range uint64(400) {
		length := int(i * 21 % 8200)
		n, in := e.put(length, base+i)
		if n != i+1 || in != (length <= 8192) {
			t.Fatalf("put(%d bytes) = %d, %t", length, n, in)
		}
		if in {
			want = append(want, fmt.Sprint(n))
		} else {
			want = append(want, fmt.Sprintf("%d..%d ring_full", n, n))
		}
		take()
		checkpoint(t, r, reader)
	}
	if strings.Join(told, " ") != strings.Join(want, " ") {
		t.Errorf("read %s\nwant %s", told, want)
	}

	// An outage: the ring fills, and what no longer fits is one gap.
	told = nil
	var last uint64
	for i := range uint64(100) {
		last, _ = e.put(1000, base+1000+i)
	}
	p := reader.Position()
	p.Tail += 1056 * 8
	for range 8 {
		if item, err := reader.Next(); err != nil || item.Kind != ring.Event {
			t.Fatalf("Next = %s, %v, want an event", words(item), err)
		}
	}
	checkpoint(t, r, reader)
	if n, in := e.put(10, base+2000); n != last+1 || !in {
		t.Fatalf("put after the outage = %d, %t, want %d in the ring", n, in, last+1)
	}
	take()
	if len(told) < 3 || told[len(told)-1] != fmt.Sprint(last+1) || !strings.HasSuffix(told[len(told)-2], fmt.Sprintf("..%d ring_full", last)) {
		t.Errorf("after the outage came %s, want a gap to %d and event %d", told, last, last+1)
	}
	if status, err := r.Status(); err != nil || status.Lost == 0 || status.Engine.String() != "PostgreSQL" || status.ServerVersion != "15.20" {
		t.Errorf("Status = %+v, %v", status, err)
	}

	// A session dies with its frame reserved, another goes on; after the crash restart the frame is torn.
	e.say("die 100 %d", base+3000)
	n, _ := e.put(10, base+3001)
	expect(t, reader, "nothing")
	e.say("recover")
	expect(t, reader, fmt.Sprintf("%d..%d torn", n-1, n-1), fmt.Sprint(n), "nothing")

	// The lock is never to be had: the event is counted without a number, and the second time at once.
	e.say("lock 4242")
	if n, in := e.put(10, base); n != 0 || in {
		t.Errorf("put with the lock held = %d, %t, want 0, false", n, in)
	}
	begin := time.Now()
	for range 100 {
		e.put(10, base)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("100 puts behind a stuck session took %v", took)
	}
	if status, err := r.Status(); err != nil || status.Unnumbered != 101 {
		t.Errorf("Status().Unnumbered = %d, %v, want 101", status.Unnumbered, err)
	}
	e.say("unlock")
	if n2, in := e.put(10, base); n2 != n+1 || !in {
		t.Errorf("put after that = %d, %t, want %d", n2, in, n+1)
	}
	expect(t, reader, fmt.Sprint(n+1), "nothing")

	if state := status(t, r).State; state != ring.EngineRunning {
		t.Errorf("state of a running engine is %d", state)
	}
	e.end()
	if state := status(t, r).State; state != ring.EngineLost {
		t.Errorf("state after the engine was killed is %d, want lost", state)
	}
	e = startEngine(t, path, 64<<10)
	e.say("stop")
	e.end()
	if s := status(t, r); s.State != ring.EngineStopped || s.Starts != 3 {
		t.Errorf("state after the engine stopped is %d with %d starts, want stopped and 3", s.State, s.Starts)
	}
}

func status(t testing.TB, r *ring.Ring) ring.Status {
	t.Helper()
	s, err := r.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCReadsWhatGoWrites(t *testing.T) {
	path := memoryPath(t)
	w := ringtest.CreateAt(t, path, 64<<10)
	r := open(t, path)
	reader := r.Reader()
	if err := r.SetPolicy(ring.Policy{Mode: ring.ModeAsync, Generation: 9}); err != nil {
		t.Fatal(err)
	}
	if err := r.SetSettings([]byte("twelve bytes")); err != nil {
		t.Fatal(err)
	}
	us := func(n uint64) time.Time { return time.UnixMicro(int64(base + n)) }
	put := func(n uint64, length int) bool {
		_, ok := w.Put(pattern(length, base+n), us(n))
		return ok
	}
	var want []string
	const first = 60
	for n := uint64(1); n < first; n++ {
		put(n, 999)
		if item, err := reader.Next(); err != nil || item.Kind != ring.Event {
			t.Fatalf("Next = %s, %v", words(item), err)
		}
	}
	checkpoint(t, r, reader)
	n := uint64(first)
	for put(n, 2000) {
		want = append(want, fmt.Sprintf("event %d 2000 %d whole", n, base+n))
		n++
	}
	lost := n
	for range 2 {
		if item, err := reader.Next(); err != nil || item.Kind != ring.Event {
			t.Fatalf("Next = %s, %v", words(item), err)
		}
	}
	checkpoint(t, r, reader)
	want = want[2:]
	w.Reserve(3, us(lost+1))
	want = append(want, fmt.Sprintf("gap %d ", lost), fmt.Sprintf("event %d 3 %d reserved", lost+1, base+lost+1))

	out, err := exec.Command(program(t, "dump"), path).CombinedOutput()
	if err != nil {
		t.Fatalf("dump: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(out), "pad\n", "")), "\n")
	header := fmt.Sprintf("number %d lost 1 gap 0..0 stored %d durable %d mode 2 generation 9 settings 12", lost+1, first+1, first+1)
	if lines[0] != header {
		t.Errorf("the header is %q, want %q", lines[0], header)
	}
	if len(lines) != 1+len(want) {
		t.Fatalf("dump printed %d frames, want %d:\n%s", len(lines)-1, len(want), out)
	}
	for i, w := range want {
		if !strings.HasPrefix(lines[i+1], w) {
			t.Errorf("frame %d is %q, want %q", i, lines[i+1], w)
		}
	}
	// The gap as the generated code reads it.
	payload, err := hex.DecodeString(strings.Fields(lines[len(lines)-2])[2])
	var g activityv1.Gap
	if err != nil || proto.Unmarshal(payload, &g) != nil || g.GetFirst() != lost || g.GetTo().AsTime() != us(lost).UTC() {
		t.Errorf("the gap frame holds %v (%v)", &g, err)
	}

	// And the C engine goes on where the Go one was killed.
	w.Kill()
	e := startEngine(t, path, 64<<10)
	if e.epoch != w.Epoch || e.number != lost+1 || e.starts != 2 {
		t.Errorf("the C engine opens epoch %d, number %d, start %d; want %d, %d, 2", e.epoch, e.number, e.starts, w.Epoch, lost+1)
	}
	e.put(5, base)
	for n := uint64(first + 2); n < lost; n++ {
		item, err := reader.Next()
		if err != nil || item.Number != n {
			t.Fatalf("Next = %s, %v, want %d", words(item), err, n)
		}
		whole(t, item)
	}
	expect(t, reader, fmt.Sprintf("%d..%d ring_full", lost, lost), fmt.Sprintf("%d..%d torn", lost+1, lost+1), fmt.Sprint(lost+2), "nothing")
}
