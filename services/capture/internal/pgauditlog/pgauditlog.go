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
			if f.cursor.trace, err = traceAt(f.cursor.file, f.cursor.offset); err != nil {
				return err
			}
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
