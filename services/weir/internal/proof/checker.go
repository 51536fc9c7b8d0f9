package proof

import (
	"errors"
	"fmt"
	"time"
)

const (
	// maxFindings bounds how many findings are kept; all are counted.
	maxFindings = 100
	// maxLosses bounds how many losses of an epoch are listed; all are counted.
	maxLosses = 1000
	// maxEpochs bounds the epochs of one reading: a server that is started a
	// thousand times a day begins fewer.
	maxEpochs = 100_000
)

// Options say what a stream is held to.
type Options struct {
	Cluster string // the resource id that records must name; "" takes any one
	Key     *Key   // nil: signatures are counted and not checked
	// From and To bound what is judged, by arrival. What arrives before From
	// or after To only fills holes: records arrive out of order. Zero is open.
	From, To time.Time
	// Horizon is since when the stream holds everything: an epoch that began
	// later must be there from number 1.
	Horizon time.Time
	// Made is when the stream was made, where that is why it holds nothing older.
	// An epoch that had begun by then may have gone into a stream of that name which
	// was deleted, and some of its last numbers too, for records overtake each other.
	Made    time.Time
	Scratch string // directory for what does not fit into memory; "" is the system's
}

// Checker takes records in any order. It is not safe for concurrent use.
type Checker struct {
	opt    Options
	heads  *heads
	epochs map[epochName]*epochState
	owners map[uint64]string // epoch → the first instance seen in it
	ends   map[uint64]end    // epoch → what the notifier told of its end
	ids    uint32

	records, unreadable uint64
	findings            []Finding
	tampered            map[uint64]bool // epochs that a finding is about
	found               uint64
	plain               uint64 // records without a weir object
	cut                 bool
}

type epochName struct {
	instance string
	epoch    uint64
}

// end is how far an epoch came, and when it was over.
type end struct {
	last uint64
	at   time.Time
}

// New makes a checker. Close it.
func New(opt Options) *Checker {
	return &Checker{
		opt: opt, heads: newHeads(opt.Scratch),
		epochs: map[epochName]*epochState{}, owners: map[uint64]string{}, ends: map[uint64]end{},
		tampered: map[uint64]bool{},
	}
}

// Close frees what the checker holds.
func (c *Checker) Close() error { return c.heads.close() }

// Counts is how far the checker is: records taken, and numbers that are there.
func (c *Checker) Counts() (records, numbers uint64) {
	for _, e := range c.epochs {
		for _, x := range e.present {
			numbers += x.last - x.first + 1
		}
	}
	return c.records, numbers
}

// Unreadable takes a record that does not open though its key does.
func (c *Checker) Unreadable(src Source, why error) {
	c.unreadable++
	c.find(Finding{Kind: Altered, Source: src, Detail: why.Error()})
}

// Ended says that an epoch is over and came as far as last, or further: then all
// up to there must be in the stream, or told. It is called before the first Add.
// An end outside of what is judged says nothing of what is.
func (c *Checker) Ended(epoch, last uint64, at time.Time) {
	if !c.opt.From.IsZero() && at.Before(c.opt.From) || !c.opt.To.IsZero() && at.After(c.opt.To) || last > maxNumber {
		return
	}
	if last >= c.ends[epoch].last {
		c.ends[epoch] = end{last, at}
	}
}

// Add takes a record. Its errors are of this machine's disk: what is wrong with
// the record is a Finding.
func (c *Checker) Add(src Source, plain []byte) error {
	c.records++
	r, err := parse(plain)
	switch {
	case errors.Is(err, errNoExtension):
		c.plain++ // the report says what that means
		if c.plain <= maxFindings {
			c.find(Finding{Kind: Altered, Source: src, Detail: err.Error()})
		}
		return nil
	case err != nil:
		c.find(Finding{Kind: Altered, Source: src, Detail: err.Error()})
		return nil
	}
	if c.opt.Cluster == "" {
		c.opt.Cluster = r.cluster
	}
	if r.cluster != c.opt.Cluster {
		c.find(Finding{Kind: Foreign, Source: src, Instance: r.instance, Epoch: r.epoch,
			Detail: fmt.Sprintf("it names the cluster %.80q, the stream is %s's", r.cluster, c.opt.Cluster)})
		return nil
	}
	e := c.epoch(src, r)
	if e == nil {
		return nil
	}
	return c.record(src, r, e)
}

