// Package faults puts load through a whole mesh, breaks it, and holds what the
// stream says against what the database itself recorded.
//
// The mesh is deploy/e2e/mesh's: the real binaries, a process for each service,
// a real PostgreSQL. Between the services are links that can be cut, slowed or
// stalled (pkg/faulty), and Kinesis and KMS are ones that refuse when they are
// told to. The workload writes into a table of its own what it executed, so that
// the database is a witness that shares nothing with the audit.
//
// After every fault two answers must agree: `weir verify`, which sees the stream
// alone, and the table. A seed decides what happens when; a failing test prints
// it, and WEIR_FAULTS_SEED repeats it.
//
// At the end somebody who holds the stream, and then its data key, tampers with
// it, and weir verify must name what he did.
package faults

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	"github.com/weir-das/weir/pkg/faulty"
	"github.com/weir-das/weir/pkg/localaws"
)

// World is a mesh under load that can be broken.
type World struct {
	T    *testing.T
	Mesh *mesh.Mesh
	AWS  *localaws.Server

	// Links are the ways between the parts, by what they carry.
	Links map[string]*faulty.Proxy
	Clock *Clock // PostgreSQL's
	disk  string // JetStream's file system
	spool string // the spool's file system, empty where capture has no spool

	load *workload
	busy map[string]bool // what a fault that is not undone yet works on
}

// Options say what a world is.
type Options struct {
	Mode string // async or sync
	// Power is what JetStream's directory lies on; a small file system where nil.
	Power *Power
	// Unsynced has NATS acknowledge before it syncs: what Weir refuses to be
	// synchronous on, to see that it is missed.
	Unsynced bool
	// Spool gives capture a spool on a small file system of its own, and the server
	// a ring that does not last for long.
	Spool bool
}

// Start makes a world with its stream started and its load running.
func Start(t *testing.T, o Options) *World {
	t.Helper()
	w := &World{T: t, Links: map[string]*faulty.Proxy{}, busy: map[string]bool{}}
	addr := w.startAWS()
	if o.Power != nil {
		w.disk = o.Power.Dir
	} else {
		w.disk = mesh.Disk(t, 256<<20)
	}
	options := mesh.Options{AWS: addr, JetStream: w.disk, NoStream: true}
	if o.Spool {
		w.spool = mesh.Disk(t, 8<<20)
		options.Spool, options.RingSize = filepath.Join(w.spool, "spool"), smallRing
	}
	w.Mesh = mesh.Prepare(t, options)
	if o.Unsynced {
		w.unsync()
	}
	w.Clock = newClock(t, w.Mesh)

	for name, target := range map[string]string{
		"capture to crypto": w.Mesh.Addr(mesh.Crypto),
		"crypto to NATS":    w.Mesh.Addr(mesh.NATS),
		"publisher to NATS": w.Mesh.Addr(mesh.NATS),
		"crypto to KMS":     addr,
		"Kinesis":           addr,
	} {
		p, err := faulty.NewProxy(target)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
		w.Links[name] = p
	}
	w.Mesh.Begin(
		"WEIR_CAPTURE_CRYPTO="+w.Links["capture to crypto"].Addr(),
		"WEIR_CRYPTO_JOURNAL__URL=tls://"+w.Links["crypto to NATS"].Addr(),
		"WEIR_PUBLISHER_JOURNAL__URL=tls://"+w.Links["publisher to NATS"].Addr(),
		"WEIR_CRYPTO_KMS_ENDPOINT=http://"+w.Links["crypto to KMS"].Addr(),
		"WEIR_PUBLISHER_KINESIS_ENDPOINT=http://"+w.Links["Kinesis"].Addr(),
		"WEIR_CRYPTO_KEY_MAX_AGE=1s", // so that KMS is needed while a test runs
		"WEIR_CRYPTO_SIGNING_KEY_FILE="+w.signingKey(),
	)
	w.Mesh.StartStream("--mode", o.Mode)
	w.load = newWorkload(w)
	return w
}

func (w *World) startAWS() (addr string) {
	server, err := localaws.New(localaws.Options{})
	if err != nil {
		w.T.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.T.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, lis) }()
	w.T.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			w.T.Errorf("local AWS: %v", err)
		}
	})
	w.AWS = server
	return lis.Addr().String()
}

