// Package place says where things are in a stream: a record in its shard (Sequence), a
// partition key among the shards (HashKey), a reader in a shard (Iterator). It is
// arithmetic and text alone, and knows neither streams nor calls.
//
// Before: pkg/localaws/kinesis. Next: its clients, who hold places as opaque text.
package place

import (
	"math/bits"
	"time"
)

// A Sequence is what a sequence number says. AWS's are 186-bit integers in decimal whose hexadecimal form is
//
//	2 ccccccccc s iiiiiiiiiiiiiiii 00 ttttttttt xxxxxxxx 2
//
// created (seconds), shard mod 16, index, arrival (seconds), shard, version. Clients may only compare them as integers;
// ours have the same form and therefore the same order and length (56 digits) as the real ones.
type Sequence struct {
	Created int64 // the shard's creation, seconds since 1970; below 2^36
	Index   uint64
	Arrived int64 // seconds since 1970; below 2^36
	Shard   uint32
}

// LastIndex stands in a closed shard's ending sequence number: after any record.
const LastIndex = 1<<63 - 1

// bigNumber is a 192-bit integer, most significant word first.
type bigNumber [3]uint64

// number lays the fields out; the nibble positions count from the least significant end.
func (s Sequence) number() bigNumber {
	var n bigNumber
	n.or(2, 46)
	n.or(uint64(s.Created), 37)
	n.or(uint64(s.Shard&15), 36)
	n.or(s.Index, 20)
	n.or(uint64(s.Arrived), 9)
	n.or(uint64(s.Shard), 1)
	n.or(2, 0)
	return n
}

// or puts v at a nibble's position.
func (n *bigNumber) or(v uint64, nibble uint) {
	shift := nibble * 4
	word, off := 2-shift/64, shift%64
	n[word] |= v << off
	if off > 0 && word > 0 {
		n[word-1] |= v >> (64 - off)
	}
}

// take reads width nibbles (16 at most) at a position.
func (n bigNumber) take(nibble, width uint) uint64 {
	shift := nibble * 4
	word, off := 2-shift/64, shift%64
	v := n[word] >> off
	if off > 0 && word > 0 {
		v |= n[word-1] << (64 - off)
	}
	return v & (1<<(4*width) - 1)
}

// String is the sequence number as clients see it.
func (s Sequence) String() string {
	const group = 1e19 // the largest power of ten in a word: 19 digits
	n := s.number()
	var out [4 * 19]byte
	at := len(out)
	for n != (bigNumber{}) {
		var rem uint64
		for i := range n {
			n[i], rem = bits.Div64(rem, n[i], group)
		}
		for range 19 {
			at--
			out[at] = byte('0' + rem%10)
			rem /= 10
		}
	}
	for at < len(out)-1 && out[at] == '0' {
		at++
	}
	return string(out[at:])
}

// ParseSequence reads what String wrote; ok is false for anything else.
func ParseSequence(text string) (s Sequence, ok bool) {
	if len(text) == 0 || len(text) > 58 {
		return s, false
	}
	var n bigNumber
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return s, false
		}
		carry := uint64(c - '0')
		for i := 2; i >= 0; i-- {
			hi, lo := bits.Mul64(n[i], 10)
			lo, over := bits.Add64(lo, carry, 0)
			n[i], carry = lo, hi+over
		}
		if carry != 0 {
			return s, false
		}
	}
	s = Sequence{
		Created: int64(n.take(37, 9)),
		Index:   n.take(20, 16),
		Arrived: int64(n.take(9, 9)),
		Shard:   uint32(n.take(1, 8)),
	}
	// Whatever is not laid out just so is not one of ours.
	return s, s.number() == n && s.Index <= LastIndex && s.Shard < 1<<31
}

// Time is when the record arrived, to the second.
func (s Sequence) Time() time.Time { return time.Unix(s.Arrived, 0) }
