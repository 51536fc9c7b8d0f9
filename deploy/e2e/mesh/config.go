package mesh

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/journal/natsserver"
	"github.com/weir-das/weir/pkg/spoolkey"
)

// writeConfigs writes a configuration file for every program.
func (m *Mesh) writeConfigs() {
	store := m.options.JetStream
	if store == "" {
		store = m.Path("jetstream")
	}
	servers := []string{NATS}
	if m.options.Peers {
		servers = append(servers, peers...)
	}
	for _, name := range servers {
		s := natsserver.Settings{Name: name, Listen: m.Addr(name), Dir: store, TLS: certs.TLS(m.Path("certs"), "nats"), MaxBytes: 2 << 30}
		if name == NATS {
			s.Monitor = m.Addr(Monitor)
		}
		if m.options.Peers {
			s.Dir = m.Path("jetstream-" + name)
			s.Cluster = &natsserver.Cluster{Listen: m.Addr(route(name))}
			for _, peer := range servers {
				s.Cluster.Routes = append(s.Cluster.Routes, "nats-route://"+m.Addr(route(peer)))
			}
		}
		m.write(name+".conf", natsserver.Configuration(s))
	}

	spool, spoolKey := "", ""
	if m.options.Spool != "" {
		key := m.Path("spool.pem")
		if err := spoolkey.CreateFile(key); err != nil {
			m.t.Fatal(err)
		}
		spool, spoolKey = fmt.Sprintf("spool:\n  dir: %s\n", m.options.Spool), fmt.Sprintf("spool_key_file: %s\n", key)
	}
	m.writeService(Crypto, "weir.crypto.v1.CryptoService: [capture.weir, control.weir]", m.journal(Crypto)+m.aws("kms")+spoolKey)
	m.writeService(Publisher, "weir.publisher.v1.PublisherService: [control.weir, client.weir]", m.journal(Publisher)+m.aws("kinesis")+fmt.Sprintf("notifier: %s\n", m.Addr(Notifier)))
	m.writeService(Notifier, "weir.notifier.v1.NotifierService: [control.weir, capture.weir, publisher.weir, client.weir]", m.journal(Notifier))
	m.writeService(Control, "weir.control.v1.ControlService: [client.weir, capture.weir]", m.journal(Control)+
		fmt.Sprintf("publisher: %s\ncrypto: %s\nnotifier: %s\n", m.Addr(Publisher), m.Addr(Crypto), m.Addr(Notifier)))
	m.writeService(Capture, "weir.capture.v1.CaptureService: [client.weir, control.weir]",
		fmt.Sprintf("ring_file: %s\ncluster_id: test\ninstance_id: test-1\ncontrol: %s\ncrypto: %s\nnotifier: %s\n",
			m.ring, m.Addr(Control), m.Addr(Crypto), m.Addr(Notifier))+spool)
}

func (m *Mesh) writeService(name, allow, rest string) {
	tls := certs.TLS(m.Path("certs"), name)
	m.write(name+".yaml", fmt.Sprintf("rpc:\n  listen: %s\n  allow:\n    %s\ntls:\n  cert_file: %s\n  key_file: %s\n  ca_file: %s\n%s",
		m.Addr(name), allow, tls.CertFile, tls.KeyFile, tls.CAFile, rest))
}

func (m *Mesh) journal(name string) string {
	tls := certs.TLS(m.Path("certs"), name)
	url, replicas := "tls://"+m.Addr(NATS), 1
	if m.options.Peers {
		replicas = 3
		for _, peer := range peers {
			url += ",tls://" + m.Addr(peer)
		}
	}
	return fmt.Sprintf("journal:\n  max_bytes: 1073741824\n  replicas: %d\n  url: %s\n  tls:\n    cert_file: %s\n    key_file: %s\n    ca_file: %s\n",
		replicas, url, tls.CertFile, tls.KeyFile, tls.CAFile)
}

// route names the port at which a NATS server hears the others.
func route(name string) string { return name + " route" }

func (m *Mesh) aws(service string) string {
	return fmt.Sprintf("%s_endpoint: %s\nregion: us-east-1\n", service, m.AWSEndpoint())
}

func (m *Mesh) write(name, text string) {
	if err := os.WriteFile(m.Path(name), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// Kinesis is a client of the local Kinesis.
func (m *Mesh) Kinesis() *kinesis.Client {
	return kinesis.New(kinesis.Options{Region: "us-east-1", BaseEndpoint: aws.String(m.AWSEndpoint()), Credentials: credential()})
}

// KMS is a client of the local KMS.
func (m *Mesh) KMS() *kms.Client {
	return kms.New(kms.Options{Region: "us-east-1", BaseEndpoint: aws.String(m.AWSEndpoint()), Credentials: credential()})
}

func credential() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider("weir", "weir-secret", "")
}

func (m *Mesh) createKey(ctx context.Context) string {
	m.t.Helper()
	out, err := m.KMS().CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		m.t.Fatalf("creating the KMS key: %v", err)
	}
	return aws.ToString(out.KeyMetadata.KeyId)
}
