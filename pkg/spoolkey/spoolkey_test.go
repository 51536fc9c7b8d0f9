package spoolkey_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-das/weir/pkg/spoolkey"
)

// file writes private keys and returns their file.
func file(t *testing.T, keys ...any) string {
	t.Helper()
	var text []byte
	for _, key := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	}
	name := filepath.Join(t.TempDir(), "spool.pem")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func newKey(t *testing.T) *ecdh.PrivateKey {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func open(t *testing.T, name string) *spoolkey.Ring {
	t.Helper()
	r, err := spoolkey.OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var binding = spoolkey.Binding{Cluster: "c", Instance: "i", KMSKey: "k", KinesisStream: "s", Version: "1.1", MessageID: "m"}

func TestOnlyThePrivateHalfOpens(t *testing.T) {
	r := open(t, file(t, newKey(t)))
	public, err := spoolkey.ParsePublic(r.Public().Bytes())
	if err != nil || public.ID() != r.Public().ID() {
		t.Fatalf("the public half comes back as %v, %v", public, err)
	}
	plaintext := []byte(`{"commandText":"SELECT 'canary'"}`)
	sealed, err := public.Seal(binding, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("canary")) || len(sealed) != len(plaintext)+spoolkey.Overhead {
		t.Errorf("sealed into %d bytes: %q", len(sealed), sealed)
	}
	if got, err := r.Open(public.ID(), binding, sealed); err != nil || !bytes.Equal(got, plaintext) {
		t.Errorf("Open = %q, %v", got, err)
	}
	again, err := public.Seal(binding, plaintext)
	if err != nil || bytes.Equal(again, sealed) {
		t.Errorf("sealed twice into the same bytes, %v", err)
	}
	for i := range sealed {
		damaged := bytes.Clone(sealed)
		damaged[i] ^= 1
		if _, err := r.Open(public.ID(), binding, damaged); !errors.Is(err, spoolkey.ErrOpen) {
			t.Fatalf("with bit flipped in byte %d: %v, want ErrOpen", i, err)
		}
	}
	other := open(t, file(t, newKey(t)))
	if _, err := other.Open(public.ID(), binding, sealed); !errors.Is(err, spoolkey.ErrUnknown) {
		t.Errorf("another's ring: %v, want ErrUnknown", err)
	}
	if _, err := other.Open(other.Public().ID(), binding, sealed); !errors.Is(err, spoolkey.ErrOpen) {
		t.Errorf("another's key: %v, want ErrOpen", err)
	}
}

// Each field counts, and bytes that move from one to the next are another binding.
func TestOpensForNothingElse(t *testing.T) {
	r := open(t, file(t, newKey(t)))
	sealed, err := r.Public().Seal(binding, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*spoolkey.Binding){
		"cluster":  func(b *spoolkey.Binding) { b.Cluster = "d" },
		"instance": func(b *spoolkey.Binding) { b.Instance = "d" },
		"KMS key":  func(b *spoolkey.Binding) { b.KMSKey = "d" },
		"stream":   func(b *spoolkey.Binding) { b.KinesisStream = "d" },
		"version":  func(b *spoolkey.Binding) { b.Version = "1.0" },
		"message":  func(b *spoolkey.Binding) { b.MessageID = "" },
		"moved":    func(b *spoolkey.Binding) { b.Cluster, b.Instance = "ci", "" },
	} {
		b := binding
		change(&b)
		if _, err := r.Open(r.Public().ID(), b, sealed); !errors.Is(err, spoolkey.ErrOpen) {
			t.Errorf("another %s: %v, want ErrOpen", name, err)
		}
	}
}

func TestKeysAreChanged(t *testing.T) {
	old, fresh := newKey(t), newKey(t)
	before := open(t, file(t, old))
	sealed, err := before.Public().Seal(binding, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	after := open(t, file(t, fresh, old))
	if after.Public().ID() != open(t, file(t, fresh)).Public().ID() {
		t.Error("the first key of the file is not the one to seal to")
	}
	if got, err := after.Open(before.Public().ID(), binding, sealed); err != nil || string(got) != "x" {
		t.Errorf("what was sealed before the change: %q, %v", got, err)
	}
}

// A key that is made is one to seal to, and the file of another is left alone.
func TestKeyIsMadeOnce(t *testing.T) {
	name := filepath.Join(t.TempDir(), "spool.pem")
	if err := spoolkey.CreateFile(name); err != nil {
		t.Fatal(err)
	}
	made := open(t, name).Public().ID()
	if info, err := os.Stat(name); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file is %v, %v; want it for its owner alone", info.Mode(), err)
	}
	if err := spoolkey.CreateFile(name); !errors.Is(err, fs.ErrExist) || open(t, name).Public().ID() != made {
		t.Errorf("CreateFile where there is one = %v, want that it exists, and the same key", err)
	}
}

func TestWrongFiles(t *testing.T) {
	_, signing, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{empty, file(t, signing), file(t, newKey(t), signing)} {
		if _, err := spoolkey.OpenFile(name); err == nil || !strings.Contains(err.Error(), "openssl genpkey -algorithm x25519") {
			t.Errorf("OpenFile = %v, want an error that says what to do", err)
		}
	}
	if _, err := spoolkey.ParsePublic(make([]byte, 31)); err == nil {
		t.Error("a public key of 31 bytes is one")
	}
}

func TestRingDoesNotPrint(t *testing.T) {
	key := newKey(t)
	r := open(t, file(t, key))
	for _, s := range []string{fmt.Sprintf("%v", r), fmt.Sprintf("%+v", r), fmt.Sprintf("%#v", r)} {
		if !strings.HasPrefix(s, "spool key sha256:") {
			t.Errorf("printed as %s", s)
		}
	}
}
