package kinesis

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// iteratorLife is how long AWS honours a shard iterator.
const iteratorLife = 5 * time.Minute

// An iterator is a place in a shard. Clients hold it sealed, so that it can neither be made up nor altered and the
// server keeps nothing for it.
type iterator struct {
	stream string
	life   uint64 // which stream of that name: a deleted and re-created one is another
	shard  uint32
	index  uint64 // the next record's
	made   time.Time
}

// iterators seals and opens iterators with a key of this process.
type iterators struct{ aead cipher.AEAD }

// iteratorVersion is what AWS's begin with, too. It is the associated data.
var iteratorVersion = [8]byte{7: 1}

// iteratorFixed is the length of an iterator's fields before the stream's name.
const iteratorFixed = 8 + 4 + 8 + 8

func newIterators() iterators {
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
	return iterators{aead}
}

func (s iterators) seal(it iterator) string {
	b := make([]byte, 0, iteratorFixed+len(it.stream))
	b = binary.BigEndian.AppendUint64(b, it.life)
	b = binary.BigEndian.AppendUint32(b, it.shard)
	b = binary.BigEndian.AppendUint64(b, it.index)
	b = binary.BigEndian.AppendUint64(b, uint64(it.made.UnixMilli()))
	b = append(b, it.stream...)
	out := s.aead.Seal(iteratorVersion[:], nil, b, iteratorVersion[:])
	return base64.StdEncoding.EncodeToString(out)
}

// open reads what seal made; ok is false for anything else. An expired one opens: the caller must say when it was made.
func (s iterators) open(text string) (it iterator, ok bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < len(iteratorVersion) || [8]byte(b) != iteratorVersion {
		return it, false
	}
	b, err = s.aead.Open(nil, nil, b[len(iteratorVersion):], iteratorVersion[:])
	if err != nil || len(b) < iteratorFixed {
		return it, false
	}
	return iterator{
		life:   binary.BigEndian.Uint64(b),
		shard:  binary.BigEndian.Uint32(b[8:]),
		index:  binary.BigEndian.Uint64(b[12:]),
		made:   time.UnixMilli(int64(binary.BigEndian.Uint64(b[20:]))),
		stream: string(b[iteratorFixed:]),
	}, true
}
