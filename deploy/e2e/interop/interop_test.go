package interop_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	mpl "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygenerated"
	mpltypes "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygeneratedtypes"
	sdk "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygenerated"
	sdktypes "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygeneratedtypes"

	"github.com/weir-das/weir/deploy/e2e/interop"
	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/pkg/esdk"
)

// sizes of plaintexts: around the frame length, and a large record.
var sizes = []int{0, 1, 172, 4095, 4096, 4097, 3*4096 - 1, 3 * 4096, 600_000}

func newKey(seed byte) *esdk.Key {
	var k esdk.Key
	for i := range k {
		k[i] = seed * byte(i+1)
	}
	return &k
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// goKeyring is the keyring of a consumer that uses AWS's SDK for Go.
func goKeyring(t *testing.T, key *esdk.Key, namespace string) mpltypes.IKeyring {
	t.Helper()
	client, err := mpl.NewClient(mpltypes.MaterialProvidersConfig{})
	if err != nil {
		t.Fatal(err)
	}
	keyring, err := client.CreateRawAesKeyring(t.Context(), mpltypes.CreateRawAesKeyringInput{
		KeyName: "DataKey", KeyNamespace: namespace,
		WrappingKey: key[:], WrappingAlg: mpltypes.AesWrappingAlgAlgAes256GcmIv12Tag16,
	})
	if err != nil {
		t.Fatal(err)
	}
	return keyring
}

func goClient(t *testing.T, policy mpltypes.ESDKCommitmentPolicy) *sdk.Client {
	t.Helper()
	client, err := sdk.NewClient(sdktypes.AwsEncryptionSdkConfig{CommitmentPolicy: &policy})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// goOpen opens a message as a consumer does.
func goOpen(t *testing.T, key *esdk.Key, namespace string, message []byte) ([]byte, error) {
	t.Helper()
	return interop.OpenGo(t.Context(), interop.Message{Key: key[:], Message: message, Namespace: namespace})
}

func goSeal(t *testing.T, key *esdk.Key, plaintext []byte, suite mpltypes.ESDKAlgorithmSuiteId, frame int64, context map[string]string) []byte {
	t.Helper()
	policy := mpltypes.ESDKCommitmentPolicyForbidEncryptAllowDecrypt
	if suite == mpltypes.ESDKAlgorithmSuiteIdAlgAes256GcmHkdfSha512CommitKey {
		policy = mpltypes.ESDKCommitmentPolicyRequireEncryptRequireDecrypt
	}
	out, err := goClient(t, policy).Encrypt(t.Context(), sdktypes.EncryptInput{
		Plaintext: plaintext, AlgorithmSuiteId: &suite, FrameLength: &frame, EncryptionContext: context, Keyring: goKeyring(t, key, "BC"),
	})
	if err != nil {
		t.Fatalf("sealing %d bytes: %v", len(plaintext), err)
	}
	return out.Ciphertext
}

func TestGoOpensOurs(t *testing.T) {
	key := newKey(1)
	for _, n := range sizes {
		want := randomBytes(n)
		got, err := goOpen(t, key, "BC", esdk.Seal(nil, key, want))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("AWS's SDK for Go opens %d bytes of ours as %d, %v", n, len(got), err)
		}
	}
}

func TestWeOpenGos(t *testing.T) {
	key := newKey(1)
	const (
		unsigned = mpltypes.ESDKAlgorithmSuiteIdAlgAes256GcmIv12Tag16HkdfSha256
		signed   = mpltypes.ESDKAlgorithmSuiteIdAlgAes256GcmIv12Tag16HkdfSha384EcdsaP384
	)
	for _, suite := range []mpltypes.ESDKAlgorithmSuiteId{unsigned, signed} {
		for _, frame := range []int64{4096, 100, 1 << 20} {
			for _, context := range []map[string]string{nil, {"aws:rds:dbc-id": "cluster-A", "z": "é", "": "x"}} {
				for _, n := range []int{0, 1, 4096, 10_000} {
					want := randomBytes(n)
					message := goSeal(t, key, want, suite, frame, context)
					got, err := esdk.Open(nil, key, message)
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("we open %d bytes, %s, frames of %d, context %v as %d, %v", n, suite, frame, context, len(got), err)
					}
					if _, err := esdk.Open(nil, newKey(2), message); !errors.Is(err, esdk.ErrOpen) {
						t.Errorf("we open Go's message with another key: %v", err)
					}
				}
			}
		}
	}
	committing := goSeal(t, key, []byte("x"), mpltypes.ESDKAlgorithmSuiteIdAlgAes256GcmHkdfSha512CommitKey, 4096, nil)
	if _, err := esdk.Open(nil, key, committing); !errors.Is(err, esdk.ErrOpen) {
		t.Errorf("we open a message of format version 2: %v", err)
	}
}

