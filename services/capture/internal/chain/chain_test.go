package chain_test

import (
	"encoding/hex"
	"testing"

	"github.com/weir-das/weir/services/capture/internal/chain"
)

// The vectors were computed with sha256sum and with Python's hashlib, not with
// this package. The first one by
//
//	printf 'weir chain v1\x00\x06\x47\x48\x46\x20\x40\x00' | sha256sum
func TestVectors(t *testing.T) {
	const epoch = 1_767_225_600_000_000 // 0x0006474846204000
	h := chain.Genesis(epoch)
	for _, step := range []struct {
		name string
		next func(chain.Hash) chain.Hash
		want string
	}{
		{"genesis", func(h chain.Hash) chain.Hash { return h },
			"c3f1035d10ad05a5937b68006cf80b5f12ed8a330fb070e355464dd75d997d1b"},
		{"event 1", func(h chain.Hash) chain.Hash { return h.Event(1, []byte(`{"startTime":"a"}`)) },
			"72c274f975fbe2ccfea899da7e43be0a4dab1a4e30a8dc32fa2a50107333336a"},
		{"event 2, of two elements", func(h chain.Hash) chain.Hash {
			return h.Event(2, []byte(`{"startTime":"b"},{"startTime":"c"}`))
		}, "b5e9ff34c61f34c28d187f7dd03cca3bc5e4d0b0cb9729f7d69bee29a61664ea"},
		{"gap 3 to 5", func(h chain.Hash) chain.Hash {
			return h.Gap(5, []byte(`{"first":3,"last":5,"from":"2026-01-01 00:00:00.000000+00","to":"2026-01-01 00:00:01.000000+00","cause":"ring_full"}`))
		}, "f757dc2605f6995b67704ce040e583c4ba34cb815dd4af5009ef7e12ca9f7615"},
		{"event 6, empty", func(h chain.Hash) chain.Hash { return h.Event(6, nil) },
			"eb985ac6c391ce02d2f26eb18b905f53f32e1990d5222c1d346be2ce11edc639"},
	} {
		h = step.next(h)
		if got := hex.EncodeToString(h[:]); got != step.want {
			t.Fatalf("%s: %s, want %s", step.name, got, step.want)
		}
	}
}

// An item that is changed, left out, repeated or moved gives another end.
func TestChangesShow(t *testing.T) {
	a, b := []byte(`{"a":1}`), []byte(`{"b":2}`)
	start := chain.Genesis(1)
	ends := map[chain.Hash]string{}
	for name, end := range map[string]chain.Hash{
		"as it was":      start.Event(1, a).Event(2, b),
		"changed":        start.Event(1, a).Event(2, []byte(`{"b":3}`)),
		"left out":       start.Event(2, b),
		"repeated":       start.Event(1, a).Event(1, a).Event(2, b),
		"exchanged":      start.Event(1, b).Event(2, a),
		"moved":          start.Event(1, a).Event(3, b),
		"joined":         start.Event(2, []byte(`{"a":1},{"b":2}`)),
		"another epoch":  chain.Genesis(2).Event(1, a).Event(2, b),
		"ended earlier":  start.Event(1, a),
		"nothing at all": start,
	} {
		if other, ok := ends[end]; ok {
			t.Errorf("%q ends like %q", name, other)
		}
		ends[end] = name
	}
}

func TestHashIsAValue(t *testing.T) {
	h := chain.Genesis(1)
	before := h
	h.Event(1, []byte("x"))
	h.Gap(2, []byte("y"))
	if h != before {
		t.Error("Event or Gap changed the hash it was called on")
	}
}

func BenchmarkEvent(b *testing.B) {
	h, elements := chain.Genesis(1), make([]byte, 700)
	b.SetBytes(int64(len(elements)))
	b.ReportAllocs()
	for b.Loop() {
		h = h.Event(1, elements)
	}
}
