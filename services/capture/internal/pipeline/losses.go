package pipeline

import (
	"log/slog"
	"time"

	"github.com/weir-das/weir/services/capture/internal/ring"
)

// tellLossesEvery is how often the log tells of losses that go on: a ring that
// is too small for the load loses a few events many times a second. The stream
// tells of each; the log sums them up.
const tellLossesEvery = 10 * time.Second

// losses tells the log of gaps: the first at once, those after it together.
type losses struct {
	log  *slog.Logger
	told time.Time // when the log was told last

	// What it has not been told.
	numbers     uint64
	first, last uint64
	from, to    time.Time
	cause       ring.Cause
}

func (l *losses) add(gap ring.Item, now time.Time) {
	if l.numbers > 0 && gap.Cause != l.cause {
		l.tell(now)
	}
	if l.numbers == 0 {
		l.first, l.from, l.cause = gap.First, gap.From, gap.Cause
	}
	l.numbers += gap.Last - gap.First + 1
	l.last, l.to = gap.Last, gap.To
	l.flush(now)
}

// flush tells what there is to tell, if it is time.
func (l *losses) flush(now time.Time) {
	if l.numbers > 0 && now.Sub(l.told) >= tellLossesEvery {
		l.tell(now)
	}
}

// loss is what the witness is told of a record's gaps: those of one cause that
// follow each other are one.
type loss struct {
	first, last, count uint64
	from, to           time.Time
	cause              string
}

func (r *record) lose(l loss) {
	if n := len(r.losses); n > 0 && r.losses[n-1].cause == l.cause {
		before := &r.losses[n-1]
		before.last, before.to = l.last, l.to
		before.count += l.count
		return
	}
	r.losses = append(r.losses, l)
}

// missing tells the witness of the losses in records that are behind the ring's
// tail now. It comes after the checkpoint: whoever dies in between leaves it to
// the ring's count, and nothing is told twice.
func (p *pipeline) missing(records []*record) {
	for _, r := range records {
		for _, l := range r.losses {
			p.cfg.Witness.Missing(p.epoch, l.first, l.last, l.count, l.from, l.to, l.cause)
		}
	}
}

func (l *losses) tell(now time.Time) {
	if l.numbers == 0 {
		return
	}
	l.log.Warn("events were lost, counted and told", "events", l.numbers, "first", l.first, "last", l.last,
		"from", l.from, "to", l.to, "cause", l.cause.String())
	l.numbers, l.told = 0, now
}
