package spool

import (
	"errors"
	"fmt"
	"os"

	"github.com/weir-das/weir/pkg/spoolkey"
	capturev1 "github.com/weir-das/weir/proto/gen/weir/capture/v1"
)

// segmentBytes is when a segment is closed: one is read into memory at a time.
const segmentBytes = 16 << 20

// Begin says, before anything of an epoch is appended, how far the journal has
// it without the spool. So it is known what is missing if the first entry is.
func (s *Spool) Begin(epoch uint64, m Mark) error {
	s.mu.Lock()
	if was, ok := s.marks[epoch]; ok && was.Number >= m.Number {
		s.mu.Unlock()
		return nil
	}
	m.Lost = s.marks[epoch].Lost
	s.marks[epoch] = m
	s.mu.Unlock()
	return s.saveMarks()
}

// Append seals records and writes them, in order. It returns how many are on
// disk; for those that are not, and everything after them, there is an error:
// ErrFull, ErrNoKey, or what the disk says. No part of them stays.
func (s *Spool) Append(records []Record) (int, error) {
	key := s.key.Load()
	if key == nil {
		return 0, ErrNoKey
	}
	free := s.limit - s.Used()
	var data []byte
	var heads []*capturev1.SpoolEntry
	var full error
	for _, r := range records {
		frame, err := seal(key, r)
		if err != nil {
			return 0, err
		}
		if int64(len(data)+len(frame)) > free {
			full = ErrFull
			break
		}
		data = append(data, frame...)
		heads = append(heads, r.Head)
	}
	if len(heads) == 0 {
		s.noRoom(full != nil)
		return 0, full
	}
	if err := s.write(data, heads); err != nil {
		s.noRoom(true)
		return 0, err
	}
	s.noRoom(full != nil)
	s.wake()
	return len(heads), full
}

func seal(key *spoolkey.Public, r Record) ([]byte, error) {
	r.Head.SpoolKeyId = key.ID()
	sealed, err := key.Seal(bindingOf(r.Head), r.Plaintext)
	if err != nil {
		return nil, err
	}
	return appendFrame(nil, r.Head, sealed)
}

func bindingOf(h *capturev1.SpoolEntry) spoolkey.Binding {
	return spoolkey.Binding{
		Cluster: h.GetClusterResourceId(), Instance: h.GetInstanceResourceId(), KMSKey: h.GetKmsKeyId(),
		KinesisStream: h.GetKinesisStream(), Version: h.GetVersion(), MessageID: h.GetMessageId(),
	}
}

// write puts frames at the end of the segment that is being written.
func (s *Spool) write(data []byte, heads []*capturev1.SpoolEntry) error {
	seg, err := s.current()
	if err != nil {
		return fmt.Errorf("making a segment of the spool: %w", err)
	}
	_, err = s.file.Write(data)
	if err == nil {
		err = s.file.Sync()
	}
	s.mu.Lock()
	seg.writing = false
	if err == nil {
		seg.size += int64(len(data))
		s.used += int64(len(data))
		for _, head := range heads {
			seg.note(head)
		}
		s.mu.Unlock()
		return nil
	}
	// What was written of it goes. A segment that a write or a sync failed on is
	// not written to again: after a failed sync nobody knows what is on disk. Who
	// finds the entries there after all finds what the ring gives a second time.
	seg.closed, seg.writing = true, true
	size := seg.size
	s.mu.Unlock()
	err = errors.Join(fmt.Errorf("writing to the spool: %w", err), s.file.Truncate(size), s.file.Close())
	s.file = nil
	s.mu.Lock()
	seg.writing = false
	s.mu.Unlock()
	if size == 0 {
		err = errors.Join(err, s.remove(seg))
	}
	s.wake()
	return err
}

// current is the segment to write to.
func (s *Spool) current() (*segment, error) {
	s.mu.Lock()
	var last *segment
	if n := len(s.segments); n > 0 {
		last = s.segments[n-1]
	}
	if s.file != nil && last != nil && !last.closed && last.size < segmentBytes {
		last.writing = true
		s.mu.Unlock()
		return last, nil
	}
	if last != nil {
		last.closed = true
	}
	seg := &segment{name: s.next, writing: true, epochs: make(map[uint64]*summary)}
	s.next++
	s.mu.Unlock()
	if err := s.retire(); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(s.path(seg.name), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syncDir(s.dir); err != nil {
		return nil, errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	s.file = file
	s.mu.Lock()
	s.segments = append(s.segments, seg)
	s.mu.Unlock()
	return seg, nil
}

// retire closes the file that is being written.
func (s *Spool) retire() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
