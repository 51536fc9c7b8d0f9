// Package transit knows what is on its way through the journal: which numbers the
// journal has acknowledged and has not handed to Kinesis yet, as far as anybody can
// tell.
//
// One idea: the journal numbers what it takes. Crypto says, again and again, which
// sequence was given last and which is the oldest still there. What was durable
// before a question has a sequence up to the last one of its answer; once the oldest
// is beyond that, all of it has left. No clock is compared with another, and one
// journal is known from the next by the time at which it was made. When another one
// is there, what the one before had not handed on is lost, and lies between two
// numbers that are known.
//
// It is not counted more exactly on purpose: the numbers in between have their
// records, all but those that were lost, and a reader of the stream sees which.
//
// Before: the station, which asks crypto. Next: internal/notice, which tells.
package transit

import (
	"slices"
	"time"
)

// maxMarks bounds what is remembered of a journal that Kinesis takes nothing of.
// Where there are more, every other one goes: the bounds of a loss get coarser.
const maxMarks = 256

// Answer is what crypto said of the journal.
type Answer struct {
	Made        time.Time // another time is another journal
	First, Last uint64    // the oldest sequence in it, and the last one given
}

// Loss says that of an epoch some of the numbers First to Last went with a journal,
// between two times. All others of them have their records.
type Loss struct {
	Epoch       uint64
	First, Last uint64
	From, To    time.Time
}

// Known is what is worth keeping where a crash does not reach. The zero value
// knows nothing.
type Known struct {
	Made        time.Time // of the journal
	Delivered   uint64    // every number up to this one has left it for Kinesis
	DeliveredAt time.Time // since when, at the latest
}

// Transit follows the journal for the epochs of one instance. It is not safe for
// concurrent use. The zero value is ready.
type Transit struct {
	made   time.Time
	epochs []*epoch // in the order in which they came
}

// epoch is what is known of one.
type epoch struct {
	id          uint64
	durable     uint64 // the journal has acknowledged up to this number
	delivered   uint64
	deliveredAt time.Time
	marks       []mark // in order; all beyond delivered
}

// mark says that numbers up to number have sequences up to last, and when.
type mark struct {
	number, last uint64
	at           time.Time
}

// maxEpochs bounds the epochs whose ends are still on their way.
const maxEpochs = 8

// Resume begins with what a capture before this one knew of an epoch.
func (t *Transit) Resume(id uint64, k Known) {
	if k.Made.IsZero() || t.find(id) != nil {
		return
	}
	if t.made.IsZero() {
		t.made = k.Made
	}
	e := t.add(id)
	e.delivered, e.deliveredAt, e.durable = k.Delivered, k.DeliveredAt, k.Delivered
}

// Heard takes an answer to a question that was asked at a time when durable was
// the last number of the epoch that the journal had acknowledged. It returns what
// is lost, if another journal answers than before.
func (t *Transit) Heard(id, durable uint64, asked time.Time, a Answer) []Loss {
	e := t.find(id)
	if e == nil {
		e = t.add(id)
	}
	e.durable = max(e.durable, durable)
	var losses []Loss
	if !t.made.IsZero() && !t.made.Equal(a.Made) {
		losses = t.lost(asked)
	}
	t.made = a.Made
	if n := len(e.marks); durable > e.delivered && (n == 0 || durable > e.marks[n-1].number) {
		e.marks = append(e.marks, mark{durable, a.Last, asked})
	}
	for _, e := range t.epochs {
		e.left(a.First)
	}
	t.epochs = slices.DeleteFunc(t.epochs, func(o *epoch) bool { return o != e && o.delivered >= o.durable })
	return losses
}

// lost is what every epoch had on its way. What was acknowledged in the meantime
// by the journal that is there now is in the same range, and told with it.
func (t *Transit) lost(now time.Time) []Loss {
	var losses []Loss
	for _, e := range t.epochs {
		if e.durable > e.delivered {
			from := e.deliveredAt
			if from.IsZero() {
				from = time.UnixMicro(int64(e.id)) // an epoch is named by its beginning
			}
			losses = append(losses, Loss{e.id, e.delivered + 1, e.durable, from, now})
		}
		e.delivered, e.deliveredAt, e.marks = e.durable, now, nil
	}
	return losses
}

// left follows the oldest sequence of the journal.
func (e *epoch) left(first uint64) {
	n := 0
	for n < len(e.marks) && e.marks[n].last < first {
		e.delivered, e.deliveredAt = e.marks[n].number, e.marks[n].at
		n++
	}
	e.marks = slices.Delete(e.marks, 0, n)
	if len(e.marks) > maxMarks {
		kept := e.marks[:0]
		for i, m := range e.marks {
			if i%2 == 1 || i == len(e.marks)-1 {
				kept = append(kept, m)
			}
		}
		e.marks = kept
	}
}

// Known returns what to keep of an epoch.
func (t *Transit) Known(id uint64) Known {
	k := Known{Made: t.made}
	if e := t.find(id); e != nil {
		k.Delivered, k.DeliveredAt = e.delivered, e.deliveredAt
	}
	return k
}

func (t *Transit) find(id uint64) *epoch {
	i := slices.IndexFunc(t.epochs, func(e *epoch) bool { return e.id == id })
	if i < 0 {
		return nil
	}
	return t.epochs[i]
}

func (t *Transit) add(id uint64) *epoch {
	if len(t.epochs) >= maxEpochs {
		t.epochs = slices.Delete(t.epochs, 0, 1)
	}
	e := &epoch{id: id}
	t.epochs = append(t.epochs, e)
	return e
}
