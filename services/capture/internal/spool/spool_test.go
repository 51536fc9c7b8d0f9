package spool_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/spoolkey"
	capturev1 "github.com/weir-das/weir/proto/gen/weir/capture/v1"
	"github.com/weir-das/weir/services/capture/internal/cryptotest"
	"github.com/weir-das/weir/services/capture/internal/spool"
)

// child is the environment in which this program appends for ever, to be killed.
const child = "WEIR_SPOOL_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(child); dir != "" {
		appendForEver(dir)
	}
	goleak.VerifyTestMain(m)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func open(t testing.TB, dir string, limit int64) *spool.Spool {
	t.Helper()
	s, err := spool.Open(dir, limit, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// keyed makes keys, and puts the public one where a spool in dir finds it.
func keyed(t testing.TB, dir string) *spoolkey.Ring {
	t.Helper()
	name := filepath.Join(t.TempDir(), "spool.pem")
	if err := spoolkey.CreateFile(name); err != nil {
		t.Fatal(err)
	}
	keys, err := spoolkey.OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "public.key"), keys.Public().Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return keys
}

const epoch = 7

// record is one of ten numbers, the i-th of the epoch.
func record(i int, plaintext []byte) spool.Record {
	first := uint64(10*i + 1)
	return spool.Record{Plaintext: plaintext, Head: &capturev1.SpoolEntry{
		Epoch: epoch, First: first, Last: first + 9, Events: 10,
		ChainBefore: bytes.Repeat([]byte{byte(i)}, 32), ChainAfter: bytes.Repeat([]byte{byte(i + 1)}, 32),
		OldestUs: time.Now().UnixMicro(), ClusterResourceId: "cluster-A", InstanceResourceId: "db-B", KmsKeyId: "k", KinesisStream: "s",
		Version: "1.1", MessageId: fmt.Sprintf("db-B/%d/%d-%d", epoch, first, first+9), PartitionKey: "db-B/0",
	}}
}

func text(i int) []byte { return fmt.Appendf(nil, "record %d", i) }

func add(t testing.TB, s *spool.Spool, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if n, err := s.Append([]spool.Record{record(i, text(i))}); n != 1 || err != nil {
			t.Fatalf("Append(%d) = %d, %v", i, n, err)
		}
	}
}

