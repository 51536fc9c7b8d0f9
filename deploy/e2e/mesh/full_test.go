package mesh_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	"github.com/weir-das/weir/pkg/localaws/inject"
)

// Kinesis takes nothing until the journal is full, by its own limit and then
// because its disk is: crypto is refused, the ring fills, and what no longer
// fits is counted. With room again everything that was kept arrives, and what
// is told as lost is exactly what is missing.
func TestJournalIsFull(t *testing.T) {
	cloud := startCloud(t)
	dir := mesh.Disk(t, 32<<20)
	m := mesh.Prepare(t, mesh.Options{AWS: cloud.addr, JetStream: dir, RingSize: 1 << 20, Environment: []string{
		"WEIR_CRYPTO_JOURNAL__MAX_BYTES=4194304", "WEIR_PUBLISHER_JOURNAL__MAX_BYTES=4194304",
	}})
	signing, another := signingKey(t, m), signingKey(t, m)
	m.Begin("WEIR_CRYPTO_SIGNING_KMS_KEY=" + signing)
	t.Run("its limit", func(t *testing.T) {
		crypto, capture := now(t, m, mesh.Crypto), now(t, m, mesh.Capture)
		mend := cloud.Kinesis().FailPut(inject.Fault{})
		overflow(t, m)
		saidOnce(t, m, mesh.Crypto, crypto, "the journal is full", "maximum bytes exceeded", "journal.max_bytes")
		saidOnce(t, m, mesh.Capture, capture, "do not reach the journal", "the journal is full")
		mend()
		exactly(t, m)
		saidOnce(t, m, mesh.Capture, capture, "do not reach the journal")
	})
	t.Run("its disk", func(t *testing.T) {
		crypto, capture := now(t, m, mesh.Crypto), now(t, m, mesh.Capture)
		mend := cloud.Kinesis().FailPut(inject.Fault{})
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
		// What the message asks for. Until then a probe of NATS's health fails, also when
		// there is room again.
		free()
		if code, says := healthz(t, m); code == http.StatusOK || !strings.Contains(says, "no space left") {
			t.Errorf("NATS's health with room again, before its restart: %d %s", code, says)
		}
		m.Terminate(mesh.NATS)
		m.StartProcess(mesh.NATS)
		mesh.Eventually(t, 20*time.Second, func() error {
			if code, says := healthz(t, m); code != http.StatusOK {
				return fmt.Errorf("NATS's health after its restart: %d %s", code, says)
			}
			return nil
		})
		mend()
		exactly(t, m)
	})
	t.Run("signed with a key in KMS", func(t *testing.T) { signedInKMS(t, m, signing, another) })
	t.Run("its data", func(t *testing.T) { journalIsLost(t, m, cloud, dir) })
	t.Run("its stream", func(t *testing.T) { kinesisIsDeleted(t, m) })
	t.Run("its registry", func(t *testing.T) { nobodyKnowsTheInstance(t, m, dir) })
}

// healthz is what a liveness probe of NATS hears.
func healthz(t *testing.T, m *mesh.Mesh) (code int, says string) {
	t.Helper()
	return get(t, "http://"+m.Addr(mesh.Monitor)+"/healthz")
}

// signingKey makes a key in KMS that crypto can sign with.
func signingKey(t *testing.T, m *mesh.Mesh) string {
	t.Helper()
	out, err := m.KMS().CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
	if err != nil {
		t.Fatal(err)
	}
	return aws.ToString(out.KeyMetadata.KeyId)
}

// signedInKMS checks the signatures as somebody does who has but the right to ask
// KMS for the public key; with another key nothing of them is good.
func signedInKMS(t *testing.T, m *mesh.Mesh, signing, another string) {
	m.Eventually(60*time.Second, func() error { // a signature comes about every ten seconds
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		out, err := m.Weir(ctx, "verify", "--kms-key", signing)
		if err != nil || !strings.Contains(out, "signed") {
			return fmt.Errorf("weir verify --kms-key: %v\n%s", err, out)
		}
		return nil
	})
	for key, want := range map[string]string{another: "forged", m.KMSKeyID: "GetPublicKey", "alias/nobody": "alias/nobody"} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		out, err := m.Weir(ctx, "verify", "--kms-key", key)
		cancel()
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("weir verify --kms-key %s: %v, want an error that says %q:\n%s", key, err, want, out)
		}
	}
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
