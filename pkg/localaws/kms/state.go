package kms

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

// stateVersion is raised when older code could no longer read the file.
const stateVersion = 1

// A state is the whole of the state file.
type state struct {
	Version int
	Keys    []*key
	Aliases []*alias
}

// load reads the state file; none is an empty service. A file others may read is refused: it holds keys.
func (s *Service) load() error {
	info, err := os.Stat(s.opt.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kms state: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("kms state %s: mode %o lets others read the keys, want 600", s.opt.StateFile, info.Mode().Perm())
	}
	b, err := os.ReadFile(s.opt.StateFile)
	if err != nil {
		return fmt.Errorf("kms state: %w", err)
	}
	st, err := parseState(b)
	if err != nil {
		return fmt.Errorf("kms state %s: %w", s.opt.StateFile, err)
	}
	for _, k := range st.Keys {
		s.keys[k.ID] = k
	}
	for _, a := range st.Aliases {
		s.aliases[a.Name] = a
	}
	return nil
}

func parseState(b []byte) (state, error) {
	var st state
	if err := json.Unmarshal(b, &st); err != nil {
		return st, err
	}
	if st.Version != stateVersion {
		return st, fmt.Errorf("version %d, want %d", st.Version, stateVersion)
	}
	for i, k := range st.Keys {
		if k == nil || !validID(k.ID) || !k.whole() {
			return st, fmt.Errorf("key %d is malformed", i)
		}
	}
	for i, a := range st.Aliases {
		if a == nil || !strings.HasPrefix(a.Name, aliasPrefix) {
			return st, fmt.Errorf("alias %d is malformed", i)
		}
	}
	return st, nil
}

// save replaces the state file by the present state: written beside it, synced, renamed. The service is locked. A crash
// leaves the old file or the new one. Without a state file it does nothing. The caller undoes a change it could not save.
func (s *Service) save() error {
	if s.opt.StateFile == "" {
		return nil
	}
	st := state{Version: stateVersion}
	for _, id := range slices.Sorted(maps.Keys(s.keys)) {
		st.Keys = append(st.Keys, s.keys[id])
	}
	for _, name := range slices.Sorted(maps.Keys(s.aliases)) {
		st.Aliases = append(st.Aliases, s.aliases[name])
	}
	b, err := json.MarshalIndent(st, "", " ")
	if err != nil {
		panic(err) // plain fields
	}
	if err := replace(s.opt.StateFile, append(b, '\n')); err != nil {
		return wire.Fault("KMSInternalException", "keeping the keys: "+err.Error())
	}
	return nil
}

func replace(file string, b []byte) error {
	dir := filepath.Dir(file)
	tmp, err := os.CreateTemp(dir, filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
