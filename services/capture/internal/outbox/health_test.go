package outbox

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Four streams that try for an hour are a line for each cause, and one when it is over.
func TestTroubleIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h := &health{log: slog.New(slog.NewTextHandler(&log, nil))}
		said := func(what string) int { return strings.Count(log.String(), what) }

		for range 3600 {
			h.broken(errors.New("refused"))
			h.broken(errors.New("full"))
			h.well() // a full journal takes one now and then
			time.Sleep(time.Second)
		}
		if broken, again := said("do not reach"), said("reach the journal again"); broken != 2 || again != 0 {
			t.Errorf("%d lines that it is broken and %d that it is not, want 2 and none:\n%s", broken, again, &log)
		}
		for range 10 {
			h.well()
			time.Sleep(time.Second)
		}
		if got := said("reach the journal again"); got != 1 {
			t.Errorf("%d lines that it is over, want 1:\n%s", got, &log)
		}
		h.broken(errors.New("full"))
		if got := said("do not reach"); got != 3 {
			t.Errorf("%d lines after the next trouble, want one more:\n%s", got, &log)
		}
		for i := range 1000 {
			h.broken(fmt.Errorf("never the same: %d", i))
		}
		if got := said("do not reach"); got > 2+mostCauses {
			t.Errorf("%d lines of causes that are never the same, want at most %d", got, 2+mostCauses)
		}
	})
}
