package place

import (
	"encoding/binary"
	"math/bits"
)

// A HashKey is a partition key's place among the shards: an unsigned 128-bit integer.
type HashKey struct{ hi, lo uint64 }

// HashOf is the place of a key with that MD5.
func HashOf(md5 [16]byte) HashKey {
	return HashKey{binary.BigEndian.Uint64(md5[:8]), binary.BigEndian.Uint64(md5[8:])}
}

// Less says whether h comes before o.
func (h HashKey) Less(o HashKey) bool { return h.hi < o.hi || h.hi == o.hi && h.lo < o.lo }

// Next is h+1, Previous h−1; both wrap.
func (h HashKey) Next() HashKey {
	lo, carry := bits.Add64(h.lo, 1, 0)
	return HashKey{h.hi + carry, lo}
}

// Previous is h−1; see Next.
func (h HashKey) Previous() HashKey {
	lo, borrow := bits.Sub64(h.lo, 1, 0)
	return HashKey{h.hi - borrow, lo}
}

// Split is the first hash key of the i-th of n equal parts of the whole range; i < n.
func Split(i, n uint64) HashKey {
	// floor(2^128/n)·i, the width as AWS has it: the remainder goes to the last part.
	if n == 1 {
		return HashKey{}
	}
	hi, rem := bits.Div64(1, 0, n)
	lo, _ := bits.Div64(rem, 0, n)
	carry, low := bits.Mul64(lo, i)
	_, high := bits.Mul64(hi, i)
	return HashKey{high + carry, low}
}

// String is h as clients see it.
func (h HashKey) String() string {
	const group = 1e19
	var out [39]byte
	at := len(out)
	for {
		var rem uint64
		h.hi, rem = bits.Div64(0, h.hi, group)
		h.lo, rem = bits.Div64(rem, h.lo, group)
		last := h == (HashKey{})
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

// ParseHashKey reads a decimal; ok is false beyond 2^128−1.
func ParseHashKey(text string) (h HashKey, ok bool) {
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
		h = HashKey{hi, lo}
	}
	return h, text != ""
}
