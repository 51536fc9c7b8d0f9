package proof

import (
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	// headSize is how much of a chain value is kept: 192 bits, so that two
	// histories which agree in them cost 2^96 tries to find.
	headSize = 24
	// pageHeads is how many numbers a page has.
	pageHeads = 2048
	pageSize  = pageHeads * headSize
	// maxPages bounds what is kept in memory: 12 MiB.
	maxPages = 256
)

// heads keeps the value of the chain after every number that somebody claimed
// one for. Numbers come nearly in order, so a few pages in memory are nearly
// always enough; the others lie in a file that has no name: nothing is left of
// it, however the process ends.
//
// It holds hashes only, nothing of what was hashed.
type heads struct {
	dir   string // of the file; "" is the system's
	file  *os.File
	slots map[pageID]int64 // where a page lies in the file
	pages map[pageID]*page
	clock uint64
}

type pageID struct {
	epoch uint32
	page  uint64
}

type page struct {
	data  [pageSize]byte
	used  uint64
	dirty bool
}

func newHeads(dir string) *heads {
	return &heads{dir: dir, slots: map[pageID]int64{}, pages: map[pageID]*page{}}
}

// claim notes that the chain of an epoch stood at h after number. It returns
// false if something else was claimed before. Errors are the file's.
func (s *heads) claim(epoch uint32, number uint64, h Hash) (agrees bool, err error) {
	p, err := s.page(pageID{epoch, number / pageHeads})
	if err != nil {
		return false, err
	}
	at := number % pageHeads * headSize
	slot := p.data[at : at+headSize]
	if string(slot) == string(h[:headSize]) {
		return true, nil
	}
	if string(slot) != string(make([]byte, headSize)) {
		return false, nil
	}
	copy(slot, h[:])
	p.dirty = true
	return true, nil
}

func (s *heads) page(id pageID) (*page, error) {
	s.clock++
	if p := s.pages[id]; p != nil {
		p.used = s.clock
		return p, nil
	}
	if len(s.pages) >= maxPages {
		if err := s.evict(); err != nil {
			return nil, err
		}
	}
	p := &page{used: s.clock}
	if at, ok := s.slots[id]; ok {
		if _, err := s.file.ReadAt(p.data[:], at); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("reading back hashes: %w", err)
		}
	}
	s.pages[id] = p
	return p, nil
}

// evict writes the page that was used longest ago to the file.
func (s *heads) evict() error {
	var oldest pageID
	used := s.clock + 1
	for id, p := range s.pages {
		if p.used < used {
			oldest, used = id, p.used
		}
	}
	p := s.pages[oldest]
	if p.dirty {
		if s.file == nil {
			f, err := os.CreateTemp(s.dir, "weir-verify-")
			if err != nil {
				return fmt.Errorf("keeping hashes on disk: %w", err)
			}
			s.file = f
			if err := os.Remove(f.Name()); err != nil {
				return fmt.Errorf("keeping hashes on disk: %w", err)
			}
		}
		at, ok := s.slots[oldest]
		if !ok {
			at = int64(len(s.slots)) * pageSize
			s.slots[oldest] = at
		}
		if _, err := s.file.WriteAt(p.data[:], at); err != nil {
			return fmt.Errorf("keeping hashes on disk: %w; TMPDIR names another place for them", err)
		}
	}
	delete(s.pages, oldest)
	return nil
}

func (s *heads) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
