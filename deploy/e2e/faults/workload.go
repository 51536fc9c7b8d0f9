package faults

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-das/weir/deploy/e2e/mesh"
)

const (
	clients = 4
	// pace bounds the load: the checks read all of it again and again.
	pace   = 8 * time.Millisecond
	insert = "INSERT INTO executed (client, seq) VALUES (%d, %d)"
)

// row is one execution: who, and which.
type row struct{ client, seq int64 }

// workload executes statements, each of which writes its own name into a table.
type workload struct {
	w *World

	mu   sync.Mutex   // guards what follows
	seen map[row]bool // what a client saw completed
	seq  int64

	stop func() // nil while paused
}

func newWorkload(w *World) *workload {
	l := &workload{w: w, seen: map[row]bool{}}
	if out := w.Mesh.Psql("postgres", "CREATE TABLE executed (client bigint, seq bigint, PRIMARY KEY (client, seq))"); out != "" {
		w.T.Fatalf("making the table: %s", out)
	}
	l.resume()
	w.T.Cleanup(l.pause)
	return l
}

func (l *workload) resume() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for c := range int64(clients) {
		wg.Go(func() { l.client(ctx, c) })
	}
	l.stop = func() { cancel(); wg.Wait() }
}

func (l *workload) pause() {
	if l.stop != nil {
		l.stop()
	}
	l.stop = nil
}

// client executes until ctx ends, and connects anew whenever it must. A number is
// never used twice: a statement without an answer may have been executed.
func (l *workload) client(ctx context.Context, id int64) {
	for ctx.Err() == nil {
		if err := l.session(ctx, id); err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

func (l *workload) session(ctx context.Context, id int64) error {
	conn, err := pgx.Connect(ctx, l.w.Mesh.Postgres.DSN("postgres", "postgres"))
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		conn.Close(closing)
	}()
	for ctx.Err() == nil {
		l.mu.Lock()
		l.seq++
		r := row{id, l.seq}
		l.mu.Unlock()
		// An execution under way is let finish: a cancelled one says nothing.
		if _, err := conn.PgConn().Exec(context.WithoutCancel(ctx), fmt.Sprintf(insert, r.client, r.seq)).ReadAll(); err != nil {
			return err
		}
		l.mu.Lock()
		l.seen[r] = true
		l.mu.Unlock()
		time.Sleep(pace)
	}
	return nil
}

// done is how many statements clients have seen completed.
func (l *workload) done() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

// agrees holds the stream against the table and against what clients saw.
func (l *workload) agrees(account *mesh.Account) {
	t := l.w.T
	t.Helper()
	// Who died in a statement has its event too, with the text and without bind
	// values, and does not know how it ended: it may have been committed.
	ended, begun := map[row]bool{}, map[row]bool{}
	for _, e := range account.All() {
		text, _ := e.Fields["commandText"].(string)
		var r row
		if n, err := fmt.Sscanf(text, insert, &r.client, &r.seq); n != 2 || err != nil {
			continue
		}
		begun[r] = true
		if e.Fields["exitCode"] == nil {
			ended[r] = true
		}
	}
	table := l.table()
	missing := 0
	for r := range table {
		if !begun[r] {
			missing++
		}
	}
	unseen := 0
	for r := range l.seen {
		if !table[r] {
			t.Errorf("a client saw %v completed, and the table does not have it: the database lost it", r)
		}
		if !ended[r] {
			unseen++
		}
	}
	if missing > len(account.Told) || unseen > len(account.Told) {
		t.Errorf("%d rows of %d have no event, %d of which a client saw completed; %d numbers are told as lost", missing, len(table), unseen, len(account.Told))
	}
	if len(table) == 0 {
		t.Error("the workload did nothing: the test proves nothing")
	}
	t.Logf("%d rows, %d of them without an event, %d numbers told as lost", len(table), missing, len(account.Told))
}

func (l *workload) table() map[row]bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, l.w.Mesh.Postgres.DSN("postgres", "postgres"))
	if err != nil {
		l.w.T.Fatal(err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT client, seq FROM executed")
	if err != nil {
		l.w.T.Fatal(err)
	}
	all := map[row]bool{}
	var r row
	if _, err := pgx.ForEachRow(rows, []any{&r.client, &r.seq}, func() error { all[r] = true; return nil }); err != nil {
		l.w.T.Fatal(err)
	}
	return all
}
