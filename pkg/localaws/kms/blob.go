package kms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

// A ciphertext blob is
//
//	header 5 | key id 16 | salt 32 | reserved 83, zero | ciphertext | GCM tag 16
//
// sealed with AES-256-GCM under a key derived from the master key and the salt, which makes that key and its fixed nonce
// single-use whatever the number of blobs. Associated data: everything before the ciphertext, then the encryption context
// in canonical form. The reserved bytes bring the overhead to AWS's 152.
const (
	blobFixed    = 136
	blobOverhead = blobFixed + 16
	saltAt       = 5 + 16
	saltEnd      = saltAt + 32
)

// blobHeader is version 1 of the format. AWS's own blobs begin with 01 02 02 00 78, which these must not be taken for.
var blobHeader = [5]byte{'W', 'K', 'M', 'S', 1}

// A blob's keyID, the salt and the rest are authenticated only by opening it.
type blob struct {
	keyID  [16]byte
	prefix []byte // header to reserved bytes
	sealed []byte
}

// parseBlob takes a ciphertext blob apart; ok is false for what cannot be one of ours.
func parseBlob(b []byte) (p blob, ok bool) {
	if len(b) < blobOverhead || [5]byte(b) != blobHeader {
		return p, false
	}
	return blob{keyID: [16]byte(b[5:saltAt]), prefix: b[:blobFixed], sealed: b[blobFixed:]}, true
}

func invalidCiphertext() error { return &wire.Error{Code: "InvalidCiphertextException", Status: 400} }

// seal makes a ciphertext blob of at most 4 KiB of plaintext.
func (k *key) seal(plaintext []byte, context map[string]string) []byte {
	id, ok := parseID(k.ID)
	if !ok {
		panic("kms: a key with an id that is no UUID: " + k.ID) // load refuses such keys
	}
	b := make([]byte, blobFixed, blobOverhead+len(plaintext))
	copy(b, blobHeader[:])
	copy(b[5:], id[:])
	rand.Read(b[saltAt:saltEnd])
	return k.aead(b[saltAt:saltEnd]).Seal(b, make([]byte, 12), plaintext, associated(b, context))
}

// open is seal's inverse. It fails with one error and no detail.
func (k *key) open(p blob, context map[string]string) ([]byte, error) {
	plain, err := k.aead(p.prefix[saltAt:saltEnd]).Open(nil, make([]byte, 12), p.sealed, associated(p.prefix, context))
	if err != nil {
		return nil, invalidCiphertext()
	}
	return plain, nil
}

func (k *key) aead(salt []byte) cipher.AEAD {
	derived, err := hkdf.Key(sha256.New, k.Material, salt, "weir localaws kms v1", 32)
	if err != nil {
		panic(err) // the length is right
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// associated is what a blob is bound to: its own head, and the context's pairs in order, each with its length, so that no
// two contexts look alike.
func associated(prefix []byte, context map[string]string) []byte {
	b := append([]byte(nil), prefix...)
	for _, k := range slices.Sorted(maps.Keys(context)) {
		for _, text := range []string{k, context[k]} {
			b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
			b = append(b, text...)
		}
	}
	return b
}
