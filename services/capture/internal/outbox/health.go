package outbox

import (
	"log/slog"
	"sync"

	"github.com/weir-das/weir/pkg/obs"
)

// health logs when the path to the journal breaks and when it is back, once
// each, however many streams there are.
type health struct {
	log *slog.Logger

	// mu guards down.
	mu   sync.Mutex
	down bool
}

func (h *health) ok() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.down
}

func (h *health) well() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		h.log.Info("records reach the journal again")
	}
	h.down = false
}

func (h *health) broken(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.down {
		h.log.Warn("records do not reach the journal; what the ring holds is sent again", obs.KeyErr, err)
	}
	h.down = true
}
