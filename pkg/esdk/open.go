package esdk

import (
	"bytes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
)

// ErrOpen is the one error of Open. It says nothing about the cause: whoever
// can send messages learns no more from it than that one was refused.
var ErrOpen = errors.New("esdk: message refused")

// maxWrappedKeys bounds how many wrapped keys of a message Open looks at.
const maxWrappedKeys = 16

// publicKeyName is the entry of the encryption context that holds the public
// key of a signed message.
const publicKeyName = "aws-crypto-public-key"

// Open appends the plaintext of message to dst, which must not overlap it. It
// returns ErrOpen unless every byte of message is authentic and the message
// ends with its last byte; the room behind dst then holds no plaintext.
//
// Open needs no more memory than the message is long, whatever its fields say.
func Open(dst []byte, key *Key, message []byte) ([]byte, error) {
	out, ok := open(dst, key, message)
	if !ok {
		clear(out[len(dst):])
		return nil, ErrOpen
	}
	return out, nil
}

// open does the work of Open. What it returns begins with dst in any case.
func open(dst []byte, key *Key, message []byte) ([]byte, bool) {
	in := reader{rest: message}
	h, ok := readHeader(&in)
	if !ok {
		return dst, false
	}
	raw := message[:len(message)-len(in.rest)]
	iv, tag := in.take(ivSize), in.take(tagSize)
	if in.failed {
		return dst, false
	}
	dk, ok := unwrap(key, h)
	if !ok {
		return dst, false
	}
	aead := must(messageAEAD(h.suite, dk, &h.id))
	if _, err := aead.Open(nil, iv, tag, raw); err != nil {
		return dst, false
	}
	dst, ok = openFrames(slices.Grow(dst, len(in.rest)), aead, h, &in)
	if !ok {
		return dst, false
	}
	if h.suite == suiteSigned {
		signed := message[:len(message)-len(in.rest)]
		if !verify(h.context, signed, in.field()) || in.failed {
			return dst, false
		}
	}
	return dst, len(in.rest) == 0
}

// header is what Open needs of a message's header.
type header struct {
	suite       suite
	id          messageID
	context     []byte   // the encryption context, as serialised; may be empty
	keys        [][]byte // the provider infos and wrapped keys of ours, in turn
	frameLength uint32
}

// readHeader reads a header up to its IV and tag. Nothing in it is authentic
// until the tag has been checked.
func readHeader(in *reader) (*header, bool) {
	var h header
	if in.byte() != formatVersion || in.byte() != messageType {
		return nil, false
	}
	h.suite = suite(in.uint16())
	if h.suite != suiteUnsigned && h.suite != suiteSigned {
		return nil, false
	}
	copy(h.id[:], in.take(len(h.id)))
	h.context = in.field()
	count := in.uint16()
	if count > maxWrappedKeys {
		return nil, false
	}
	for range count {
		provider, info, wrapped := in.field(), in.field(), in.field()
		if string(provider) == Provider && len(info) == keyInfoSize &&
			bytes.HasPrefix(info, []byte(keyInfo)) && len(wrapped) == wrappedKeySize {
			h.keys = append(h.keys, info, wrapped)
		}
	}
	if in.byte() != framed || in.uint32() != 0 || in.byte() != ivSize {
		return nil, false
	}
	h.frameLength = in.uint32()
	return &h, !in.failed && h.frameLength != 0
}

// unwrap opens the first wrapped key that was sealed under key.
func unwrap(key *Key, h *header) (*dataKey, bool) {
	wrap := must(newGCM(key[:]))
	for k := range slices.Chunk(h.keys, 2) {
		var dk dataKey
		iv := k[0][len(keyInfo):]
		if _, err := wrap.Open(dk[:0], iv, k[1], h.context); err == nil {
			return &dk, true
		}
	}
	return nil, false
}

// openFrames reads frames up to the final one. A frame's place is part of its
// associated data: frames that are missing, repeated or exchanged do not open.
func openFrames(dst []byte, aead cipher.AEAD, h *header, in *reader) ([]byte, bool) {
	aad := make([]byte, 0, frameAADSize)
	for sequence := uint32(1); ; sequence++ {
		label, length := frameLabel, h.frameLength
		got := in.uint32()
		final := got == finalFrameMark
		if final {
			label, got = finalFrameLabel, in.uint32()
		}
		iv := in.take(ivSize)
		if final {
			length = in.uint32()
		}
		if in.failed || got != sequence || length > h.frameLength || uint64(length)+tagSize > uint64(len(in.rest)) {
			return dst, false
		}
		aad = appendFrameAAD(aad[:0], &h.id, label, sequence, int(length))
		out, err := aead.Open(dst, iv, in.take(int(length)+tagSize), aad)
		if err != nil {
			return dst, false
		}
		dst = out
		if final {
			return dst, true
		}
	}
}

// verify checks the signature of a signed message. Its public key is in the
// encryption context, which the header's tag and the wrapped key cover.
func verify(context, signed, signature []byte) bool {
	in := reader{rest: context}
	for range in.uint16() {
		name, value := in.field(), in.field()
		if in.failed {
			return false
		}
		if string(name) != publicKeyName {
			continue
		}
		point, err := base64.StdEncoding.Strict().DecodeString(string(value))
		if err != nil {
			return false
		}
		public, ok := decompress(point)
		if !ok {
			return false
		}
		sum := sha512.Sum384(signed)
		return ecdsa.VerifyASN1(public, sum[:], signature)
	}
	return false
}

// decompress reads a compressed point of P-384.
func decompress(point []byte) (*ecdsa.PublicKey, bool) {
	x, y := elliptic.UnmarshalCompressed(elliptic.P384(), point)
	if x == nil {
		return nil, false
	}
	const size = 384 / 8
	var full [1 + 2*size]byte
	full[0] = 4 // not compressed
	x.FillBytes(full[1 : 1+size])
	y.FillBytes(full[1+size:])
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), full[:])
	return public, err == nil
}

// reader takes fields off the front of rest. Once one does not fit it has
// failed, and gives zeros.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if r.failed || n > len(r.rest) {
		r.failed = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// field takes a field that has its length before it.
func (r *reader) field() []byte { return r.take(int(r.uint16())) }
