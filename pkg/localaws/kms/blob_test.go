package kms

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func testKey(fill byte) *key {
	return &key{ID: "0f0e0d0c-0b0a-4908-8706-050403020100", Material: bytes.Repeat([]byte{fill}, 32), Enabled: true}
}

// TestSealOpen: what is sealed opens under the same key and context, and under no other.
func TestSealOpen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOfN(rapid.Byte(), 0, 4096).Draw(t, "plain")
		contexts := rapid.MapOfN(rapid.String(), rapid.String(), 0, 4)
		context, other := contexts.Draw(t, "context"), contexts.Draw(t, "other")
		b := testKey(1).seal(plain, context)
		if len(b) != len(plain)+blobOverhead {
			t.Fatalf("%d bytes are sealed in %d, want %d more", len(plain), len(b), blobOverhead)
		}
		p, ok := parseBlob(b)
		if !ok || formatID(p.keyID) != testKey(1).ID {
			t.Fatalf("parseBlob = %x, %t, want the key's id", p.keyID, ok)
		}
		if got, err := testKey(1).open(p, context); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("open = %x, %v, want %x", got, err, plain)
		}
		if _, err := testKey(2).open(p, context); err == nil {
			t.Fatal("another key opens the blob")
		}
		if string(associated(nil, context)) == string(associated(nil, other)) {
			return
		}
		if _, err := testKey(1).open(p, other); err == nil {
			t.Fatalf("sealed with %v, opens with %v", context, other)
		}
	})
}

// TestContextsDiffer: pairs are told apart whatever they contain.
func TestContextsDiffer(t *testing.T) {
	seen := map[string]map[string]string{}
	for _, c := range []map[string]string{nil, {"": ""}, {"a": ""}, {"": "a"}, {"a": "b"}, {"ab": ""}, {"a": "", "b": ""}, {"a": "b", "": ""}, {"a\x00": "b"}, {"a": "\x00b"}} {
		text := string(associated(nil, c))
		if old, ok := seen[text]; ok {
			t.Errorf("%q and %q look the same", old, c)
		}
		seen[text] = c
	}
}

// FuzzParseBlob: no blob makes the parser or open panic, and none opens that was not sealed.
func FuzzParseBlob(f *testing.F) {
	k := testKey(1)
	f.Add(k.seal([]byte("hello"), nil)[:100])
	f.Add([]byte("WKMS\x01"))
	f.Add(bytes.Repeat([]byte{0}, blobOverhead))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, ok := parseBlob(in)
		if !ok {
			return
		}
		if !bytes.Equal(append(append([]byte{}, p.prefix...), p.sealed...), in) {
			t.Fatalf("parseBlob(%x) loses bytes", in)
		}
		if plain, err := k.open(p, nil); err == nil {
			t.Fatalf("a blob never sealed opens: %x", plain)
		}
	})
}
