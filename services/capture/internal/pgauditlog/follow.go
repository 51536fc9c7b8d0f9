package pgauditlog

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"
)

// trace is a checksum of the bytes before a position. A file that was truncated and has grown again, or another one with
// the same number, has others there.
type trace struct {
	length, sum uint32
}

const traceLength = 256

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func traceOf(before []byte) trace {
	before = before[max(0, len(before)-traceLength):]
	return trace{uint32(len(before)), crc32.Checksum(before, castagnoli)}
}

// traceAt is the trace of what lies before an offset of a file.
func traceAt(file *os.File, offset int64) (trace, error) {
	before := make([]byte, min(traceLength, offset))
	if _, err := file.ReadAt(before, offset-int64(len(before))); err != nil {
		return trace{}, err
	}
	return traceOf(before), nil
}

// errCut says that a file does not go on where it was read last: it was truncated, and maybe written again.
var errCut = errors.New("the file was truncated, or replaced by another one, before it was read to its end")

// cursor reads one file from a position on.
type cursor struct {
	file   *os.File
	json   bool
	offset int64 // of the next record
	trace  trace // of what lies before it

	chunk []byte
	size  int // how much is read at a time: more while a record does not fit

	// A record that is longer than maxRecord is passed over: how far, and the splitter there.
	passed  int64
	passing splitter
}

const usualChunk = 256 << 10

func newCursor(file *os.File, json bool, offset int64, t trace) *cursor {
	return &cursor{file: file, json: json, offset: offset, trace: t, size: usualChunk}
}

// step is what a read came to.
type step struct {
	records int
	end     bool // there is no whole record behind
	rest    bool // there is something that is no whole record
}

// read gives record each whole record in turn, without its line end, and moves behind it when that returns nil. It reads
// a bounded part of the file; an error of record's, or errCut, ends it.
func (c *cursor) read(record func(b []byte, tooLong bool) (keep int, err error)) (s step, err error) {
	if cap(c.chunk) < c.size+traceLength {
		c.chunk = make([]byte, c.size+traceLength)
	}
	before := int(c.trace.length)
	n, err := c.file.ReadAt(c.chunk[:before+c.size], c.offset-int64(before))
	if err != nil && !errors.Is(err, io.EOF) {
		return s, err
	}
	all := c.chunk[:n]
	if n < before || traceOf(all[:before]) != c.trace {
		return s, errCut
	}
	atEnd := errors.Is(err, io.EOF)
	at := before
	for at < n {
		split := splitter{json: c.json}
		length := split.end(all[at:])
		if length < 0 {
			break
		}
		keep, err := record(trimEnd(all[at:at+length]), false)
		if err != nil {
			c.moved(all, before, at)
			return s, err
		}
		if keep > 0 && keep < length {
			length = keep
		}
		at += length
		s.records++
	}
	c.moved(all, before, at)
	s.rest = at < n
	switch {
	case s.records > 0:
		c.size = usualChunk
	case atEnd:
		s.end = true
	case c.size < maxRecord:
		c.size = min(2*c.size, maxRecord)
	default:
		return c.pass(record)
	}
	return s, nil
}

// moved goes on behind what was read.
func (c *cursor) moved(all []byte, before, at int) {
	if at > before {
		c.offset += int64(at - before)
		c.trace = traceOf(all[:at])
		c.passed = 0
	}
}

// pass looks for the end of a record that is too long, and tells it as one.
func (c *cursor) pass(record func(b []byte, tooLong bool) (int, error)) (s step, err error) {
	if c.passed < c.offset {
		c.passed, c.passing = c.offset, splitter{json: c.json}
	}
	chunk := make([]byte, 1<<20)
	for {
		n, err := c.file.ReadAt(chunk, c.passed)
		if err != nil && !errors.Is(err, io.EOF) {
			return s, err
		}
		end := c.passing.end(chunk[:n])
		if end < 0 {
			c.passed += int64(n)
			if err != nil {
				return step{end: true, rest: true}, nil
			}
			continue
		}
		if _, err := record(nil, true); err != nil {
			c.passed, c.passing = c.offset, splitter{json: c.json}
			return s, err
		}
		behind := c.passed + int64(end)
		t, err := traceAt(c.file, behind)
		if err != nil {
			return s, fmt.Errorf("reading behind a long record: %w", err)
		}
		c.offset, c.trace, c.size = behind, t, usualChunk
		return step{records: 1}, nil
	}
}

// modified is when the file was written last.
func (c *cursor) modified() (time.Time, error) {
	info, err := c.file.Stat()
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// trimEnd takes the line end off a record.
func trimEnd(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	return b
}

// resume looks, in a record that is none, for the next line that begins as one does. A server that died while it wrote
// leaves half a record, whose open quote would take in what comes after. Whoever can have a server die can also have it
// believe a line that stood in a statement; the loss that is told here says where to look. It returns 0 where there is none.
func resume(record []byte) int {
	for at := 0; at < len(record); at++ {
		if record[at] == '\n' && beginsRecord(record[at+1:]) {
			return at + 1
		}
	}
	return 0
}

// beginsRecord says whether b begins as a record of a csv log does: 2026-11-23 12:40:01.123 UTC,
func beginsRecord(b []byte) bool {
	const like = "0000-00-00 00:00:00.000 "
	if len(b) < len(like) {
		return false
	}
	for i := range len(like) {
		if digit := b[i] >= '0' && b[i] <= '9'; digit != (like[i] == '0') || !digit && b[i] != like[i] {
			return false
		}
	}
	return true
}