// changes returns the message with one bit changed in each of its parts, cut
// short, and with one byte more.
func changes(message []byte) map[string][]byte {
	changed := map[string][]byte{
		"the end missing": message[:len(message)-1],
		"a byte more":     append(slices.Clip(message), 0),
	}
	for part, at := range map[string]int{
		"version": 0, "type": 1, "suite": 3, "message id": 4, "context": 21, "key count": 23, "provider": 26, "key name": 30,
		"wrapping IV": 50, "wrapped key": 60, "content type": 107, "reserved": 108, "IV length": 112, "frame length": 115,
		"header IV": 120, "header tag": 130, "frame mark": 145, "sequence": 152, "frame IV": 160, "length": 168, "ciphertext": 170,
		"tag": len(message) - 1,
	} {
		m := slices.Clone(message)
		m[at] ^= 1
		changed["another "+part] = m
	}
	return changed
}

// Whoever changes a message, or has another key, reads nothing: with AWS's SDK
// for Go and with ours.
func TestGoRefuses(t *testing.T) {
	key := newKey(1)
	message := esdk.Seal(nil, key, randomBytes(200))
	for name, m := range changes(message) {
		if _, err := goOpen(t, key, "BC", m); err == nil {
			t.Errorf("AWS's SDK for Go opens a message with %s", name)
		}
		if _, err := esdk.Open(nil, key, m); !errors.Is(err, esdk.ErrOpen) {
			t.Errorf("we open a message with %s: %v", name, err)
		}
	}
	if _, err := goOpen(t, newKey(2), "BC", message); err == nil {
		t.Error("AWS's SDK for Go opens a message with another key")
	}
	if _, err := goOpen(t, key, "RawMasterKeyProvider", message); err == nil {
		t.Error("AWS's SDK for Go opens a message with another namespace")
	}
	other := goKeyring(t, key, "other")
	suite := mpltypes.ESDKAlgorithmSuiteIdAlgAes256GcmIv12Tag16HkdfSha256
	out, err := goClient(t, mpltypes.ESDKCommitmentPolicyForbidEncryptAllowDecrypt).Encrypt(t.Context(),
		sdktypes.EncryptInput{Plaintext: []byte("x"), AlgorithmSuiteId: &suite, Keyring: other})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := esdk.Open(nil, key, out.Ciphertext); !errors.Is(err, esdk.ErrOpen) {
		t.Errorf("we open a message of another namespace: %v", err)
	}
	strict := goClient(t, mpltypes.ESDKCommitmentPolicyRequireEncryptRequireDecrypt)
	if _, err := strict.Decrypt(t.Context(), sdktypes.DecryptInput{Ciphertext: message, Keyring: goKeyring(t, key, "BC")}); err == nil {
		t.Error("AWS's SDK for Go opens a message without commitment where it requires one")
	}
}

func TestJSOpensOurs(t *testing.T) {
	key := newKey(1)
	var messages []interop.Message
	for _, n := range sizes {
		messages = append(messages, interop.Message{Key: key[:], Message: esdk.Seal(nil, key, randomBytes(n)), Raw: true})
	}
	opened, err := interop.OpenJS(t.Context(), messages)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range sizes {
		if o := opened[i]; o.Err != nil || !bytes.Equal(o.Plaintext, randomBytes(n)) {
			t.Errorf("AWS's client for JavaScript opens %d bytes of ours as %d, %v", n, len(o.Plaintext), o.Err)
		}
	}
}

