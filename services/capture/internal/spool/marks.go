package spool

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/weir-das/weir/pkg/obs"
)

const (
	marksFile = "delivered.json"
	// keptMarks bounds how many epochs are remembered: a ring that is older has
	// no capture that could ask.
	keptMarks = 64
)

// mark is a Mark as the file has it.
type mark struct {
	Epoch  uint64 `json:"epoch"`
	Number uint64 `json:"number"`
	Hash   string `json:"hash"`
	Lost   uint64 `json:"lost"`
}

// saveMarks writes how far each epoch is delivered, whole or not at all.
func (s *Spool) saveMarks() error {
	s.mu.Lock()
	for _, epoch := range slices.Sorted(maps.Keys(s.marks)) {
		if len(s.marks) <= keptMarks {
			break
		}
		delete(s.marks, epoch)
	}
	all := make([]mark, 0, len(s.marks))
	for _, epoch := range slices.Sorted(maps.Keys(s.marks)) {
		m := s.marks[epoch]
		all = append(all, mark{epoch, m.Number, hex.EncodeToString(m.Hash[:]), m.Lost})
	}
	s.mu.Unlock()
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := writeWhole(filepath.Join(s.dir, marksFile), text); err != nil {
		return fmt.Errorf("writing down what of the spool is delivered: %w", err)
	}
	return nil
}

// loadMarks reads them. A file that cannot be read is as none: then a little is
// delivered twice, which is legal.
func (s *Spool) loadMarks() error {
	text, err := os.ReadFile(filepath.Join(s.dir, marksFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var all []mark
	if err := json.Unmarshal(text, &all); err != nil {
		s.log.Warn("what the spool says of what is delivered cannot be read", "file", marksFile, obs.KeyErr, err)
		return nil
	}
	for _, m := range all {
		hash, err := hex.DecodeString(m.Hash)
		if err != nil || len(hash) != 32 {
			continue
		}
		s.marks[m.Epoch] = Mark{Number: m.Number, Hash: [32]byte(hash), Lost: m.Lost}
	}
	return nil
}

// writeWhole replaces a file by one that is on disk.
func writeWhole(name string, text []byte) error {
	file, err := os.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(name+".new"))
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}
