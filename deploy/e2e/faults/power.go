package faults

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Power is a file system that forgets, when the power goes, what was written and
// not synced. A process that is killed leaves its pages to the kernel, which
// writes them later: only this tells who relies on that.
//
// It is a FUSE file system over two directories. What is written goes to the
// first; fsync (and O_SYNC, which the kernel turns into one) copies what was
// written to the second; Cut puts the second in the place of the first. It is
// kinder than a disk in two things: names (create, rename, remove) and lengths
// that are cut are durable at once, and what is synced is never torn.
type Power struct {
	t       *testing.T
	Dir     string // where it is mounted
	live    string
	durable string

	// mu is held while something reaches the second directory.
	mu sync.Mutex
}

// NewPower mounts one until the test ends.
func NewPower(t *testing.T) *Power {
	t.Helper()
	base := t.TempDir()
	p := &Power{t: t, Dir: filepath.Join(base, "mnt"), live: filepath.Join(base, "live"), durable: filepath.Join(base, "durable")}
	for _, dir := range []string{p.Dir, p.live, p.durable} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	root, err := fs.NewLoopbackRoot(p.live)
	if err != nil {
		t.Fatal(err)
	}
	server, err := fs.Mount(p.Dir, &node{LoopbackNode: root.(*fs.LoopbackNode), p: p},
		&fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "weir-power"}})
	if err != nil {
		t.Fatalf("mounting a file system of our own: %v; it needs /dev/fuse, and root", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(p.Dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
		server.Wait()
	})
	return p
}

// Sync makes everything durable, as the kernel does by itself after a while.
func (p *Power) Sync() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.copy(p.live, p.durable)
}

// Cut is what the disk holds after the power came back. Nobody may have a file
// of it open.
func (p *Power) Cut() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	entries, err := os.ReadDir(p.live)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(p.live, e.Name())))
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.copy(p.durable, p.live)
}

func (p *Power) copy(from, to string) {
	p.t.Helper()
	if out, err := exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
}

// also does to the second directory what was done to the first.
func (p *Power) also(errno syscall.Errno, do func() error) syscall.Errno {
	if errno != 0 {
		return errno
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return fs.ToErrno(do())
}

// node is a file or a directory.
type node struct {
	*fs.LoopbackNode
	p *Power

	mu    sync.Mutex // guards dirty
	dirty []extent   // written and not synced
}

// WrapChild implements fs.NodeWrapChilder.
func (n *node) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{LoopbackNode: ops.(*fs.LoopbackNode), p: n.p}
}

// file is an open file whose writes the kernel does not carry out by itself.
type file struct{ *fs.LoopbackFile }

// PassthroughFd implements fs.FilePassthroughFder.
func (file) PassthroughFd() (int, bool) { return 0, false }

func wrap(f fs.FileHandle, errno syscall.Errno) fs.FileHandle {
	if errno != 0 {
		return nil
	}
	return file{f.(*fs.LoopbackFile)}
}

type extent struct{ off, n int64 }

func (n *node) at(name string) (live, durable string) {
	rel := filepath.Join(n.Path(n.Root()), name)
	return filepath.Join(n.p.live, rel), filepath.Join(n.p.durable, rel)
}

// Create implements fs.NodeCreater.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	inode, opened, fuseFlags, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	_, durable := n.at(name)
	errno = n.p.also(errno, func() error {
		f, err := os.OpenFile(durable, os.O_CREATE|os.O_RDWR, os.FileMode(mode).Perm())
		if err != nil {
			return err
		}
		return f.Close()
	})
	return inode, wrap(opened, errno), fuseFlags, errno
}

// Open implements fs.NodeOpener.
func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	opened, fuseFlags, errno := n.LoopbackNode.Open(ctx, flags)
	if flags&syscall.O_TRUNC != 0 {
		_, durable := n.at("")
		errno = n.p.also(errno, func() error { return os.Truncate(durable, 0) })
	}
	return wrap(opened, errno), fuseFlags, errno
}

// Mkdir implements fs.NodeMkdirer.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	inode, errno := n.LoopbackNode.Mkdir(ctx, name, mode, out)
	_, durable := n.at(name)
	return inode, n.p.also(errno, func() error { return os.Mkdir(durable, os.FileMode(mode).Perm()) })
}

// Unlink implements fs.NodeUnlinker.
func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	_, durable := n.at(name)
	return n.p.also(n.LoopbackNode.Unlink(ctx, name), func() error { return os.Remove(durable) })
}

// Rmdir implements fs.NodeRmdirer.
func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	_, durable := n.at(name)
	return n.p.also(n.LoopbackNode.Rmdir(ctx, name), func() error { return os.Remove(durable) })
}

// Rename implements fs.NodeRenamer.
func (n *node) Rename(ctx context.Context, name string, parent fs.InodeEmbedder, to string, flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.ENOSYS
	}
	_, from := n.at(name)
	target, ok := parent.(*node)
	if !ok {
		return syscall.EXDEV
	}
	_, durable := target.at(to)
	return n.p.also(n.LoopbackNode.Rename(ctx, name, parent, to, flags), func() error { return os.Rename(from, durable) })
}

// Setattr implements fs.NodeSetattrer.
func (n *node) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	errno := n.LoopbackNode.Setattr(ctx, f, in, out)
	size, ok := in.GetSize()
	if !ok {
		return errno
	}
	_, durable := n.at("")
	return n.p.also(errno, func() error {
		info, err := os.Stat(durable)
		if err != nil || info.Size() <= int64(size) {
			return err // what is longer is so when it is synced
		}
		return os.Truncate(durable, int64(size))
	})
}

// Write implements fs.NodeWriter.
func (n *node) Write(ctx context.Context, f fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	written, errno := f.(fs.FileWriter).Write(ctx, data, off)
	if errno == 0 && written > 0 {
		n.mu.Lock()
		n.dirty = append(n.dirty, extent{off, int64(written)})
		n.mu.Unlock()
	}
	return written, errno
}

// Fsync implements fs.NodeFsyncer: what was written is durable.
func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	n.mu.Lock()
	dirty := n.dirty
	n.dirty = nil
	n.mu.Unlock()
	if n.IsDir() || len(dirty) == 0 {
		return 0
	}
	live, durable := n.at("")
	return n.p.also(0, func() error { return copyExtents(durable, live, dirty) })
}

func copyExtents(to, from string, list []extent) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	for _, x := range list {
		data := make([]byte, x.n)
		n, err := in.ReadAt(data, x.off)
		if err != nil && !errors.Is(err, io.EOF) { // it may be shorter by now
			return err
		}
		if _, err := out.WriteAt(data[:n], x.off); err != nil {
			return err
		}
	}
	return nil
}
