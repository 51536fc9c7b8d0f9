package pgauditlog

import (
	"context"
	"errors"

	"github.com/weir-das/weir/services/capture/internal/ring"
)

// turn reads what there is, or goes to the next file. idle says that there was nothing.
func (f *Follower) turn(ctx context.Context) (idle bool, err error) {
	mode, err := f.ring.Mode()
	if err != nil {
		return false, &ringError{err}
	}
	if mode == ring.ModeUntold {
		return true, nil // the log keeps it until somebody knows whether it is wanted
	}
	if mode != ring.ModeOff {
		f.on = true
	} else {
		// What was written before the stop is wanted: it ends where the log does now.
		defer func() { f.on = f.on && !idle }()
	}
	if f.cursor == nil {
		return f.find(ctx)
	}
	s, err := f.cursor.read(func(b []byte, tooLong bool) (int, error) { return f.record(ctx, b, tooLong) })
	if errors.Is(err, errCut) {
		return false, f.truncated(ctx)
	}
	if err != nil {
		return false, err
	}
	if s.records > 0 {
		return false, f.keep()
	}
	if !s.end {
		return false, nil
	}
	return f.next(ctx, s)
}

// find opens the file in which the position lies, or where that is gone the first after it.
func (f *Follower) find(ctx context.Context) (idle bool, err error) {
	files, err := list(f.cfg.Pattern)
	if err != nil {
		return false, err
	}
	for _, file := range files {
		if file.id == f.kept.file || f.kept.file.device == 0 && file.id.inode == f.kept.file.inode {
			if err := f.open(file); err != nil {
				return false, err
			}
			f.cursor.offset, f.cursor.trace = f.kept.offset, f.kept.trace
			return false, nil // whether it is the same file the trace says
		}
	}
	none := f.kept.file == fileID{}
	for _, file := range files {
		if none && file.modified.Before(f.kept.at) || !none && (file.size == 0 || !file.modified.After(f.kept.modified)) {
			continue
		}
		if !none {
			f.ahead = 0
			if err := f.lost(ctx, "the log file was removed before it was seen to be read to its end"); err != nil {
				return false, err
			}
		}
		if err := f.open(file); err != nil {
			return false, err
		}
		return false, f.keep()
	}
	return true, nil
}

// next goes to the file after the current one, which was read to its end. A server that begins another file writes no
// more into the one before; but it may have between our last look there and our look at the list, so there is one more.
func (f *Follower) next(ctx context.Context, s step) (idle bool, err error) {
	files, err := list(f.cfg.Pattern)
	if err != nil {
		return false, err
	}
	now := f.current
	if now.modified, err = f.cursor.modified(); err != nil {
		return false, err
	}
	following, ok := after(files, now)
	if !ok {
		return true, nil
	}
	again, err := f.cursor.read(func(b []byte, tooLong bool) (int, error) { return f.record(ctx, b, tooLong) })
	switch {
	case errors.Is(err, errCut):
		return false, f.truncated(ctx)
	case err != nil:
		return false, err
	case again.records > 0 || !again.end:
		return false, f.keep()
	}
	if s.rest {
		if err := f.lost(ctx, "a log file ends in the middle of a record"); err != nil {
			return false, err
		}
	}
	if err := f.open(following); err != nil {
		return false, err
	}
	f.log.Info("the log was rotated", "file", following.path)
	return false, f.keep()
}

// truncated begins the current file anew.
func (f *Follower) truncated(ctx context.Context) error {
	f.ahead = 0 // what the ring has of it will not come again
	if err := f.lost(ctx, errCut.Error()); err != nil {
		return err
	}
	f.cursor = newCursor(f.cursor.file, f.parser.json, 0, trace{})
	return f.keep()
}

func (f *Follower) open(file logFile) error {
	opened, err := openLog(file)
	if err != nil {
		return err
	}
	f.closeFile()
	f.current, f.cursor = file, newCursor(opened, f.parser.json, 0, trace{})
	return nil
}

func (f *Follower) closeFile() {
	if f.cursor != nil {
		_ = f.cursor.file.Close() // read only
		f.cursor = nil
	}
}
