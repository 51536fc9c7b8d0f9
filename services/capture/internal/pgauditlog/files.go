package pgauditlog

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// fileID tells a file from every other, whatever it is called. The number of one that was deleted is used again; the
// trace of a position tells those apart.
type fileID struct{ device, inode uint64 }

// logFile is a file of the log as a listing saw it.
type logFile struct {
	path     string
	id       fileID
	size     int64
	modified time.Time
}

func describe(path string, info fs.FileInfo) (logFile, error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		return logFile{}, fmt.Errorf("%s is not a regular file", path)
	}
	return logFile{path: path, id: fileID{stat.Dev, stat.Ino}, size: info.Size(), modified: info.ModTime()}, nil
}

// list returns the files of the log, in the order in which they were written last. The server writes one at a time, so
// this is the order of what they hold.
func list(pattern string) ([]logFile, error) {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		// Glob does not say that a directory cannot be read.
		if _, err := os.ReadDir(filepath.Dir(pattern)); err != nil {
			return nil, err
		}
	}
	var files []logFile
	for _, path := range paths {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // rotated just now
		}
		if err != nil {
			return nil, err
		}
		if f, err := describe(path, info); err == nil {
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b logFile) int {
		return cmp.Or(a.modified.Compare(b.modified), cmp.Compare(a.path, b.path))
	})
	return files, nil
}

// after returns the file that follows current, which was read to its end; false where there is none yet. One that is empty
// is none: who rotates makes it before the server writes there.
func after(files []logFile, current logFile) (logFile, bool) {
	for _, f := range files {
		switch {
		case f.id == current.id, f.size == 0, f.modified.Before(current.modified):
		case f.modified.After(current.modified), f.path >= current.path:
			// Two that were written in the same tick of the clock are told by their names: the later one has the
			// later time in it, or has taken the name of the earlier one.
			return f, true
		}
	}
	return logFile{}, false
}

// openLog opens a file and makes sure that it is still the one that was listed.
func openLog(f logFile) (*os.File, error) {
	file, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil {
		var now logFile
		if now, err = describe(f.path, info); err == nil && now.id != f.id {
			err = fmt.Errorf("%s was rotated while it was opened: %w", f.path, fs.ErrNotExist)
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// lastBoundary is the end of the last whole record of a file. It reads all of it: whether a line end lies in a quoted text
// is known from the beginning alone.
func lastBoundary(file *os.File, json bool) (int64, error) {
	split := splitter{json: json}
	chunk := make([]byte, 1<<20)
	boundary, at := int64(0), int64(0)
	for {
		n, err := file.ReadAt(chunk, at)
		for b := chunk[:n]; len(b) > 0; {
			end := split.end(b)
			if end < 0 {
				break
			}
			b = b[end:]
			boundary = at + int64(n-len(b))
		}
		at += int64(n)
		if errors.Is(err, io.EOF) {
			return boundary, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// position is how far the log is in the ring: after the event with the number, the record at offset comes next.
type position struct {
	number   uint64
	file     fileID // zero: none yet, the first file that was written at `at` or later comes next
	offset   int64
	at       time.Time // of the last record, or of the beginning
	modified time.Time // of the file when it was listed: what comes after it was written later
	trace    trace     // of what lies before offset
}

const positionSize = 6*8 + 4 + 4

func (p position) append(dst []byte) []byte {
	for _, v := range []uint64{p.number, p.file.device, p.file.inode, uint64(p.offset), uint64(p.at.UnixNano()), uint64(p.modified.UnixNano())} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	dst = binary.LittleEndian.AppendUint32(dst, p.trace.length)
	return binary.LittleEndian.AppendUint32(dst, p.trace.sum)
}

func parsePosition(b []byte) (p position, ok bool) {
	if len(b) != positionSize {
		return p, false
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	p = position{
		number: word(0), file: fileID{word(1), word(2)}, offset: int64(word(3)),
		at: time.Unix(0, int64(word(4))), modified: time.Unix(0, int64(word(5))),
		trace: trace{binary.LittleEndian.Uint32(b[48:]), binary.LittleEndian.Uint32(b[52:])},
	}
	return p, p.offset >= 0 && p.trace.length <= traceLength && int64(p.trace.length) <= p.offset
}

// equal says whether two positions are the same to the byte.
func (p position) equal(q position) bool { return bytes.Equal(p.append(nil), q.append(nil)) }