// drain delivers all of it and returns what crypto got, each record once: one that
// takes long is sent a second time.
func drain(t *testing.T, s *spool.Spool, keys *spoolkey.Ring) (got []string, events int) {
	t.Helper()
	crypto := &cryptotest.Replica{SpoolKeys: keys}
	client := crypto.Serve(t)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := s.Drain(ctx, client, func(n int) {
			if events += n; s.Status().State == spool.Waiting || s.Status().State == spool.Empty {
				t.Errorf("while it drains it says %+v", s.Status())
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(30 * time.Second); s.Used() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after 30 s %d bytes are left", s.Used())
		}
	}
	cancel()
	wg.Wait()
	seen := map[string]bool{}
	for _, r := range crypto.Journal() {
		if !seen[r.GetMessageId()] {
			got = append(got, string(r.GetPlaintext()))
		}
		seen[r.GetMessageId()] = true
	}
	return got, events
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	keys := keyed(t, dir)
	s := open(t, dir, 1<<30)
	add(t, s, 0, 50)
	if _, err := spool.Open(dir, 1<<30, quiet()); !fault.Is(err, fault.Busy) {
		t.Errorf("a second capture: %v, want busy", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, 1<<30)
	add(t, s, 50, 60)
	if last, pending := s.Pending(epoch); !pending || last.Number != 600 || last.Hash[0] != 60 {
		t.Errorf("pending %v through %d, want through 600", pending, last.Number)
	}
	if _, pending := s.Pending(epoch + 1); pending {
		t.Error("another epoch is pending")
	}
	if st := s.Status(); st.State != spool.Waiting || st.Events != 600 || st.Used != s.Used() || st.Limit != 1<<30 || !st.Since.Equal(s.Oldest()) || st.Since.IsZero() {
		t.Errorf("status %+v, want 600 events that wait since %v", st, s.Oldest())
	}
	got, events := drain(t, s, keys)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(got) != 60 || events != 600 {
		t.Fatalf("%d records with %d events, want 60 with 600", len(got), events)
	}
	for i := range 60 {
		if !strings.Contains(strings.Join(got, "\n"), string(text(i))) {
			t.Errorf("record %d did not arrive", i)
		}
	}
	s = open(t, dir, 1<<30)
	defer s.Close()
	if st := s.Status(); st != (spool.Status{Limit: 1 << 30, State: spool.Empty}) {
		t.Errorf("status %+v, want an empty spool", st)
	}
	if m, ok := s.Delivered(epoch); !ok || m.Number != 600 || m.Hash[0] != 60 || !s.Oldest().IsZero() {
		t.Errorf("delivered %+v, %v; oldest %v", m, ok, s.Oldest())
	}
}

func TestLimitIsKept(t *testing.T) {
	dir := t.TempDir()
	keyed(t, dir)
	s := open(t, dir, 10<<10)
	defer s.Close()
	big := bytes.Repeat([]byte("x"), 3<<10)
	n, err := s.Append([]spool.Record{record(0, big), record(1, big), record(2, big), record(3, big)})
	if n != 3 || !errors.Is(err, spool.ErrFull) || s.Used() > 10<<10 {
		t.Errorf("Append = %d, %v, with %d bytes; want what fits into 10 KiB", n, err, s.Used())
	}
	if last, _ := s.Pending(epoch); last.Number != uint64(10*n) {
		t.Errorf("pending through %d, want %d", last.Number, 10*n)
	}
	if st := s.Status(); st.State != spool.Full || st.Events != 30 {
		t.Errorf("status %+v, want a full spool of 30 events", st)
	}
}

func TestNothingWithoutAKey(t *testing.T) {
	s := open(t, t.TempDir(), 1<<20)
	defer s.Close()
	if n, err := s.Append([]spool.Record{record(0, text(0))}); n != 0 || !errors.Is(err, spool.ErrNoKey) {
		t.Errorf("Append = %d, %v, want no key", n, err)
	}
}

// appendForEver says each record that is on disk.
func appendForEver(dir string) {
	s, err := spool.Open(dir, 1<<40, quiet())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	big := bytes.Repeat([]byte("x"), 64<<10)
	for i := 0; ; i++ {
		if _, err := s.Append([]spool.Record{record(i, append(text(i), big...))}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(i)
	}
}

// What Append returned for is there after kill -9, and nothing is half there.
func TestKilledInTheMiddle(t *testing.T) {
	for round := range 5 {
		dir := t.TempDir()
		keys := keyed(t, dir)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), child+"="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := -1
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, err := fmt.Sscan(lines.Text(), &said); err != nil {
				t.Fatalf("the child said %q", lines.Text())
			}
			if said == 5+3*round {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		s := open(t, dir, 1<<40)
		last, _ := s.Pending(epoch)
		if last.Number < uint64(10*(said+1)) || last.Number > uint64(10*(said+2)) {
			t.Errorf("%d records were on disk, the spool has through number %d", said+1, last.Number)
		}
		got, _ := drain(t, s, keys)
		if uint64(10*len(got)) != last.Number {
			t.Errorf("%d records drained, the spool had through number %d", len(got), last.Number)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// An entry that is cut short is none, whatever is left of it.
func TestTornEnd(t *testing.T) {
	dir := t.TempDir()
	keys := keyed(t, dir)
	s := open(t, dir, 1<<30)
	add(t, s, 0, 3)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "0000000000000000.spool")
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range 40 {
		if err := os.WriteFile(name, whole[:len(whole)-1-cut*len(whole)/3/40], 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, 1<<30)
		if last, _ := s.Pending(epoch); last.Number != 20 {
			t.Errorf("with %d bytes cut off: through %d, want 20", 1+cut, last.Number)
		}
		if cut == 39 {
			if got, _ := drain(t, s, keys); len(got) != 2 {
				t.Errorf("drained %q, want two records", got)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A full disk takes nothing, and leaves no half entry; with room again all goes on.
func TestFullDisk(t *testing.T) {
	dir := disk(t, 1<<20)
	keys := keyed(t, dir)
	s := open(t, dir, 1<<30)
	defer s.Close()
	big := bytes.Repeat([]byte("x"), 100<<10)
	kept := 0
	for {
		_, err := s.Append([]spool.Record{record(kept, append(text(kept), big...))})
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil || kept > 20 {
			t.Fatalf("Append(%d) = %v, want a full disk", kept, err)
		}
		kept++
	}
	if _, err := s.Append([]spool.Record{record(kept, big)}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Append to a full disk = %v", err)
	}
	if last, _ := s.Pending(epoch); last.Number != uint64(10*kept) {
		t.Errorf("through %d, want %d", last.Number, 10*kept)
	}
	if got, _ := drain(t, s, keys); len(got) != kept {
		t.Errorf("%d records drained, want %d", len(got), kept)
	}
	if n, err := s.Append([]spool.Record{record(kept, big)}); n != 1 || err != nil {
		t.Errorf("Append with room again = %d, %v", n, err)
	}
}

// disk makes a small file system, which only a process of ours sees, and returns
// a directory on it.
func disk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	holder := exec.Command("sh", "-c", `mount -t tmpfs -o size="$1",mode=700 tmpfs "$2" && echo mounted && exec sleep 86400`,
		"sh", fmt.Sprint(size), dir)
	holder.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		holder.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		holder.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		holder.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatalf("making a small file system: %v; run as root, or allow user namespaces", err)
	}
	t.Cleanup(func() { _ = holder.Process.Kill(); _ = holder.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("mounting a small file system: %q, %v; run as root, or allow user namespaces", line, err)
	}
	return fmt.Sprintf("/proc/%d/root%s", holder.Process.Pid, dir)
}
