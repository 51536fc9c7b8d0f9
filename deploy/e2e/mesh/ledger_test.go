package mesh_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-das/weir/deploy/e2e/mesh"
)

// ledger is a workload that knows what it was told: each client writes rows with
// ids of its own, and keeps those whose commit the server confirmed.
type ledger struct {
	t    *testing.T
	m    *mesh.Mesh
	stop func() // waits until no client works

	mu     sync.Mutex
	seen   map[int64]bool
	failed string // what a client heard last instead
}

// startLedger makes the table and keeps clients at work, whatever becomes of
// the server, until stop.
func startLedger(t *testing.T, m *mesh.Mesh, clients int) *ledger {
	t.Helper()
	l := &ledger{t: t, m: m, seen: map[int64]bool{}}
	if out := m.Psql("postgres", "SET client_min_messages = warning; CREATE TABLE IF NOT EXISTS ledger (id bigint PRIMARY KEY)"); out != "" {
		t.Fatalf("creating the table: %s", out)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	begun := time.Now().UnixMicro() // so that no ledger of this test writes another's ids
	for c := range clients {
		wg.Go(func() {
			for id := begun*8 + int64(c)<<58; ctx.Err() == nil; {
				id = l.session(ctx, id)
				select {
				case <-ctx.Done():
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(l.stop)
	return l
}

// session writes rows until something goes wrong, and returns the next id.
func (l *ledger) session(ctx context.Context, id int64) int64 {
	config, err := pgx.ParseConfig(l.m.Postgres.DSN("postgres", "postgres"))
	if err != nil {
		l.t.Error(err)
		return id
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		l.heard(err)
		return id
	}
	// Not with ctx: what is being said when the test ends is heard to its end.
	defer conn.Close(context.Background())
	for ctx.Err() == nil {
		id++
		limit, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		err := write(limit, conn, id)
		cancel()
		if err != nil {
			l.heard(err)
			return id
		}
		l.mu.Lock()
		l.seen[id] = true
		l.mu.Unlock()
	}
	return id
}

// write commits one row, in a statement of its own or in a block.
func write(ctx context.Context, conn *pgx.Conn, id int64) error {
	insert := fmt.Sprintf("INSERT INTO ledger VALUES (%d)", id)
	if id%2 == 0 {
		_, err := conn.Exec(ctx, insert)
		return err
	}
	for _, statement := range []string{"BEGIN", insert, "COMMIT"} {
		tag, err := conn.Exec(ctx, statement)
		if err != nil {
			return err
		}
		if tag.String() == "ROLLBACK" { // what COMMIT answers in a block that failed
			return fmt.Errorf("%s was answered by %s", statement, tag)
		}
	}
	return nil
}

func (l *ledger) heard(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = err.Error()
}

// progress waits until n more commits were seen.
func (l *ledger) progress(n int) {
	l.t.Helper()
	from := len(l.commits())
	mesh.Eventually(l.t, 60*time.Second, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.seen) < from+n {
			return fmt.Errorf("%d commits seen, want %d more than %d; a client heard %q", len(l.seen), n, from, l.failed)
		}
		return nil
	})
}

// commits are the ids whose commit was seen so far.
func (l *ledger) commits() []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]int64, 0, len(l.seen))
	for id := range l.seen {
		ids = append(ids, id)
	}
	return ids
}

// written are the ids of a ledger that the stream holds an INSERT of, in any epoch.
func written(m *mesh.Mesh) (map[int64]bool, error) {
	records, err := m.Records(context.Background())
	if err != nil {
		return nil, err
	}
	epochs, err := mesh.AccountFor(records)
	if err != nil {
		return nil, err
	}
	ids := map[int64]bool{}
	for _, account := range epochs {
		for _, e := range account.All() {
			text, _ := e.Fields["commandText"].(string)
			var id int64
			if _, err := fmt.Sscanf(text, "INSERT INTO ledger VALUES (%d)", &id); err == nil {
				ids[id] = true
			}
		}
	}
	return ids, nil
}

// allWritten waits until the stream holds every commit that was seen.
func allWritten(t *testing.T, m *mesh.Mesh, ids []int64) {
	t.Helper()
	mesh.Eventually(t, 60*time.Second, func() error {
		have, err := written(m)
		if err != nil {
			return err
		}
		missing := 0
		for _, id := range ids {
			if !have[id] {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d commits that a client saw are not in the stream", missing, len(ids))
		}
		return nil
	})
}

// rows are the ids that the table holds.
func rows(t *testing.T, m *mesh.Mesh) []int64 {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), m.Postgres.DSN("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	all, err := conn.Query(t.Context(), "SELECT id FROM ledger")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(all, pgx.RowTo[int64])
	if err != nil {
		t.Fatal(err)
	}
	return ids
}
