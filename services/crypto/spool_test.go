package crypto_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/weir-das/weir/pkg/spoolkey"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/crypto"
)

func spoolKeyFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "spool.pem")
	if err := spoolkey.CreateFile(name); err != nil {
		t.Fatal(err)
	}
	return name
}

// A record that was sealed for the spool is journalled as the one in clear would
// be. One that does not open is refused; one whose key is not here is kept by its
// sender until it is.
func TestSealsWhatWasSpooled(t *testing.T) {
	w := newWorld(t)
	client, _ := w.replica(func(c *crypto.Config) { c.SpoolKeyFile = spoolKeyFile(t) })
	ctx := within(t, 30*time.Second)
	answer, err := client.GetSpoolKey(ctx, &cryptov1.GetSpoolKeyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	public, err := spoolkey.ParsePublic(answer.GetPublicKey())
	if err != nil || public.ID() != answer.GetKeyId() {
		t.Fatalf("GetSpoolKey = %v, %v", answer, err)
	}
	open := w.open()
	spooled := func(seq uint64) *cryptov1.SealRecord {
		r := record(seq, 1000)
		r.SealedPlaintext, err = public.Seal(spoolkey.Binding{
			Cluster: open.GetClusterResourceId(), Instance: open.GetInstanceResourceId(), KMSKey: open.GetKmsKeyId(),
			KinesisStream: open.GetKinesisStream(), Version: open.GetVersion(), MessageID: r.GetMessageId(),
		}, r.GetPlaintext())
		if err != nil {
			t.Fatal(err)
		}
		r.Plaintext, r.SpoolKeyId = nil, public.ID()
		return r
	}
	// send sends one record and returns the last answer.
	send := func(client cryptov1.CryptoServiceClient, open *cryptov1.SealOpen, r *cryptov1.SealRecord) (*cryptov1.SealResponse, error) {
		stream, err := client.Seal(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []*cryptov1.SealRequest{
			{Message: &cryptov1.SealRequest_Open{Open: open}}, {Message: &cryptov1.SealRequest_Record{Record: r}},
		} {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		defer stream.CloseSend()
		return stream.Recv()
	}
	if got, err := send(client, open, spooled(1)); err != nil || got.GetDurableThrough() != 1 || got.GetRefusedSequence() != 0 {
		t.Fatalf("a spooled record: %v, %v", got, err)
	}
	plain := record(1, 1000)
	got := w.journalled()
	if len(got) != 1 {
		t.Fatalf("%d records journalled, want 1", len(got))
	}
	if clear, err := w.unseal(got[0].Data); err != nil || string(clear) != string(plain.GetPlaintext()) {
		t.Errorf("journalled %.60q, %v; want %.60q", clear, err, plain.GetPlaintext())
	}
	for name, change := range map[string]func(*cryptov1.SealOpen, *cryptov1.SealRecord){
		"a flipped bit":        func(_ *cryptov1.SealOpen, r *cryptov1.SealRecord) { r.SealedPlaintext[40] ^= 1 },
		"another KMS key":      func(o *cryptov1.SealOpen, _ *cryptov1.SealRecord) { o.KmsKeyId = "mine" },
		"another message":      func(_ *cryptov1.SealOpen, r *cryptov1.SealRecord) { r.MessageId = "another" },
		"clear text beside it": func(_ *cryptov1.SealOpen, r *cryptov1.SealRecord) { r.Plaintext = []byte("{}") },
	} {
		o, r := proto.CloneOf(open), spooled(1)
		change(o, r)
		if got, err := send(client, o, r); err != nil || got.GetRefusedSequence() != 1 {
			t.Errorf("%s: %v, %v; want it refused", name, got, err)
		}
	}
	other, _ := w.replica(func(c *crypto.Config) { c.SpoolKeyFile = spoolKeyFile(t) })
	keyless, _ := w.replica()
	for _, c := range []cryptov1.CryptoServiceClient{other, keyless} {
		_, err := send(c, open, spooled(1))
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "spool_key_file") {
			t.Errorf("without its key: %v, want unavailable, and what to do", err)
		}
	}
	if none, err := keyless.GetSpoolKey(ctx, &cryptov1.GetSpoolKeyRequest{}); err != nil || len(none.GetPublicKey()) != 0 {
		t.Errorf("without a key: %v, %v", none, err)
	}
}
