package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weir-das/weir/pkg/fault"
)

// WriterOptions say what ring a Writer makes.
type WriterOptions struct {
	Path string
	// Size is of a new ring's data, in bytes. One that exists keeps its own.
	Size uint64
	// ServerVersion is the database server's, as it calls itself.
	ServerVersion string
}

// notOurs says that a file is there and is none of ours.
func notOurs(path, what string) error {
	return fault.As(fault.Invalid, fmt.Errorf("%s %s: remove it once nothing in it is wanted, or set ring_file to another path", path, what))
}

// NewWriter opens the ring at the path, or makes it, and takes the server's lock on it. What lies in it unread stays.
func NewWriter(o WriterOptions) (*Writer, error) {
	file, err := os.OpenFile(o.Path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return createWriter(o)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the ring: %w", err)
	}
	w := &Writer{path: o.Path, file: file}
	if err := w.takeOver(o); err != nil {
		return nil, errors.Join(err, w.release())
	}
	return w, nil
}

// createWriter finishes the ring beside its path and renames it, so that the path never leads to less than a whole one.
func createWriter(o WriterOptions) (*Writer, error) {
	if o.Size%pageSize != 0 || o.Size < minDataSize || o.Size > maxDataSize {
		return nil, fault.As(fault.Invalid, fmt.Errorf("a ring of %d bytes, want a multiple of %d from %d on", o.Size, pageSize, minDataSize))
	}
	beside := o.Path + ".new"
	if err := os.Remove(beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := os.OpenFile(beside, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("creating the ring: %w", err)
	}
	w := &Writer{path: o.Path, file: file}
	err = w.fill(o, beside)
	if err == nil {
		err = os.Rename(beside, o.Path)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(beside), w.release())
	}
	return w, nil
}

func (w *Writer) fill(o WriterOptions, beside string) error {
	var at unix.Statfs_t
	if err := unix.Fstatfs(int(w.file.Fd()), &at); err != nil {
		return fmt.Errorf("asking for the file system of %s: %w", o.Path, err)
	}
	if at.Type != unix.TMPFS_MAGIC && at.Type != unix.RAMFS_MAGIC {
		return fault.As(fault.Invalid, fmt.Errorf("%s is not in memory: the ring holds statements in clear text, which must not touch a "+
			"disk once more; set ring_file to a path on a tmpfs, such as one under /dev/shm", o.Path))
	}
	if err := unix.Fallocate(int(w.file.Fd()), 0, 0, int64(headerSize+o.Size)); err != nil {
		return fmt.Errorf("allocating %d bytes for %s: %w", headerSize+o.Size, beside, err)
	}
	if err := w.attach(o.Size); err != nil {
		return err
	}
	return guarded(w.mem, func() error {
		w.h.layout.Store(layoutVersion)
		w.h.headerSize.Store(headerSize)
		w.h.dataSize.Store(o.Size)
		w.h.epoch.Store(uint64(time.Now().UnixMicro()))
		w.begin(o)
		w.h.magic.Store(headerMagic)
		return nil
	})
}

// takeOver goes on with a ring that an earlier capture left.
func (w *Writer) takeOver(o WriterOptions) error {
	info, err := w.file.Stat()
	if err != nil {
		return err
	}
	size := info.Size() - headerSize
	if !info.Mode().IsRegular() || size < minDataSize || size > maxDataSize {
		return notOurs(o.Path, "is no ring")
	}
	if err := w.attach(uint64(size)); err != nil {
		return err
	}
	return guarded(w.mem, func() error {
		if w.h.magic.Load() != headerMagic || w.h.layout.Load() != layoutVersion || w.h.dataSize.Load() != w.size {
			return notOurs(o.Path, "is no ring of this version")
		}
		w.recover()
		w.begin(o)
		return nil
	})
}

// attach locks and maps the file.
func (w *Writer) attach(size uint64) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: engineLock, Len: 1}
	err := unix.FcntlFlock(w.file.Fd(), unix.F_OFD_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return fault.As(fault.Busy, fmt.Errorf("%w: %s is held by a server with the module, or by another capture that follows a log; "+
			"give this one a ring_file of its own", ErrOccupied, w.path))
	}
	if err != nil {
		return fmt.Errorf("locking %s: %w", w.path, err)
	}
	w.mem, err = unix.Mmap(int(w.file.Fd()), 0, int(headerSize+size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping %s: %w", w.path, err)
	}
	_ = unix.Madvise(w.mem, unix.MADV_DONTDUMP) // as Open does
	w.h, w.data, w.size = (*header)(unsafe.Pointer(&w.mem[0])), w.mem[headerSize:], size
	return nil
}

func (w *Writer) begin(o WriterOptions) {
	const postgresql, running = 1, 1
	w.h.engine.Store(postgresql)
	clear(w.h.serverVersionText[:])
	copy(w.h.serverVersionText[:len(w.h.serverVersionText)-1], o.ServerVersion)
	w.h.serverPID.Store(int32(os.Getpid()))
	w.h.startedUS.Store(uint64(time.Now().UnixMicro()))
	w.h.starts.Add(1)
	w.h.state.Store(running)
}

// recover mends what a Writer that was killed left. Put writes a payload before head moves over it, so a frame that lies
// before head is whole whether or not it was committed: nothing is torn.
func (w *Writer) recover() {
	number := w.h.number.Load()
	for b := range w.frames {
		if binary.LittleEndian.Uint32(b[16:]) != kindPad {
			number = max(number, binary.LittleEndian.Uint64(b[8:]))
		}
	}
	w.h.number.Store(number)
	for b := range w.frames {
		(*atomic.Uint32)(unsafe.Pointer(&b[0])).CompareAndSwap(frameReserved, frameCommitted)
	}
}

// frames are those from tail to head, up to what is none: the reader finds that, and tells.
func (w *Writer) frames(yield func(b []byte) bool) {
	head := w.h.head.Load()
	for at := w.h.tail.Load(); at < head && head-at <= w.size && at%frameAlign == 0; {
		b := w.data[at%w.size:]
		size := frameSize(binary.LittleEndian.Uint32(b[4:]))
		if size > min(uint64(len(b)), head-at) || !yield(b) {
			return
		}
		at += size
	}
}
