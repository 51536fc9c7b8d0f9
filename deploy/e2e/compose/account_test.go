//go:build e2e

package compose_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/weir-das/weir/deploy/e2e/mesh"
)

// numbers is where the ring stands, as control heard it from capture.
type numbers struct {
	Epoch   uint64 `json:"epoch,string"`
	Number  uint64 `json:"number,string"`
	Durable uint64 `json:"durable,string"`
}

// weir runs the command line in a container of its own.
func (p *project) weir(args ...string) (string, error) {
	return p.try(2*time.Minute, append([]string{"run", "--rm", "--no-TTY", "weir"}, args...)...)
}

func (p *project) numbers() (numbers, error) {
	out, err := p.weir("stream", "status", "--json")
	if err != nil {
		return numbers{}, err
	}
	var status struct {
		Instances []struct{ Report numbers }
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return numbers{}, fmt.Errorf("weir stream status: %w", err)
	}
	if len(status.Instances) != 1 || status.Instances[0].Report.Epoch == 0 {
		return numbers{}, fmt.Errorf("weir stream status tells of no ring:\n%s", out)
	}
	return status.Instances[0].Report, nil
}

// settle waits until everything that has a number is in Kinesis, and returns
// the account of the present epoch, made from what a consumer can read.
func (p *project) settle() (*mesh.Account, numbers) {
	p.t.Helper()
	var at numbers
	p.eventually(2*time.Minute, func() (err error) {
		if at, err = p.numbers(); err != nil {
			return err
		}
		if at.Durable != at.Number {
			return fmt.Errorf("number %d, durable %d", at.Number, at.Durable)
		}
		return nil
	})
	var account *mesh.Account
	p.eventually(2*time.Minute, func() error {
		out, err := p.weir("tail", "--from", "trim-horizon", "--no-follow", "--format", "das")
		if err != nil {
			return err
		}
		var records []mesh.Record
		for line := range strings.Lines(out) {
			var r mesh.Record
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				return fmt.Errorf("weir tail: %w", err)
			}
			records = append(records, r)
		}
		epochs, err := mesh.AccountFor(records)
		if err != nil {
			p.t.Fatal(err) // two shapes of one number do not mend
		}
		if account = epochs[at.Epoch]; account == nil {
			return fmt.Errorf("no record of epoch %d", at.Epoch)
		}
		if missing := account.Missing(at.Number); len(missing) > 0 {
			return fmt.Errorf("%d of %d numbers are missing, the first is %d", len(missing), at.Number, missing[0])
		}
		return nil
	})
	return account, at
}
