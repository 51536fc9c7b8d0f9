package kinesis

import (
	"encoding/binary"
	"math/bits"
	"time"
)

// A sequence is what a sequence number says. AWS's are 186-bit integers in decimal whose hexadecimal form is
//
//	2 ccccccccc s iiiiiiiiiiiiiiii 00 ttttttttt xxxxxxxx 2
//
// created (seconds), shard mod 16, index, arrival (seconds), shard, version. Clients may only compare them as integers;
// ours have the same form and therefore the same order and length (56 digits) as the real ones.
type sequence struct {
	created int64 // the shard's creation, seconds since 1970; below 2^36
	index   uint64
	arrived int64 // seconds since 1970; below 2^36
	shard   uint32
}

// lastIndex stands in a closed shard's ending sequence number: after any record.
const lastIndex = 1<<63 - 1

// bigNumber is a 192-bit integer, most significant word first.
type bigNumber [3]uint64

// number lays the fields out; the nibble positions count from the least significant end.
func (s sequence) number() bigNumber {
	var n bigNumber
	n.or(2, 46)
	n.or(uint64(s.created), 37)
	n.or(uint64(s.shard&15), 36)
	n.or(s.index, 20)
	n.or(uint64(s.arrived), 9)
	n.or(uint64(s.shard), 1)
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
func (s sequence) String() string {
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

// parseSequence reads what String wrote; ok is false for anything else.
func parseSequence(text string) (s sequence, ok bool) {
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
	s = sequence{
		created: int64(n.take(37, 9)),
		index:   n.take(20, 16),
		arrived: int64(n.take(9, 9)),
		shard:   uint32(n.take(1, 8)),
	}
	// Whatever is not laid out just so is not one of ours.
	return s, s.number() == n && s.index <= lastIndex && s.shard < 1<<31
}

// time is when the record arrived, to the second.
func (s sequence) time() time.Time { return time.Unix(s.arrived, 0) }

// A hashKey is a partition key's place among the shards: an unsigned 128-bit integer.
type hashKey struct{ hi, lo uint64 }

func hashOf(md5 [16]byte) hashKey {
	return hashKey{binary.BigEndian.Uint64(md5[:8]), binary.BigEndian.Uint64(md5[8:])}
}

func (h hashKey) less(o hashKey) bool { return h.hi < o.hi || h.hi == o.hi && h.lo < o.lo }

// next is h+1, previous h−1; both wrap.
func (h hashKey) next() hashKey {
	lo, carry := bits.Add64(h.lo, 1, 0)
	return hashKey{h.hi + carry, lo}
}

func (h hashKey) previous() hashKey {
	lo, borrow := bits.Sub64(h.lo, 1, 0)
	return hashKey{h.hi - borrow, lo}
}

// split is the first hash key of the i-th of n equal parts of the whole range; i < n.
func split(i, n uint64) hashKey {
	// floor(2^128/n)·i, the width as AWS has it: the remainder goes to the last part.
	if n == 1 {
		return hashKey{}
	}
	hi, rem := bits.Div64(1, 0, n)
	lo, _ := bits.Div64(rem, 0, n)
	carry, low := bits.Mul64(lo, i)
	_, high := bits.Mul64(hi, i)
	return hashKey{high + carry, low}
}

func (h hashKey) String() string {
	const group = 1e19
	var out [39]byte
	at := len(out)
	for {
		var rem uint64
		h.hi, rem = bits.Div64(0, h.hi, group)
		h.lo, rem = bits.Div64(rem, h.lo, group)
		last := h == (hashKey{})
		for range 19 {
			if last && rem == 0 || at == 0 {
				break
			}
			at--
			out[at] = byte('0' + rem%10)
			rem /= 10
		}
		if last {
			break
		}
	}
	if at == len(out) {
		return "0"
	}
	return string(out[at:])
}

// parseHashKey reads a decimal; ok is false beyond 2^128−1.
func parseHashKey(text string) (h hashKey, ok bool) {
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return h, false
		}
		carry, lo := bits.Mul64(h.lo, 10)
		over, hi := bits.Mul64(h.hi, 10)
		lo, c1 := bits.Add64(lo, uint64(c-'0'), 0)
		hi, c2 := bits.Add64(hi, carry, c1)
		if over != 0 || c2 != 0 {
			return h, false
		}
		h = hashKey{hi, lo}
	}
	return h, text != ""
}
