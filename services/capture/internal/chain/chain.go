// Package chain is the hash chain over everything an epoch has numbered: an
// event that is changed, left out, repeated or moved breaks it, and a gap is an
// item like any other, so that a loss cannot be made larger or smaller later.
//
// The one idea: what is hashed is what travels. The bytes are those of the
// record, so anyone who can decrypt records recomputes the chain with nothing
// but SHA-256:
//
//	H(0) = SHA-256("weir chain v1" ‖ epoch)
//	H(n) = SHA-256(H(n-1) ‖ n ‖ the list elements of number n, joined by commas;
//	                or its object, where it is in "started" or "notices")
//	H(l) = SHA-256(H(f-1) ‖ l ‖ the gap's JSON object)      for a gap from f to l
//
// with epoch and numbers as 8 bytes, big-endian. An element begins with
// {"startTime", what travels beside the list with {"n" and a gap with {"first",
// so none passes for another.
//
// The chain holds no secret. Whoever can write records can compute one; what it
// proves is that a record agrees with those before and after it.
//
// Before: internal/render, which makes the bytes.
// Next: internal/pipeline, which puts the hashes into the record and the ring.
package chain

import (
	"crypto/sha256"
	"encoding/binary"
)

// Hash is the chain's value after an item.
type Hash [sha256.Size]byte

// label sets the chain apart from everything else that is hashed.
const label = "weir chain v1"

// Genesis is the value before the first number of an epoch.
func Genesis(epoch uint64) Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte(label), epoch))
}

// Event is the value after an event: elements are its list elements, joined by
// commas, or its one object beside the list, byte for byte as in the record.
func (h Hash) Event(number uint64, elements []byte) Hash { return h.next(number, elements) }

// Gap is the value after a gap that ends with the number last: object is the
// gap's JSON object, byte for byte as in the record.
func (h Hash) Gap(last uint64, object []byte) Hash { return h.next(last, object) }

func (h Hash) next(number uint64, item []byte) Hash {
	d := sha256.New()
	var place [8]byte
	binary.BigEndian.PutUint64(place[:], number)
	d.Write(h[:])
	d.Write(place[:])
	d.Write(item)
	d.Sum(h[:0])
	return h
}
