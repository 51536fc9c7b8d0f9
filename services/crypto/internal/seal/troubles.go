package seal

import (
	"sync"
	"time"
)

// calmAfter is for how long an instance must have no trouble of a kind for the
// next to be news.
const calmAfter = 30 * time.Second

// troubles remembers why streams ended. A sender opens several streams and opens
// them again for as long as the journal takes nothing: the log has one line of
// that, not one a second.
type troubles struct {
	mu   sync.Mutex
	last map[trouble]time.Time
}

type trouble struct{ instance, cause string }

// news notes a trouble and says whether it was not there lately.
func (t *troubles) news(instance string, err error) bool {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for old, at := range t.last {
		if now.Sub(at) >= calmAfter {
			delete(t.last, old)
		}
	}
	key := trouble{instance, err.Error()}
	_, known := t.last[key]
	t.last[key] = now
	return !known
}
