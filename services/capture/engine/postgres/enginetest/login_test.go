package enginetest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/weir-das/weir/pkg/postgres"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// selfSigned writes a certificate and its key where the server reads them.
func selfSigned(t *testing.T, data string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(crand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	owner, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"server.crt": {Type: "CERTIFICATE", Bytes: der},
		"server.key": {Type: "EC PRIVATE KEY", Bytes: private},
	} {
		path := filepath.Join(data, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		stat := owner.Sys().(*syscall.Stat_t)
		if err := os.Chown(path, int(stat.Uid), int(stat.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

const loginHBA = `
local all all trust
hostssl tls all 127.0.0.1/32 trust
hostnossl all turned_away 127.0.0.1/32 reject
host all expired 127.0.0.1/32 scram-sha-256
host all guarded 127.0.0.1/32 scram-sha-256
host replication nobody_replicates 127.0.0.1/32 trust
host postgres,shut,private,empty all 127.0.0.1/32 trust
`

// Who may not come in, and why, is told; who may, over TLS as well.
func TestLoginsRefused(t *testing.T) {
	a := start(t, func(o *postgres.Options) {
		o.HBA = loginHBA
		o.Settings["ssl"] = "on"
		o.Settings["authentication_timeout"] = "1s"
		o.Settings["password_encryption"] = "scram-sha-256" // not what 13 does by itself
		selfSigned(t, filepath.Join(o.Dir, "data"))
	})
	a.psql(fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", a.SocketDir(), a.Port()),
		"-c", "create role anyone login", "-c", "create role nologin", "-c", "create role turned_away login",
		"-c", "create role guarded login password 'right'", "-c", "create role expired login password 'right' valid until '2001-01-01'",
		"-c", "create role one login connection limit 1",
		"-c", "create database tls", "-c", "create database shut", "-c", "create database private", "-c", "create database empty",
		"-c", "alter database shut allow_connections false", "-c", "revoke connect on database private from public",
		"-c", "alter database empty connection limit 0")
	a.await("the roles", seen("DISCONNECT"))

	tests := []struct{ name, user, password, db, tls, want string }{
		{"over TLS", "anyone", "", "tls", "require", "CONNECT"},
		{"without the TLS that is required", "anyone", "", "tls", "disable",
			`CONNECT !28000 no pg_hba.conf entry for host "127.0.0.1", user "anyone", database "tls", ` + a.encryption(false)},
		{"reject", "turned_away", "", "postgres", "disable",
			`CONNECT !28000 pg_hba.conf rejects connection for host "127.0.0.1", user "turned_away", database "postgres", ` + a.encryption(false)},
		{"no rule", "anyone", "", "nowhere", "require",
			`CONNECT !28000 no pg_hba.conf entry for host "127.0.0.1", user "anyone", database "nowhere", ` + a.encryption(true)},
		{"right password", "guarded", "right", "postgres", "disable", "CONNECT"},
		{"wrong password", "guarded", "wrong", "postgres", "require", `CONNECT !28P01 password authentication failed for user "guarded"`},
		{"a password too old", "expired", "right", "postgres", "disable", `CONNECT !28P01 password authentication failed for user "expired"`},
		{"a role that cannot log in", "nologin", "", "postgres", "disable", `CONNECT !28000 role "nologin" is not permitted to log in`},
		{"no such role", "ghost", "", "postgres", "disable", `CONNECT !28000 role "ghost" does not exist`},
		{"no such role, by its name in another encoding", "g\xf6st", "", "postgres", "disable", "CONNECT !28000 role \"g\xf6st\" does not exist"},
		{"a database that takes none", "anyone", "", "shut", "disable", `CONNECT !55000 database "shut" is not currently accepting connections`},
		{"a database that is not for all", "anyone", "", "private", "disable", `CONNECT !42501 permission denied for database "private"`},
		{"a full database", "anyone", "", "empty", "disable", `CONNECT !53300 too many connections for database "empty"`},
		{"replication", "nobody_replicates", "", "postgres&replication=true", "disable", `CONNECT !28000 role "nobody_replicates" does not exist`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := a.on(t)
			db, _, physical := strings.Cut(tt.db, "&")
			config, err := pgx.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d user=x dbname=%s sslmode=%s", a.Port(), db, tt.tls))
			if err != nil {
				t.Fatal(err)
			}
			config.User, config.Password, config.Fallbacks = tt.user, tt.password, nil
			if physical {
				config.RuntimeParams["replication"] = "true"
			}
			conn, err := pgx.ConnectConfig(t.Context(), config)
			if (err == nil) != (tt.want == "CONNECT") {
				t.Fatalf("Connect() = %v, want an event %s", err, tt.want)
			}
			if conn != nil {
				if _, encrypted := conn.PgConn().Conn().(*tls.Conn); encrypted != (tt.tls == "require") {
					t.Errorf("%T, want TLS: %s", conn.PgConn().Conn(), tt.tls)
				}
				if err := conn.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			events := a.await("the login", seen("CONNECT"))
			e := events[0]
			if got := strings.TrimPrefix(describe(e), "1 MISC "); got != tt.want {
				t.Errorf("event %q, want %q", got, tt.want)
			}
			if string(e.GetSession().GetUserName()) != tt.user || string(e.GetSession().GetRemoteHost()) != "127.0.0.1" || len(e.GetSession().GetRemotePort()) == 0 {
				t.Errorf("by %q from %s:%s, want %q from 127.0.0.1 and a port", e.GetSession().GetUserName(), e.GetSession().GetRemoteHost(), e.GetSession().GetRemotePort(), tt.user)
			}
			if tt.want == "CONNECT" && !seen("DISCONNECT")(events) {
				a.await("its end", seen("DISCONNECT"))
			}
		})
	}

	t.Run("one too many of a role", func(t *testing.T) {
		a := a.on(t)
		first := a.connect(t, "one", "postgres")
		if _, err := pgx.Connect(t.Context(), a.DSN("one", "postgres")); err == nil {
			t.Error("a second Connect() = nil, want a refusal")
		}
		a.await("the refusal", seen(`CONNECT !53300 too many connections for role "one"`))
		if err := first.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.await("the end of the first", seen("DISCONNECT"))
	})
	t.Run("one that never says its password", func(t *testing.T) {
		a := a.on(t)
		conn := a.greet(t, map[string]string{"user": "guarded", "database": "postgres"})
		defer conn.Close()
		// The server closes without an answer, and nobody came in.
		if _, err := io.ReadAll(conn); err != nil {
			t.Fatal(err)
		}
		if events := a.events(); len(events) != 0 {
			t.Errorf("events:\n%s\nwant none", describeAll(events))
		}
	})
}

// greet begins a login by hand.
func (a *audited) greet(t *testing.T, parameters map[string]string) net.Conn {
	t.Helper()
	hello, err := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: parameters}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return a.say(t, hello)
}

// say sends bytes to the server's port.
func (a *audited) say(t *testing.T, b []byte) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", a.Port()))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	return conn
}

func packet(code uint32, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	return append(binary.BigEndian.AppendUint32(b, code), body...)
}

// What is no login: whom the server answers has an event, whom it does not, a port scanner, has none.
func TestStrangers(t *testing.T) {
	a := start(t, nil)
	oldProtocol := ""
	if a.speaksOldProtocol() {
		oldProtocol = "CONNECT !28000 no PostgreSQL user name specified in startup packet"
	}
	tests := []struct {
		name string
		send []byte
		want string // "" for nothing
	}{
		{"nothing", nil, ""},
		{"a web browser", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), ""},
		{"bytes", []byte{0, 0, 0, 9, 1, 2, 3, 4, 5}, "CONNECT !0A000 unsupported frontend protocol 258.772: server supports " + a.protocols()},
		{"a packet cut short", []byte{0, 0, 0, 99, 0, 3}, ""},
		// It is answered in its own protocol, which is not that of messages; or else the packet, which names nobody, is refused.
		{"an old protocol", packet(2<<16, "x"), oldProtocol},
		{"no user", packet(3<<16, "database\x00postgres\x00\x00"), "CONNECT !28000 no PostgreSQL user name specified in startup packet"},
		{"no end", packet(3<<16, "user\x00postgres\x00xx"), "CONNECT !08P01 invalid startup packet layout: expected terminator as last byte"},
		{"TLS that is not to be had, and no more", packet(80877103, ""), ""},
		{"to cancel what is not there", packet(80877102, "\x00\x00\x00\x07\x00\x00\x00\x07"), ""},
		{"to replicate the impossible", packet(3<<16, "user\x00postgres\x00replication\x00perhaps\x00\x00"), `CONNECT !22023 invalid value for parameter "replication": "perhaps"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := a.on(t)
			conn := a.say(t, tt.send)
			if tcp := conn.(*net.TCPConn); tt.want == "" {
				if err := tcp.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			// The server's process has ended when it has closed.
			if _, err := io.ReadAll(conn); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Fatal(err)
			}
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			if tt.want != "" {
				a.await("the refusal", seen(tt.want))
			} else if events := a.events(); len(events) != 0 {
				t.Errorf("events:\n%s\nwant none", describeAll(events))
			}
		})
	}

	t.Run("a session in an old protocol", func(t *testing.T) {
		a := a.on(t)
		if !a.speaksOldProtocol() {
			return // it was refused above
		}
		fixed := func(s string, size int) string { return s + strings.Repeat("\x00", size-len(s)) }
		login := packet(2<<16, fixed("postgres", 64)+fixed("postgres", 32)+fixed("", 3*64))
		conn := a.say(t, slices.Concat(login, []byte("Qselect 'old'\x00Qselect 1/0\x00Qselec\x00Qselect nothing\x00"+
			"Qdo 'begin perform nowhere; end'\x00Qbegin; select 1; commit\x00X")))
		if _, err := io.ReadAll(conn); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		want := []string{"1 MISC CONNECT", "1 READ SELECT rows=1 «select 'old'»", "1 READ SELECT !22012 division by zero «select 1/0»",
			`1 MISC UNKNOWN !42601 syntax error at or near "selec" «selec»`, `1 READ SELECT !42703 column "nothing" does not exist «select nothing»`,
			`2 READ SELECT !42703 column "nowhere" does not exist «SELECT nowhere»`,
			`1 FUNCTION DO !42703 column "nowhere" does not exist «do 'begin perform nowhere; end'»`,
			"1 MISC BEGIN «begin;»", "1 READ SELECT rows=1 «select 1;»", "1 MISC COMMIT «commit»", "1 MISC DISCONNECT exit=0"}
		if diff := cmp.Diff(strings.Join(want, "\n"), describeAll(a.events())); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})

	t.Run("a login that is given up", func(t *testing.T) {
		a := a.on(t)
		if err := a.greet(t, map[string]string{"user": "postgres", "database": "postgres"}).Close(); err != nil {
			t.Fatal(err)
		}
		// The server may be done with the login before it sees that nobody is there, or not.
		if _, err := a.connect(t, "postgres", "postgres").Exec(t.Context(), "select 'after'"); err != nil {
			t.Fatal(err)
		}
		events := a.await("the next", seen("select 'after'"))
		if e := events[0]; e.GetKind() != activityv1.Kind_KIND_CONNECT || e.GetSqlstate() != "" {
			t.Errorf("first event %s, want a CONNECT", describe(e))
		}
	})
	t.Run("rubbish in a session", func(t *testing.T) {
		a := a.on(t)
		conn := a.greet(t, map[string]string{"user": "postgres", "database": "postgres"})
		defer conn.Close()
		a.await("the login", seen("CONNECT"))
		if _, err := conn.Write([]byte("!\x00\x00\x00\x04rubbish")); err != nil {
			t.Fatal(err)
		}
		a.await("its end", seen("DISCONNECT exit=1 !08P01 invalid frontend message type 33"))
	})
	t.Run("a cancel request", func(t *testing.T) {
		a := a.on(t)
		conn := a.connect(t, "postgres", "postgres")
		a.await("the login", seen("CONNECT"))
		ended := make(chan struct{})
		var group sync.WaitGroup
		group.Go(func() {
			// One that comes before the statement cancels nothing.
			for {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				_ = conn.PgConn().CancelRequest(ctx)
				cancel()
				select {
				case <-ended:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
		_, _ = conn.PgConn().Exec(t.Context(), "select pg_sleep(60)").ReadAll()
		close(ended)
		group.Wait()
		events := a.await("the statement", seen("!57014 canceling statement due to user request «select pg_sleep(60)»"))
		if got := statementsOf(events); len(got) != 1 || strings.Contains(describeAll(events), "CONNECT !") {
			t.Errorf("events:\n%s\nwant the statement alone", describeAll(events))
		}
	})
}

// A storm of logins that fail fills the ring and no more: each has a number, and what had no room is counted.
func TestLoginStorm(t *testing.T) {
	a := start(t, func(o *postgres.Options) {
		o.RingSize = 64 << 10
		o.HBA = "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 reject\n"
		o.Settings["max_connections"] = "12"
	})
	const storm, at = 600, 6
	var group sync.WaitGroup
	var refused [at]int
	for i := range at {
		group.Go(func() {
			for range storm / at {
				conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", a.Port()))
				if err != nil {
					continue
				}
				hello, _ := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "storm"}}).Encode(nil)
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				_, _ = conn.Write(hello)
				if answer, _ := io.ReadAll(conn); len(answer) > 0 && answer[0] == 'E' {
					refused[i]++
				}
				_ = conn.Close()
			}
		})
	}
	group.Wait()
	total := 0
	for _, n := range refused {
		total += n
	}
	if total != storm {
		t.Fatalf("%d of %d logins were answered with an error", total, storm)
	}
	// One that finds room writes the gap down, and the server lives.
	var events, lost uint64
	count := func() {
		for _, item := range a.items() {
			if item.Kind == ring.Gap {
				lost += item.Last - item.First + 1
			} else {
				events++
			}
		}
	}
	count()
	a.connect(t, "postgres", "postgres")
	deadline := time.Now().Add(30 * time.Second)
	for events+lost < storm+1 && time.Now().Before(deadline) {
		count()
		time.Sleep(5 * time.Millisecond)
	}
	if events+lost != storm+1 || lost == 0 {
		t.Errorf("%d events and %d lost, want %d in all with some lost: the ring is small", events, lost, storm+1)
	}
}
