// Package esdk seals and opens messages of the AWS Encryption SDK, in the one
// shape that database activity streams use: format version 1, framed, one data
// key per message, wrapped by a raw AES-256-GCM key of the provider "BC" with
// the name "DataKey".
//
// The one idea: a message is a header that carries its own wrapped data key,
// then frames, each sealed on its own, with its place in the message as
// associated data. Nothing in it is bound to a stream or a position, for the
// format has no room for that: the record inside carries numbers and a chain.
//
// Seal writes suite 0x0178, which does not commit to its key. Aurora's streams
// have it and every consumer of them expects it: those whose policy is to
// require commitment cannot read Aurora either. Open reads that suite and the
// signed 0x0378. Messages of format version 2, without frames, or of other
// suites are refused.
//
// The package holds no state, does no I/O and keeps no key.
//
// Before: services/crypto/internal/seal, which compresses the record.
// Next: pkg/das, whose outer record carries the message.
package esdk

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
)

// Names that the wrapped data key of every message carries.
const (
	Provider = "BC"
	KeyName  = "DataKey"
)

// FrameLength is the plaintext of every frame but the last one, in bytes.
const FrameLength = 4096

// Key is the wrapping key: what KMS gives as the plaintext of a data key.
// However it is printed, logged or marshalled, it says "[redacted]".
type Key [32]byte

const redacted = "[redacted]"

// Format implements fmt.Formatter, so that no verb shows the key.
func (Key) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// String implements fmt.Stringer.
func (Key) String() string { return redacted }

// LogValue implements slog.LogValuer.
func (Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// suite is the identifier of an algorithm suite.
type suite uint16

const (
	suiteUnsigned suite = 0x0178 // AES-256-GCM, HKDF-SHA256
	suiteSigned   suite = 0x0378 // AES-256-GCM, HKDF-SHA384, ECDSA P-384
)

// The sizes and constants of format version 1. All integers are big-endian.
const (
	formatVersion = 0x01
	messageType   = 0x80 // customer authenticated encrypted data
	framed        = 0x02

	ivSize  = 12
	tagSize = 16

	finalFrameMark = 0xffffffff
)

// The associated data of a frame names its kind, so that a final frame never
// passes for another one.
const (
	frameLabel      = "AWSKMSEncryptionClient Frame"
	finalFrameLabel = "AWSKMSEncryptionClient Final Frame"
)

type (
	messageID [16]byte
	dataKey   [32]byte
)

// keyInfo is what the provider info of a wrapped key begins with: the key's
// name, the length of its tag in bits, and the length of the IV that follows.
const keyInfo = KeyName + "\x00\x00\x00\x80" + "\x00\x00\x00\x0c"

// keyInfoSize is the length of the whole provider info.
const keyInfoSize = len(keyInfo) + ivSize

// wrappedKeySize is the length of a data key under the wrapping key.
const wrappedKeySize = len(dataKey{}) + tagSize

// messageAEAD derives the key that seals the header and the frames of one
// message. It is used for that message only, which is why its IVs may count.
func messageAEAD(s suite, dk *dataKey, id *messageID) (cipher.AEAD, error) {
	info := string(binary.BigEndian.AppendUint16(nil, uint16(s))) + string(id[:])
	var derived []byte
	var err error
	if s == suiteSigned {
		derived, err = hkdf.Key(sha512.New384, dk[:], nil, info, len(dataKey{}))
	} else {
		derived, err = hkdf.Key(sha256.New, dk[:], nil, info, len(dataKey{}))
	}
	if err != nil {
		return nil, err
	}
	return newGCM(derived)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// must is for what fails on programmer's error only: keys here are arrays of
// 32 bytes, which AES, GCM and HKDF take always.
func must[T any](v T, err error) T {
	if err != nil {
		panic("esdk: " + err.Error())
	}
	return v
}

// appendFrameAAD appends the associated data of a frame: which message, which
// kind, which place, how long.
func appendFrameAAD(dst []byte, id *messageID, label string, sequence uint32, length int) []byte {
	dst = append(dst, id[:]...)
	dst = append(dst, label...)
	dst = binary.BigEndian.AppendUint32(dst, sequence)
	return binary.BigEndian.AppendUint64(dst, uint64(length))
}

// frameAADSize bounds what appendFrameAAD appends.
const frameAADSize = len(messageID{}) + len(finalFrameLabel) + 4 + 8
