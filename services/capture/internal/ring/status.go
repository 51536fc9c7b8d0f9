package ring

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-das/weir/pkg/fault"
)

// Engine is a kind of database server.
type Engine uint32

// String is the engine's name as people write it.
func (e Engine) String() string {
	switch e {
	case 1:
		return "PostgreSQL"
	case 2:
		return "MariaDB"
	case 3:
		return "MySQL"
	}
	return fmt.Sprintf("engine %d", uint32(e))
}

// EngineState is whether a server lives.
type EngineState uint8

const (
	EngineUnknown EngineState = iota
	EngineRunning             // a server, or a child of one, holds the ring
	EngineStopped             // none does, and the last one said that it would stop
	EngineLost                // none does, and the last one said nothing
)

// Status is what the ring's header says. The fields are read one after the other, while the server works, and like all
// that lies in the ring they are what somebody wrote there.
type Status struct {
	Epoch      uint64
	Number     uint64 // the last number given
	Stored     uint64 // up to it safe elsewhere
	Durable    uint64 // up to it on the journal's disk, or told as a gap
	Lost       uint64 // numbers given to events that found no room
	Unnumbered uint64 // events that could not even get a number
	Size       uint64 // bytes for frames
	Head, Tail uint64 // bytes written and freed since the ring was made

	Engine        Engine
	VersionNumber uint32 // the engine's own number
	ServerVersion string
	ServerPID     int
	Started       time.Time // when the server started
	Starts        uint64    // servers and restarts after a crash, in this epoch
	State         EngineState

	Mode Mode
	Path Path

	// What synchronous mode did not hold: completions that a client was told of before their number was durable, the
	// highest such number, and when the last one was (zero if there is none); and what fail_operation refused.
	Released        uint64
	ReleasedThrough uint64
	ReleasedAt      time.Time
	Refused         uint64
	Waiting         int // sessions that wait now
}

// Used is how many bytes of events are in the ring and not stored elsewhere.
func (s Status) Used() uint64 { return s.Head - min(s.Tail, s.Head) }

// Status reads the header.
func (r *Ring) Status() (s Status, err error) {
	state, err := r.engineState()
	if err != nil {
		return Status{}, err
	}
	err = guarded(r.mem, func() error {
		text := bytes.Clone(r.h.serverVersionText[:])
		if end := bytes.IndexByte(text, 0); end >= 0 {
			text = text[:end]
		}
		s = Status{
			Epoch:         r.epoch,
			Number:        r.h.number.Load(),
			Stored:        r.h.stored.Load(),
			Durable:       r.h.durable.Load(),
			Lost:          r.h.lost.Load(),
			Unnumbered:    r.h.unnumbered.Load(),
			Size:          r.size,
			Tail:          r.h.tail.Load(),
			Head:          r.h.head.Load(), // after tail, so that tail is not beyond it
			Engine:        Engine(r.h.engine.Load()),
			VersionNumber: r.h.serverVersion.Load(),
			ServerVersion: string(bytes.ToValidUTF8(text, []byte("?"))),
			ServerPID:     int(r.h.serverPID.Load()),
			Started:       timeOf(r.h.startedUS.Load()),
			Starts:        r.h.starts.Load(),
			State:         state,
			Mode:          Mode(r.h.mode.Load()),
			Path:          Path(r.h.path.Load()),
			Released:      r.h.released.Load(), // before what belongs to it, as the engine writes it last
			Refused:       r.h.refused.Load(),
		}
		s.ReleasedThrough = r.h.releasedThrough.Load()
		for i := range r.h.waitGroups {
			s.Waiting += int(r.h.waitGroups[i].waiters.Load())
		}
		if at := r.h.releasedAtUS.Load(); at != 0 {
			s.ReleasedAt = timeOf(at)
		}
		return nil
	})
	return s, err
}

// EngineRunning says whether a process of the server lives.
func (r *Ring) EngineRunning() bool {
	state, err := r.engineState()
	return err == nil && state == EngineRunning
}

// engineState asks the kernel, not the file: the server's lock goes when its last process goes, however it dies.
func (r *Ring) engineState() (state EngineState, err error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: engineLock, Len: 1}
	if err := unix.FcntlFlock(r.file.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return EngineUnknown, fmt.Errorf("asking who holds %s: %w", r.path, err)
	}
	if lock.Type != unix.F_UNLCK {
		return EngineRunning, nil
	}
	const stopAnnounced = 2
	err = guarded(r.mem, func() error {
		state = EngineLost
		if r.h.state.Load() == stopAnnounced {
			state = EngineStopped
		}
		return nil
	})
	return state, err
}

// Seen tells the engine that capture lives.
func (r *Ring) Seen(now time.Time) error {
	return guarded(r.mem, func() error {
		r.h.captureSeenUS.Store(uint64(now.UnixMicro()))
		return nil
	})
}

// Path is whether records reach the journal, as sessions see it.
type Path uint32

