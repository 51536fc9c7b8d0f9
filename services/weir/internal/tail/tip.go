package tail

// began and ended count the shards that are being read. A shard that was split
// ends when its children have begun, so that the count is never too low.
func (r *reader) began() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live++
}

func (r *reader) ended(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live--
	delete(r.tips, id)
}

func (r *reader) reading() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live > 0
}

// atTip notes that a shard is read to what was there when Finish was closed,
// and says whether its reading ends. With Wait, that is when all shards are
// there and Wait has said no: what a shard lacks may come in another one.
func (r *reader) atTip(id string) bool {
	if r.Wait == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tips[id] = true
	if !r.enough && len(r.tips) == r.live {
		r.enough = !r.Wait()
	}
	return r.enough
}
