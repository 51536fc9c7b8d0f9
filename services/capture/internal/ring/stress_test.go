package ring_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/services/capture/internal/ring"
)

// readerProcess is a slow capture, run as a process of its own so that it can be killed. job is "RING,JOURNAL,SEED". It
// writes every item to the journal before a checkpoint covers it, with the chain's hash after it, and ends when the
// engine has stopped and everything is read.
func readerProcess(job string) error {
	fields := strings.Split(job, ",")
	seed, err := strconv.ParseUint(fields[2], 10, 64)
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(seed, 0))
	journal, err := os.OpenFile(fields[1], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	r, err := ring.Open(fields[0])
	for errors.Is(err, ring.ErrOccupied) { // the one before is killed, and not gone yet
		time.Sleep(time.Millisecond)
		r, err = ring.Open(fields[0])
	}
	if err != nil {
		return err
	}
	reader := r.Reader()
	position := reader.Position()
	var lines bytes.Buffer
	var passed []ring.Position
	for {
		item, err := reader.Next()
		if err != nil {
			return err
		}
		if item.Kind != ring.Nothing {
			line := fmt.Sprintf("%d %d %s %d %d ", item.First, item.Last, item.Cause, item.From.UnixMicro(), item.To.UnixMicro())
			if item.Kind == ring.Event {
				if !bytes.Equal(item.Payload, pattern(len(item.Payload), uint64(item.Time.UnixMicro()))) {
					return fmt.Errorf("event %d is spoiled", item.Number)
				}
				line = fmt.Sprintf("%d %d event %d %x ", item.Number, item.Number, item.Time.UnixMicro(), sha256.Sum256(item.Payload))
			}
			hash := sha256.Sum256(append(position.Hash[:], line...))
			position = reader.Position()
			position.Hash = hash
			fmt.Fprintf(&lines, "%s%x\n", line, hash[:8])
			passed = append(passed, position)
			if rnd.IntN(1000) == 0 {
				time.Sleep(time.Duration(rnd.IntN(3000)) * time.Microsecond) // the path is slow: the ring fills
			}
		}
		if item.Kind != ring.Nothing && rnd.IntN(100) != 0 {
			continue
		}
		if _, err := journal.Write(lines.Bytes()); err != nil {
			return err
		}
		lines.Reset()
		if len(passed) > 0 { // acknowledged up to somewhere
			i := rnd.IntN(len(passed))
			if err := r.Checkpoint(passed[i]); err != nil {
				return err
			}
			passed = passed[i+1:]
			continue
		}
		s, err := r.Status()
		if err != nil {
			return err
		}
		if s.State == ring.EngineStopped && position.Number == s.Number {
			return r.Close()
		}
		time.Sleep(time.Duration(rnd.IntN(1000)) * time.Microsecond)
	}
}

