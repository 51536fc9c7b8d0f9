package keys_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/localaws"
	"github.com/weir-das/weir/pkg/localaws/inject"
	"github.com/weir-das/weir/services/crypto/internal/keys"
)

// localKMS starts a KMS with one key.
func localKMS(t *testing.T) (server *localaws.Server, endpoint, keyARN string) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	s, err := localaws.New(localaws.Options{})
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, lis) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	endpoint = "http://" + lis.Addr().String()
	key, err := admin(endpoint).CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	return s, endpoint, *key.KeyMetadata.Arn
}

func admin(endpoint string) *kms.Client {
	return kms.New(kms.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(endpoint),
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
}

func TestKMS(t *testing.T) {
	server, endpoint, arn := localKMS(t)
	k, err := keys.NewKMS(t.Context(), endpoint, "us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	g, err := k.Generate(t.Context(), arn, cluster)
	if err != nil || g.ARN != arn {
		t.Fatalf("Generate = %v, %v", g.ARN, err)
	}
	// A consumer decrypts it with the cluster's id as context, and not without.
	out, err := admin(endpoint).Decrypt(t.Context(), &kms.DecryptInput{
		CiphertextBlob: g.Ciphertext, EncryptionContext: map[string]string{"aws:rds:dbc-id": cluster},
	})
	if err != nil || string(out.Plaintext) != string(g.Plaintext[:]) {
		t.Fatalf("Decrypt = %v, want the same key", err)
	}
	if _, err := admin(endpoint).Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: g.Ciphertext}); err == nil {
		t.Error("Decrypt without the cluster's id = nil, want an error")
	}

	service := server.KMS()
	for _, tt := range []struct {
		what string
		do   func()
		key  string
		want fault.Kind
		text string
	}{
		{"unknown", func() {}, strings.Replace(arn, "/", "/0", 1), fault.Invalid, "NotFoundException"},
		{"alias unknown", func() {}, "alias/none", fault.Invalid, "NotFoundException"},
		{"disabled", func() { _ = service.Disable(arn) }, arn, fault.Invalid, "DisabledException"},
		{"denied", func() { service.Fail(inject.Fault{Code: "AccessDeniedException"}) }, arn, fault.Denied, "AccessDenied"},
		{"throttled", func() { service.Fail(inject.Fault{Code: "ThrottlingException"}) }, arn, fault.Busy, "Throttling"},
		{"internal", func() { service.Fail(inject.Fault{Code: "KMSInternalException"}) }, arn, fault.NotReady, "KMSInternal"},
		{"expired credentials", func() { service.Fail(inject.Fault{Code: "ExpiredTokenException"}) }, arn, fault.NotReady, "ExpiredToken"},
		{"deleted", func() { _ = service.Delete(arn) }, arn, fault.Invalid, "NotFoundException"},
	} {
		service.ClearFaults()
		_ = service.Enable(arn)
		tt.do()
		_, err := k.Generate(t.Context(), tt.key, cluster)
		if !fault.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: Generate = %v (%v), want %v that says %s", tt.what, err, fault.Of(err), tt.want, tt.text)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	away, err := keys.NewKMS(ctx, "http://127.0.0.1:1", "us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := away.Generate(ctx, arn, cluster); !fault.Is(err, fault.NotReady) {
		t.Errorf("nobody there: Generate = %v, want NotReady", err)
	}
}
