package esdk

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"slices"
)

// headerSize is the length of the header that Seal writes, with its IV and tag.
const headerSize = 1 + 1 + 2 + 16 + // version, type, suite, message id
	2 + // empty encryption context
	2 + 2 + len(Provider) + 2 + keyInfoSize + 2 + wrappedKeySize + // one wrapped key
	1 + 4 + 1 + 4 + // content type, reserved, IV length, frame length
	ivSize + tagSize

const (
	frameOverhead      = 4 + ivSize + tagSize
	finalFrameOverhead = frameOverhead + 4 + 4
)

// SealedLen is the length of the message that Seal makes of n bytes.
func SealedLen(n int) int {
	return headerSize + n + regularFrames(n)*frameOverhead + finalFrameOverhead
}

// regularFrames is the number of frames before the final one, which holds
// between 1 and FrameLength bytes, or none where there is no plaintext at all.
func regularFrames(n int) int { return max(n-1, 0) / FrameLength }

// Sealer seals under one wrapping key. It is safe for concurrent use.
type Sealer struct {
	wrap cipher.AEAD
}

// NewSealer returns a Sealer under key. It keeps the expanded key, not key.
//
// Each message takes a random IV of 96 bits under the wrapping key: a wrapping
// key may be used for 2^32 messages. At a record per millisecond that is 49
// days; the keys of crypto live for an hour.
func NewSealer(key *Key) *Sealer {
	return &Sealer{wrap: must(newGCM(key[:]))}
}

// Seal appends plaintext as one message under key to dst. Use a Sealer where
// several messages have the same key.
func Seal(dst []byte, key *Key, plaintext []byte) []byte {
	return NewSealer(key).Seal(dst, plaintext)
}

// Seal appends plaintext as one message to dst, which must not overlap it. It
// takes a fresh data key, and adds SealedLen(len(plaintext)) bytes.
func (s *Sealer) Seal(dst, plaintext []byte) []byte {
	var id messageID
	var dk dataKey
	var wrapIV [ivSize]byte
	fill(id[:])
	fill(dk[:])
	fill(wrapIV[:])

	dst = slices.Grow(dst, SealedLen(len(plaintext)))
	start := len(dst)
	dst = append(dst, formatVersion, messageType)
	dst = binary.BigEndian.AppendUint16(dst, uint16(suiteUnsigned))
	dst = append(dst, id[:]...)
	dst = binary.BigEndian.AppendUint16(dst, 0) // encryption context: empty
	dst = binary.BigEndian.AppendUint16(dst, 1) // wrapped keys
	dst = appendField(dst, Provider)
	dst = binary.BigEndian.AppendUint16(dst, uint16(keyInfoSize))
	dst = append(dst, keyInfo...)
	dst = append(dst, wrapIV[:]...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(wrappedKeySize))
	// The associated data of the wrapped key is the encryption context.
	dst = s.wrap.Seal(dst, wrapIV[:], dk[:], nil)
	dst = append(dst, framed, 0, 0, 0, 0, ivSize)
	dst = binary.BigEndian.AppendUint32(dst, FrameLength)

	// The header's tag has the IV zero and the frames count from 1: no IV is
	// used twice under the key of this message.
	aead := must(messageAEAD(suiteUnsigned, &dk, &id))
	var iv [ivSize]byte
	header := dst[start:]
	dst = append(dst, iv[:]...)
	dst = aead.Seal(dst, iv[:], nil, header)

	aad := make([]byte, 0, frameAADSize)
	sequence := uint32(1)
	for ; len(plaintext) > FrameLength; sequence++ {
		if sequence == finalFrameMark {
			panic("esdk: plaintext of more than 2^32 frames")
		}
		binary.BigEndian.PutUint32(iv[ivSize-4:], sequence)
		aad = appendFrameAAD(aad[:0], &id, frameLabel, sequence, FrameLength)
		dst = binary.BigEndian.AppendUint32(dst, sequence)
		dst = append(dst, iv[:]...)
		dst = aead.Seal(dst, iv[:], plaintext[:FrameLength], aad)
		plaintext = plaintext[FrameLength:]
	}
	binary.BigEndian.PutUint32(iv[ivSize-4:], sequence)
	aad = appendFrameAAD(aad[:0], &id, finalFrameLabel, sequence, len(plaintext))
	dst = binary.BigEndian.AppendUint32(dst, finalFrameMark)
	dst = binary.BigEndian.AppendUint32(dst, sequence)
	dst = append(dst, iv[:]...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(plaintext)))
	return aead.Seal(dst, iv[:], plaintext, aad)
}

// fill fills b with random bytes. crypto/rand ends the program rather than
// return an error.
func fill(b []byte) { _, _ = rand.Read(b) }

// appendField appends s behind its length.
func appendField(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}
