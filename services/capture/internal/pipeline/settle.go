package pipeline

import (
	"fmt"
	"time"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/services/capture/internal/outbox"
)

// settle takes a result of the outbox and moves the watermark.
func (p *pipeline) settle(result outbox.Result) error {
	if result.Refused == "" {
		p.health.acknowledged = true
	}
	if p.heartbeat != nil && result.Record == &p.heartbeat.out {
		p.heartbeat = nil
		p.notary.head.CompareAndSwap(nil, &p.notary.resumed)
		return nil
	}
	for _, r := range p.window.records {
		if &r.out != result.Record {
			continue
		}
		if result.Refused != "" {
			return p.refuse(r, result.Refused)
		}
		r.acknowledged = true
		r.span.End()
	}
	return p.advance()
}

// advance moves both watermarks over what is acknowledged. While the spool holds
// what comes before it, it waits.
func (p *pipeline) advance() error {
	if p.spooling.pending {
		return nil
	}
	front := p.window.advance()
	if len(front) == 0 {
		return nil
	}
	events := uint64(0)
	for _, r := range front {
		events += r.events
		p.lost += r.lost
	}
	end := front[len(front)-1].end
	end.Lost = p.lost
	if err := p.cfg.Ring.Checkpoint(end); err != nil {
		return fmt.Errorf("moving the watermark to %d: %w", end.Number, err)
	}
	p.cfg.Hop.Out(int(events))
	p.notary.head.Store(&head{end.Number, end.Hash})
	p.cfg.Progress.Durable.Store(end.Number)
	p.cfg.Progress.Lost.Store(end.Lost)
	p.missing(front)
	p.cfg.Witness.Durable(p.epoch, end.Number)
	return nil
}

// refuse puts a gap in the place of a record that crypto says nobody can ever
// seal, so that the path behind it stays open and the loss is told. The limits
// above keep a record well below what journal and Kinesis take, so this is
// the last line, not a way of working.
//
// The gap stands for events that the chain already holds: the record's prev
// and last stay as they were, which tells a reader that the bytes existed.
func (p *pipeline) refuse(r *record, reason string) error {
	p.cfg.Log.Error("a record can never be sealed: its events are counted as lost",
		"first", r.first, "last", r.through, "reason", reason)
	gap := das.Gap{First: r.first, Last: r.through, From: r.oldest, To: time.Now(), Cause: das.CauseRefused}
	p.cfg.Witness.Losing(p.epoch, gap.First, gap.Last, gap.From, gap.Cause)
	in := &record{
		gaps: []das.Gap{gap}, prev: r.prev, last: r.last, first: r.first, through: r.through,
		end: r.end, lost: r.lost + r.events, losses: r.losses, begun: r.begun, oldest: r.oldest, span: r.span,
	}
	in.lose(loss{r.first, r.through, r.events, gap.From, gap.To, gap.Cause})
	in.close(p, r.out.Traceparent)
	in.out.MessageID += "/refused"
	p.window.replace(r, in)
	p.deliver(in)
	return nil
}
