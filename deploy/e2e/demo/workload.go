package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

const (
	clients      = 4
	transactions = 500
	// perTransaction is how many statements pgbench's TPC-B script has.
	perTransaction = 7
)

// What psql does, and how many events each line is: a statement of its own, and
// one more for each statement nested in it.
var psqlScript = []struct {
	sql    string
	events int
}{
	{"CREATE TABLE accounts (id int PRIMARY KEY, name text, balance numeric)", 1},
	{"INSERT INTO accounts VALUES (1, 'ann', 100), (2, 'bob', 50)", 1},
	{"CREATE FUNCTION pay(int, numeric) RETURNS void LANGUAGE sql AS 'UPDATE accounts SET balance = balance + $2 WHERE id = $1'", 1},
	{"SELECT pay(1, 25)", 2},
	{"PREPARE one AS SELECT name, balance FROM accounts WHERE id = $1", 1},
	{"EXECUTE one(1)", 2},
	{"SELECT balance / 0 FROM accounts", 1},
	{"CREATE ROLE clerk LOGIN PASSWORD 'nobody-must-read-this'", 1},
}

func (d *dev) psqlWorkload(ctx context.Context) error {
	args := []string{"-X", "-q", d.dsn}
	for _, line := range psqlScript {
		args = append(args, "-c", line.sql)
	}
	// The division by zero makes psql fail, and is meant to.
	out, err := exec.CommandContext(ctx, "psql", args...).CombinedOutput()
	if !strings.Contains(string(out), "division by zero") {
		return fmt.Errorf("psql: %v\n%s", err, out)
	}
	refused := exec.CommandContext(ctx, "psql", "-X", strings.Replace(d.dsn, "postgres@", "nobody_of_that_name@", 1), "-c", "SELECT 1")
	if out, err := refused.CombinedOutput(); err == nil {
		return fmt.Errorf("a role that does not exist got in:\n%s", out)
	}
	return nil
}

func (d *dev) pgbenchWorkload(ctx context.Context) error {
	if _, err := output(exec.CommandContext(ctx, "pgbench", "-i", "-q", "-s", "1", d.dsn)); err != nil {
		return err
	}
	out, err := output(exec.CommandContext(ctx, "pgbench", "-n", "-c", strconv.Itoa(clients), "-t", strconv.Itoa(transactions), d.dsn))
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "tps") || strings.HasPrefix(line, "number of transactions actually") {
			fmt.Print("   ", line)
		}
	}
	return err
}

// ask returns one value from the database.
func (d *dev) ask(ctx context.Context, sql string) (int, error) {
	out, err := output(exec.CommandContext(ctx, "psql", "-X", "-A", "-t", d.dsn, "-c", sql))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}
