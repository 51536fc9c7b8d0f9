package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/weir-das/weir/pkg/spoolkey"
	"github.com/weir-das/weir/services/capture"
)

// leastSpool is capture's own: a record or two.
const leastSpool = Size(1 << 20)

// spool is what crypto and capture are told of the spool.
type spool struct {
	config  capture.Spool // of capture; without a directory there is none
	keyFile string        // of crypto
}

// openSpool prepares a spool of the size that was asked for. One that an earlier
// start left something in is delivered also where none is asked for, and takes
// nothing more.
func openSpool(d *directory, size Size) (spool, error) {
	s := spool{config: capture.Spool{Dir: d.spool(), MaxBytes: int64(size)}, keyFile: d.spoolKey()}
	if size == 0 {
		left, err := leftIn(d.spool())
		if err != nil || left == 0 {
			return spool{}, err
		}
		s.config.MaxBytes = left
	}
	if err := spoolkey.CreateFile(s.keyFile); err != nil && !errors.Is(err, fs.ErrExist) {
		return spool{}, err
	}
	return s, nil
}

// leftIn is how many bytes of records lie in a spool.
func leftIn(dir string) (bytes int64, err error) {
	segments, err := filepath.Glob(filepath.Join(dir, "*.spool"))
	for _, name := range segments {
		info, statErr := os.Stat(name)
		if statErr != nil {
			return 0, fmt.Errorf("the spool that an earlier start left: %w", statErr)
		}
		bytes += info.Size()
	}
	return bytes, err
}
