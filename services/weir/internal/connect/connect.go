// Package connect says where a mesh is and how to speak to it. One small JSON
// file holds it all: `weir dev` writes the file when everything answers, every
// client command and every script reads it, and each entry has a flag that
// goes before it.
//
// Before: services/weir/internal/dev, which writes the file.
// Next: services/weir/internal/tail and the commands that call control.
package connect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// File is the ready file. Its keys are an interface for scripts: they may
// grow, and never change. An entry that a mesh does not have is empty.
type File struct {
	// PostgresDSN reaches the private server of `weir dev` as its superuser;
	// empty where `weir dev` captures somebody else's server.
	PostgresDSN string `json:"postgres_dsn"`

	// AWSEndpoint serves Kinesis and KMS; empty means AWS itself.
	AWSEndpoint     string `json:"aws_endpoint"`
	Region          string `json:"region"`
	AccessKeyID     string `json:"access_key_id"`
	SecretAccessKey string `json:"secret_access_key"`

	ClusterID         string `json:"cluster_id"`
	ClusterResourceID string `json:"cluster_resource_id"`
	KinesisStream     string `json:"kinesis_stream"`

	NATSURL string `json:"nats_url"`

	// SigningPublicKeyFile is the public key of crypto's checkpoints, PEM.
	SigningPublicKeyFile string `json:"signing_public_key_file,omitempty"`

	// The certificates of client.weir, absolute paths.
	CAFile         string `json:"ca_file"`
	ClientCertFile string `json:"client_cert_file"`
	ClientKeyFile  string `json:"client_key_file"`

	GRPC GRPC `json:"grpc"`
}

// GRPC holds the services' addresses, host:port.
type GRPC struct {
	Control   string `json:"control"`
	Capture   string `json:"capture"`
	Crypto    string `json:"crypto"`
	Publisher string `json:"publisher"`
	Notifier  string `json:"notifier"`
}

// maxFile bounds what Read takes: a ready file has about a kilobyte.
const maxFile = 64 << 10

// Read reads a ready file. Unknown keys are allowed, for a newer mesh may
// write more; a file that says nothing at all is an error.
func Read(name string) (File, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return File{}, fmt.Errorf("connect file %s does not exist: is `weir dev` running, and has it said that it is ready?", name)
	}
	if err != nil {
		return File{}, fmt.Errorf("reading connect file: %w", err)
	}
	if len(b) > maxFile {
		return File{}, fmt.Errorf("connect file %s has %d bytes, want at most %d: is it a file that `weir dev --ready-file` wrote?", name, len(b), maxFile)
	}
	var f File
	if err := json.Unmarshal(b, &f); err != nil {
		return File{}, fmt.Errorf("connect file %s is not the JSON that `weir dev --ready-file` writes: %w", name, err)
	}
	if f == (File{}) {
		return File{}, fmt.Errorf("connect file %s names nothing to connect to: is it a file that `weir dev --ready-file` wrote?", name)
	}
	return f, nil
}

// Write puts the file where readers see either all of it or nothing. It holds
// a secret, so nobody else may read it.
func (f File) Write(name string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // a DSN has & in it, and people read this file
	enc.SetIndent("", "  ")
	if err := enc.Encode(f); err != nil {
		return fmt.Errorf("encoding connect file: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("writing connect file: %w", err)
	}
	defer os.Remove(tmp.Name()) // fails once it is renamed
	if _, err := tmp.Write(b.Bytes()); err != nil {
		tmp.Close()
		return fmt.Errorf("writing connect file: %w", err)
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("writing connect file: %w", err)
	}
	if err := os.Rename(tmp.Name(), name); err != nil {
		return fmt.Errorf("writing connect file: %w", err)
	}
	return nil
}
