package dev

import (
	"fmt"
	"strings"

	"github.com/weir-das/weir/services/weir/internal/connect"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

// announce says how to connect. It goes to standard error: standard output is
// the activity's, for pipes.
func (m *mesh) announce() {
	style := terminal.StyleOf(m.streams.Err)
	f := m.file
	host := func(address string) string { return strings.TrimPrefix(address, "127.0.0.1") }
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "  %s  %s\n", style.Paint(terminal.Dim, fmt.Sprintf("%-8s", label)), fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "\n%s  cluster %s, everything in %s\n\n", style.Paint(terminal.Bold, "weir dev is ready."), f.ClusterID, m.dir.path)
	if f.PostgresDSN != "" {
		line("psql", "psql '%s'", f.PostgresDSN)
	} else {
		line("ring", "%s", m.ring)
	}
	if m.spool.config.Dir != "" {
		line("spool", "%s, up to %s", m.spool.config.Dir, Size(m.spool.config.MaxBytes))
	}
	tail, stream, verify := "weir tail", "weir stream status", "weir verify"
	if m.dir.connect() != connect.DefaultFile() {
		flag := " --connect " + m.dir.connect()
		tail, stream, verify = tail+flag, stream+flag, verify+flag
	}
	line("weir", "%s", tail)
	line("", "%s", stream)
	line("", "%s", verify)
	line("Kinesis", "%s", f.KinesisStream)
	line("aws", "AWS_SHARED_CREDENTIALS_FILE=%s aws kinesis describe-stream-summary --stream-name %s --endpoint-url %s --region %s",
		m.dir.credentials(), f.KinesisStream, f.AWSEndpoint, f.Region)
	line("grpcurl", "grpcurl -cacert %s -cert %s -key %s -servername control.weir %s list", f.CAFile, f.ClientCertFile, f.ClientKeyFile, f.GRPC.Control)
	line("gRPC", "127.0.0.1 with control%s capture%s crypto%s publisher%s notifier%s", host(f.GRPC.Control), host(f.GRPC.Capture),
		host(f.GRPC.Crypto), host(f.GRPC.Publisher), host(f.GRPC.Notifier))
	line("metrics", "http://127.0.0.1 with control%s capture%s crypto%s publisher%s notifier%s, each /metrics", host(m.metrics[0]), host(m.metrics[1]),
		host(m.metrics[2]), host(m.metrics[3]), host(m.metrics[4]))
	line("NATS", "%s", f.NATSURL)
	line("log", "%s", m.dir.log())
	b.WriteString("\n" + style.Paint(terminal.Dim, "Ctrl-C stops it.") + "\n\n")
	fmt.Fprint(m.streams.Err, b.String())
}
