// Package spool keeps records on the database host's disk while the path to the
// journal is down for longer than the ring lasts.
//
// One idea carries it: what lies here is of no use to whoever finds it. Each
// record is sealed to a key whose private half only crypto has (pkg/spoolkey),
// so capture itself cannot read what it wrote; it hands it to crypto, sealed,
// when the path is back. A record is here, and then the ring may forget it, when
// fsync has returned.
//
// Records lie in segments, files that are written once, read once and removed. A
// segment that a dead capture left is never written to again. What ends in the
// middle of an entry was never promised; damage elsewhere shows by the numbers
// that are missing between two entries, and is told as a gap of exactly these.
// Beside the segments lies, for each epoch, how far everything is delivered.
//
// Before: internal/pipeline, which decides when to spool. Next: internal/outbox,
// which carries the entries to crypto.
package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/spoolkey"
	capturev1 "github.com/weir-das/weir/proto/gen/weir/capture/v1"
)

var (
	// ErrFull says that the limit is reached.
	ErrFull = errors.New("the spool is full")
	// ErrNoKey says that crypto never told a key to seal to.
	ErrNoKey = errors.New("no key to seal the spool with is known yet")
)

// Mark is a place in an epoch.
type Mark struct {
	Number uint64
	Hash   [32]byte // the chain after it
	Lost   uint64   // numbers that were spooled, and are told as lost
}

// Record is what is spooled.
type Record struct {
	Head      *capturev1.SpoolEntry // but for the key
	Plaintext []byte
}

// Spool is an open spool. Append and Begin are for one goroutine, Drain for
// another; everything else may be called at any time.
type Spool struct {
	// Losing hears of numbers that were spooled and will never be delivered, before
	// the journal has the gap that tells of them; of the same ones perhaps again. It
	// is set before Drain, and may be nil.
	Losing func(epoch, first, last uint64, from time.Time)

	// Immutable after Open.
	dir   string
	limit int64
	log   *slog.Logger
	lock  *os.File
	more  chan struct{} // has room for one: there may be a segment to drain

	key atomic.Pointer[spoolkey.Public] // to seal to; nil while none is known

	// file is the segment that is being written, nil when there is none. It
	// belongs to Append.
	file *os.File

	// mu guards what follows. It is never held while a disk or crypto is waited for.
	mu       sync.Mutex
	segments []*segment // the oldest first
	next     uint64     // the name of the next segment
	used     int64
	marks    map[uint64]Mark // by epoch: delivered through
	drained  time.Time       // when the journal took something last
	refused  time.Time       // when there was no room last; zero once there was again
}

// segment is one file.
type segment struct {
	name    uint64
	size    int64
	writing bool   // something is being added
	closed  bool   // nothing is added any more
	events  uint64 // that are not delivered yet
	epochs  map[uint64]*summary
}

// summary is what a segment holds of one epoch.
type summary struct {
	last   Mark
	oldest time.Time
}

// Open opens the spool in dir, which it makes, of at most limit bytes. It reads
// what a capture before this one left. Errors are fault.Busy where another
// capture uses the directory.
func Open(dir string, limit int64, log *slog.Logger) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the spool's directory: %w", err)
	}
	s := &Spool{dir: dir, limit: limit, log: log, more: make(chan struct{}, 1), marks: make(map[uint64]Mark)}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the spool's lock: %w", err)
	}
	s.lock = lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		err = fmt.Errorf("another capture uses the spool %s: give each its own spool.dir: %w", dir, err)
		return nil, errors.Join(fault.As(fault.Busy, err), lock.Close())
	}
	if err := s.scan(); err != nil {
		return nil, errors.Join(fmt.Errorf("reading the spool %s: %w", dir, err), lock.Close())
	}
	s.loadKey()
	s.wake()
	return s, nil
}

// Close gives up the directory.
func (s *Spool) Close() error {
	return errors.Join(s.retire(), s.lock.Close())
}

// scan finds out what is there.
func (s *Spool) scan() error {
	if err := s.loadMarks(); err != nil {
		return err
	}
	names, err := os.ReadDir(s.dir) // sorted
	if err != nil {
		return err
	}
	for _, entry := range names {
		name, ok := segmentNumber(entry.Name())
		if !ok {
			continue
		}
		s.next = max(s.next, name+1)
		data, err := os.ReadFile(s.path(name))
		if err != nil {
			return err
		}
		seg := &segment{name: name, size: int64(len(data)), closed: true, epochs: make(map[uint64]*summary)}
		for _, e := range parse(data) {
			seg.note(e.head)
		}
		if len(seg.epochs) == 0 {
			// It was made and never got as far as an entry, or nothing in it can be
			// read: then its numbers are missing between others, and told.
			s.log.Warn("a segment of the spool holds nothing that can be read: removed", "segment", s.path(name), "bytes", len(data))
			if err := os.Remove(s.path(name)); err != nil {
				return err
			}
			continue
		}
		s.segments = append(s.segments, seg)
		s.used += seg.size
	}
	if len(s.segments) > 0 {
		s.log.Info("the spool holds records that the journal does not have yet", "segments", len(s.segments), "bytes", s.used)
	}
	return nil
}

// note adds an entry to what is known of the segment.
func (g *segment) note(head *capturev1.SpoolEntry) {
	g.events += head.GetEvents()
	e := g.epochs[head.GetEpoch()]
	if e == nil {
		e = &summary{oldest: time.UnixMicro(head.GetOldestUs())}
		g.epochs[head.GetEpoch()] = e
	}
	if head.GetLast() >= e.last.Number {
		e.last = Mark{Number: head.GetLast(), Hash: [32]byte(head.GetChainAfter())}
	}
}

// Used is how many bytes of disk the spool takes; Limit, how many it may.
func (s *Spool) Used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// Limit is how many bytes it may take.
func (s *Spool) Limit() int64 { return s.limit }

// Pending says whether there is anything of an epoch that is not delivered, and
// the last of it.
func (s *Spool) Pending(epoch uint64) (last Mark, pending bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.segments {
		if e := g.epochs[epoch]; e != nil {
			pending = true
			if e.last.Number >= last.Number {
				last = e.last
			}
		}
	}
	return last, pending
}

// Oldest is when the oldest event of the spool ended; zero when it is empty.
func (s *Spool) Oldest() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest time.Time
	for _, g := range s.segments {
		for _, e := range g.epochs {
			if oldest.IsZero() || e.oldest.Before(oldest) {
				oldest = e.oldest
			}
		}
	}
	return oldest
}

// Delivered is how far everything that was spooled of an epoch is on the
// journal's disk. ok is false where nothing of it ever was.
func (s *Spool) Delivered(epoch uint64) (m Mark, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok = s.marks[epoch]
	return m, ok
}

// remove forgets a segment, on disk and here.
func (s *Spool) remove(seg *segment) error {
	err := os.Remove(s.path(seg.name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a segment of the spool: %w", err)
	}
	s.mu.Lock()
	for i, g := range s.segments {
		if g == seg {
			s.segments = append(s.segments[:i:i], s.segments[i+1:]...)
			s.used -= seg.size
			s.refused = time.Time{}
			break
		}
	}
	s.mu.Unlock()
	return syncDir(s.dir)
}

// wake says that there may be something to drain.
func (s *Spool) wake() {
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *Spool) path(segment uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%016x%s", segment, suffix))
}
