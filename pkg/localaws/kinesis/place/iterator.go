package place

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// IteratorLife is how long AWS honours a shard iterator.
const IteratorLife = 5 * time.Minute

// An Iterator is a place in a shard. Clients hold it sealed, so that it can neither be made up nor altered and the
// server keeps nothing for it.
type Iterator struct {
	Stream string
	Life   uint64 // which stream of that name: a deleted and re-created one is another
	Shard  uint32
	Index  uint64 // the next record's
	Made   time.Time
}

// Iterators seals and opens iterators with a key of this process.
type Iterators struct{ aead cipher.AEAD }

// iteratorVersion is what AWS's begin with, too. It is the associated data.
var iteratorVersion = [8]byte{7: 1}

// iteratorFixed is the length of an iterator's fields before the stream's name.
const iteratorFixed = 8 + 4 + 8 + 8

// NewIterators makes a key; what was sealed with another does not open.
func NewIterators() Iterators {
	var key [32]byte
	rand.Read(key[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key's length is right
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return Iterators{aead}
}

// Seal is the iterator as clients hold it.
func (s Iterators) Seal(it Iterator) string {
	b := make([]byte, 0, iteratorFixed+len(it.Stream))
	b = binary.BigEndian.AppendUint64(b, it.Life)
	b = binary.BigEndian.AppendUint32(b, it.Shard)
	b = binary.BigEndian.AppendUint64(b, it.Index)
	b = binary.BigEndian.AppendUint64(b, uint64(it.Made.UnixMilli()))
	b = append(b, it.Stream...)
	out := s.aead.Seal(iteratorVersion[:], nil, b, iteratorVersion[:])
	return base64.StdEncoding.EncodeToString(out)
}

// Open reads what Seal made; ok is false for anything else. An expired one opens: the caller must say when it was made.
func (s Iterators) Open(text string) (it Iterator, ok bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < len(iteratorVersion) || [8]byte(b) != iteratorVersion {
		return it, false
	}
	b, err = s.aead.Open(nil, nil, b[len(iteratorVersion):], iteratorVersion[:])
	if err != nil || len(b) < iteratorFixed {
		return it, false
	}
	return Iterator{
		Life:   binary.BigEndian.Uint64(b),
		Shard:  binary.BigEndian.Uint32(b[8:]),
		Index:  binary.BigEndian.Uint64(b[12:]),
		Made:   time.UnixMilli(int64(binary.BigEndian.Uint64(b[20:]))),
		Stream: string(b[iteratorFixed:]),
	}, true
}
