package mesh

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Psql runs one script with psql, as role on database postgres, and returns
// what it printed, errors included.
func (m *Mesh) Psql(role, script string) string {
	m.t.Helper()
	cmd := exec.Command(filepath.Join(m.Postgres.BinDir(), "psql"), "-X", "-q", "-A", "-t", m.Postgres.DSN(role, "postgres"))
	cmd.Stdin = strings.NewReader(script)
	out, _ := cmd.CombinedOutput()
	return string(out)
}

// Pgbench runs pgbench against database postgres.
func (m *Mesh) Pgbench(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(m.Postgres.BinDir(), "pgbench"), append(args, m.Postgres.DSN("postgres", "postgres"))...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// MustPgbench is Pgbench that fails the test on an error.
func (m *Mesh) MustPgbench(args ...string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := m.Pgbench(ctx, args...)
	if err != nil {
		m.t.Fatalf("pgbench %v: %v\n%s", args, err, out)
	}
	return out
}

// KeepBusy runs pgbench again and again, whatever happens to the server under
// it, until the function that it returns is called.
func (m *Mesh) KeepBusy(args ...string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if _, err := m.Pgbench(ctx, args...); err != nil {
				select {
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}

// Numbers asks capture where the numbers stand.
func (m *Mesh) Numbers() (s Numbers, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return m.askCapture(ctx)
}

// Durable waits until the journal has all that the engine numbered.
func (m *Mesh) Durable(t testing.TB) (n Numbers) {
	t.Helper()
	Eventually(t, 60*time.Second, func() (err error) {
		if n, err = m.Numbers(); err == nil && n.Durable != n.Number {
			err = fmt.Errorf("number %d, durable %d", n.Number, n.Durable)
		}
		return err
	})
	return n
}

// Settle waits until everything that the engine numbered is in Kinesis, and
// returns the account of the engine's epoch.
func (m *Mesh) Settle(t testing.TB) (*Account, Numbers) {
	t.Helper()
	var numbers Numbers
	Eventually(t, 60*time.Second, func() (err error) {
		if numbers, err = m.Numbers(); err != nil {
			return err
		}
		if numbers.Durable != numbers.Number {
			return fmt.Errorf("number %d, durable %d", numbers.Number, numbers.Durable)
		}
		waiting, err := m.askPublisher(context.Background())
		if err == nil && waiting > 2 { // heartbeats come every second
			err = fmt.Errorf("%d records wait in the journal", waiting)
		}
		return err
	})
	var account *Account
	Eventually(t, 60*time.Second, func() error {
		records, err := m.Records(context.Background())
		if err != nil {
			return err
		}
		epochs, err := AccountFor(records)
		if err != nil {
			t.Fatal(err)
		}
		account = epochs[numbers.Epoch]
		if account == nil {
			return fmt.Errorf("no record of epoch %d", numbers.Epoch)
		}
		if missing := account.Missing(numbers.Number); len(missing) > 0 {
			return fmt.Errorf("%d numbers are missing: %s", len(missing), some(missing))
		}
		return nil
	})
	return account, numbers
}

func some(numbers []uint64) string {
	var b strings.Builder
	for i, n := range numbers {
		if i == 20 {
			return b.String() + "…"
		}
		b.WriteString(strconv.FormatUint(n, 10) + " ")
	}
	return b.String()
}
