package registry_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/services/control/internal/registry"
)

func TestIDs(t *testing.T) {
	for in, want := range map[string]string{ // empty: refused
		"orders": "orders", "Orders-2": "orders-2", "1": "1", "-": "-", strings.Repeat("a", 63): strings.Repeat("a", 63),
		"": "", strings.Repeat("a", 64): "", "a.b": "", "a*": "", "a>": "", "a b": "", "ä": "", "a\x00": "", "a_b": "",
	} {
		got, err := registry.ClusterID(in)
		if got != want || (err == nil) != (want != "") || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("ClusterID(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	seen := make(map[string]bool)
	for range 1000 {
		id := registry.NewResourceID()
		if !registry.IsClusterResourceID(id) || seen[id] {
			t.Fatalf("resource id %q: again %v", id, seen[id])
		}
		seen[id] = true
	}
	for _, id := range []string{"", "cluster-", "cluster-AAAAAAAAAAAAAAAAAAAAAAAAA", "cluster-AAAAAAAAAAAAAAAAAAAAAAAAAAA", "cluster-aaaaaaaaaaaaaaaaaaaaaaaaaa", "cluster-AAAAAAAAAAAAAAAAAAAAAAAAA1", "db-AAAAAAAAAAAAAAAAAAAAAAAAAA"} {
		if registry.IsClusterResourceID(id) {
			t.Errorf("IsClusterResourceID(%q) = true", id)
		}
	}
}

func FuzzDecode(f *testing.F) {
	good, err := registry.Cluster{Version: 1, ID: "orders", CreatedAt: now, Instances: []registry.Instance{{ID: "db1"}}}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"v":1,"stream":{"notices":[{"status":"started","at":"2026-05-01T12:00:00Z"}]}}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := registry.Decode("clusters.x", in, 1)
		if err != nil {
			if !fault.Is(err, fault.Corrupted) {
				t.Fatalf("Decode(%q) = %v, want it marked corrupted", in, err)
			}
			return
		}
		out, err := c.Encode()
		if err != nil {
			t.Fatalf("Encode(Decode(%q)) = %v", in, err)
		}
		again, err := registry.Decode("clusters.x", out, 1)
		if err != nil {
			t.Fatalf("Decode(Encode(Decode(%q))) = %v", in, err)
		}
		if out2, err := again.Encode(); err != nil || !bytes.Equal(out, out2) {
			t.Fatalf("round trip of %q: %s, %v, want %s", in, out2, err, out)
		}
	})
}
