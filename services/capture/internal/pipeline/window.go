package pipeline

import (
	"time"
)

// window holds the records that are on their way, in the order of their
// numbers. It is the memory behind "acknowledged": what it holds can be sent
// again, what left it is on the journal's disk.
//
// It belongs to the pipeline's goroutine alone.
type window struct {
	records []*record
	bytes   int
}

// add puts a record that was closed at the end of the window.
func (w *window) add(r *record) {
	w.records = append(w.records, r)
	w.bytes += len(r.out.Plaintext)
}

// full says whether another record must wait: the window is bounded in records
// and in bytes, whichever is first.
func (w *window) full() bool {
	return len(w.records) >= maxInFlight || w.bytes >= maxWindowBytes
}

// advance drops the acknowledged records at the front and returns them:
// everything to the end of the last is durable.
//
// A record behind one that is still on its way stays: the watermark is the
// contiguous prefix, so that a crash in between loses nothing.
func (w *window) advance() []*record {
	n := 0
	for n < len(w.records) && w.records[n].acknowledged {
		w.bytes -= len(w.records[n].out.Plaintext)
		n++
	}
	front := w.records[:n:n]
	w.records = append([]*record(nil), w.records[n:]...)
	return front
}

// drop drops the first n records: they are in the spool.
func (w *window) drop(n int) {
	for _, r := range w.records[:n] {
		w.bytes -= len(r.out.Plaintext)
	}
	w.records = append([]*record(nil), w.records[n:]...)
}

// replace puts another record in the place of one that could not be sealed.
func (w *window) replace(old, with *record) {
	for i, r := range w.records {
		if r == old {
			w.records[i] = with
			w.bytes += len(with.out.Plaintext) - len(old.out.Plaintext)
		}
	}
}

// oldest is when the first event that waits ended; zero when none waits.
func (w *window) oldest() time.Time {
	if len(w.records) == 0 {
		return time.Time{}
	}
	return w.records[0].oldest
}
