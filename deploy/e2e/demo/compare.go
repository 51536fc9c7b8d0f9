package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
)

// show prints the stream as it is so far.
func (d *dev) show(ctx context.Context) error {
	number, epoch, err := d.settled(ctx)
	if err != nil {
		return err
	}
	if _, err := d.account(ctx, epoch, number); err != nil {
		return err
	}
	out, err := d.weir(ctx, "tail", "--from", "trim-horizon", "--no-follow")
	for line := range bytes.Lines(out) {
		fmt.Printf("   %.150s\n", bytes.TrimRight(line, "\n"))
	}
	return err
}

// compare checks, by numbers, that the stream holds what the database executed.
func (d *dev) compare(ctx context.Context) error {
	history, err := d.ask(ctx, "SELECT count(*) FROM pgbench_history")
	if err != nil {
		return err
	}
	number, epoch, err := d.settled(ctx)
	if err != nil {
		return err
	}
	account, err := d.account(ctx, epoch, number)
	if err != nil {
		return err
	}
	var nested, inserts, bench, script int
	for _, e := range account.All() {
		text, _ := e.Fields["commandText"].(string)
		if bytes.Contains(e.Raw, []byte("nobody-must-read-this")) {
			err = errors.Join(err, fmt.Errorf("a password is in the stream: number %d", e.Number))
		}
		if e.Fields["clientApplication"] == "pgbench" && e.Fields["command"] == "INSERT" && strings.HasPrefix(text, "INSERT INTO pgbench_history") {
			inserts++
		}
		if n, _ := e.Fields["substatementId"].(float64); n > 1 {
			nested++
		}
		if strings.HasPrefix(text, "SELECT balance / 0") && e.Fields["exitCode"] == "22012" {
			script++
		}
	}
	numbers := uint64(account.Kept())
	for _, e := range account.All() {
		if e.Fields["clientApplication"] == "pgbench" && isTPCB(e) {
			bench++
		}
	}
	for _, check := range []struct {
		what      string
		got, want any
	}{
		{"numbers that the engine gave, and events in the stream", numbers, number},
		{"numbers told as lost", len(account.Told), 0},
		{"rows in pgbench_history, and INSERTs in the stream", inserts, history},
		{"statements that pgbench ran, and events of them", bench, clients * transactions * perTransaction},
		{"divisions by zero", script, 1},
	} {
		mark := "✓"
		if fmt.Sprint(check.got) != fmt.Sprint(check.want) {
			mark = "✗"
			err = errors.Join(err, fmt.Errorf("%s: %v in the stream, want %v", check.what, check.got, check.want))
		}
		fmt.Printf("   %s %-58s %8v = %v\n", mark, check.what, check.got, check.want)
	}
	if err != nil {
		return err
	}
	fmt.Printf("\nweir: %d events executed, %d in the stream, 0 missing, 0 lost, hash chain intact, %d nested statements seen\n", number, numbers, nested)
	return nil
}

// isTPCB says whether an event is a statement of pgbench's TPC-B script.
func isTPCB(e mesh.Event) bool {
	text, _ := e.Fields["commandText"].(string)
	for _, begin := range []string{
		"BEGIN", "UPDATE pgbench_accounts", "SELECT abalance FROM pgbench_accounts", "UPDATE pgbench_tellers",
		"UPDATE pgbench_branches", "INSERT INTO pgbench_history", "END",
	} {
		if strings.HasPrefix(text, begin) {
			return true
		}
	}
	return false
}

// settled waits until every number is on the journal's disk.
func (d *dev) settled(ctx context.Context) (number, epoch uint64, err error) {
	var status struct {
		Instances []struct {
			Report struct {
				Number  json.Number `json:"number"`
				Durable json.Number `json:"durable"`
				Epoch   json.Number `json:"epoch"`
			} `json:"report"`
		} `json:"instances"`
	}
	var last string
	for ctx.Err() == nil {
		out, err := d.weir(ctx, "stream", "status", "--json")
		if err != nil {
			return 0, 0, err
		}
		if err := json.Unmarshal(out, &status); err != nil {
			return 0, 0, fmt.Errorf("weir stream status: %w", err)
		}
		if len(status.Instances) == 1 {
			r := status.Instances[0].Report
			// Twice the same: reports come once a second.
			if r.Number == r.Durable && r.Number.String() == last {
				n, err := r.Number.Int64()
				e, err2 := r.Epoch.Int64()
				return uint64(n), uint64(e), errors.Join(err, err2)
			}
			last = r.Number.String()
		}
		time.Sleep(1100 * time.Millisecond)
	}
	return 0, 0, fmt.Errorf("not everything became durable: %w", ctx.Err())
}

// account reads the stream until it holds every number.
func (d *dev) account(ctx context.Context, epoch, number uint64) (*mesh.Account, error) {
	for {
		out, err := d.weir(ctx, "tail", "--from", "trim-horizon", "--no-follow", "--format", "das", "--heartbeats")
		if err != nil {
			return nil, err
		}
		var records []mesh.Record
		for line := range bytes.Lines(out) {
			var r mesh.Record
			if err := json.Unmarshal(line, &r); err != nil {
				return nil, fmt.Errorf("a record is no JSON: %w", err)
			}
			records = append(records, r)
		}
		accounts, err := mesh.AccountFor(records)
		if err != nil {
			return nil, err
		}
		account := accounts[epoch]
		if account != nil && len(account.Missing(number)) == 0 {
			return account, nil
		}
		select {
		case <-ctx.Done():
			return account, fmt.Errorf("numbers are missing in the stream: %v", account.Missing(number))
		case <-time.After(time.Second):
		}
	}
}
