package sign_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"go.uber.org/goleak"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/localaws"
	"github.com/weir-das/weir/services/crypto/internal/sign"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func keyFile(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func write(t *testing.T, text []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestFile(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := sign.OpenFile(keyFile(t, private))
	if err != nil {
		t.Fatal(err)
	}
	got, err := signer.Sign(t.Context(), []byte("hello"))
	if err != nil || got.Algorithm != "Ed25519" || !strings.HasPrefix(got.KeyID, "sha256:") || !ed25519.Verify(public, []byte("hello"), got.Bytes) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(format, signer); strings.Contains(s, fmt.Sprint(private[:4])[1:8]) || len(s) > 100 {
			t.Errorf("%s prints %s", format, s)
		}
	}
}

func TestFilesThatHoldNoKey(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{
		"nothing": write(t, nil), "no PEM": write(t, []byte("hello")), "another key": keyFile(t, other),
		"a broken key": write(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})),
	} {
		if _, err := sign.OpenFile(file); err == nil || !strings.Contains(err.Error(), "openssl genpkey -algorithm ed25519") {
			t.Errorf("%s: %v, want what it should be", name, err)
		}
	}
	if _, err := sign.OpenFile(filepath.Join(t.TempDir(), "gone")); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("no file: %v", err)
	}
}

func TestKMS(t *testing.T) {
	server, err := localaws.New(localaws.Options{})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(server)
	transport := &http.Transport{}
	t.Cleanup(func() { transport.CloseIdleConnections(); web.Close() })
	client := kms.New(kms.Options{
		Region: "us-east-1", BaseEndpoint: &web.URL, HTTPClient: &http.Client{Transport: transport}, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	})
	made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
	if err != nil {
		t.Fatal(err)
	}
	got, err := sign.NewKMS(client, *made.KeyMetadata.KeyId).Sign(t.Context(), []byte("hello"))
	if err != nil || got.Algorithm != "ECDSA_SHA_256" || got.KeyID != *made.KeyMetadata.Arn {
		t.Fatalf("%+v, %v", got, err)
	}
	out, err := client.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: made.KeyMetadata.KeyId})
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(out.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("hello"))
	if !ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest[:], got.Bytes) {
		t.Error("the signature is not the key's")
	}
	if err := server.KMS().Disable(*made.KeyMetadata.KeyId); err != nil {
		t.Fatal(err)
	}
	if _, err := sign.NewKMS(client, *made.KeyMetadata.KeyId).Sign(t.Context(), nil); !fault.Is(err, fault.NotReady) {
		t.Errorf("a disabled key: %v, want NotReady: it may be enabled again", err)
	}
}
