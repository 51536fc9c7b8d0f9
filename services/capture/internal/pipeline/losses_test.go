package pipeline

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/services/capture/internal/ring"
)

// Losses that go on for a minute are a line now and then, which together say
// how many there were.
func TestLossesAreSummedUpInTheLog(t *testing.T) {
	var log bytes.Buffer
	l := losses{log: slog.New(slog.NewTextHandler(&log, nil))}
	begun := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	now := begun
	for n := uint64(1); n <= 6000; n += 10 {
		l.add(ring.Item{Kind: ring.Gap, First: n, Last: n + 4, From: now, To: now, Cause: ring.RingFull}, now)
		now = now.Add(100 * time.Millisecond)
	}
	l.add(ring.Item{Kind: ring.Gap, First: 7000, Last: 7000, Cause: ring.Torn}, now)
	l.tell(now)
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) < 7 || len(lines) > 9 {
		t.Fatalf("%d lines for a minute of losses, want one each %v and one for another cause:\n%s", len(lines), tellLossesEvery, &log)
	}
	if !strings.Contains(lines[0], "events=5 first=1 last=5") {
		t.Errorf("the first line is %s, want the first loss, at once", lines[0])
	}
	if last := lines[len(lines)-1]; !strings.Contains(last, "events=1 first=7000 last=7000") || !strings.Contains(last, "cause=torn") {
		t.Errorf("the last line is %s, want the torn number by itself", last)
	}
	if second := lines[1]; !strings.Contains(second, "events=500 first=11 last=1005") {
		t.Errorf("the second line is %s, want what was lost in %v", second, tellLossesEvery)
	}
}
