package connect

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Flags are the connection flags that every client command has.
type Flags struct {
	Connect     string `group:"Connection" env:"WEIR_CONNECT" placeholder:"FILE" help:"The ready file of a mesh, as weir dev writes it. Without it, a weir dev with the default --data is looked for."`
	Control     string `group:"Connection" placeholder:"HOST:PORT" help:"Address of control."`
	Publisher   string `group:"Connection" placeholder:"HOST:PORT" help:"Address of publisher."`
	Notifier    string `group:"Connection" placeholder:"HOST:PORT" help:"Address of notifier."`
	CAFile      string `group:"Connection" name:"ca-file" placeholder:"FILE" help:"The certificate authority of the mesh."`
	CertFile    string `group:"Connection" placeholder:"FILE" help:"The client's certificate."`
	KeyFile     string `group:"Connection" placeholder:"FILE" help:"The key of the client's certificate."`
	AWSEndpoint string `group:"Connection" name:"aws-endpoint" placeholder:"URL" help:"Endpoint of Kinesis and KMS. Without it, AWS_ENDPOINT_URL or AWS itself."`
	Region      string `group:"Connection" help:"AWS region."`
}

// ErrNoMesh says that neither a file nor flags name a mesh.
var ErrNoMesh = errors.New("no mesh named: start one with `weir dev`, or name one with --connect FILE, WEIR_CONNECT, or --control with --ca-file, --cert-file and --key-file")

// Resolve reads the connect file, if there is one, and lays the flags over it.
// Without a file the result holds what the flags say and may be empty; who
// needs more than it has gets a clear error from Control and the like.
func (f Flags) Resolve() (File, error) {
	var file File
	switch name := f.Connect; {
	case name != "":
		var err error
		if file, err = Read(name); err != nil {
			return File{}, err
		}
	case f.Control == "" && f.AWSEndpoint == "":
		// Nothing names a mesh: the one that `weir dev` runs here is meant.
		var err error
		if file, err = Read(DefaultFile()); err != nil {
			file = File{}
		}
	}
	for _, o := range []struct {
		flag  string
		entry *string
	}{
		{f.Control, &file.GRPC.Control},
		{f.Publisher, &file.GRPC.Publisher},
		{f.Notifier, &file.GRPC.Notifier},
		{f.CAFile, &file.CAFile},
		{f.CertFile, &file.ClientCertFile},
		{f.KeyFile, &file.ClientKeyFile},
		{f.Region, &file.Region},
	} {
		if o.flag != "" {
			*o.entry = o.flag
		}
	}
	if f.AWSEndpoint != "" && f.AWSEndpoint != file.AWSEndpoint {
		// The file's credentials belong to the file's endpoint.
		file.AWSEndpoint, file.AccessKeyID, file.SecretAccessKey = f.AWSEndpoint, "", ""
	}
	return file, nil
}

// FileName is the ready file's name within the data directory of `weir dev`.
const FileName = "connect.json"

// DefaultDir is the data directory of `weir dev` where none is named. Root's
// home is closed to the unprivileged user that PostgreSQL runs as, so root
// has a directory of its own.
func DefaultDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/weir/dev"
	}
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return filepath.Join(os.TempDir(), fmt.Sprintf("weir-dev-%d", os.Geteuid()))
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "weir", "dev")
}

// DefaultFile is the ready file of a `weir dev` whose data directory is the default.
func DefaultFile() string { return filepath.Join(DefaultDir(), FileName) }
