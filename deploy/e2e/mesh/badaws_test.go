package mesh_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	"github.com/weir-das/weir/pkg/localaws/inject"
)

// KMS and Kinesis go away, refuse and come back, each in its own way: each is
// one line in the log of the service that meets it, with the cause and what
// helps, and no number is missing after.
func TestAWSRefuses(t *testing.T) {
	aws := startCloud(t)
	m := mesh.Start(t, mesh.Options{AWS: aws.addr, NoStream: true, Environment: []string{
		"WEIR_CRYPTO_KEY_MAX_AGE=1s",
	}})
	t.Run("start without KMS", func(t *testing.T) { startsOnlyWithAKey(t, m, aws) })
	t.Run("KMS away", func(t *testing.T) { goesOnWithoutKMS(t, m, aws) })
	t.Run("crypto starts without KMS", func(t *testing.T) { waitsForAKey(t, m, aws) })
	t.Run("key disabled", func(t *testing.T) { stopsWithItsKey(t, m, aws) })
	t.Run("Kinesis", func(t *testing.T) { kinesisRefuses(t, m, aws) })
}

func begin(m *mesh.Mesh) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return m.Weir(ctx, "stream", "start", "--cluster", "test", "--kms-key", m.KMSKeyID, "--wait")
}

// A stream starts with a key that works, or not at all.
func startsOnlyWithAKey(t *testing.T, m *mesh.Mesh, aws *cloud) {
	refused := func(why string, words ...string) {
		t.Helper()
		out, err := begin(m)
		if err == nil || !containsAll(out, words...) || strings.Count(out, "\n") != 1 {
			t.Errorf("weir stream start with %s = %v, want one line with %q:\n%s", why, err, words, out)
		}
		if out := m.MustWeir("stream", "status", "--cluster", "test"); !strings.Contains(strings.ToLower(out), "stopped") {
			t.Errorf("with %s the stream is started all the same:\n%s", why, out)
		}
	}
	remove := aws.KMS().Fail(inject.Fault{Code: "KMSInternalException"})
	refused("KMS failing", m.KMSKeyID, "nothing was started", "try again")
	remove()
	aws.down()
	refused("KMS away", m.KMSKeyID, "nothing was started", "try again")
	aws.up()
	if err := aws.KMS().Disable(m.KMSKeyID); err != nil {
		t.Fatal(err)
	}
	refused("a disabled key", m.KMSKeyID, "disabled", "enable it")
	if err := aws.KMS().Enable(m.KMSKeyID); err != nil {
		t.Fatal(err)
	}
	remove = aws.KMS().Fail(inject.Fault{Code: "AccessDeniedException", Message: "not authorized"})
	refused("a denied key", m.KMSKeyID, "kms:GenerateDataKey")
	remove()
	if out, err := begin(m); err != nil {
		t.Fatalf("weir stream start = %v:\n%s", err, out)
	}
	m.Settle(t)
}

// statements runs a few, and returns when the ring has them.
func statements(t *testing.T, m *mesh.Mesh, n int) {
	t.Helper()
	if out := m.Psql("postgres", strings.Repeat("SELECT 1;\n", n)); strings.Contains(out, "ERROR") {
		t.Fatal(out)
	}
}

// whole settles, and checks that nothing was lost, not even told.
func whole(t *testing.T, m *mesh.Mesh) {
	t.Helper()
	account, numbers := m.Settle(t)
	if len(account.Told) > 0 {
		t.Errorf("%d of %d numbers are told as lost, want none", len(account.Told), numbers.Number)
	}
}

func goesOnWithoutKMS(t *testing.T, m *mesh.Mesh, aws *cloud) {
	since := now(t, m, mesh.Crypto)
	capture := now(t, m, mesh.Capture)
	remove := aws.KMS().Fail(inject.Fault{Code: "KMSInternalException"})
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		statements(t, m, 10)
	}
	remove()
	whole(t, m)
	saidOnce(t, m, mesh.Crypto, since, "no new data key", "KMSInternalException", `"old_key_in_use":true`)
	if bad := complaints(t, m, mesh.Capture, capture); len(bad) > 0 {
		t.Errorf("capture complains of what does not concern it:\n%s", strings.Join(bad, "\n"))
	}
}

