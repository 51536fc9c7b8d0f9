package pgauditlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/weir-das/weir/pkg/fault"
)

// ringError is an error of the ring, which ends the follower; every other is tried again.
type ringError struct{ err error }

func (e *ringError) Error() string { return e.err.Error() }

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
