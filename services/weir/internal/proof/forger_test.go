package proof_test

import (
	"testing"

	"github.com/weir-das/weir/services/weir/internal/proof"
	"github.com/weir-das/weir/services/weir/internal/proof/prooftest"
)

const (
	cluster  = prooftest.Cluster
	instance = prooftest.Instance
	epoch    = prooftest.Epoch
)

type thing = prooftest.Thing

var (
	ev        = prooftest.Event
	gap       = prooftest.Gap
	events    = prooftest.Events
	historyOf = prooftest.New
	hash      = prooftest.Hash
)

// check gives records to a checker in this order.
func check(t testing.TB, opt proof.Options, ledger *proof.Ledger, records ...string) *proof.Report {
	t.Helper()
	c := proof.New(opt)
	defer c.Close()
	for i, r := range records {
		if err := c.Add(proof.Source{Line: int64(i + 1)}, []byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	return c.Report(ledger)
}
