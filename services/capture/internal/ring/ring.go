// Package ring is capture's half of the ring: the file in memory into which a database server writes its events.
//
// One idea carries it: nothing in the file is believed. Whoever runs as the server's account can write anything there,
// at any moment, or cut the file short. So a frame is copied out before it is looked at, every offset and length is
// checked against what this process knows by itself, a fault of the mapping is an error and not a crash, and numbers
// that cannot be read are told as a gap rather than passed over. What the package promises in return: every number of
// an epoch comes out exactly once, as an event or in a gap; and a capture that was killed and comes back gets, from the
// last checkpoint on, the same items again, byte for byte.
//
// It does not look into an event, knows nothing of the chain whose state it keeps, and starts no goroutine.
//
// The layout, and who may write which field, is the table at the top of engine/ring/ring.h.
//
// Before: engine/ring, which writes. Next: internal/pipeline, which reads.
package ring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weir-das/weir/pkg/fault"
)

var (
	// ErrAbsent says that no server has made the ring yet, or not finished it.
	ErrAbsent = errors.New("there is no ring yet")
	// ErrOccupied says that another capture holds the ring.
	ErrOccupied = errors.New("another capture holds the ring")
	// ErrFault says that the file was cut short under the mapping. The ring is lost; Open finds the next one.
	ErrFault = errors.New("the ring's file was cut short while it was in use")
	// ErrCorrupt says that the ring contradicts itself in a way that no gap can tell, such as numbers that go back.
	ErrCorrupt = errors.New("the ring contradicts itself")
)

// Ring is an open ring. Its methods may be called by several goroutines at once, except Close, which comes last.
type Ring struct {
	// Immutable after Open.
	path  string
	file  *os.File
	id    fs.FileInfo // tells this file from another one at the same path
	mem   []byte
	h     *header
	data  []byte
	size  uint64 // of data; the header's own is not believed again
	epoch uint64

	// last and durable are what the newest checkpoint says: copies that nobody else can write.
	last    atomic.Pointer[Position]
	durable atomic.Pointer[Durable]
	// naps is 1 while the reader is in Nap.
	naps atomic.Uint32
}

// Open maps the ring at path, which a server has made, and takes capture's lock on it.
//
// Errors match ErrAbsent (fault.NotReady) where there is no ring yet, ErrOccupied (fault.Busy) where another capture is
// at work; they are fault.Denied where the file may not be opened, and fault.Invalid where it is no ring that this
// version reads. Each says what to do.
func Open(path string) (*Ring, error) {
	file, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, openError(path, err)
	}
	r := &Ring{path: path, file: file}
	if err := r.attach(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func openError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.As(fault.NotReady, fmt.Errorf("%w at %s: the database server makes it when it starts with the weir module "+
			"loaded and weir.ring_file set to this path", ErrAbsent, path))
	case errors.Is(err, fs.ErrPermission):
		return fault.As(fault.Denied, fmt.Errorf("%w; %s", err, permissionAdvice(path)))
	case errors.Is(err, syscall.ELOOP):
		return fault.As(fault.Invalid, fmt.Errorf("%s is a symbolic link, which is not followed: name the file itself", path))
	}
	return err
}

// permissionAdvice names the group that may read the ring.
func permissionAdvice(path string) string {
	const otherwise = "capture's user must be in the group that weir.ring_group names"
	info, err := os.Stat(path)
	if err != nil {
		return otherwise
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return otherwise
	}
	name := strconv.Itoa(int(stat.Gid))
	if group, err := user.LookupGroupId(name); err == nil {
		name = group.Name
	}
	return fmt.Sprintf("the ring belongs to group %s: add capture's user (id %d) to it, or set weir.ring_group to a group it is in",
		name, os.Geteuid())
}

// attach makes sure that the open file is a ring, and takes it.
func (r *Ring) attach() error {
	info, err := r.file.Stat()
	if err != nil {
		return err
	}
	r.id = info
	if !info.Mode().IsRegular() {
		return fault.As(fault.Invalid, fmt.Errorf("%s is not a regular file", r.path))
	}
	if info.Size() == 0 {
		return absent(r.path)
	}
	if info.Size() < headerSize+minDataSize || info.Size() > headerSize+maxDataSize {
		return fault.As(fault.Invalid, fmt.Errorf("%s is %d bytes long, which no ring is; restart the database server, and it "+
			"makes another one", r.path, info.Size()))
	}
	r.mem, err = unix.Mmap(int(r.file.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping %s: %w", r.path, err)
	}
	// Clear text must not get into a core dump. A kernel that does not know the advice has no way to do it.
	_ = unix.Madvise(r.mem, unix.MADV_DONTDUMP)
	r.h = (*header)(unsafe.Pointer(&r.mem[0]))
	r.data = r.mem[headerSize:]
	r.size = uint64(len(r.data))

	return guarded(r.mem, func() error {
		if err := r.checkHeader(); err != nil {
			return err
		}
		if err := r.takeLock(); err != nil {
			return err
		}
		r.h.capturePID.Store(int32(os.Getpid()))
		return r.resume()
	})
}

func absent(path string) error {
	return fault.As(fault.NotReady, fmt.Errorf("%w: the one at %s is not finished", ErrAbsent, path))
}

func (r *Ring) checkHeader() error {
	switch magic := r.h.magic.Load(); magic {
	case headerMagic:
	case 0:
		return absent(r.path)
	default:
		return fault.As(fault.Invalid, fmt.Errorf("%s is not a ring: it begins with %#016x", r.path, magic))
	}
	if layout, size := r.h.layout.Load(), r.h.headerSize.Load(); layout != layoutVersion || size != headerSize {
		return fault.As(fault.Invalid, fmt.Errorf("%s has layout %d with a header of %d bytes, this capture reads layout %d: run the "+
			"capture of the version that the server's module has", r.path, layout, size, layoutVersion))
	}
	if size := r.h.dataSize.Load(); size != r.size || size%pageSize != 0 {
		return fault.As(fault.Invalid, fmt.Errorf("%s says that it holds %d bytes of data and holds %d: it was cut short; restart the "+
			"database server, and it makes another one", r.path, size, r.size))
	}
	r.epoch = r.h.epoch.Load()
	return nil
}

// takeLock takes byte 1. Another capture that holds it may be the one which this one replaces, on its way out.
func (r *Ring) takeLock() error {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: captureLock, Len: 1}
	err := unix.FcntlFlock(r.file.Fd(), unix.F_OFD_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return fault.As(fault.Busy, fmt.Errorf("%w: process %d has %s; stop it first", ErrOccupied, r.h.capturePID.Load(), r.path))
	}
	if err != nil {
		return fmt.Errorf("locking %s: %w", r.path, err)
	}
	return nil
}

// Epoch tells this life of the ring from every other: its creation, in microseconds since 1970.
func (r *Ring) Epoch() uint64 { return r.epoch }

// Close gives up the lock and the mapping. Nothing of the ring, and no Reader of it, may be used after.
func (r *Ring) Close() error {
	var err error
	if r.mem != nil {
		err = unix.Munmap(r.mem)
		r.mem, r.h, r.data = nil, nil, nil
	}
	return errors.Join(err, r.file.Close())
}

// Replaced says whether the path now leads to another file, or to none, or the file was cut short. What is still unread
// in this one can be read on, unless it was cut.
func (r *Ring) Replaced() bool {
	here, err := r.file.Stat()
	if err != nil || here.Size() < int64(len(r.mem)) {
		return true
	}
	there, err := os.Lstat(r.path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	return !os.SameFile(here, there)
}
