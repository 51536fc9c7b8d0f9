package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// account is whom the server runs as. Its zero value is the caller.
type account struct {
	credential *syscall.Credential
	name       string
}

// findAccount picks the server's user. PostgreSQL refuses to run as root, so
// root needs another; anybody else runs it as himself.
func findAccount(name string) (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	names := []string{"postgres", "nobody"}
	if name != "" {
		names = []string{name}
	}
	for _, n := range names {
		u, err := user.Lookup(n)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return account{}, fmt.Errorf("reading the ids of user %s: %w", n, err)
		}
		return account{name: n, credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return account{}, fmt.Errorf("PostgreSQL does not run as root and none of the users %s exists: create one, or run as another user",
		strings.Join(names, ", "))
}

// own hands a path to the server's user.
func (a account) own(path string) error {
	if a.credential == nil {
		return nil
	}
	return os.Chown(path, int(a.credential.Uid), int(a.credential.Gid))
}

// findBinDir finds the programs of one version: where told, where pg_config
// says, else the newest that Debian's layout holds.
func findBinDir(dir string) (string, error) {
	if dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "postgres")); err != nil {
			return "", fmt.Errorf("looking for the PostgreSQL server: %w", err)
		}
		return dir, nil
	}
	var candidates []string
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		candidates = append(candidates, strings.TrimSpace(string(out)))
	}
	installed, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", fmt.Errorf("looking for the PostgreSQL server: %w", err)
	}
	slices.SortFunc(installed, func(a, b string) int { return version(b) - version(a) })
	candidates = append(candidates, installed...)
	if path, err := exec.LookPath("postgres"); err == nil {
		candidates = append(candidates, filepath.Dir(path))
	}
	for _, c := range candidates {
		if _, err := os.Stat(filepath.Join(c, "initdb")); err == nil {
			return c, nil
		}
	}
	return "", errors.New("no PostgreSQL server found by pg_config, in /usr/lib/postgresql or in PATH: install one (Debian: postgresql-15)")
}

// version is the major version in /usr/lib/postgresql/VERSION/bin.
func version(binDir string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(binDir)))
	if err != nil {
		return 0
	}
	return n
}

func (s *Server) dataDir() string { return filepath.Join(s.options.Dir, "data") }

// prepare makes everything a start needs and that lasts: the directories, the
// database cluster.
func (s *Server) prepare(ctx context.Context) error {
	if err := os.MkdirAll(s.options.Dir, 0o711); err != nil {
		return fmt.Errorf("making the server's directory: %w", err)
	}
	if err := s.user.own(s.options.Dir); err != nil {
		return fmt.Errorf("making the server's directory: %w", err)
	}
	if s.user.credential != nil {
		if err := makeTraversable(s.options.Dir); err != nil {
			return err
		}
	}
	if _, err := os.Stat(s.dataDir()); err == nil {
		return nil
	}
	if err := s.initdb(ctx); err != nil {
		return fmt.Errorf("making the database cluster: %w", err)
	}
	return nil
}

// initdb makes the data directory. It has its name only once it is whole: an
// initdb that was interrupted leaves files that no server starts with, and
// that the next initdb refuses.
func (s *Server) initdb(ctx context.Context) error {
	making := s.dataDir() + ".making"
	if err := os.RemoveAll(making); err != nil {
		return err
	}
	// --no-sync: a machine that dies within initdb leaves a directory to throw
	// away; the server itself syncs as its settings say.
	initdb := exec.CommandContext(ctx, filepath.Join(s.binDir, "initdb"),
		"--pgdata", making, "--username", "postgres", "--auth", "trust",
		"--encoding", "UTF8", "--locale", "C", "--no-sync")
	initdb.Dir = s.options.Dir
	initdb.Env = environment()
	initdb.SysProcAttr = &syscall.SysProcAttr{
		Credential: s.user.credential,
		Setpgid:    true,            // an interrupt at the terminal is the caller's
		Pdeathsig:  syscall.SIGKILL, // or it would go on beside the next one
	}
	runtime.LockOSThread() // the death signal comes when the starting thread ends
	defer runtime.UnlockOSThread()
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return os.Rename(making, s.dataDir())
}

// makeTraversable gives everybody the right to pass through the parents of
// dir, and no other: a test's temporary directory is closed to the server's
// user otherwise.
func makeTraversable(dir string) error {
	for {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("reading the mode of %s: %w", dir, err)
		}
		if mode := info.Mode().Perm(); mode&0o001 == 0 {
			if err := os.Chmod(dir, mode|0o011); err != nil {
				return fmt.Errorf("making %s traversable: %w", dir, err)
			}
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return nil
		}
		dir = parent
	}
}

// configure writes what may differ from start to start: the module's copy, the
// settings, who may connect, and the directory of the local socket.
func (s *Server) configure() error {
	libraries := s.options.Settings["shared_preload_libraries"]
	if s.options.Module != "" {
		module := filepath.Join(s.options.Dir, "weir.so")
		if err := copyFile(module, s.options.Module); err != nil {
			return fmt.Errorf("copying the module: %w", err)
		}
		if libraries != "" {
			libraries += ","
		}
		libraries += module
	}

	var err error
	if s.socketDir, err = os.MkdirTemp("", "weir-pg-"); err != nil {
		return fmt.Errorf("making the socket's directory: %w", err)
	}
	if err := errors.Join(s.user.own(s.socketDir), os.Chmod(s.socketDir, 0o755)); err != nil {
		return fmt.Errorf("making the socket's directory: %w", err)
	}

	settings := map[string]string{
		"logging_collector": "off",
		"log_destination":   "stderr",
	}
	maps.Copy(settings, s.options.Settings)
	settings["listen_addresses"] = "127.0.0.1"
	settings["port"] = strconv.Itoa(s.port)
	settings["unix_socket_directories"] = s.socketDir
	settings["shared_preload_libraries"] = libraries
	if s.options.Module != "" {
		if s.options.RingFile != "" {
			settings["weir.ring_file"] = s.options.RingFile
		}
		if s.options.RingSize != 0 {
			settings["weir.ring_size"] = strconv.FormatInt(s.options.RingSize, 10) + "B"
		}
	}
	var conf strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&conf, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	hba := s.options.HBA
	if hba == "" {
		hba = "local all all trust\nhost all all 127.0.0.1/32 trust\n" +
			"local replication all trust\nhost replication all 127.0.0.1/32 trust\n"
	}
	for name, text := range map[string]string{"postgresql.conf": conf.String(), "pg_hba.conf": hba} {
		path := filepath.Join(s.dataDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
		if err := s.user.own(path); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return nil
}

// copyFile replaces to by a new file, so that a server that still maps the old
// one is not disturbed.
func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+".")
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Chmod(0o755), out.Close()); err == nil {
		err = os.Rename(out.Name(), to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return nil
}

// environment is the caller's without what would steer the server or initdb
// past their options.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "PG") || strings.HasPrefix(kv, "LC_") || strings.HasPrefix(kv, "LANG")
	})
	return append(env, "LC_ALL=C")
}
