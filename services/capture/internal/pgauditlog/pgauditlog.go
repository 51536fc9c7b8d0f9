// Package pgauditlog makes a ring of a log: it follows the csv or json log of a PostgreSQL server that has pgaudit and not
// the engine module, and writes what the log tells into a ring, as an engine would.
//
// The one idea: the log is a buffer that outlives this process, so nothing is put into the ring before there is room, and
// a restart reads again. Events and the position in the log cannot be written in one step. So what is kept is a pair, the
// position and the number of the last event before it; the ring may be ahead of it by some numbers, and whoever comes
// back reads on from the position and leaves out as many events as the ring is ahead. A restart, however the process
// ended, neither loses an event nor gives it a second number.
//
// What it cannot do is make a session wait, hear of what pgaudit does not log, or see what was removed from the log before
// it was read. The last it tells where it notices: a file that is gone, was truncated, or has bytes that are no record.
//
// Before: the server's logging collector.
// Next: internal/ring, and everything behind it as with an engine.
package pgauditlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// poll is how long a follower naps where nothing is to be read.
const poll = 50 * time.Millisecond

// Witness hears when the log could not be read as it should: since when, and when it could again. What was missed in
// between nobody can count.
type Witness interface {
	Interrupted(epoch uint64, since time.Time, why string)
	Resumed(epoch uint64, at time.Time)
}

// Follower follows one server's log. It belongs to one goroutine.
type Follower struct {
	cfg     Config
	ring    *ring.Writer
	epoch   uint64
	witness Witness
	log     *slog.Logger
	parser  parser

	cursor  *cursor // nil while no file is open
	current logFile // that it reads
	kept    position
	at      time.Time // of the last record
	ahead   uint64    // events behind the position that the ring has already
	on      bool      // what is read now is wanted
	told    string    // the error that was logged last
	saver   saver
	buf     []byte
}

// Open makes the ring at ringFile, or goes on with it, and finds where in the log to go on.
func Open(cfg Config, ringFile string, witness Witness, log *slog.Logger) (*Follower, error) {
	cfg = cfg.WithDefaults()
	zone, err := time.LoadLocation(cfg.Timezone)
	if err != nil {
		return nil, err
	}
	w, err := ring.NewWriter(ring.WriterOptions{Path: ringFile, Size: uint64(cfg.RingSize), ServerVersion: cfg.ServerVersion})
	if err != nil {
		return nil, err
	}
	f := &Follower{cfg: cfg, ring: w, witness: witness, log: log, parser: parser{json: cfg.Format == formatJSON, zone: zone},
		saver: saver{path: cfg.PositionFile}}
	if err := f.begin(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// begin finds the position, and keeps it before anything is read: the end of the log is where it was at the first start.
func (f *Follower) begin() error {
	number, err := f.ring.Number()
	if err != nil {
		return err
	}
	if f.epoch, err = f.ring.Epoch(); err != nil {
		return err
	}
	b, err := f.ring.Kept()
	if err != nil {
		return err
	}
	if p, ok := parsePosition(b); ok && p.number <= number {
		f.kept, f.at, f.ahead = p, p.at, number-p.number
		return nil
	}
	p, ok, err := f.saver.load()
	if err != nil {
		return err
	}
	if ok {
		f.kept, f.at = p, p.at
		return f.write(p)
	}
	f.at = time.Unix(0, 0)
	if f.cfg.From == fromEnd {
		f.at = time.Now()
		files, err := list(f.cfg.Pattern)
		if err != nil {
			return fmt.Errorf("pgaudit_log.pattern: %w", err)
		}
		if len(files) > 0 {
			if err := f.open(files[len(files)-1]); err != nil {
				return fmt.Errorf("pgaudit_log.pattern: %w", err)
			}
			if f.cursor.offset, err = lastBoundary(f.cursor.file, f.parser.json); err != nil {
				return err
			}
			before := make([]byte, min(traceLength, f.cursor.offset))
			if _, err := f.cursor.file.ReadAt(before, f.cursor.offset-int64(len(before))); err != nil {
				return err
			}
			f.cursor.trace = traceOf(before)
		}
	}
	return f.keep()
}

// Close gives up the ring. What it holds is for a capture to read.
func (f *Follower) Close() error {
	f.closeFile()
	return f.ring.Close()
}

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		idle, err := f.turn(ctx)
		if err == nil {
			err = f.save(time.Now())
		}
		var bad *ringError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &bad):
			return bad.err
		case err != nil:
			f.trouble(err)
		case f.told != "":
			f.log.Info("the log is read again")
			f.witness.Resumed(f.epoch, time.Now())
			f.told = ""
		}
		if err != nil || idle {
			wait(ctx, poll)
		}
	}
	return nil
}

