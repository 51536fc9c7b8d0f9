package crypto_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/crypto"
)

// What crypto signs are the lines that the schema names, and nobody but a
// capture has anything signed.
func TestSignCheckpoint(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "sign.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	address := ""
	client, _ := w.replica(func(c *crypto.Config) { c.SigningKeyFile, address = file, c.Listener.Addr().String() })
	ctx := within(t, 30*time.Second)
	const instance = "db-BBBBBBBBBBBBBBBBBBBBBBBBBB"
	req := &cryptov1.SignCheckpointRequest{ClusterResourceId: cluster, InstanceResourceId: instance, Epoch: 7, Number: 42, Hash: make([]byte, 32)}
	before := time.Now().Truncate(time.Microsecond)
	out, err := client.SignCheckpoint(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	at := out.GetAt().AsTime()
	text := fmt.Sprintf("weir checkpoint v1\n%s\n%s\n7\n42\n%s\n%s\n", cluster, instance, strings.Repeat("00", 32), at.Format("2006-01-02 15:04:05.000000+00"))
	if out.GetAlgorithm() != "Ed25519" || at.Before(before) || at.After(time.Now()) || !ed25519.Verify(public, []byte(text), out.GetSignature()) {
		t.Errorf("%v is no signature of %q", out, text)
	}
	for name, change := range map[string]func(*cryptov1.SignCheckpointRequest){
		"cluster_resource_id":  func(r *cryptov1.SignCheckpointRequest) { r.ClusterResourceId = "cluster-X\ny" },
		"instance_resource_id": func(r *cryptov1.SignCheckpointRequest) { r.InstanceResourceId = "" },
		"a hash of 3 bytes":    func(r *cryptov1.SignCheckpointRequest) { r.Hash = []byte("abc") },
		"epoch 0":              func(r *cryptov1.SignCheckpointRequest) { r.Epoch = 0 },
	} {
		bad := &cryptov1.SignCheckpointRequest{ClusterResourceId: cluster, InstanceResourceId: instance, Epoch: 7, Number: 42, Hash: make([]byte, 32)}
		change(bad)
		if _, err := client.SignCheckpoint(ctx, bad); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want InvalidArgument", name, err)
		}
	}
	conn, err := rpc.Dial(address, "crypto.weir", certs.TLS(w.certs, "control"), obs.Discard())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := cryptov1.NewCryptoServiceClient(conn).SignCheckpoint(ctx, req); status.Code(err) != codes.PermissionDenied {
		t.Errorf("control has a chain signed: %v, want PermissionDenied", err)
	}

	unsigned, _ := w.replica()
	if out, err := unsigned.SignCheckpoint(ctx, req); err != nil || len(out.GetSignature()) != 0 {
		t.Errorf("without a key: %v, %v, want no signature", out, err)
	}
}
