package pgauditlog

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
)

const (
	saveEvery = time.Second
	maxMarks  = 1024
	savedHead = "weir pgaudit_log position 1 "
)

// saver keeps on a disk up to where the log is on the journal's. The ring's own position is of no use once the ring is
// gone: what lies between the two is read again then, and gets numbers of another epoch.
type saver struct {
	path  string // empty where nothing is saved
	marks []position
	saved position
	next  time.Time
	told  bool
}

// mark notes a position that the ring has. Of very many, some are left out: what is saved is then a little older.
func (s *saver) mark(p position) {
	if s.path == "" {
		return
	}
	if len(s.marks) == maxMarks {
		s.marks[maxMarks-1] = p
		return
	}
	s.marks = append(s.marks, p)
}

// save writes the newest position of which all is durable.
func (s *saver) save(durable uint64) error {
	i := 0
	for i < len(s.marks) && s.marks[i].number <= durable {
		i++
	}
	if i == 0 {
		return nil
	}
	p := s.marks[i-1]
	s.marks = append(s.marks[:0], s.marks[i:]...)
	if p.equal(s.saved) {
		return nil
	}
	beside := s.path + ".new"
	file, err := os.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(savedHead + hex.EncodeToString(p.append(nil)) + "\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(beside, s.path); err != nil {
		return err
	}
	s.saved = p
	return nil
}

// load reads what was saved; false where there is nothing.
func (s *saver) load() (p position, ok bool, err error) {
	if s.path == "" {
		return p, false, nil
	}
	text, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, false, nil
	}
	if err != nil {
		return p, false, err
	}
	b, err := hex.DecodeString(strings.TrimSpace(strings.TrimPrefix(string(text), savedHead)))
	if p, ok = parsePosition(b); err != nil || !ok {
		return p, false, fault.As(fault.Invalid, fmt.Errorf("pgaudit_log.position_file: %s holds no position: remove it, and capture begins "+
			"as pgaudit_log.from says", s.path))
	}
	p.number = 0      // of an epoch that is gone
	p.file.device = 0 // a host that was started again may number its disks otherwise
	return p, true, nil
}

// save writes the position to the disk, about every second. That it cannot is told once: it matters when the host goes down.
func (f *Follower) save(now time.Time) error {
	if f.saver.path == "" || now.Before(f.saver.next) {
		return nil
	}
	f.saver.next = now.Add(saveEvery)
	durable, err := f.ring.Durable()
	if err != nil {
		return &ringError{err}
	}
	if err := f.saver.save(durable); err != nil {
		if !f.saver.told {
			f.log.Error("the position in the log cannot be saved", "file", f.saver.path, obs.KeyErr, err)
		}
		f.saver.told = true
		return nil
	}
	f.saver.told = false
	return nil
}