// trouble tells that the log cannot be read, once.
func (f *Follower) trouble(err error) {
	if err.Error() == f.told {
		return
	}
	f.told = err.Error()
	f.log.Error("the log cannot be read; what the server writes meanwhile is read later if it is still there", obs.KeyErr, err)
	f.witness.Interrupted(f.epoch, time.Now(), err.Error())
}

// ringError is an error of the ring, which ends the follower; every other is tried again.
type ringError struct{ err error }

func (e *ringError) Error() string { return e.err.Error() }

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

// keep writes down how far the log is in the ring.
func (f *Follower) keep() error {
	number, err := f.ring.Number()
	if err != nil {
		return &ringError{err}
	}
	p := position{number: number - min(f.ahead, number), at: f.at, modified: f.at}
	if f.cursor != nil {
		p.file, p.modified = f.current.id, f.current.modified
		p.offset, p.trace = f.cursor.offset, f.cursor.trace
	}
	if p.equal(f.kept) {
		return nil
	}
	f.kept = p
	f.saver.mark(p)
	return f.write(p)
}

func (f *Follower) write(p position) error {
	f.buf = p.append(f.buf[:0])
	if err := f.ring.Keep(f.buf); err != nil {
		return &ringError{err}
	}
	return nil
}

// record puts one record's event into the ring. Of one that is none it may keep a part only: up to where the next begins.
func (f *Follower) record(ctx context.Context, b []byte, tooLong bool) (keep int, err error) {
	if tooLong {
		return 0, f.lost(ctx, fmt.Sprintf("a record is longer than %d bytes", maxRecord))
	}
	if len(b) == 0 {
		return 0, nil
	}
	e, err := f.parser.parse(b)
	if err != nil {
		if !f.parser.json {
			keep = resume(b)
		}
		return keep, f.lost(ctx, err.Error())
	}
	f.at = e.at
	a, err := e.activity()
	if err != nil {
		return 0, f.lost(ctx, err.Error())
	}
	if a == nil {
		return 0, nil
	}
	payload, err := proto.Marshal(a)
	if err != nil {
		return 0, f.lost(ctx, "an event cannot be encoded")
	}
	err = f.put(ctx, func() (bool, error) { return f.ring.Put(payload, e.at) })
	var bad *ringError
	if errors.As(err, &bad) && fault.Is(bad.err, fault.Invalid) {
		return 0, f.lost(ctx, "an event is longer than an eighth of the ring")
	}
	return 0, err
}

// lost tells that at least one event is missing.
func (f *Follower) lost(ctx context.Context, why string) error {
	from, to := f.at, time.Now()
	if from.After(to) || from.Unix() == 0 {
		from = to
	}
	if f.ahead == 0 && f.on {
		f.log.Error("events of the log are lost: at least one, nobody knows how many", "why", why, "file", f.current.path,
			"from", from, "to", to)
		f.witness.Interrupted(f.epoch, from, why)
		f.witness.Resumed(f.epoch, to)
	}
	return f.put(ctx, func() (bool, error) { return f.ring.PutUnread(from, to) })
}

// put puts something into the ring, and waits for room: the log keeps what comes behind.
func (f *Follower) put(ctx context.Context, into func() (bool, error)) error {
	if f.ahead > 0 {
		f.ahead--
		return nil
	}
	if !f.on {
		return nil
	}
	for {
		ok, err := into()
		if err != nil {
			return &ringError{err}
		}
		if ok {
			return nil
		}
		if !wait(ctx, poll/10) {
			return ctx.Err()
		}
	}
}

// wait returns false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
