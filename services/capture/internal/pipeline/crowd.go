package pipeline

import (
	"bytes"
	"math/bits"
	"os"
	"runtime"
	"strconv"
)

// crowd is how many sessions write events these days: those of the open record
// and of the one before. It is counted by the process's number, of which some
// share a place: it is an estimate, and never too high.
type crowd struct{ now, before [16]uint64 }

// saw says that a session has an event in the open record.
func (c *crowd) saw(pid int32) {
	place := uint64(uint32(pid)) % (64 * uint64(len(c.now)))
	c.now[place/64] |= 1 << (place % 64)
}

// turn says that the open record is closed.
func (c *crowd) turn() { c.now, c.before = [16]uint64{}, c.now }

func (c *crowd) size() (n int) {
	for i := range c.now {
		n += bits.OnesCount64(c.now[i] | c.before[i])
	}
	return n
}

// load says whether the machine has more to do than it has processors for.
type load struct {
	file *os.File // /proc/loadavg; nil where there is none
	buf  [64]byte
}

func newLoad() *load {
	file, err := os.Open("/proc/loadavg")
	if err != nil {
		return &load{} // it never has, then: records are closed at once
	}
	return &load{file: file}
}

func (l *load) close() { l.file.Close() }

// busy says whether somebody waits for a processor now.
func (l *load) busy() bool {
	n, _ := l.file.ReadAt(l.buf[:], 0) // EOF with the content; an error without
	// 0.20 0.18 0.12 1/80 11206: the fourth field is who runs or could, of all.
	fields := bytes.Fields(l.buf[:n])
	if len(fields) < 4 {
		return false
	}
	running, _, _ := bytes.Cut(fields[3], []byte("/"))
	ready, err := strconv.Atoi(string(running))
	return err == nil && ready > runtime.NumCPU()
}
