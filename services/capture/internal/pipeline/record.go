package pipeline

import (
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/services/capture/internal/chain"
	"github.com/weir-das/weir/services/capture/internal/outbox"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// record is a record in the making, and then on its way: consecutive numbers
// of one epoch, rendered and chained.
type record struct {
	out outbox.Record // filled when the record is closed

	list       []byte // list elements joined by commas
	numbers    []uint64
	gaps       []das.Gap
	truncated  []das.Truncation
	details    []das.Detail
	started    []das.Started
	notices    []das.Notice
	beside     int             // bytes of details, started and notices, rendered
	prev       chain.Hash      // before the first item
	last       chain.Hash      // after the last item
	checkpoint *das.Checkpoint // that a heartbeat carries

	first, through uint64        // the numbers it accounts for, gaps included; of a heartbeat, where the chain stands
	end            ring.Position // where the ring's tail goes when it is durable
	events, lost   uint64
	losses         []loss    // what lost is made of
	begun          time.Time // when its first item was read; for the 20 ms
	oldest         time.Time // when its first event ended; for the age

	span         trace.Span
	acknowledged bool
	held         bool // closed, and not given to the outbox: it goes behind what is in the spool
}

// empty says whether the record has nothing to tell.
func (r *record) empty() bool { return r.events == 0 && r.lost == 0 }

// addEvent appends the elements of one number.
func (r *record) addEvent(number uint64, elements []byte, count int, truncated []das.Truncation) {
	if len(r.list) > 0 {
		r.list = append(r.list, ',')
	}
	r.list = append(r.list, elements...)
	for range count {
		r.numbers = append(r.numbers, number)
	}
	r.truncated = append(r.truncated, truncated...)
	r.last = r.last.Event(number, elements)
	r.account(number, number)
	r.events++
}

// addBeside appends what is no Aurora event, and the object it renders to.
func (r *record) addBeside(number uint64, object []byte, started *das.Started, notice *das.Notice, truncated []das.Truncation) {
	if started != nil {
		r.started = append(r.started, *started)
	}
	if notice != nil {
		r.notices = append(r.notices, *notice)
	}
	r.beside += len(object)
	r.truncated = append(r.truncated, truncated...)
	r.last = r.last.Event(number, object)
	r.account(number, number)
	r.events++
}

// addDetail appends what there is of an event beside its elements, and takes so
// many bytes; nil where there is nothing.
func (r *record) addDetail(detail *das.Detail, size int) {
	if detail != nil {
		r.details = append(r.details, *detail)
		r.beside += size
	}
}

// detailSize is what a detail takes, rendered; nil takes nothing.
func detailSize(d *das.Detail) int {
	if d == nil {
		return 0
	}
	return len(d.Append(nil)) + len(",")
}

// size is what the record takes, in bytes, as far as the limits go.
func (r *record) size() int { return len(r.list) + r.beside }

// addGap appends a gap.
func (r *record) addGap(g das.Gap) {
	r.gaps = append(r.gaps, g)
	r.last = r.last.Gap(g.Last, g.Append(nil))
	r.account(g.First, g.Last)
	r.lost += g.Last - g.First + 1
	r.lose(loss{g.First, g.Last, g.Last - g.First + 1, g.From, g.To, g.Cause})
}

func (r *record) account(first, last uint64) {
	if r.first == 0 {
		r.first = first
	}
	r.through = last
}

// close renders the record. One without an Aurora event carries a heartbeat, so
// that it counts as nothing with a consumer that knows Aurora's fields only.
func (r *record) close(p *pipeline, traceparent string) {
	list := r.list
	if len(r.list) == 0 {
		list = []byte(das.HeartbeatList)
	}
	extension := das.Extension{
		Epoch: p.epoch, Numbers: r.numbers, Gaps: r.gaps, Truncated: r.truncated, Details: r.details,
		Started: r.started, Notices: r.notices,
		Prev: das.Hash(r.prev), Last: das.Hash(r.last), Checkpoint: r.checkpoint,
	}
	if r.empty() {
		extension.Through = das.Some(r.through)
	}
	r.out = outbox.Record{
		Plaintext:    das.AppendRecord(nil, p.clusterResourceID, p.instanceResourceID, list, &extension),
		PartitionKey: p.spread.key(p.instanceResourceID),
		Traceparent:  traceparent,
	}
	if !r.empty() {
		r.out.MessageID = fmt.Sprintf("%s/%d/%d-%d", p.instanceResourceID, p.epoch, r.first, r.through)
	}
	// What the plaintext says need not be kept twice.
	r.list, r.numbers, r.gaps, r.truncated, r.details, r.started, r.notices = nil, nil, nil, nil, nil, nil, nil
}