// Sixty-four sessions share a tiny ring, are killed at random and recovered from; the capture is killed at random, too.
// In the end every number is an event or in a gap, and in one only; every put that said it found room is an event, every
// other one is in a gap; and what was read twice was the same both times.
func TestNothingIsLostUncounted(t *testing.T) {
	duration := 4 * time.Second
	if testing.Short() {
		duration = time.Second
	}
	seed := uint64(time.Now().UnixNano()) % 1_000_000
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	path := memoryPath(t)
	log := filepath.Join(filepath.Dir(path), "puts")
	var report bytes.Buffer
	stress := exec.Command(program(t, "stress"), path, "65536", log, fmt.Sprint(duration.Seconds()), fmt.Sprint(seed))
	stress.Stdout, stress.Stderr = &report, os.Stderr
	if err := stress.Start(); err != nil {
		t.Fatal(err)
	}
	for {
		if r, err := ring.Open(path); err == nil {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			break
		} else if !errors.Is(err, ring.ErrAbsent) {
			t.Fatal(err)
		}
	}

	var journals []string
	killed := 0
	deadline := time.Now().Add(duration)
	for finished := false; !finished; {
		journal := filepath.Join(t.TempDir(), "journal")
		journals = append(journals, journal)
		reader := exec.Command(os.Args[0])
		reader.Env = append(os.Environ(), fmt.Sprintf("WEIR_RING_TEST_READER=%s,%s,%d", path, journal, rnd.Uint64()))
		reader.Stderr = os.Stderr
		if err := reader.Start(); err != nil {
			t.Fatal(err)
		}
		if time.Now().Before(deadline) {
			time.Sleep(time.Duration(20+rnd.IntN(200)) * time.Millisecond)
			_ = reader.Process.Kill()
			_ = reader.Wait()
			killed++
			continue
		}
		if err := stress.Wait(); err != nil {
			t.Fatalf("stress: %v", err)
		}
		if err := reader.Wait(); err != nil {
			t.Fatalf("the last reader: %v", err)
		}
		finished = true
	}
	var rounds, number, lost, unnumbered uint64
	if _, err := fmt.Sscan(report.String(), &rounds, &number, &lost, &unnumbered); err != nil {
		t.Fatalf("stress says %q: %v", report.String(), err)
	}

	fates, twice := fatesOf(t, journals, number)
	puts, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var in, out, events, gaps int
	for _, fate := range fates[1:] {
		if fate == "event" {
			events++
		} else {
			gaps++
		}
	}
	for i := uint64(1); i <= min(binary.LittleEndian.Uint64(puts), uint64(len(puts)/8-1)); i++ {
		entry := binary.LittleEndian.Uint64(puts[8*i:])
		n, found := entry/2, entry%2 == 1
		switch {
		case entry == 0: // killed between putting and saying so
		case n > number:
			t.Fatalf("a session got number %d, and the last is %d", n, number)
		case found && fates[n] != "event":
			t.Fatalf("number %d found room, and came out as %s", n, fates[n])
		case !found && fates[n] != "ring_full":
			t.Fatalf("number %d found no room, and came out as %s", n, fates[n])
		case found:
			in++
		default:
			out++
		}
	}
	t.Logf("%d crashes of the engine, %d of the reader; %d numbers: %d events, %d in gaps (header: %d lost); %d items read again; "+
		"%d puts said yes, %d no; %d unnumbered", rounds, killed, number, events, gaps, lost, twice, in, out, unnumbered)
	if rounds < 2 || in == 0 || out == 0 || twice == 0 {
		t.Error("the test did not test: it wants crashes, events, gaps and items read again")
	}
}

// fatesOf reads what the readers wrote, and says for every number what became of it.
func fatesOf(t *testing.T, journals []string, number uint64) (fates []string, twice int) {
	t.Helper()
	items := map[uint64]string{} // by first number
	for _, journal := range journals {
		content, err := os.ReadFile(journal)
		if errors.Is(err, os.ErrNotExist) {
			continue // killed before it made it
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(content), "\n")
		for _, line := range lines[:len(lines)-1] { // what is behind the last newline was never whole
			first, err := strconv.ParseUint(strings.Fields(line)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			if before, ok := items[first]; ok {
				twice++
				if before != line {
					t.Fatalf("read again, an item is\n%s, and was\n%s", line, before)
				}
			}
			items[first] = line
		}
	}
	fates = make([]string, number+1)
	next := uint64(1)
	for next <= number {
		line, ok := items[next]
		if !ok {
			t.Fatalf("number %d is in no item", next)
		}
		delete(items, next)
		fields := strings.Fields(line)
		last, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil || last < next || last > number {
			t.Fatalf("item %q in a ring of %d numbers: %v", line, number, err)
		}
		for n := next; n <= last; n++ {
			fates[n] = fields[2]
		}
		next = last + 1
	}
	if len(items) != 0 {
		t.Fatalf("%d items overlap others, such as %q", len(items), slices.Collect(func(yield func(string) bool) {
			for _, line := range items {
				yield(line)
				return
			}
		}))
	}
	return fates, twice
}
