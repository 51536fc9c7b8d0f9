package capture

import (
	"crypto/ecdh"
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	capturev1 "github.com/weir-das/weir/proto/gen/weir/capture/v1"
	"github.com/weir-das/weir/services/capture/internal/spool"
)

// What the spool has of an epoch is not lost with its ring.
func TestWhatIsSpooledIsNotLostWithTheRing(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "public.key"), key.PublicKey().Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := spool.Open(dir, 1<<20, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	head := &capturev1.SpoolEntry{
		Epoch: 7, First: 11, Last: 30, ChainBefore: make([]byte, 32), ChainAfter: make([]byte, 32), OldestUs: time.Now().UnixMicro(), Events: 20,
	}
	if n, err := s.Append([]spool.Record{{Head: head, Plaintext: []byte("{}")}}); n != 1 || err != nil {
		t.Fatalf("Append = %d, %v", n, err)
	}
	none, some := epochs{}, epochs{spool: s}
	for _, c := range []struct {
		e              *epochs
		epoch, durable uint64
		want           uint64
	}{{&none, 7, 10, 10}, {&some, 7, 10, 30}, {&some, 7, 40, 40}, {&some, 8, 10, 10}} {
		if got := c.e.safe(c.epoch, c.durable); got != c.want {
			t.Errorf("of epoch %d, durable through %d, all is safe through %d, want %d", c.epoch, c.durable, got, c.want)
		}
	}
}
