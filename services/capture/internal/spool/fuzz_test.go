package spool

import (
	"bytes"
	"testing"
	"time"

	capturev1 "github.com/weir-das/weir/proto/gen/weir/capture/v1"
)

// Whatever a segment holds, reading it ends, and what comes out can be written
// and comes out again.
func FuzzParse(f *testing.F) {
	head := &capturev1.SpoolEntry{
		Epoch: 7, First: 1, Last: 9, ChainBefore: make([]byte, 32), ChainAfter: make([]byte, 32), OldestUs: time.Now().UnixMicro(), MessageId: "m",
	}
	one, err := appendFrame(nil, head, []byte("sealed WSPL bytes"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(one)
	f.Add(append(bytes.Clone(one), one...))
	f.Add(one[:len(one)-1])
	f.Add(one[1:])
	f.Add([]byte("WSPLWSPL\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		seg := &segment{epochs: map[uint64]*summary{}}
		var again []byte
		entries := parse(data)
		for _, e := range entries {
			seg.note(e.head)
			if e.sealed == nil {
				return // damaged: it cannot be written
			}
			var err error
			if again, err = appendFrame(again, e.head, e.sealed); err != nil {
				t.Fatal(err)
			}
		}
		if back := parse(again); len(back) != len(entries) {
			t.Fatalf("%d entries come back as %d", len(entries), len(back))
		}
	})
}
