package mesh_test

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	"github.com/weir-das/weir/pkg/localaws/inject"
)

// Kinesis takes nothing until the journal is full, by its own limit and then
// because its disk is: crypto is refused, the ring fills, and what no longer
// fits is counted. With room again everything that was kept arrives, and what
// is told as lost is exactly what is missing.
func TestJournalIsFull(t *testing.T) {
	aws := startCloud(t)
	dir := mesh.Disk(t, 32<<20)
	m := mesh.Start(t, mesh.Options{AWS: aws.addr, JetStream: dir, RingSize: 1 << 20, Environment: []string{
		"WEIR_CRYPTO_JOURNAL__MAX_BYTES=4194304", "WEIR_PUBLISHER_JOURNAL__MAX_BYTES=4194304",
	}})
	t.Run("its limit", func(t *testing.T) {
		crypto, capture := now(t, m, mesh.Crypto), now(t, m, mesh.Capture)
		mend := aws.Kinesis().FailPut(inject.Fault{})
		overflow(t, m)
		saidOnce(t, m, mesh.Crypto, crypto, "the journal is full", "maximum bytes exceeded", "journal.max_bytes")
		saidOnce(t, m, mesh.Capture, capture, "do not reach the journal", "the journal is full")
		mend()
		exactly(t, m)
		saidOnce(t, m, mesh.Capture, capture, "do not reach the journal")
	})
	t.Run("its disk", func(t *testing.T) {
		crypto, capture := now(t, m, mesh.Crypto), now(t, m, mesh.Capture)
		mend := aws.Kinesis().FailPut(inject.Fault{})
		free := mesh.FillDisk(t, dir, 1<<20)
		overflow(t, m)
		saidOnce(t, m, mesh.Crypto, crypto, "does not acknowledge", "full or broken disk", "restart it")
		saidOnce(t, m, mesh.Capture, capture, "do not reach the journal", "restart it")
		mesh.Eventually(t, 20*time.Second, func() error {
			if out := m.MustWeir("stream", "status"); !containsAll(out, "problem", "test-1: its records do not reach the journal", "make room and restart it") {
				return fmt.Errorf("weir stream status does not say what to do:\n%s", out)
			}
			return nil
		})
		// What the message asks for.
		free()
		m.Terminate(mesh.NATS)
		m.StartProcess(mesh.NATS)
		mend()
		exactly(t, m)
	})
	t.Run("its data", func(t *testing.T) { journalIsLost(t, m, aws, dir) })
	t.Run("its stream", func(t *testing.T) { kinesisIsDeleted(t, m) })
}

// overflow executes statements that hardly compress until some are lost.
func overflow(t *testing.T, m *mesh.Mesh) {
	t.Helper()
	before, err := m.Numbers()
	if err != nil {
		t.Fatal(err)
	}
	noise := rand.NewChaCha8([32]byte{})
	for range 12 {
		var script strings.Builder
		for range 50 {
			text := make([]byte, 15<<10)
			_, _ = noise.Read(text)
			fmt.Fprintf(&script, "SELECT length('%s');\n", base64.StdEncoding.EncodeToString(text))
		}
		m.Psql("postgres", script.String())
	}
	after, err := m.Numbers()
	if err != nil {
		t.Fatal(err)
	}
	if executed := after.Number - before.Number; executed < 600 {
		t.Errorf("%d numbers for 600 statements", executed)
	}
}

// exactly settles, and checks that what is told as lost is what is missing.
func exactly(t *testing.T, m *mesh.Mesh) {
	t.Helper()
	account, numbers := m.Settle(t)
	if len(account.Told) == 0 {
		t.Error("nothing was lost: the test tests nothing")
	}
	for n, cause := range account.Told {
		if _, there := account.Events[n]; there || cause != "ring_full" {
			t.Errorf("number %d is told as %s, and its event is there: %v", n, cause, there)
		}
	}
	if got := uint64(account.Kept() + len(account.Told)); got != numbers.Number || numbers.Lost != uint64(len(account.Told)) {
		t.Errorf("%d events and %d lost of %d numbers; capture says %d lost", len(account.Events), len(account.Told), numbers.Number, numbers.Lost)
	}
	t.Logf("%d numbers, %d of them told as lost", numbers.Number, len(account.Told))
}
