package seal

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestTroubleIsNewsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := troubles{last: make(map[trouble]time.Time)}
		full, away := errors.New("full"), errors.New("away")
		for i := range 600 {
			if got, want := tr.news("db-1", full), i == 0; got != want {
				t.Fatalf("news(db-1, full) = %v after %d s, want %v", got, i, want)
			}
			time.Sleep(time.Second)
		}
		if !tr.news("db-2", full) || !tr.news("db-1", away) {
			t.Error("news = false for another instance, or another cause")
		}
		time.Sleep(calmAfter)
		if !tr.news("db-1", full) {
			t.Error("news(db-1, full) = false after a calm")
		}
		if len(tr.last) != 1 {
			t.Errorf("%d troubles are remembered, want the last alone", len(tr.last))
		}
	})
}
