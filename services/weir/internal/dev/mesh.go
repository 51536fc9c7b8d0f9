package dev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/journal/natsserver"
	"github.com/weir-das/weir/pkg/postgres"
	"github.com/weir-das/weir/services/weir/internal/connect"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

// The names under which control and KMS know what weir dev runs.
const (
	clusterID  = "dev"
	instanceID = "dev-1"
	keyAlias   = "alias/weir-dev"
	region     = "us-east-1"
)

// mesh is everything that one weir dev runs. It belongs to the goroutine of
// run, but for what says otherwise.
type mesh struct {
	Command
	streams terminal.Streams
	parts   *parts

	dir     *directory
	log     *logs
	file    connect.File
	metrics []string         // the services' metrics addresses, in the order of openServices
	ring    string           // the ring's file
	spool   spool            // of capture
	db      *postgres.Server // nil where the server is not ours

	// postmaster is the database's process id, 0 while there is none. The
	// goroutine that hears the second signal reads it.
	postmaster atomic.Int64
}

// run starts everything, shows the activity until ctx ends or a part fails,
// and stops everything.
func (m *mesh) run(ctx context.Context) (err error) {
	if m.dir, err = openDirectory(m.Data, m.private()); err != nil {
		return err
	}
	defer m.dir.Close()
	m.ring = m.dir.ring()
	if m.Ring != "" {
		if m.ring, err = filepath.Abs(m.Ring); err != nil {
			return fmt.Errorf("--ring: %w", err)
		}
	}
	if m.PgauditLog != "" {
		m.ring = strings.TrimSuffix(m.ring, ".ring") + "-log.ring" // kept: the position in the log is in it
		if m.PgauditLog, err = filepath.Abs(m.PgauditLog); err == nil {
			_, err = os.ReadDir(m.PgauditLog)
		}
		if err != nil {
			return fmt.Errorf("--pgaudit-log: %w", err)
		}
	}
	if err := m.removeReady(); err != nil { // of one that was killed
		return err
	}
	if m.log, err = openLogs(m.dir.log(), m.LogLevel, m.streams.Err); err != nil {
		return err
	}
	defer m.log.Close()
	if err := certs.Ensure(m.dir.certs()); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	if err := m.ensureSigning(); err != nil {
		return err
	}
	if m.spool, err = openSpool(m.dir, m.Spool); err != nil {
		return err
	}
	client := certs.TLS(m.dir.certs(), "client")
	m.file.CAFile, m.file.ClientCertFile, m.file.ClientKeyFile = client.CAFile, client.CertFile, client.KeyFile
	m.file.Region, m.file.ClusterID = region, clusterID

	stopNATS, err := m.startNATS()
	if err != nil {
		return err
	}
	defer stopNATS()
	// Before this, all that uses NATS or the environment has ended.
	defer func() { err = errors.Join(err, m.parts.stop()) }()
	restore, err := m.startAWS()
	if err != nil {
		return err
	}
	defer restore()
	return m.serve(ctx)
}

func (m *mesh) startNATS() (stop func(), err error) {
	port, err := prefer("NATS", m.NATSPort, 4222)
	if err != nil {
		return nil, err
	}
	server, err := natsserver.Start(natsserver.Options{
		Dir: m.dir.nats(), Port: port, TLS: certs.TLS(m.dir.certs(), "nats"), Log: m.log.of("nats"),
	})
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	m.file.NATSURL = server.URL()
	return server.Stop, nil
}

// readyFiles are where the ready file is written: where it was asked for, and
// where the client commands look by themselves.
func (m *mesh) readyFiles() []string {
	files := []string{m.dir.connect()}
	if m.ReadyFile != "" && m.ReadyFile != files[0] {
		files = append(files, m.ReadyFile)
	}
	return files
}

func (m *mesh) writeReady() error {
	for _, name := range m.readyFiles() {
		if err := m.file.Write(name); err != nil {
			return err
		}
	}
	return nil
}

func (m *mesh) removeReady() error {
	for _, name := range m.readyFiles() {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing the ready file: %w", err)
		}
	}
	return nil
}
