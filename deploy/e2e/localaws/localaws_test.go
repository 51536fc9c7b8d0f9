// Package localaws_test holds pkg/localaws against real clients (the Go SDK, the aws command line) and against two other
// imitations of Kinesis from npm, call by call.
package localaws_test

import (
	"context"
	"net"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"go.uber.org/goleak"

	"github.com/weir-das/weir/pkg/localaws"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	accessKey = "AKIAIOSFODNN7EXAMPLE"
	secretKey = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// start serves with these options until the test ends. Signatures are checked.
func start(t *testing.T, opt localaws.Options) (srv *localaws.Server, url string) {
	t.Helper()
	if opt.Credentials == nil {
		opt.Credentials = map[string]string{accessKey: secretKey}
	}
	srv, err := localaws.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return srv, serve(t, srv)
}

// serve answers on loopback until the test ends.
func serve(t *testing.T, srv *localaws.Server) (url string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, lis) }()
	t.Cleanup(func() {
		client.CloseIdleConnections()
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
	})
	return "http://" + lis.Addr().String()
}

func kinesisClient(url string) *kinesis.Client {
	return kinesis.New(kinesis.Options{
		BaseEndpoint: aws.String(url), Region: "us-east-1", RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
	})
}

func kmsClient(url string) *kms.Client {
	return kms.New(kms.Options{
		BaseEndpoint: aws.String(url), Region: "us-east-1", RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
	})
}
