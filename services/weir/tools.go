package weir

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/localaws"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

// certsCommand is `weir certs`.
type certsCommand struct {
	Dir string `arg:"" type:"path" help:"The directory. What is there and still good stays as it is."`
}

// Help is shown by --help.
func (certsCommand) Help() string {
	return `Makes ca.pem and, for each part of the mesh, NAME.pem and NAME.key: capture, crypto, publisher, notifier, control, nats, client and probe. For development: whoever can read the directory can be any of them.

Example:
  weir certs ./certs`
}

// Run makes the certificates.
func (c certsCommand) Run(s terminal.Streams) error {
	if err := certs.Ensure(c.Dir); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.Out, "certificates in %s; a client is\n  --ca-file %s --cert-file %s --key-file %s\n", c.Dir,
		filepath.Join(c.Dir, "ca.pem"), filepath.Join(c.Dir, "client.pem"), filepath.Join(c.Dir, "client.key"))
	return err
}

// localAWSCommand is `weir localaws`.
type localAWSCommand struct {
	Listen   string `default:"127.0.0.1:4566" placeholder:"HOST:PORT" help:"Where to listen."`
	Region   string `default:"us-east-1" help:"The region that streams and keys are in."`
	KMSState string `name:"kms-state" type:"path" placeholder:"FILE" help:"Keep the KMS keys in this file. Without it they go with the process, and with them everything encrypted under them."`
	KMSAlias string `name:"kms-alias" placeholder:"NAME" help:"Make a KMS key with this alias, alias/…, unless there is one."`
}

// Help is shown by --help.
func (localAWSCommand) Help() string {
	return `Kinesis holds its records in memory, within bounds. Neither is AWS: use it for development and tests.

Example:
  weir localaws --listen 127.0.0.1:4566 --kms-state kms.json --kms-alias alias/weir &
  aws --endpoint-url http://127.0.0.1:4566 kinesis list-streams`
}

// Run serves until ctx ends.
func (c localAWSCommand) Run(ctx context.Context, s terminal.Streams) error {
	server, err := localaws.New(localaws.Options{Region: c.Region, KMSStateFile: c.KMSState})
	if err != nil {
		return err
	}
	if c.KMSAlias != "" {
		if err := server.KMS().EnsureAlias(c.KMSAlias); err != nil {
			return fmt.Errorf("--kms-alias %s: %w", c.KMSAlias, err)
		}
	}
	lis, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	fmt.Fprintf(s.Err, "Kinesis and KMS on http://%s, region %s; any credentials will do\n", lis.Addr(), c.Region)
	return server.Serve(ctx, lis)
}

// versionCommand is `weir version`.
type versionCommand struct{}

// Run prints the version: the commit it was built from, as the Go tool
// recorded it.
func (versionCommand) Run(s terminal.Streams) error {
	version := []string{"weir", "devel"}
	if info, ok := debug.ReadBuildInfo(); ok {
		if v := info.Main.Version; v != "" && v != "(devel)" {
			version[1] = v
		}
		for _, set := range info.Settings {
			switch {
			case set.Key == "vcs.revision":
				version = append(version, set.Value)
			case set.Key == "vcs.modified" && set.Value == "true":
				version = append(version, "modified")
			}
		}
	}
	version = append(version, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
	_, err := fmt.Fprintln(s.Out, strings.Join(version, " "))
	return err
}
