package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/pkg/obs"
	capturev1 "github.com/weir-das/weir/proto/gen/weir/capture/v1"
	"github.com/weir-das/weir/services/capture/internal/chain"
	"github.com/weir-das/weir/services/capture/internal/outbox"
	"github.com/weir-das/weir/services/capture/internal/ring"
	"github.com/weir-das/weir/services/capture/internal/spool"
)

// While the path is down and the ring gets full, what would go to crypto goes to
// the spool: then it is stored, and the ring may forget it, but not durable, and
// sessions wait on. While the spool holds anything of this epoch what comes after
// waits behind it, in the window and the ring, and in the spool if that gets too
// full. So `durable` is a prefix at all times, whoever dies.

const (
	// spoolShare is the share of the ring, in percent, that is left to outages
	// which need no disk.
	spoolShare = 50
	// spoolAge is how long the oldest record waits before a path that nobody calls
	// broken is down all the same.
	spoolAge = 2 * time.Second
	// spoolRest is how long a spool that took nothing is left alone.
	spoolRest = 500 * time.Millisecond
)

// spooling is where the pipeline stands with the spool.
type spooling struct {
	pending bool      // the spool holds what is not durable, of this epoch
	since   time.Time // when it began to
	rest    time.Time // not asked before this
	told    string    // the trouble that the log knows of
	lost    uint64    // of what was spooled, as far as it is counted
}

// durable is how far the journal has everything.
func (p *pipeline) durable() ring.Durable {
	d := p.cfg.Ring.Durable()
	if d.Number == 0 {
		d.Hash = chain.Genesis(p.epoch)
	}
	return d
}

// resumeSpool takes up what a capture before this one spooled. What the ring says
// is stored, and neither the journal nor the spool has, is lost, and told: somebody
// removed the spool.
func (p *pipeline) resumeSpool() error {
	d := p.durable()
	known := d
	if p.cfg.Spool != nil {
		last, pending := p.cfg.Spool.Pending(p.epoch)
		if m, ok := p.cfg.Spool.Delivered(p.epoch); ok {
			p.spooling.lost = m.Lost
			if m.Number > known.Number {
				known = ring.Durable{Number: m.Number, Hash: m.Hash}
			}
		}
		if pending {
			p.spooling.pending, p.spooling.since = true, p.cfg.Spool.Oldest()
			if last.Number > known.Number {
				known = ring.Durable{Number: last.Number, Hash: last.Hash}
			}
		}
	}
	if known.Number >= p.through {
		return nil
	}
	p.cfg.Log.Error("events that were in the spool are gone: counted as lost", obs.KeyEpoch, p.epoch,
		"first", known.Number+1, "last", p.through)
	now := time.Now()
	p.cfg.Witness.Losing(p.epoch, known.Number+1, p.through, now, das.CauseRefused)
	end := p.reader.Position()
	r := &record{
		gaps: []das.Gap{{First: known.Number + 1, Last: p.through, From: now, To: now, Cause: das.CauseRefused}},
		prev: known.Hash, last: p.hash, first: known.Number + 1, through: p.through,
		end: end, lost: p.through - known.Number, begun: now, oldest: now,
	}
	r.lose(loss{r.first, r.through, r.lost, now, now, das.CauseRefused})
	_, r.span = p.cfg.Tracer.Start(context.Background(), "capture.record")
	r.close(p, "")
	p.window.add(r)
	p.deliver(r)
	return nil
}

// deliver gives a closed record to the outbox, or holds it while the spool is
// not empty.
func (p *pipeline) deliver(r *record) {
	if r.held = p.spooling.pending; !r.held {
		p.outbox.Send(&r.out)
	}
}

// collect looks how far the spool is drained, moves `durable` with it, and lets
// go what was held behind it.
func (p *pipeline) collect() error {
	if p.cfg.Spool == nil {
		return nil
	}
	_, pending := p.cfg.Spool.Pending(p.epoch) // before what is delivered: it gets less, that gets more
	if m, ok := p.cfg.Spool.Delivered(p.epoch); ok {
		before, lost := p.durable().Number, m.Lost-min(p.spooling.lost, m.Lost)
		if lost > 0 {
			p.lost += lost
			p.spooling.lost = m.Lost
			p.cfg.Progress.Lost.Store(p.lost)
		}
		if err := p.cfg.Ring.Deliver(ring.Durable{Number: m.Number, Hash: m.Hash}); err != nil {
			return fmt.Errorf("moving the watermark to %d: %w", m.Number, err)
		}
		if d := p.durable(); d.Number > p.cfg.Progress.Durable.Load() {
			p.health.acknowledged = true
			p.cfg.Progress.Durable.Store(d.Number)
			p.notary.head.Store(&head{d.Number, d.Hash})
			p.witnessSpool(before+1, d.Number, lost)
		}
	}
	if pending == p.spooling.pending {
		return nil
	}
	p.spooling.pending = pending
	if pending {
		p.spooling.since = time.Now()
		return nil
	}
	for _, r := range p.window.records {
		if r.held {
			p.deliver(r)
		}
	}
	return p.advance()
}

