package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/weir-das/weir/pkg/spoolkey"
	capturev1 "github.com/weir-das/weir/proto/gen/weir/capture/v1"
)

// An entry of a segment is a frame; numbers are little-endian:
//
//	 0  4  "WSPL"
//	 4  4  length of the head
//	 8  4  length of the sealed record
//	12  4  CRC-32C of the head
//	16  4  CRC-32C of the sealed record
//	20  4  CRC-32C of the 20 bytes above
//	24     the head, a weir.capture.v1.SpoolEntry; then the sealed record
const (
	frameMagic  = "WSPL"
	frameHeader = 24
	maxHead     = 8 << 10
	maxSealed   = 16<<20 + spoolkey.Overhead // as much as crypto takes
	suffix      = ".spool"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// entry is what is left of a frame. Where its record is damaged sealed is nil.
type entry struct {
	head   *capturev1.SpoolEntry
	sealed []byte
}

// appendFrame appends an entry to b.
func appendFrame(b []byte, head *capturev1.SpoolEntry, sealed []byte) ([]byte, error) {
	h, err := proto.Marshal(head)
	if err != nil {
		return nil, fmt.Errorf("the head of a spooled record: %w", err)
	}
	if len(h) > maxHead || len(sealed) > maxSealed {
		return nil, fmt.Errorf("a record of %d bytes with a head of %d is too large for the spool", len(sealed), len(h))
	}
	at := len(b)
	b = append(b, frameMagic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(h)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(sealed)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(h, castagnoli))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(sealed, castagnoli))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
	return append(append(b, h...), sealed...), nil
}

// parse returns all entries of a segment that can be read. Bytes that are no
// entry are passed over, up to where the next begins: what was there is known by
// the numbers around it. An entry that the end of the file cuts short was never
// promised to anybody, and is none.
func parse(data []byte) []entry {
	var entries []entry
	for {
		start := bytes.Index(data, []byte(frameMagic))
		if start < 0 {
			return entries
		}
		data = data[start:]
		e, n := parseFrame(data)
		if n == 0 {
			data = data[len(frameMagic):]
			continue
		}
		entries = append(entries, e)
		data = data[n:]
	}
}

// parseFrame reads the entry at the beginning of data, and how long it is; 0 if
// there is none.
func parseFrame(data []byte) (e entry, n int) {
	if len(data) < frameHeader || crc32.Checksum(data[:20], castagnoli) != binary.LittleEndian.Uint32(data[20:]) {
		return entry{}, 0
	}
	head, sealed := uint64(binary.LittleEndian.Uint32(data[4:])), uint64(binary.LittleEndian.Uint32(data[8:]))
	if head > maxHead || sealed > maxSealed || uint64(len(data)-frameHeader) < head+sealed {
		return entry{}, 0
	}
	body := data[frameHeader : frameHeader+head+sealed]
	if crc32.Checksum(body[:head], castagnoli) != binary.LittleEndian.Uint32(data[12:]) {
		return entry{}, 0
	}
	e.head = &capturev1.SpoolEntry{}
	if proto.Unmarshal(body[:head], e.head) != nil || !possible(e.head) {
		return entry{}, 0
	}
	if crc32.Checksum(body[head:], castagnoli) == binary.LittleEndian.Uint32(data[16:]) && sealed > 0 {
		e.sealed = body[head:]
	}
	return e, frameHeader + len(body)
}

// possible says whether a capture can have written this head.
func possible(h *capturev1.SpoolEntry) bool {
	const maxNumber = 1<<53 - 1
	return h.GetEpoch() != 0 && h.GetEpoch() <= maxNumber && h.GetFirst() != 0 && h.GetFirst() <= h.GetLast() && h.GetLast() <= maxNumber &&
		len(h.GetChainBefore()) == 32 && len(h.GetChainAfter()) == 32
}

// segmentNumber is the number in the name of a segment's file.
func segmentNumber(file string) (uint64, bool) {
	name, ok := strings.CutSuffix(file, suffix)
	if !ok || len(name) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(name, 16, 63)
	return n, err == nil
}
