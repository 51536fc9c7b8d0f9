package mesh_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// lossIsToldWhenItIsFound has capture find that events are gone which nobody knows
// to be: a frame whose writer died, one that no engine wrote, and a spool that
// somebody removed while crypto is away. The notifier tells of each in the time that
// is promised, whether or not the journal takes anything.
func lossIsToldWhenItIsFound(t *testing.T, m *mesh.Mesh, spool string) {
	w := watch(t, m)
	w.await(t, "anything", func(*notifierv1.Event) bool { return true }) // it watches
	var corrupt *notifierv1.Window
	t.Run("torn and corrupt", func(t *testing.T) {
		m.Signal(mesh.Capture, syscall.SIGSTOP)
		m.Psql("postgres", "SELECT 'the torn one';\nSELECT 'between';\nSELECT 'the corrupt one';\n")
		frame(t, m, "SELECT 'the torn one';", func(f []byte) { binary.LittleEndian.PutUint32(f, 2) })
		frame(t, m, "SELECT 'the corrupt one';", func(f []byte) { clear(f[frameHeader:]) })
		found := time.Now()
		m.Signal(mesh.Capture, syscall.SIGCONT)
		w.opens(t, notifierv1.Cause_CAUSE_TORN, found)
		corrupt = w.opens(t, notifierv1.Cause_CAUSE_CORRUPT, found)
	})
	t.Run("refused", func(t *testing.T) {
		m.Kill(mesh.Crypto)
		const statements = 20
		script := strings.Repeat(fmt.Sprintf("SELECT length('%s');\n", strings.Repeat("x", 8<<10)), statements)
		m.Eventually(60*time.Second, func() error {
			n, err := m.Numbers()
			if err != nil || n.Spooled > 0 && n.Stored >= n.Durable+2*statements {
				return err
			}
			if n.Number < n.Stored+4*statements { // the ring has room for more
				m.Psql("postgres", script)
			}
			return fmt.Errorf("the spool holds %d bytes, %d numbers", n.Spooled, n.Stored-n.Durable)
		})
		w.closes(t, corrupt) // or this would be the same window
		m.Kill(mesh.Capture)
		segments, err := filepath.Glob(filepath.Join(spool, "*.spool"))
		if err != nil || len(segments) == 0 {
			t.Fatalf("segments of the spool: %v, %v", segments, err)
		}
		for _, s := range segments {
			if err := os.Remove(s); err != nil {
				t.Fatal(err)
			}
		}
		found := time.Now()
		m.StartProcess(mesh.Capture)
		open := w.opens(t, notifierv1.Cause_CAUSE_REFUSED, found)
		if n, err := m.Numbers(); err != nil || open.GetFirst() != n.Durable+1 {
			t.Errorf("window = %v, want it from the first number on that is not durable of %+v (%v)", open, n, err)
		}
		m.StartProcess(mesh.Crypto)
	})
	account, numbers := m.Settle(t)
	causes := map[string]int{}
	for _, cause := range account.Told {
		causes[cause]++
	}
	if causes["torn"] != 1 || causes["corrupt"] != 1 || causes["refused"] == 0 || account.Kept()+len(account.Told) != int(numbers.Number) {
		t.Errorf("of %d numbers %d are there, and told as lost are %v", numbers.Number, account.Kept(), causes)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := m.Weir(ctx, "verify", "--events", m.Addr(mesh.Notifier)); err != nil || !containsAll(out, "loss, told", " 0 missing untold") {
		t.Errorf("weir verify: %v\n%s", err, out)
	}
}

// frameHeader is how long a frame's header is: see engine/ring/ring.h.
const frameHeader = 32

// frame finds the one frame of the ring that holds a text, and changes it.
func frame(t *testing.T, m *mesh.Mesh, text string, change func(frame []byte)) {
	t.Helper()
	file, err := os.OpenFile(m.Ring(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := syscall.Mmap(int(file.Fd()), 0, int(info.Size()), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(ring)
	const tail, head = 256, 136
	data := ring[binary.LittleEndian.Uint32(ring[12:]):]
	changed := 0
	for at, end := binary.LittleEndian.Uint64(ring[tail:]), binary.LittleEndian.Uint64(ring[head:]); at < end; {
		f := data[at%uint64(len(data)):]
		length := frameHeader + uint64(binary.LittleEndian.Uint32(f[4:]))
		if f = f[:length]; bytes.Contains(f, []byte(text)) {
			change(f)
			changed++
		}
		at += (length + 31) &^ 31
	}
	if changed != 1 {
		t.Fatalf("%d frames hold %q, want one", changed, text)
	}
}