// unsync has NATS sync as seldom as it does by default.
func (w *World) unsync() {
	name := w.Mesh.Path("nats.conf")
	conf, err := os.ReadFile(name)
	if err != nil {
		w.T.Fatal(err)
	}
	seldom := bytes.Replace(conf, []byte("sync_interval: always"), []byte("sync_interval: 2m"), 1)
	if bytes.Equal(seldom, conf) {
		w.T.Fatal("the configuration of NATS does not say sync_interval: always")
	}
	if err := os.WriteFile(name, seldom, 0o600); err != nil {
		w.T.Fatal(err)
	}
}

// signingKey makes the key that crypto signs with, and its public half beside it.
func (w *World) signingKey() (private string) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		w.T.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.T.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		w.T.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"signing.pem": {Type: "PRIVATE KEY", Bytes: pkcs8}, "signing.pub": {Type: "PUBLIC KEY", Bytes: spki}} {
		if err := os.WriteFile(w.Mesh.Path(name), pem.EncodeToMemory(block), 0o600); err != nil {
			w.T.Fatal(err)
		}
	}
	return w.Mesh.Path("signing.pem")
}

// Rest ends the load, and when everything is signed capture and publisher too:
// nothing comes to the stream any more.
func (w *World) Rest() {
	w.T.Helper()
	w.load.pause()
	mesh.Eventually(w.T, time.Minute, func() error {
		v, out := w.Verify()
		for _, e := range v.Epochs {
			if v.Exit == 0 && e.Signed == e.Last {
				return nil
			}
		}
		return fmt.Errorf("not signed to the end yet:\n%s", out)
	})
	w.Mesh.Terminate(mesh.Capture)
	w.Mesh.Kill(mesh.Publisher)
}

// Verify is the answer of weir verify, and all that it printed.
func (w *World) Verify() (Verdict, string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, _ := w.Mesh.Weir(ctx, "verify", "--format", "json", "--public-key", w.Mesh.Path("signing.pub"), "--events", w.Mesh.Addr(mesh.Notifier))
	return ParseVerdict(out), out
}

// ParseVerdict reads what weir verify printed: its answer, before which it may
// have said that a service does not answer at once. Exit is -1 where there is none.
func ParseVerdict(out string) (v Verdict) {
	if err := json.Unmarshal([]byte(out[max(0, strings.Index(out, "{\n")):]), &v); err != nil {
		return Verdict{Exit: -1}
	}
	return v
}

// Verdict is what the checks read of weir verify's answer.
type Verdict struct {
	Verdict string   `json:"verdict"`
	Exit    int      `json:"exit"`
	Notes   []string `json:"notes"`
	Found   uint64   `json:"found"`
	Epochs  []struct {
		Epoch      uint64 `json:"epoch"`
		First      uint64 `json:"first"`
		Last       uint64 `json:"last"`
		Present    uint64 `json:"present"`
		Lost       uint64 `json:"lost"`
		LostUntold uint64 `json:"lost_untold"`
		Repeated   uint64 `json:"repeated"`
		Signed     uint64 `json:"signed"`
	} `json:"epochs"`
}

// Check lets the mesh come to rest, and holds the stream against the database:
// weir verify calls it whole, its count is the engine's, and every row that was
// committed or that a client saw completed has its event, but for numbers that
// are told as lost. It returns what it held the stream against.
func (w *World) Check() (*mesh.Account, mesh.Numbers) {
	w.T.Helper()
	w.load.pause()
	defer w.load.resume()
	account, numbers := w.Mesh.Settle(w.T)

	var v Verdict
	var out string
	mesh.Eventually(w.T, time.Minute, func() error { // what was signed first comes with a heartbeat
		if v, out = w.Verify(); v.Exit != 0 {
			return fmt.Errorf("weir verify: exit code %d\n%s", v.Exit, out)
		}
		return nil
	})
	agreed := false
	for _, e := range v.Epochs {
		if e.Epoch != numbers.Epoch {
			continue
		}
		agreed = true
		if e.First != 1 || e.Last < numbers.Number || e.Present+e.Lost != e.Last || e.LostUntold != 0 || e.Signed == 0 {
			w.T.Errorf("weir verify counts %+v, the engine gave %d numbers", e, numbers.Number)
		}
		w.T.Logf("%d numbers, %d lost and told, %d came again, signed to %d", e.Last, e.Lost, e.Repeated, e.Signed)
	}
	if !agreed {
		w.T.Errorf("weir verify does not know epoch %d:\n%s", numbers.Epoch, out)
	}
	w.load.agrees(account)
	return account, numbers
}
