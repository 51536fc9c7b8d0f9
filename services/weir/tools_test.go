package weir_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/services/weir"
	"github.com/weir-das/weir/services/weir/internal/connect"
)

// The flag is for docker compose, where nobody could make the key between the
// start of the endpoint and that of the stream.
func TestLocalAWSMakesTheAlias(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	// The signal that ends the command must not end the test.
	guard, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()

	out, written := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		code := weir.Main([]string{"localaws", "--listen", "127.0.0.1:0", "--kms-state", filepath.Join(t.TempDir(), "kms.json"),
			"--kms-alias", "alias/weir"}, io.Discard, written)
		written.Close()
		ended <- code
	}()
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("weir localaws printed nothing")
	}
	var endpoint string
	if _, err := fmt.Sscanf(lines.Text(), "Kinesis and KMS on %s", &endpoint); err != nil {
		t.Fatalf("weir localaws printed %q, want where it listens", lines.Text())
	}
	file := connect.File{AWSEndpoint: strings.TrimSuffix(endpoint, ","), Region: "us-east-1", AccessKeyID: "id", SecretAccessKey: "secret"}
	cfg, err := file.AWS(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kms.NewFromConfig(cfg).GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: aws.String("alias/weir"), KeySpec: types.DataKeySpecAes256,
	}); err != nil {
		t.Errorf("GenerateDataKey with alias/weir = %v, want a key", err)
	}

	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-guard.Done()
	for lines.Scan() {
	}
	if code := <-ended; code != 0 {
		t.Errorf("weir localaws ended with %d, want 0", code)
	}
}

func TestLocalAWSRefusesAnAliasThatNoClientCouldMake(t *testing.T) {
	var said strings.Builder
	code := weir.Main([]string{"localaws", "--listen", "127.0.0.1:0", "--kms-alias", "weir"}, io.Discard, &said)
	if code != 1 || !strings.Contains(said.String(), "--kms-alias weir") {
		t.Errorf("Main = %d, said %q; want 1 and the flag named", code, said.String())
	}
}

// A connect file may name the cluster and leave it to control to say what its
// stream is called, as that of docker compose does.
func TestTailAsksControlAboutTheConnectFilesCluster(t *testing.T) {
	dir := t.TempDir()
	if err := certs.Ensure(dir); err != nil {
		t.Fatal(err)
	}
	client := certs.TLS(dir, "client")
	file := connect.File{
		ClusterID: "demo", CAFile: client.CAFile, ClientCertFile: client.CertFile, ClientKeyFile: client.KeyFile,
		AWSEndpoint: "http://127.0.0.1:1", Region: "us-east-1", GRPC: connect.GRPC{Control: "127.0.0.1:1"},
	}
	name := filepath.Join(dir, "connect.json")
	if err := file.Write(name); err != nil {
		t.Fatal(err)
	}
	code, _, said := run("tail", "--connect", name)
	if code != 1 || !strings.Contains(said, "asking control for cluster demo") {
		t.Errorf("Main = %d, said %q; want 1 and that control was asked for demo", code, said)
	}
}
