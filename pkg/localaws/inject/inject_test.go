package inject_test

import (
	"testing"

	"github.com/weir-das/weir/pkg/localaws/inject"
)

func TestPlan(t *testing.T) {
	var p inject.Plan
	remove := p.Add(inject.Fault{Operations: []string{"PutRecords"}, After: 2, Times: 2})
	var hits []int
	for i := range 6 {
		if _, hit := p.Next("GetRecords", false); hit {
			t.Errorf("call %d of GetRecords is befallen, want none", i)
		}
		if h, hit := p.Next("PutRecords", true); hit {
			hits = append(hits, i)
			if h.Code != "InternalFailure" || h.Record != nil {
				t.Errorf("call %d fails with %q, by record: %t; want InternalFailure, whole", i, h.Code, h.Record != nil)
			}
		}
	}
	if len(hits) != 2 || hits[0] != 2 || hits[1] != 3 {
		t.Errorf("calls %v were befallen, want the third and fourth", hits)
	}
	remove()
	p.Add(inject.Fault{})
	if _, hit := p.Next("Anything", false); !hit {
		t.Error("a zero fault does not befall a call")
	}
	p.Clear()
	if _, hit := p.Next("Anything", false); hit {
		t.Error("after Clear a call is befallen")
	}
}

// TestFractionIsRepeatable: the same seed draws the same records.
func TestFractionIsRepeatable(t *testing.T) {
	draw := func(seed uint64) (n int, bits string) {
		var p inject.Plan
		p.Add(inject.Fault{Fraction: 0.25, Seed: seed})
		h, hit := p.Next("PutRecords", true)
		if !hit || h.Record == nil {
			t.Fatal("a fault with a fraction does not befall single records")
		}
		for range 1000 {
			if h.Record() {
				n++
				bits += "1"
			} else {
				bits += "0"
			}
		}
		return n, bits
	}
	n, first := draw(7)
	_, again := draw(7)
	_, other := draw(8)
	if first != again || first == other {
		t.Errorf("seed 7 twice the same: %t, seed 8 the same: %t; want true, false", first == again, first == other)
	}
	if n < 200 || n > 300 {
		t.Errorf("%d of 1000 records fail, want about 250", n)
	}
}

// TestFractionOfWholeCalls: operations without records fail whole.
func TestFractionOfWholeCalls(t *testing.T) {
	var p inject.Plan
	p.Add(inject.Fault{Fraction: 0.5, Seed: 1, Times: 20})
	n := 0
	for range 200 {
		if _, hit := p.Next("GetRecords", false); hit {
			n++
		}
	}
	if n != 20 {
		t.Errorf("%d calls were befallen, want Times, 20", n)
	}
}
