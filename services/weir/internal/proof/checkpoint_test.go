package proof_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	"github.com/weir-das/weir/services/weir/internal/proof"
)

func publicKey(t *testing.T, key any) *proof.Key {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := proof.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Whoever holds the data key and writes the past anew, chain and all, has no key
// to sign it with.
func TestSignatures(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(text string) []byte { return ed25519.Sign(private, []byte(text)) }
	h := historyOf(epoch, events(1, 12))
	anew := historyOf(epoch, append(append(events(1, 4), ev(5, "select 'never'")), events(6, 12)...))
	key := publicKey(t, public)
	for _, c := range []struct {
		name    string
		records []string
		kind    string
		signed  uint64
	}{
		{"an honest stream", []string{h.Cut(0, 6), h.Cut(6, 12), h.Signed(8, "Ed25519", sign), h.Signed(4, "Ed25519", sign)}, "", 8},
		{"the past written anew", []string{anew.Cut(0, 6), anew.Cut(6, 12), h.Signed(8, "Ed25519", sign)}, proof.Unsigned, 8},
		{"the same, signed by somebody", []string{anew.Cut(0, 12), anew.Signed(8, "Ed25519", func(string) []byte { return make([]byte, 64) })}, proof.Forged, 0},
		{"a signature of another number", []string{h.Cut(0, 12), strings.Replace(h.Signed(8, "Ed25519", sign), `"n":8`, `"n":9`, 1)}, proof.Forged, 0},
		{"a signature of another time", []string{h.Cut(0, 12), strings.Replace(h.Signed(8, "Ed25519", sign), `"at":"2026`, `"at":"2027`, 1)}, proof.Forged, 0},
		{"another algorithm", []string{h.Cut(0, 12), h.Signed(8, "none", sign)}, proof.Forged, 0},
		{"a signature of another epoch", []string{h.Cut(0, 12), strings.Replace(h.Signed(8, "Ed25519", sign), `{"epoch":1767225600000000,"n":8`, `{"epoch":1767225600000001,"n":8`, 1)}, proof.Foreign, 0},
		{"the end removed, the signature left", []string{h.Cut(0, 6), strings.Replace(h.Signed(12, "Ed25519", sign), `"through":12,`, "", 1)}, "missing", 12},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 2 {
				r := check(t, proof.Options{Cluster: cluster, Key: key}, nil, c.records...)
				e := one(t, r)
				switch c.kind {
				case "":
					if !r.OK() {
						t.Errorf("%+v, want nothing wrong", r)
					}
				case "missing":
					if e.LostUntold != 6 || e.Last != 12 {
						t.Errorf("%+v, want 7 to 12 missing", e)
					}
				default:
					if !slices.ContainsFunc(r.Findings, func(f proof.Finding) bool {
						return f.Kind == c.kind || c.kind == proof.Unsigned && f.Kind == proof.Contradiction
					}) {
						t.Errorf("%+v, want %q", r.Findings, c.kind)
					}
				}
				if e.Signed != c.signed {
					t.Errorf("signed up to %d, want %d", e.Signed, c.signed)
				}
				slices.Reverse(c.records)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := historyOf(epoch, events(1, 3))
	sign := func(text string) []byte {
		digest := sha256.Sum256([]byte(text))
		signature, err := ecdsa.SignASN1(rand.Reader, private, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	r := check(t, proof.Options{Key: publicKey(t, &private.PublicKey)}, nil, h.Cut(0, 3), h.Signed(3, "ECDSA_SHA_256", sign))
	if e := one(t, r); !r.OK() || e.Signed != 3 {
		t.Errorf("%+v, want three numbers signed", r)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&other.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, []byte("hello"), der, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if _, err := proof.ParseKey(bad); err == nil {
			t.Errorf("ParseKey(%.20q) = nil, want an error", bad)
		}
	}
}