func TestWeOpenJSs(t *testing.T) {
	key := newKey(1)
	var plains []interop.Plain
	for _, n := range sizes {
		for _, signed := range []bool{false, true} {
			plains = append(plains,
				interop.Plain{Key: key[:], Plaintext: randomBytes(n), Signed: signed},
				interop.Plain{Key: key[:], Plaintext: randomBytes(n), Signed: signed, FrameLength: 1000, Context: map[string]string{"a": "é", "b": ""}})
		}
	}
	messages, err := interop.SealJS(t.Context(), plains)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range plains {
		got, err := esdk.Open(nil, key, messages[i])
		if err != nil || !bytes.Equal(got, p.Plaintext) {
			t.Errorf("we open %d bytes, signed %v, frames of %d as %d, %v", len(p.Plaintext), p.Signed, p.FrameLength, len(got), err)
		}
		if _, err := esdk.Open(nil, newKey(2), messages[i]); !errors.Is(err, esdk.ErrOpen) {
			t.Errorf("we open JavaScript's message with another key: %v", err)
		}
		messages[i][len(messages[i])-3] ^= 1
		if _, err := esdk.Open(nil, key, messages[i]); !errors.Is(err, esdk.ErrOpen) {
			t.Errorf("we open JavaScript's message, signed %v, with its end changed: %v", p.Signed, err)
		}
	}
}

func TestJSRefuses(t *testing.T) {
	key := newKey(1)
	plain := randomBytes(200)
	message := esdk.Seal(nil, key, plain)
	names := []string{"another key", "another namespace"}
	messages := []interop.Message{
		{Key: newKey(2)[:], Message: message, Raw: true},
		{Key: key[:], Message: message, Raw: true, Namespace: "RawMasterKeyProvider"},
	}
	for name, m := range changes(message) {
		names = append(names, name)
		messages = append(messages, interop.Message{Key: key[:], Message: m, Raw: true})
	}
	opened, err := interop.OpenJS(t.Context(), messages)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range opened {
		// What follows a message that is whole, this client does not look at. We do.
		if names[i] == "a byte more" && bytes.Equal(o.Plaintext, plain) {
			continue
		}
		if o.Err == nil {
			t.Errorf("AWS's client for JavaScript opens a message with %s", names[i])
		}
	}
}

// A record takes the whole way: rendered, compressed, sealed, put into the
// outer record; taken out, opened by both clients, decompressed, the same.
func TestRecord(t *testing.T) {
	key := newKey(1)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	event := das.Event{
		StartTime: at, LogTime: at, StatementID: 1, SubstatementID: 1, Command: "SELECT", CommandText: das.Some("select 'é\n\"'"),
		ParamList: []das.Nullable[string]{das.Some("1"), {}}, DBUserName: "app", Class: "READ", Type: das.TypeRecord,
	}
	list := event.Append(nil)
	for range 500 {
		list = event.Append(append(list, ','))
	}
	records := [][]byte{
		das.AppendHeartbeat(nil, "cluster-753QANBMP5KBJZOKGK76IZWZRE", "db-FZJTMYKCXQBUUZ6VLU7NW3ITCM", &das.Extension{Epoch: 1}),
		das.AppendRecord(nil, "cluster-753QANBMP5KBJZOKGK76IZWZRE", "db-FZJTMYKCXQBUUZ6VLU7NW3ITCM", list, nil),
	}
	var messages []interop.Message
	for _, record := range records {
		var zipped bytes.Buffer
		zw := gzip.NewWriter(&zipped)
		if _, err := zw.Write(record); err != nil {
			t.Fatal(err)
		}
		if err := zw.Close(); err != nil {
			t.Fatal(err)
		}
		outer, err := das.ParseOuter(das.AppendOuter(nil, das.VersionPostgreSQL, esdk.Seal(nil, key, zipped.Bytes()), []byte("from KMS")))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := goOpen(t, key, "BC", outer.Events); err != nil || !bytes.Equal(got, zipped.Bytes()) {
			t.Errorf("AWS's SDK for Go opens a record as %d bytes, %v", len(got), err)
		}
		messages = append(messages, interop.Message{Key: key[:], Message: outer.Events})
	}
	opened, err := interop.OpenJS(t.Context(), messages)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range opened {
		if o.Err != nil || !bytes.Equal(o.Record, records[i]) {
			t.Errorf("AWS's client for JavaScript opens a record as %.200s, %v; want %.200s", o.Record, o.Err, records[i])
		}
	}
}
