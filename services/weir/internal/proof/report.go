package proof

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Who told of a loss.
const (
	InStream   = "in the stream"
	ByNotifier = "by the notifier"
	NotTold    = "no"
	NotChecked = "not checked" // not in the stream; the notifier was not asked
)

// Loss is a range of numbers without an item.
type Loss struct {
	First uint64    `json:"first"`
	Last  uint64    `json:"last"`
	Since time.Time `json:"since,omitzero"` // of the neighbour before; of the first lost where that is told
	Until time.Time `json:"until,omitzero"` // of the neighbour behind, or the last lost
	Cause string    `json:"cause,omitempty"`
	Told  string    `json:"told"`
}

// Count is how many numbers are lost.
func (l Loss) Count() uint64 { return l.Last - l.First + 1 }

// Verdicts on an epoch.
const (
	Complete = "complete"
	Told     = "loss, told"   // what is missing was told
	Untold   = "loss, untold" // something is missing that nobody told of
	Tampered = "tampered"     // the records contradict each other, or what was signed
)

// Epoch is what is known of one epoch.
type Epoch struct {
	Instance string    `json:"instance"`
	Epoch    uint64    `json:"epoch"`
	Began    time.Time `json:"began"` // when the ring was made
	Verdict  string    `json:"verdict"`

	// First and Last bound what is judged. Where the beginning is open, the
	// numbers before First were not read, or are no longer there to be read.
	First         uint64 `json:"first"`
	Last          uint64 `json:"last"`
	OpenBeginning bool   `json:"open_beginning"`

	Present  uint64 `json:"present"`  // numbers that are there
	Started  uint64 `json:"started"`  // of these, beginnings of statements
	Notices  uint64 `json:"notices"`  // of these, notices about the audit
	Repeated uint64 `json:"repeated"` // how many came again, byte for byte the same

	Repeats     []Range `json:"repeats,omitempty"` // which; the first of them
	Losses      []Loss  `json:"losses,omitempty"`  // the first of them; untold ones before told ones
	Lost        uint64  `json:"lost"`
	LostUntold  uint64  `json:"lost_untold"`
	LostListed  uint64  `json:"lost_listed"` // numbers in Losses
	Checkpoints uint64  `json:"checkpoints"`
	// Signed is the highest number under a signature that was checked.
	Signed   uint64    `json:"signed,omitempty"`
	SignedAt time.Time `json:"signed_at,omitzero"`

	FirstArrival time.Time `json:"first_arrival,omitzero"`
	LastArrival  time.Time `json:"last_arrival,omitzero"` // the last sign of life
}

// Range is a range of numbers.
type Range struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Report is what a checker makes of everything it was given.
type Report struct {
	Cluster    string `json:"cluster"`
	Records    uint64 `json:"records"`
	Unreadable uint64 `json:"unreadable"`
	// Plain counts records without a weir object. Where all are, the stream is
	// Aurora's own, and has no numbers to check.
	Plain    uint64    `json:"plain"`
	Epochs   []Epoch   `json:"epochs"`
	Findings []Finding `json:"findings,omitempty"` // the first of them
	Found    uint64    `json:"found"`              // how many there are
}

// Cut ends what is judged: what is spoken of from now on only fills holes.
func (c *Checker) Cut() { c.cut = true }

// Waiting says whether a number up to the cut is still missing.
func (c *Checker) Waiting() bool {
	for _, e := range c.epochs {
		c.settle(e)
		if len(e.holes()) > 0 {
			return true
		}
	}
	return false
}

// clockSlack is how far the database host's clock, which names epochs, may be
// behind Kinesis's.
const clockSlack = time.Minute

// settle decides where an epoch's beginning is. It returns true if that is open.
func (c *Checker) settle(e *epochState) (open bool) {
	e.older = 0
	if !time.UnixMicro(int64(e.epoch)).Before(c.opt.Horizon.Add(-clockSlack)) || e.lowest == 1 && e.floor == 0 {
		e.floor = 0
		return false
	}
	if e.floor == 0 {
		// Nothing was numbered before what came first, as far as anybody can see.
		e.floor = e.through
		if e.lowest > 0 {
			e.floor = e.lowest - 1
		}
	}
	if !c.opt.Made.IsZero() {
		// What was put into the stream before was numbered before this one was made.
		for h := range e.account().holes(e.floor+1, e.ceiling) {
			if h.since.IsZero() || h.since.After(c.opt.Made.Add(clockSlack)) {
				break
			}
			e.older = h.last
		}
	}
	return true
}

// Report judges. ledger is what the notifier told; nil where nobody asked it.
func (c *Checker) Report(ledger *Ledger) *Report {
	r := &Report{
		Cluster: c.opt.Cluster, Records: c.records, Unreadable: c.unreadable, Plain: c.plain,
		Findings: c.findings, Found: c.found,
	}
	states := slices.SortedFunc(maps.Values(c.epochs), func(a, b *epochState) int {
		return cmp.Or(cmp.Compare(a.instance, b.instance), cmp.Compare(a.epoch, b.epoch))
	})
	for _, e := range states {
		r.Epochs = append(r.Epochs, c.judge(e, ledger, c.tampered[e.epoch]))
	}
	return r
}

func (c *Checker) judge(e *epochState, ledger *Ledger, tampered bool) Epoch {
	open := c.settle(e)
	first, last := e.extent()
	out := Epoch{
		Instance: e.instance, Epoch: e.epoch, Began: time.UnixMicro(int64(e.epoch)).UTC(),
		First: first, Last: last, OpenBeginning: open,
		Started: e.started, Notices: e.notices, Repeated: e.repeated, Checkpoints: e.seen,
		Signed: e.signed, SignedAt: e.signedAt, FirstArrival: e.began, LastArrival: e.ended,
	}
	if first <= last {
		out.Present = e.present.count(first, last)
	}
	for _, x := range e.repeats[:min(len(e.repeats), maxFindings)] {
		out.Repeats = append(out.Repeats, Range{x.first, x.last})
	}
	for _, h := range e.holes() {
		l := Loss{First: h.first, Last: h.last, Since: h.since, Until: h.until, Told: NotChecked}
		out.Lost += l.Count()
		if ledger != nil {
			l.Told = NotTold
			if cause, ok := ledger.told(e.epoch, h.first, h.last); ok {
				l.Told, l.Cause = ByNotifier, cause
			}
		}
		if l.Told != ByNotifier {
			out.LostUntold += l.Count()
		}
		if len(out.Losses) < maxLosses {
			out.Losses = append(out.Losses, l)
		}
	}
	for _, l := range e.gaps {
		if l.First >= first && l.Last <= last && len(out.Losses) < maxLosses {
			out.Losses = append(out.Losses, l)
		}
	}
	for _, l := range out.Losses {
		out.LostListed += l.Count()
	}
	if first <= last {
		// What was refused may have been delivered after all.
		gone := e.account().count(first, last) - e.present.count(first, last)
		out.Lost += gone
	}
	switch {
	case tampered:
		out.Verdict = Tampered
	case out.LostUntold > 0:
		out.Verdict = Untold
	case out.Lost > 0:
		out.Verdict = Told
	default:
		out.Verdict = Complete
	}
	return out
}

// OK says whether nothing is missing untold and nothing was tampered with.
func (r *Report) OK() bool {
	if r.Found > 0 || r.Unreadable > 0 {
		return false
	}
	for _, e := range r.Epochs {
		if e.LostUntold > 0 {
			return false
		}
	}
	return true
}
