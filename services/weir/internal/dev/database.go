package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/weir-das/weir/pkg/postgres"
)

// startDatabase starts the private server with the module in it.
func (m *mesh) startDatabase(ctx context.Context) error {
	module, err := findModule(m.Module)
	if err != nil {
		return err
	}
	size, err := fitRing(m.ring, m.RingSize)
	if err != nil {
		return err
	}
	if m.RingSize == 0 && size < usualRing {
		m.say("the ring has %s: %s is small", size, shared)
	}
	port, err := prefer("PostgreSQL", m.Port, 5432)
	if err != nil {
		return err
	}
	doing := "starting PostgreSQL"
	if _, err := os.Stat(filepath.Join(m.dir.postgres(), "data")); err != nil {
		doing = "making PostgreSQL's data directory, once, and starting it"
	}
	return m.slowly(doing, func() error {
		m.db, err = postgres.Start(ctx, postgres.Options{
			Dir: m.dir.postgres(), Module: module, RingFile: m.ring, RingSize: int64(size), Port: port,
		})
		if err != nil {
			if _, there := os.Stat(m.ring); there == nil && strings.Contains(err.Error(), m.ring) {
				return fmt.Errorf("%w\nthe ring may be left over from a weir dev of another user or version: remove %s, and what it holds and was not delivered", err, m.ring)
			}
			return err
		}
		m.postmaster.Store(int64(m.db.PID()))
		m.file.PostgresDSN = m.db.DSN("postgres", "postgres")
		return nil
	})
}

// stopDatabase stops the private server, if it runs.
func (m *mesh) stopDatabase() error {
	if m.db == nil {
		return nil
	}
	err := m.db.Stop(postgres.Fast)
	m.postmaster.Store(0)
	return err
}

// killDatabase ends the private server without its help, and waits a moment
// for it to go. It may be called beside everything else.
func (m *mesh) killDatabase() {
	pid := int(m.postmaster.Load())
	if pid == 0 || syscall.Kill(pid, syscall.SIGQUIT) != nil {
		return
	}
	for range 100 {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
		time.Sleep(30 * time.Millisecond)
	}
}

// moduleName is the engine module's file.
const moduleName = "weir.so"

// findModule finds the engine module: where told, beside this program, or
// where PostgreSQL's own modules are.
func findModule(named string) (string, error) {
	if named != "" {
		if _, err := os.Stat(named); err != nil {
			return "", fmt.Errorf("--module: %w", err)
		}
		return named, nil
	}
	var places []string
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			places = append(places, filepath.Join(filepath.Dir(self), moduleName))
		}
	}
	if out, err := exec.Command("pg_config", "--pkglibdir").Output(); err == nil {
		places = append(places, filepath.Join(strings.TrimSpace(string(out)), moduleName))
	}
	for _, place := range places {
		if _, err := os.Stat(place); err == nil {
			return place, nil
		}
	}
	return "", fmt.Errorf("no engine module: there is no %s; run `make build`, or name it with --module FILE", strings.Join(places, ", and no "))
}
