package proof

// cover notes what a record has and tells of.
func (c *Checker) cover(src Source, r *record, e *epochState, finding func(string, uint64, uint64, string, ...any)) {
	for i := 0; i < len(r.items); {
		it := r.items[i]
		x := run{first: it.first, last: it.last, since: orArrival(it.since, src), until: orArrival(it.until, src)}
		if it.kind == gap {
			set := &e.told
			if it.cause == "refused" {
				set = &e.refused
			} else if n := e.present.count(x.first, x.last); n > 0 {
				finding(Contradiction, x.first, x.last, "%s told as lost, and %d of them are there", span(x.first, x.last), n)
			}
			if n := set.add(x); n < x.last-x.first+1 && len(e.gaps) < maxLosses {
				e.gaps = append(e.gaps, Loss{First: x.first, Last: x.last, Since: x.since, Until: x.until, Cause: it.cause, Told: InStream})
			}
			i++
			continue
		}
		// Neighbours go in together: one range for the usual record.
		j := i
		for ; j < len(r.items) && r.items[j].kind != gap; j++ {
			x.last, x.until = r.items[j].last, orArrival(r.items[j].until, src)
			if e.present.count(x.last, x.last) == 0 {
				switch r.items[j].kind {
				case started:
					e.started++
				case notice:
					e.notices++
				}
			}
		}
		if n := e.told.count(x.first, x.last); n > 0 {
			finding(Contradiction, x.first, x.last, "%d of %s are told as lost elsewhere", n, span(x.first, x.last))
		}
		for again := range e.present.within(x.first, x.last) {
			e.repeats.add(again)
		}
		e.repeated += e.present.add(x)
		i = j
	}
}

// checkpoint holds a signed head against the key and the chain.
func (c *Checker) checkpoint(p *Checkpoint, e *epochState, judged bool, finding func(string, uint64, uint64, string, ...any)) error {
	e.seen++
	if p.Epoch != e.epoch || p.Instance != e.instance {
		// Signed for another place, and good there: it says nothing here.
		finding(Foreign, p.N, p.N, "it carries a checkpoint of epoch %d of %.80q", p.Epoch, p.Instance)
		return nil
	}
	if c.opt.Key != nil {
		if !c.opt.Key.verify(p, c.opt.Cluster) {
			finding(Forged, p.N, p.N, "the signature of its checkpoint (%s, key %.100s) was not made with the key that was given", p.Algorithm, p.KeyID)
			return nil
		}
		e.signatures++
		if p.N >= e.signed {
			e.signed = p.N
			if at := p.signedAt(); at.After(e.signedAt) {
				e.signedAt = at
			}
		}
	}
	e.spoken(p.N, p.signedAt(), judged)
	if p.N == 0 {
		return nil
	}
	agrees, err := c.heads.claim(e.id, p.N, p.Hash)
	if err == nil && !agrees {
		finding(Unsigned, p.N, p.N, "up to number %d, the stream's history is not the one that crypto signed", p.N)
	}
	return err
}
