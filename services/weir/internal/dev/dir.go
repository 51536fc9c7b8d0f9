package dev

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/weir-das/weir/services/weir/internal/connect"
)

// shared is where the ring's file lies: memory that every process can map.
const shared = "/dev/shm"

// directory is the data directory of one `weir dev`. All that outlives it is
// in there, but the ring.
type directory struct {
	path string
	lock *os.File
}

// openDirectory makes the directory where there is none, and takes it: two
// meshes on one journal would be the end of both.
func openDirectory(path string, private bool) (*directory, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := makeOpen(path); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if private && os.Geteuid() == 0 {
		if err := reachable(path); err != nil {
			return nil, err
		}
	}
	name := filepath.Join(path, "lock")
	lock, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600) // closed on exec: PostgreSQL does not inherit it
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(name)
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another weir dev (process %s) uses %s: stop it, or name another directory with --data", strings.TrimSpace(string(holder)), path)
		}
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	if err := errors.Join(lock.Truncate(0), writeAt(lock, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		lock.Close()
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	return &directory{path: path, lock: lock}, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// Close gives the directory back. The lock's file stays: another process may
// be waiting on it.
func (d *directory) Close() error { return d.lock.Close() }

func (d *directory) certs() string       { return filepath.Join(d.path, "certs") }
func (d *directory) nats() string        { return filepath.Join(d.path, "nats") }
func (d *directory) kms() string         { return filepath.Join(d.path, "kms.json") }
func (d *directory) credentials() string { return filepath.Join(d.path, "aws-credentials") }
func (d *directory) signing() string     { return filepath.Join(d.path, "signing.pem") }
func (d *directory) signingKey() string  { return filepath.Join(d.path, "signing.pub") }
func (d *directory) spool() string       { return filepath.Join(d.path, "spool") }
func (d *directory) spoolKey() string    { return filepath.Join(d.path, "spool.pem") }
func (d *directory) postgres() string    { return filepath.Join(d.path, "postgres") }
func (d *directory) log() string         { return filepath.Join(d.path, "weir.log") }
func (d *directory) connect() string     { return filepath.Join(d.path, connect.FileName) }

// ring is this directory's ring, the same at every start: what a killed mesh
// left in it is taken up again.
func (d *directory) ring() string {
	sum := sha256.Sum256([]byte(d.path))
	return filepath.Join(shared, "weir-dev-"+hex.EncodeToString(sum[:6])+".ring")
}

// makeOpen makes path and its missing parents. Others may pass through what
// it makes, whatever the umask says, and read nothing: PostgreSQL runs as one
// of them when root starts us.
func makeOpen(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is no directory", path)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := makeOpen(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(path, 0o711)
}

// reachable checks that PostgreSQL's user can get to path.
func reachable(path string) error {
	account, uid, gid, err := serverUser()
	if err != nil {
		return err
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("data directory: %s has no owner", dir)
		}
		pass := fs.FileMode(0o001)
		switch {
		case owner.Uid == uid:
			pass = 0o100
		case owner.Gid == gid:
			pass = 0o010
		}
		if info.Mode()&pass == 0 {
			return fmt.Errorf("PostgreSQL does not run as root but as %s, who may not pass through %s (mode %04o): use --data %s, or another directory outside of it",
				account, dir, info.Mode().Perm(), connect.DefaultDir())
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// serverUser is whom PostgreSQL runs as when root starts it.
func serverUser() (name string, uid, gid uint32, err error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return "", 0, 0, fmt.Errorf("looking up user %s: %w", name, err)
		}
		return name, uint32(uid), uint32(gid), nil
	}
	return "", 0, 0, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as: start weir dev as another user")
}