const (
	PathUnknown  Path = iota // no capture has said anything
	PathHealthy              // sessions wait for their records
	PathDegraded             // they do not; under fail_operation they are refused
)

// Path is what sessions see now. A session whose wait reached the sync timeout makes a healthy path degraded, at any time.
func (r *Ring) Path() (path Path, err error) {
	err = guarded(r.mem, func() error {
		path = Path(r.h.path.Load())
		return nil
	})
	return path, err
}

// SetHealthy tells the engine whether records reach the journal. Sessions that wait are released when they do not, within
// 100 ms at the latest. Only this makes a path healthy again: the caller has seen records reach the journal since.
func (r *Ring) SetHealthy(healthy bool) error {
	return guarded(r.mem, func() error {
		if healthy {
			r.h.path.Store(uint32(PathHealthy))
			return nil
		}
		r.h.path.Store(uint32(PathDegraded))
		r.wakeAll()
		return nil
	})
}

// Mode is what the engine does with an activity.
type Mode uint32

const (
	ModeUntold Mode = iota // the engine follows its boot policy
	ModeOff
	ModeAsync
	ModeSync
)

// SyncLevel says what a session waits for in ModeSync.
type SyncLevel uint32

const (
	LevelTransaction SyncLevel = iota + 1 // before it is told that its transaction is over
	LevelStatement                        // before each ReadyForQuery
	LevelStrict                           // and for the record that a statement begins, before it runs
)

// Failure says what sessions do in ModeSync when records do not reach the journal.
type Failure uint32

const (
	FailureContinue      Failure = iota + 1 // go on, counted as released
	FailureFailOperation                    // statements are refused
)

// Policy is what the engine is told to do. The zero values of SyncLevel and OnFailure mean the first of each.
type Policy struct {
	Mode        Mode
	SyncLevel   SyncLevel
	OnFailure   Failure
	SyncTimeout time.Duration // in whole milliseconds; 0 for the engine's own, 5 s
	Generation  uint64        // of the wish that this carries out
}

// SetPolicy tells the engine. The mode is written after what it needs, and the generation after the mode. Sessions act on
// it from their next step on; those that wait are released when the mode is no longer ModeSync.
func (r *Ring) SetPolicy(p Policy) error {
	timeout := p.SyncTimeout.Milliseconds()
	if timeout < 0 || timeout > math.MaxInt32 || p.SyncTimeout > 0 && timeout == 0 {
		return fault.As(fault.Invalid, fmt.Errorf("a sync timeout of %v, want 1 ms to 24 days", p.SyncTimeout))
	}
	return guarded(r.mem, func() error {
		r.h.syncLevel.Store(uint32(p.SyncLevel))
		r.h.onFailure.Store(uint32(p.OnFailure))
		r.h.syncTimeoutMS.Store(uint32(timeout))
		r.h.mode.Store(uint32(p.Mode))
		r.h.policyGeneration.Store(p.Generation)
		r.wakeAll()
		return nil
	})
}

// Policy is what the engine is told now.
func (r *Ring) Policy() (p Policy, err error) {
	err = guarded(r.mem, func() error {
		p = Policy{
			Generation:  r.h.policyGeneration.Load(),
			Mode:        Mode(r.h.mode.Load()),
			SyncLevel:   SyncLevel(r.h.syncLevel.Load()),
			OnFailure:   Failure(r.h.onFailure.Load()),
			SyncTimeout: time.Duration(r.h.syncTimeoutMS.Load()) * time.Millisecond,
		}
		return nil
	})
	return p, err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrNoSettings says that the ring holds no settings that are whole.
var ErrNoSettings = errors.New("the ring holds no settings")

// Settings returns what SetSettings kept; ErrNoSettings if there is nothing, or a capture died writing it.
func (r *Ring) Settings() (settings []byte, err error) {
	err = guarded(r.mem, func() error {
		length := r.h.settingsLength.Load()
		if length == 0 || length > maxSettings {
			return ErrNoSettings
		}
		settings = bytes.Clone(r.h.settings[:length])
		if crc32.Checksum(settings, castagnoli) != r.h.settingsCRC.Load() {
			settings = nil
			return ErrNoSettings
		}
		return nil
	})
	return settings, err
}

// SetSettings keeps up to 4088 bytes in the ring, for the capture that comes next.
func (r *Ring) SetSettings(settings []byte) error {
	if len(settings) > maxSettings {
		return fault.As(fault.Invalid, fmt.Errorf("settings of %d bytes, and the ring has room for %d", len(settings), maxSettings))
	}
	return guarded(r.mem, func() error {
		// No length while the rest does not fit it.
		r.h.settingsLength.Store(0)
		copy(r.h.settings[:], settings)
		r.h.settingsCRC.Store(crc32.Checksum(settings, castagnoli))
		r.h.settingsLength.Store(uint32(len(settings)))
		return nil
	})
}
