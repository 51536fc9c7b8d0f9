package ring_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/weir-das/weir/services/capture/internal/ring"
)

// A session is killed after every single instruction of a put, in each state of the ring in which a put does something
// else; and the recovery after each of these deaths is killed after each of its instructions, too. Whatever is left, every
// number comes out once, and every event that comes out is whole.
func TestDeathAfterEveryInstruction(t *testing.T) {
	path := memoryPath(t)
	d := converse(t, exec.Command(program(t, "crash"), path))
	for scenario, name := range []string{
		"empty ring",
		"frame padded to the ring's end",
		"full ring",
		"full ring with a gap",
		"gap gets its frame at the ring's end",
		"gap gets its frame, then padding",
		"padding, then the gap gets its frame",
	} {
		understood := t.Run(name, func(t *testing.T) {
			d.t = t
			before := uint64(16)
			switch {
			case scenario == 0:
				before = 0
			case scenario >= 3:
				before = 18
			}
			fates := map[string]int{} // of the number that the dead session was about to get
			answer := d.say("%d", scenario)
			for !strings.HasPrefix(answer, "end") {
				var step, recoverStep int
				var last uint64
				if _, err := fmt.Sscanf(answer, "%d %d %d", &step, &recoverStep, &last); err != nil {
					t.Fatalf("crash says %q: %v", answer, err)
				}
				fates[account(t, path, fmt.Sprintf("death after instructions %d, %d", step, recoverStep), before, last)]++
				answer = d.say("next")
			}
			if answer != fmt.Sprintf("end %d", before) {
				t.Fatalf("crash says %q, want end %d", answer, before)
			}
			t.Logf("states: %v", fates)
			if len(fates) < 2 {
				t.Error("every death had the same outcome")
			}
		})
		if !understood {
			break // the program waits for an answer to something else
		}
	}
}

// account reads the ring that crash left, and says what became of the number after before.
func account(t *testing.T, path, what string, before, last uint64) (fate string) {
	t.Helper()
	r, err := ring.Open(path)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	reader := r.Reader()
	number, lost := reader.Position().Number, uint64(0)
	fate = "not given"
	for {
		item, err := reader.Next()
		if err != nil {
			t.Fatalf("%s: after number %d: %v", what, number, err)
		}
		switch item.Kind {
		case ring.Nothing:
			if number != last || last != before+1 && last != before+2 {
				t.Fatalf("%s: numbers end at %d; %d were given before, and the last put got %d", what, number, before, last)
			}
			if s := status(t, r); s.Number != last || s.Lost != lost && s.Lost+1 != lost {
				t.Fatalf("%s: the header says number %d, lost %d; want %d, %d", what, s.Number, s.Lost, last, lost)
			}
			if last == before+1 {
				return "not given"
			}
			return fate
		case ring.Event:
			if item.Number != number+1 {
				t.Fatalf("%s: event %d after %d", what, item.Number, number)
			}
			whole(t, item)
			if item.Number == before+1 {
				fate = "event"
			}
			number = item.Number
		case ring.Gap:
			if item.First != number+1 || item.Last < item.First || item.Cause == ring.Corrupt {
				t.Fatalf("%s: gap %s after %d", what, words(item), number)
			}
			if item.Cause == ring.RingFull {
				lost += item.Last - item.First + 1
			}
			if item.First <= before+1 && before+1 <= item.Last {
				fate = item.Cause.String()
			}
			number = item.Last
		}
	}
}
