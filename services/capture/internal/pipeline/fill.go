package pipeline

import (
	"context"
	"time"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/services/capture/internal/ring"
)

// readOne takes one item from the ring into the open record. It returns false
// when there is none to be had now.
func (p *pipeline) readOne(now time.Time) (bool, error) {
	item, err := p.reader.Next()
	if err != nil || item.Kind == ring.Nothing {
		return false, err
	}
	if item.Kind == ring.Gap {
		p.addGap(item, now)
		return true, nil
	}
	elements, count, truncated, err := p.cfg.Renderer.Append(p.scratch[:0], item.Number, item.Payload)
	p.scratch = elements
	if err != nil {
		// The engine does not write such bytes; somebody else did. The number
		// was given, so its loss is told.
		p.cfg.Log.Error("an event in the ring cannot be read: counted as lost", obs.KeyNumber, item.Number, obs.KeyErr, err)
		p.addGap(ring.Item{Kind: ring.Gap, First: item.Number, Last: item.Number, From: item.Time, To: item.Time, Cause: ring.Corrupt}, now)
		return true, nil
	}
	detail := p.cfg.Renderer.Detail()
	size := detailSize(detail)
	r := p.room(len(elements)+size, now, item.Time)
	p.crowd.saw(p.cfg.Renderer.PID())
	if count > 0 {
		r.addEvent(item.Number, elements, count, truncated)
		r.addDetail(detail, size)
	} else {
		started, notice := p.cfg.Renderer.Beside()
		r.addBeside(item.Number, elements, started, notice, truncated)
		if notice != nil && p.cfg.Notice != nil {
			p.cfg.Notice(p.epoch, *notice)
		}
	}
	p.added(r)
	return true, nil
}

func (p *pipeline) addGap(item ring.Item, now time.Time) {
	r := p.room(0, now, item.From)
	r.addGap(das.Gap{First: item.First, Last: item.Last, From: item.From, To: item.To, Cause: item.Cause.String()})
	p.losses.add(item, now)
	p.cfg.Witness.Losing(p.epoch, item.First, item.Last, item.From, item.Cause.String())
	p.added(r)
}

// room returns the open record with room for so many bytes more, closing the
// one that has none.
func (p *pipeline) room(bytes int, now, ended time.Time) *record {
	if p.open != nil && !p.open.empty() && p.open.size()+bytes > p.maxBytes {
		p.send()
	}
	if p.open == nil {
		p.open = &record{prev: p.hash, last: p.hash, begun: now, oldest: ended}
		_, p.open.span = p.cfg.Tracer.Start(context.Background(), "capture.record")
	}
	return p.open
}

// added follows an item that went into r: the chain and the ring's position
// move with it, and a record that is full is closed.
func (p *pipeline) added(r *record) {
	p.hash, p.through = r.last, r.through
	r.end = p.reader.Position()
	r.end.Hash = r.last
	if r.events >= maxRecordEvents || r.size() >= p.maxBytes {
		p.send()
	}
}