// witnessSpool tells of what came out of the spool, and of what should have.
func (p *pipeline) witnessSpool(first, last, lost uint64) {
	if lost > 0 {
		now := time.Now()
		p.cfg.Witness.Missing(p.epoch, first, last, lost, now, now, das.CauseRefused)
	}
	p.cfg.Witness.Durable(p.epoch, last)
}

// spill moves the window into the spool, if the path is down and the ring is
// getting full; or the path is down and the pipeline is about to end, for the
// ring may not outlive the night.
func (p *pipeline) spill(now time.Time, ending bool) error {
	if p.cfg.Spool == nil || len(p.window.records) == 0 || now.Before(p.spooling.rest) || !p.spooling.pending && !p.down(now) {
		return nil
	}
	status, err := p.cfg.Ring.Status()
	if err != nil {
		return err
	}
	if !ending && status.Used() < status.Size/100*spoolShare {
		return nil
	}
	d := p.durable()
	if err := p.cfg.Spool.Begin(p.epoch, spool.Mark{Number: d.Number, Hash: d.Hash}); err != nil {
		p.sayNoRoom(now, err)
		return nil
	}
	n, err := p.cfg.Spool.Append(p.spoolRecords())
	if n > 0 {
		if err := p.stored(n); err != nil {
			return err
		}
	}
	if err != nil {
		p.sayNoRoom(now, err)
	} else {
		p.spooling.told = ""
	}
	return nil
}

// down says whether records do not get anywhere.
func (p *pipeline) down(now time.Time) bool {
	return !p.outbox.Healthy() || now.Sub(p.window.records[0].begun) > spoolAge
}

// sayNoRoom says once that the spool takes nothing now, and why. What does not
// fit stays in the ring; what does not fit there the engine counts.
func (p *pipeline) sayNoRoom(now time.Time, err error) {
	p.spooling.rest = now.Add(spoolRest)
	said := err.Error()
	if cause := errors.Unwrap(err); cause != nil {
		said = cause.Error() // without the name of the segment
	}
	if said != p.spooling.told {
		p.spooling.told = said
		p.cfg.Log.Error("the spool takes nothing: what the ring has no room for is lost, counted and told",
			obs.KeyErr, err, "used", p.cfg.Spool.Used(), "limit", p.cfg.Spool.Limit())
	}
}

// spoolRecords is the window as the spool takes it.
func (p *pipeline) spoolRecords() []spool.Record {
	records := make([]spool.Record, 0, len(p.window.records))
	for _, r := range p.window.records {
		records = append(records, spool.Record{Plaintext: r.out.Plaintext, Head: &capturev1.SpoolEntry{
			Epoch: p.epoch, First: r.first, Last: r.through, ChainBefore: r.prev[:], ChainAfter: r.last[:],
			OldestUs: r.oldest.UnixMicro(), Events: r.events,
			ClusterResourceId: p.clusterResourceID, InstanceResourceId: p.instanceResourceID,
			KmsKeyId: p.cfg.Desired.GetKmsKeyId(), KinesisStream: p.cfg.Desired.GetKinesisStream(), Version: das.VersionPostgreSQL,
			MessageId: r.out.MessageID, PartitionKey: r.out.PartitionKey, Traceparent: r.out.Traceparent,
		}})
	}
	return records
}

// stored moves `stored` over the first n records of the window, which are in the
// spool. One that is on its way to crypto is taken back; if it arrives, the
// journal knows its second coming by its message id.
func (p *pipeline) stored(n int) error {
	spooled := p.window.records[:n]
	recalled := make([]*outbox.Record, 0, n)
	for _, r := range spooled {
		recalled = append(recalled, &r.out)
		p.lost += r.lost
		r.span.End()
	}
	p.outbox.Recall(recalled...)
	end := spooled[n-1].end
	end.Lost = p.lost
	p.window.drop(n)
	if !p.spooling.pending {
		p.spooling.pending, p.spooling.since = true, time.Now()
		p.cfg.Log.Warn("the path is down and the ring gets full: records go to the spool", obs.KeyEpoch, p.epoch)
	}
	if err := p.cfg.Ring.Store(end); err != nil {
		return fmt.Errorf("moving the tail to %d: %w", end.Number, err)
	}
	p.cfg.Progress.Lost.Store(end.Lost)
	p.missing(spooled) // the gaps in them will be told by the stream
	return nil
}