// epoch finds the state that a record belongs to.
func (c *Checker) epoch(src Source, r *record) *epochState {
	name := epochName{r.instance, r.epoch}
	if e := c.epochs[name]; e != nil {
		return e
	}
	if owner, ok := c.owners[r.epoch]; ok {
		c.find(Finding{Kind: Foreign, Source: src, Instance: r.instance, Epoch: r.epoch,
			Detail: fmt.Sprintf("the epoch is %s's", owner)})
		return nil
	}
	if len(c.epochs) >= maxEpochs {
		c.find(Finding{Kind: Foreign, Source: src, Instance: r.instance, Epoch: r.epoch, Detail: "more epochs than any cluster has"})
		return nil
	}
	c.ids++
	e := &epochState{id: c.ids, epoch: r.epoch, instance: r.instance}
	c.epochs[name], c.owners[r.epoch] = e, r.instance
	if end, ok := c.ends[r.epoch]; ok {
		e.spoken(end.last, end.at, true)
	}
	return e
}

// record holds one record against itself and everything before it.
func (c *Checker) record(src Source, r *record, e *epochState) error {
	e.records++
	if e.began.IsZero() || src.Arrived.Before(e.began) {
		e.began = src.Arrived
	}
	if src.Arrived.After(e.ended) {
		e.ended = src.Arrived
	}
	judged := !c.cut && (c.opt.To.IsZero() || !src.Arrived.After(c.opt.To))
	finding := func(kind string, first, last uint64, format string, args ...any) {
		c.find(Finding{Kind: kind, Instance: e.instance, Epoch: e.epoch, First: first, Last: last, Source: src, Detail: fmt.Sprintf(format, args...)})
	}
	if r.checkpoint != nil {
		if err := c.checkpoint(r.checkpoint, e, judged, finding); err != nil {
			return err
		}
	}
	if len(r.items) == 0 {
		e.heartbeats++
		if r.prev != r.last {
			finding(Broken, 0, 0, "it holds nothing, and leads from %s to %s", r.prev, r.last)
		}
		if !r.known {
			return nil
		}
		e.spoken(r.through, src.Arrived, judged)
		return c.claim(e, r.through, r.prev, finding)
	}

	first, last := r.items[0].first, r.items[len(r.items)-1].last
	c.frame(src, e, first, last)
	if err := c.claim(e, first-1, r.prev, finding); err != nil {
		return err
	}
	if len(r.items) == 1 && r.items[0].cause == "refused" {
		// It stands for items that the chain holds and nobody will ever see.
		if err := c.claim(e, last, r.last, finding); err != nil {
			return err
		}
	} else if err := c.follow(r, e, finding); err != nil {
		return err
	}
	c.cover(src, r, e, finding)
	e.spoken(last, src.Arrived, judged)
	return nil
}

// frame moves what is judged at the lower end.
func (c *Checker) frame(src Source, e *epochState, first, last uint64) {
	if e.lowest == 0 || first < e.lowest {
		e.lowest = first
	}
	if !c.opt.From.IsZero() && src.Arrived.Before(c.opt.From) {
		e.floor = max(e.floor, last)
	}
}

// follow computes the chain through a record. One claim that fails is told:
// those behind it fail for the same reason.
func (c *Checker) follow(r *record, e *epochState, finding func(string, uint64, uint64, string, ...any)) error {
	h, told := r.prev, false
	for _, it := range r.items {
		h = h.follow(it.last, it.content)
		agrees, err := c.heads.claim(e.id, it.last, h)
		if err != nil {
			return err
		}
		if !agrees && !told {
			told = true
			finding(Contradiction, it.first, it.last, "another record gives %s another content, or another history", span(it.first, it.last))
		}
	}
	if h != r.last {
		finding(Broken, r.items[0].first, r.items[len(r.items)-1].last, "its items lead the chain to %s, it says %s", h, r.last)
		if !told {
			return c.claim(e, r.items[len(r.items)-1].last, r.last, func(string, uint64, uint64, string, ...any) {})
		}
	}
	return nil
}

// claim holds a value against what was claimed before.
func (c *Checker) claim(e *epochState, n uint64, h Hash, finding func(string, uint64, uint64, string, ...any)) error {
	if n == 0 && h != genesis(e.epoch) {
		finding(Contradiction, 0, 0, "it does not begin where the chain of its epoch begins")
		return nil
	}
	agrees, err := c.heads.claim(e.id, n, h)
	if err == nil && !agrees {
		finding(Contradiction, n, n, "it goes on from another history than other records have up to number %d", n)
	}
	return err
}

func (c *Checker) find(f Finding) {
	c.found++
	c.tampered[f.Epoch] = true
	if len(c.findings) < maxFindings {
		c.findings = append(c.findings, f)
	}
}

// orArrival is t, or when the record came to Kinesis where t is not known.
func orArrival(t time.Time, src Source) time.Time {
	if t.IsZero() {
		return src.Arrived
	}
	return t
}

func span(first, last uint64) string {
	if first == last {
		return fmt.Sprintf("number %d", first)
	}
	return fmt.Sprintf("numbers %d to %d", first, last)
}