// A crypto that has never had a key waits for one; so do the events, in the ring.
func waitsForAKey(t *testing.T, m *mesh.Mesh, aws *cloud) {
	capture := now(t, m, mesh.Capture)
	m.Terminate(mesh.Crypto)
	remove := aws.KMS().Fail(inject.Fault{Code: "KMSInternalException"})
	since := now(t, m, mesh.Crypto)
	m.StartProcess(mesh.Crypto)
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		statements(t, m, 10)
	}
	saidOnce(t, m, mesh.Crypto, since, "no new data key", "KMSInternalException", `"old_key_in_use":false`)
	remove()
	whole(t, m)
	// What it sees of a crypto that goes is now one thing and now another.
	saidOfKMS := 0
	for _, line := range complaints(t, m, mesh.Capture, capture) {
		if containsAll(line, "do not reach the journal", "KMSInternalException") {
			saidOfKMS++
		}
	}
	if saidOfKMS != 1 {
		t.Errorf("capture says %d times that KMS fails, want once:\n%s", saidOfKMS, m.Log(mesh.Capture))
	}
}

// An owner who disables the key stops the stream at the next renewal; the ring
// keeps what happens until he enables it.
func stopsWithItsKey(t *testing.T, m *mesh.Mesh, aws *cloud) {
	since, capture := now(t, m, mesh.Crypto), now(t, m, mesh.Capture)
	if err := aws.KMS().Disable(m.KMSKeyID); err != nil {
		t.Fatal(err)
	}
	mesh.Eventually(t, 20*time.Second, func() error {
		statements(t, m, 10)
		if len(complaints(t, m, mesh.Capture, capture)) == 0 {
			return fmt.Errorf("records go on with a disabled key")
		}
		return nil
	})
	statements(t, m, 100)
	time.Sleep(2 * time.Second)
	numbers, err := m.Numbers()
	if err != nil || numbers.Number == numbers.Durable {
		t.Errorf("numbers %+v, %v: want some that wait for the key", numbers, err)
	}
	saidOnce(t, m, mesh.Crypto, since, "no new data key", "DisabledException", "enable it")
	saidOnce(t, m, mesh.Capture, capture, "do not reach the journal", "the ring holds", "disabled", "enable it")
	if err := aws.KMS().Enable(m.KMSKeyID); err != nil {
		t.Fatal(err)
	}
	whole(t, m)
}

// kinesisRefuses goes through what can be wrong at the end of the path. Events
// wait in the journal; whatever it was, they arrive after.
func kinesisRefuses(t *testing.T, m *mesh.Mesh, aws *cloud) {
	put := func(f inject.Fault) func() func() {
		return func() func() { return aws.Kinesis().FailPut(f) }
	}
	for _, tt := range []struct {
		name string
		fail func() (mend func())
		says []string
	}{
		{"throttles", put(inject.Fault{Code: "ProvisionedThroughputExceededException"}), []string{"ProvisionedThroughputExceeded"}},
		{"is away", func() func() { aws.down(); return aws.up }, []string{"connection refused", "kinesis_endpoint"}},
		{"denies", put(inject.Fault{Code: "AccessDeniedException"}), []string{"AccessDenied", "kinesis:PutRecords"}},
		{"takes half of each batch", put(inject.Fault{Fraction: 0.5, Seed: 7}), []string{"InternalFailure"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			since := now(t, m, mesh.Publisher)
			mend := tt.fail()
			statements(t, m, 50)
			saidOnce(t, m, mesh.Publisher, since, append(tt.says, "they wait in the journal", m.KinesisStream)...)
			statements(t, m, 50)
			mend()
			whole(t, m)
			saidOnce(t, m, mesh.Publisher, since, tt.says...)
		})
	}
	t.Run("lost the stream", func(t *testing.T) { streamDeleted(t, m) })
}

// streamDeleted deletes the Kinesis stream behind Weir's back. What a consumer
// had read before and what is read after is everything.
func streamDeleted(t *testing.T, m *mesh.Mesh) {
	whole(t, m)
	before, err := m.Records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	since := now(t, m, mesh.Publisher)
	if _, err := m.Kinesis().DeleteStream(t.Context(), &kinesis.DeleteStreamInput{StreamName: &m.KinesisStream}); err != nil {
		t.Fatal(err)
	}
	statements(t, m, 100)
	mesh.Eventually(t, 30*time.Second, func() error {
		numbers, err := m.Numbers()
		if err != nil {
			return err
		}
		after, err := m.Records(t.Context())
		if err != nil {
			return err
		}
		epochs, err := mesh.AccountFor(append(after, before...))
		if err != nil {
			t.Fatal(err)
		}
		if missing := epochs[numbers.Epoch].Missing(numbers.Number); len(missing) > 0 {
			return fmt.Errorf("%d of %d numbers are missing", len(missing), numbers.Number)
		}
		return nil
	})
	said := false
	for _, line := range complaints(t, m, mesh.Publisher, since) {
		said = said || containsAll(line, "was gone and is made again", m.KinesisStream)
	}
	if !said {
		t.Errorf("publisher says nothing of a stream that was gone:\n%s", m.Log(mesh.Publisher))
	}
}
