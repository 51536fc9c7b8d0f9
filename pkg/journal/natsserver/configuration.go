package natsserver

import (
	_ "embed"
	"strings"
	"text/template"

	"github.com/weir-das/weir/pkg/rpc"
)

// Settings are what differs between one server's configuration and another's.
type Settings struct {
	Name       string // of the server; unique in a cluster
	Listen     string // host:port
	Monitor    string // host:port of the health endpoint; empty for none
	Dir        string
	TLS        rpc.TLS
	MaxBytes   int64 // file storage; 0 means 64 GiB
	MaxPayload int   // bytes; 0 means 2 MB
	LazySync   bool  // leave writes unsynced: never in production
	Cluster    *Cluster
}

// Cluster is a server's place among others. A journal with three replicas needs
// three servers.
type Cluster struct {
	Listen string   // host:port for the other servers
	Routes []string // nats-route://host:port of each of them
}

// NotifierStreams are the streams that notifier alone may use; KV_… is a
// key-value bucket's.
func (Settings) NotifierStreams() []string {
	return []string{"WEIR_EVENTS", "WEIR_DEAD_LETTERS", "KV_WEIR_WINDOWS"}
}

// ControlBuckets are the key-value buckets that control alone may use.
func (Settings) ControlBuckets() []string {
	return []string{"WEIR_CONTROL", "WEIR_LEASE", "WEIR_REPORTS"}
}

//go:embed nats.conf.tmpl
var templateText string

// Configuration is the text of a nats.conf.
func Configuration(s Settings) string {
	if s.MaxBytes == 0 {
		s.MaxBytes = 64 << 30
	}
	if s.MaxPayload == 0 {
		s.MaxPayload = 2 << 20
	}
	t := template.Must(template.New("nats.conf").Parse(templateText))
	var b strings.Builder
	if err := t.Execute(&b, s); err != nil {
		panic("natsserver: template: " + err.Error()) // the text is ours, and a test runs it
	}
	return b.String()
}
