package enginetest_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/weir-das/weir/pkg/postgres"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

func TestMain(m *testing.M) {
	var err error
	if template, err = os.MkdirTemp("", "weir-test-"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(template); err != nil {
			panic(err)
		}
		os.Exit(code)
	}))
}

// template is the directory of a server that was made and stopped: a test's own begins as a copy of its data.
var template string

var makeTemplate = sync.OnceValue(func() error {
	s, err := postgres.Start(context.Background(), postgres.Options{Dir: template, Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		return err
	}
	return s.Stop(postgres.Fast)
})

// newDir is a directory with a database cluster in it.
func newDir(t *testing.T) string {
	t.Helper()
	if err := makeTemplate(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if out, err := exec.Command("cp", "-a", filepath.Join(template, "data"), dir).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	return dir
}

// buildModule makes weir.so, once per run; other packages' tests may be at it too.
var buildModule = sync.OnceValues(func() (string, error) {
	make := exec.Command("flock", "Makefile", "make", "-s")
	make.Dir = ".."
	if out, err := make.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make: %w: %s", err, out)
	}
	return filepath.Abs("../weir.so")
})

// audited is a server with the module, and the ring that it writes to.
type audited struct {
	*postgres.Server
	t      *testing.T
	ring   *ring.Ring
	reader *ring.Reader
	number *uint64 // the last that was read

	ringFile string
	aside    *[]*activityv1.Activity // what is no Aurora event: notices, and statements that began
}

// on is the same server for a subtest, which fails by itself.
func (a *audited) on(t *testing.T) *audited {
	b := *a
	b.t = t
	return &b
}

// usualSettings are a test's own to change.
func usualSettings() map[string]string {
	return map[string]string{
		"fsync": "off", "autovacuum": "off", "max_connections": "30", "shared_buffers": "16MB",
		"log_min_messages": "fatal", "max_prepared_transactions": "5",
	}
}

// start starts a server with the module. change, if not nil, changes its options.
func start(t *testing.T, change func(*postgres.Options)) *audited {
	t.Helper()
	module, err := buildModule()
	if err != nil {
		t.Fatal(err)
	}
	// The ring has to be in memory; a test's own directory is not.
	dir, err := os.MkdirTemp("/dev/shm", "weir-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	options := postgres.Options{
		Dir:      newDir(t),
		Module:   module,
		RingFile: filepath.Join(dir, "ring"),
		RingSize: 16 << 20,
		Settings: usualSettings(),
	}
	if change != nil {
		change(&options)
	}
	server, err := postgres.Start(t.Context(), options)
	if err != nil {
		t.Fatalf("Start() = %v", err)
	}
	a := &audited{Server: server, t: t, number: new(uint64), ringFile: options.RingFile, aside: new([]*activityv1.Activity)}
	t.Cleanup(func() {
		if err := server.Stop(postgres.Immediate); err != nil {
			t.Error(err)
		}
		if err := a.ring.Close(); err != nil {
			t.Error(err)
		}
	})
	if a.ring, err = ring.Open(options.RingFile); err != nil {
		t.Fatal(err)
	}
	a.reader = a.ring.Reader()
	return a
}

// items reads what lies in the ring and frees its room. The numbers must follow one another.
func (a *audited) items() []ring.Item {
	a.t.Helper()
	var items []ring.Item
	for {
		item, err := a.reader.Next()
		if err != nil {
			a.t.Fatalf("reading the ring: %v", err)
		}
		switch item.Kind {
		case ring.Nothing:
			if err := a.ring.Checkpoint(a.reader.Position()); err != nil {
				a.t.Fatal(err)
			}
			return items
		case ring.Event:
			if item.Number != *a.number+1 {
				a.t.Fatalf("number %d follows %d", item.Number, *a.number)
			}
			*a.number = item.Number
			item.Payload = append([]byte(nil), item.Payload...)
		case ring.Gap:
			if item.First != *a.number+1 {
				a.t.Fatalf("gap from %d follows %d", item.First, *a.number)
			}
			*a.number = item.Last
		}
		items = append(items, item)
	}
}

// events decodes what lies in the ring, and puts aside what is no Aurora event; a gap fails the test.
func (a *audited) events() []*activityv1.Activity {
	a.t.Helper()
	var events []*activityv1.Activity
	for _, item := range a.items() {
		if item.Kind == ring.Gap {
			a.t.Fatalf("gap %d to %d (%s)", item.First, item.Last, item.Cause)
		}
		event := new(activityv1.Activity)
		if err := proto.Unmarshal(item.Payload, event); err != nil {
			a.t.Fatalf("number %d is no activity: %v: %x", item.Number, err, item.Payload)
		}
		if event.GetKind() == activityv1.Kind_KIND_STARTED || event.GetKind() == activityv1.Kind_KIND_NOTICE {
			*a.aside = append(*a.aside, event)
			continue
		}
		events = append(events, event)
	}
	return events
}

// notices are those of one kind among what was read so far.
func (a *audited) notices(kind activityv1.NoticeKind) []*activityv1.Activity {
	var notices []*activityv1.Activity
	for _, e := range *a.aside {
		if e.GetNotice().GetKind() == kind {
			notices = append(notices, e)
		}
	}
	return notices
}

// await reads until done says that everything looked for is there.
func (a *audited) await(what string, done func([]*activityv1.Activity) bool) []*activityv1.Activity {
	a.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	var events []*activityv1.Activity
	for {
		events = append(events, a.events()...)
		if done(events) {
			return events
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("waited in vain for %s; seen:\n%s", what, describeAll(events))
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// psql runs a script as a client of its own and returns what it printed; errors in it are no failure.
func (a *audited) psql(dsn string, args ...string) string {
	a.t.Helper()
	cmd := exec.CommandContext(a.t.Context(), filepath.Join(a.BinDir(), "psql"), append([]string{"-XAtq", dsn}, args...)...)
	out, err := cmd.CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		a.t.Fatalf("psql: %v", err)
	}
	return string(out)
}

func (a *audited) connect(t *testing.T, user, db string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), a.DSN(user, db))
	if err != nil {
		t.Fatalf("Connect() = %v", err)
	}
	t.Cleanup(func() {
		// A test may have ended the session in its own way.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

// describe is one event in one line, without what differs from run to run:
//
//	[id.sub] CLASS COMMAND objects rows=N !SQLSTATE message «text» (parameters)
func describe(e *activityv1.Activity) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s %s", e.GetSubstatementId(), class(e.GetClass()), e.GetCommand())
	for _, o := range e.GetObjects() {
		b.WriteString(" " + strings.TrimPrefix(o.GetType().String(), "OBJECT_TYPE_") + ":" + o.GetName())
		if o.GetCommand() != "" {
			fmt.Fprintf(&b, "/%s/%s", class(o.GetClass()), o.GetCommand())
		}
	}
	if e.GetObjectsOmitted() != 0 {
		fmt.Fprintf(&b, " +%d", e.GetObjectsOmitted())
	}
	if e.Rows != nil {
		fmt.Fprintf(&b, " rows=%d", e.GetRows())
	}
	if e.ExitCode != nil {
		fmt.Fprintf(&b, " exit=%d", e.GetExitCode())
	}
	if e.GetSqlstate() != "" || e.GetErrorMessage() != nil {
		fmt.Fprintf(&b, " !%s %s", e.GetSqlstate(), e.GetErrorMessage().GetKept())
	}
	if e.GetText() != nil {
		fmt.Fprintf(&b, " «%s»", e.GetText().GetKept())
	}
	if len(e.GetParameters()) > 0 {
		values := make([]string, len(e.GetParameters()))
		for i, p := range e.GetParameters() {
			values[i] = string(p.GetValue().GetKept())
			if p.GetIsNull() {
				values[i] = "NULL"
			}
		}
		fmt.Fprintf(&b, " (%s)", strings.Join(values, ", "))
	}
	return b.String()
}

func class(c activityv1.Class) string { return strings.TrimPrefix(c.String(), "CLASS_") }

func describeAll(events []*activityv1.Activity) string {
	lines := make([]string, len(events))
	for i, e := range events {
		lines[i] = describe(e)
	}
	return strings.Join(lines, "\n")
}

func port(a *audited) string { return strconv.Itoa(a.Port()) }
