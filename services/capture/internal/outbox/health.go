package outbox

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/weir-das/weir/pkg/obs"
)

const (
	// calmAfter is for how long nothing may break before the trouble is over: a
	// journal that is full takes a record now and then, and each would be news.
	calmAfter = 5 * time.Second
	// mostCauses bounds the lines that one trouble is worth.
	mostCauses = 8
)

// health logs when the path to the journal breaks and when it is back. However
// many streams there are and however often they try, each cause is told once.
type health struct {
	log *slog.Logger

	// mu guards what follows.
	mu     sync.Mutex
	down   bool
	cause  string    // why, while it is down
	broke  time.Time // last
	causes []string  // of the trouble that is not over; what was told of it
}

func (h *health) ok() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.down
}

// trouble is why nothing gets through now; empty where it does.
func (h *health) trouble() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.down {
		return ""
	}
	return h.cause
}

func (h *health) well() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = false
	if len(h.causes) > 0 && time.Since(h.broke) >= calmAfter {
		h.causes = nil
		h.log.Info("records reach the journal again")
	}
}

func (h *health) broken(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down, h.broke = true, time.Now()
	cause := err.Error()
	h.cause = cause
	if slices.Contains(h.causes, cause) || len(h.causes) == mostCauses {
		return
	}
	h.causes = append(h.causes, cause)
	h.log.Warn("records do not reach the journal; what the ring holds is sent again", obs.KeyErr, err)
}
