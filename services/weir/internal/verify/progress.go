package verify

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/weir-das/weir/services/weir/internal/terminal"
)

const (
	firstProgress = 2 * time.Second // shorter readings need none
	nextProgress  = 500 * time.Millisecond
)

// progress shows on a terminal, and only there, how far a reading is, until stop
// is called, which leaves nothing of it.
func progress(r *reading, w io.Writer) (stop func()) {
	if terminal.StyleOf(w).Width == 0 {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		timer := time.NewTimer(firstProgress)
		defer timer.Stop()
		for {
			select {
			case <-done:
				fmt.Fprint(w, "\r\x1b[K")
				return
			case <-timer.C:
				timer.Reset(nextProgress)
				r.mu.Lock()
				records, present := r.checker.Counts()
				latest := r.latest
				r.mu.Unlock()
				line := fmt.Sprintf("%s, %s", count(records, "record"), count(present, "number"))
				if !latest.IsZero() {
					line += ", read to " + clock(latest)
				}
				fmt.Fprintf(w, "\r\x1b[K%s", line)
			}
		}
	})
	return func() { close(done); wg.Wait() }
}
