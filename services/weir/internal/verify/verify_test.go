package verify

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/weir-das/weir/services/weir/internal/proof"
	"github.com/weir-das/weir/services/weir/internal/proof/prooftest"
)

// recent is an epoch that began now, so that it must be there from number 1.
func recent(things []prooftest.Thing) *prooftest.History {
	return prooftest.New(uint64(time.Now().UnixMicro()), things)
}

// A whole stream over several shards, one of them split meanwhile, with gaps
// and repeats: read with nothing but what a reader may do.
func TestWholeStream(t *testing.T) {
	w := newWorld(t, 3)
	h := recent(append(prooftest.Events(1, 40), append([]prooftest.Thing{prooftest.Gap(41, 49, "ring_full")}, prooftest.Events(50, 90)...)...))
	rnd := rand.New(rand.NewPCG(1, 1))
	w.put(h.Cuts(0, 5, rnd)...)
	w.put(h.Cut(10, 20), h.Cut(15, 30), h.Beat(len(h.Things)))
	o := w.verify(t.Context(), nil)
	if o.code != 0 || o.answer.Verdict != whole || len(o.answer.Epochs) != 1 {
		t.Fatalf("exit code %d: %s%s", o.code, o.out, o.errs)
	}
	e := o.answer.Epochs[0]
	if e.Verdict != proof.Told || e.Present != 81 || e.Lost != 9 || e.LostUntold != 0 || e.First != 1 || e.Last != 90 || e.Repeated != 25 || e.OpenBeginning {
		t.Errorf("%+v", e)
	}
	text := w.verify(t.Context(), func(c *Command) { c.Format = "text" })
	for _, want := range []string{"numbers 1 to 90: loss, told", "numbers 41 to 49", "ring_full; told: in the stream", "25 came again", "Whole: 81 numbers there, 9 lost and told."} {
		if !strings.Contains(text.out, want) {
			t.Errorf("no %q in\n%s", want, text.out)
		}
	}
}

func TestMissing(t *testing.T) {
	w := newWorld(t, 2)
	h := recent(prooftest.Events(1, 12))
	w.put(h.Cut(0, 4), h.Cut(8, 12))
	o := w.verify(t.Context(), nil)
	if e := o.answer.Epochs[0]; o.code != 1 || e.Verdict != proof.Untold || len(e.Losses) != 1 || e.Losses[0].First != 5 || e.Losses[0].Last != 8 || e.Losses[0].Told != proof.NotChecked {
		t.Errorf("exit code %d: %s", o.code, o.out)
	}
	text := w.verify(t.Context(), func(c *Command) { c.Format = "text" })
	for _, want := range []string{"numbers 5 to 8, between 2026-01-01 00:00:04.000Z and 2026-01-01 00:00:09.000Z; told: not checked", "NOT WHOLE: 4 numbers missing"} {
		if !strings.Contains(text.out, want) {
			t.Errorf("no %q in\n%s", want, text.out)
		}
	}
}

// What others have overtaken is waited for; what comes after that is not judged.
func TestWhatIsOnItsWayIsWaitedFor(t *testing.T) {
	w := newWorld(t, 2)
	h := recent(prooftest.Events(1, 20))
	w.put(h.Cut(0, 4), h.Cut(8, 12), h.Beat(12))
	w.after(6, func() { // both shards are read, and what is missing is waited for
		w.put(h.Cut(16, 20)) // 13 to 16 come later still
		w.put(h.Cut(4, 8))
	})
	o := w.verify(t.Context(), func(c *Command) { c.Patience = time.Minute })
	if e := o.answer.Epochs[0]; o.code != 0 || e.Verdict != proof.Complete || e.Last != 12 {
		t.Errorf("exit code %d: %s", o.code, o.out)
	}
}

// An altered ciphertext, a foreign key, and what is no record at all.
func TestRecordsThatDoNotOpen(t *testing.T) {
	h := recent(prooftest.Events(1, 8))
	t.Run("altered", func(t *testing.T) {
		w := newWorld(t, 1)
		sealed := w.seal(h.Cut(4, 8))
		i := bytes.Index(sealed, []byte(`"key"`)) - 100
		sealed[i] ^= 1
		w.put(h.Cut(0, 4), h.Cut(4, 8))
		w.putData("x", sealed)
		w.putData("x", []byte("hello"))
		o := w.verify(t.Context(), nil)
		if o.code != 1 || o.answer.Unreadable != 2 || o.answer.Findings[0].Kind != proof.Altered || o.answer.Findings[0].Source.Sequence == "" {
			t.Errorf("exit code %d: %s", o.code, o.out)
		}
	})
	t.Run("a disabled key", func(t *testing.T) {
		w := newWorld(t, 1)
		w.put(h.Cut(0, 8))
		if _, err := w.kms.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &w.keyID}); err != nil {
			t.Fatal(err)
		}
		o := w.verify(t.Context(), nil)
		if o.code != 2 || o.answer.Locked != 1 || o.answer.Verdict != unknown || !strings.Contains(o.out, "the KMS key is disabled") {
			t.Errorf("exit code %d: %s%s", o.code, o.out, o.errs)
		}
	})
}

// --from and --to leave the ends open, and do not take for missing what lies
// outside or came out of order.
func TestPartOfAStream(t *testing.T) {
	w := newWorld(t, 1)
	things := prooftest.Events(1, 30)
	for i := range things { // they happened after the stream was made, or it could not have all of them
		for j, text := range things[i].Elements {
			things[i].Elements[j] = strings.ReplaceAll(text, "2026-01-01", "2126-01-01")
		}
	}
	h := prooftest.New(prooftest.Epoch, things)
	w.put(h.Cut(5, 10), h.Cut(10, 20))
	time.Sleep(20 * time.Millisecond)
	middle := time.Now()
	time.Sleep(20 * time.Millisecond)
	w.put(h.Cut(24, 30))
	w.put(h.Cut(20, 22)) // and 23 and 24 are missing

	for _, c := range []struct {
		from, to    string
		first, last uint64
		missing     uint64
		code        int
	}{
		{"", "", 6, 30, 2, 1},
		{middle.Format(time.RFC3339Nano), "", 21, 30, 2, 1},
		{"", middle.Format(time.RFC3339Nano), 6, 20, 0, 0},
	} {
		o := w.verify(t.Context(), func(v *Command) { v.From, v.To = c.from, c.to })
		e := o.answer.Epochs[0]
		if o.code != c.code || e.First != c.first || e.Last != c.last || e.LostUntold != c.missing || !e.OpenBeginning {
			t.Errorf("from %q to %q: exit code %d, %+v; want %d, numbers %d to %d, %d missing", c.from, c.to, o.code, e, c.code, c.first, c.last, c.missing)
		}
	}
}

// Of an epoch that is older than the stream some numbers may have gone into one that
// was deleted, though later ones came into this one: that is said, and no loss.
func TestAStreamThatWasMadeAgain(t *testing.T) {
	w := newWorld(t, 2)
	h := prooftest.New(prooftest.Epoch, prooftest.Events(1, 30))
	w.put(h.Cut(10, 12), h.Cut(15, 30))
	o := w.verify(t.Context(), func(c *Command) { c.Format = "text" })
	if o.code != 0 || !strings.Contains(o.out, "numbers 16 to 30 (the beginning is open): complete") ||
		!strings.Contains(o.out, "numbers before 16 went elsewhere") || !strings.Contains(o.out, "WEIR-EVENT-0013") {
		t.Errorf("exit code %d:\n%s", o.code, o.out)
	}
}

// What --save keeps proves the same without AWS, to anybody.
func TestSavedRecordsProveTheSame(t *testing.T) {
	w := newWorld(t, 2)
	h := recent(prooftest.Events(1, 12))
	w.put(h.Cut(0, 4), h.Cut(4, 9), h.Cut(9, 12), h.Beat(12))
	name := filepath.Join(t.TempDir(), "kept.jsonl")
	if o := w.verify(t.Context(), func(c *Command) { c.Save = name }); o.code != 0 {
		t.Fatalf("exit code %d: %s%s", o.code, o.out, o.errs)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: it holds clear text, and must be its owner's alone", info.Mode(), err)
	}
	if o := w.verify(t.Context(), func(c *Command) { c.Save = name }); o.code != 2 || !strings.Contains(o.errs, "is there already") {
		t.Errorf("saving over a file: exit code %d: %s", o.code, o.errs)
	}
	o := run(t, t.Context(), Command{Format: "json", Records: name})
	if e := o.answer.Epochs[0]; o.code != 0 || e.Verdict != proof.Complete || e.Present != 12 {
		t.Errorf("exit code %d: %s", o.code, o.out)
	}
	kept, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(kept)), "\n")
	i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "select 6") })
	lines[i] = strings.Replace(lines[i], "select 6", "select 7", 1)
	if o := run(t, t.Context(), Command{Format: "json", Records: write(t, lines...)}); o.code != 1 || o.answer.Findings[0].Kind != proof.Broken || o.answer.Findings[0].Source.Line != int64(i+1) {
		t.Errorf("an altered line: exit code %d: %s", o.code, o.out)
	}
}

// What the notifier told counts as told; where it is not asked, that is said.
func TestEvents(t *testing.T) {
	h := recent(prooftest.Events(1, 20))
	records := write(t, h.Cut(0, 4), h.Cut(8, 10), h.Cut(12, 20))
	epoch := strconv.FormatUint(h.Epoch(), 10)
	export := write(t, `{"windows":[{"id":"w","epoch":"`+epoch+`","cause":"CAUSE_TORN","first":"5","last":"8","count":"4"},
		{"id":"x","epoch":"`+epoch+`","cause":"CAUSE_RELEASED","first":"9","last":"20"}],"newer":1}`)
	o := run(t, t.Context(), Command{Format: "json", Records: records, Events: export})
	if o.code != 1 || len(o.answer.Epochs) != 1 {
		t.Fatalf("exit code %d: %s%s", o.code, o.out, o.errs)
	}
	e := o.answer.Epochs[0]
	if len(e.Losses) != 2 || e.Losses[0].Told != proof.ByNotifier || e.Losses[0].Cause != "torn" || e.Losses[1].Told != proof.NotTold || e.LostUntold != 2 {
		t.Errorf("%+v, want 5 to 8 told by the notifier and 11 and 12 not", e)
	}
	// What weir events --format json prints: a window is two events, and an epoch's end says how far it came.
	lines := []string{
		`{"event_id":"WEIR-EVENT-0003","window":{"id":"w","epoch":"` + epoch + `","cause":"CAUSE_TORN","first":"5","count":"0","open":true}}`,
		`{"event_id":"WEIR-EVENT-0004","window":{"id":"w","epoch":"` + epoch + `","cause":"CAUSE_TORN","first":"5","last":"8","count":"4"}}`,
		`{"event_id":"WEIR-EVENT-0004","window":{"id":"y","epoch":"` + epoch + `","cause":"CAUSE_UNTOLD","first":"11","last":"12","count":"2"}}`,
		`{"event_id":"WEIR-EVENT-0009","epoch_end":{"epoch":"` + epoch + `","last":"23","durable":"21"}}`,
	}
	for _, export := range []string{write(t, lines...), write(t, `{"events":[`+strings.Join(lines, ",\n")+`],"next_page_token":""}`)} {
		o = run(t, t.Context(), Command{Format: "json", Records: records, Events: export})
		e := o.answer.Epochs[0]
		if o.code != 1 || e.Last != 23 || e.Lost != 9 || e.LostUntold != 3 || e.Losses[2].First != 21 || e.Losses[2].Told != proof.NotTold {
			t.Errorf("exit code %d, %+v, want all but 21 to 23 told", o.code, e)
		}
	}
	lines = append(lines, `{"event_id":"WEIR-EVENT-0004","window":{"id":"z","epoch":"`+epoch+`","cause":"CAUSE_RING_GONE","first":"21","last":"22","lower_bound":true}}`)
	o = run(t, t.Context(), Command{Format: "json", Records: records, Events: write(t, lines...)})
	if e := o.answer.Epochs[0]; o.code != 0 || e.Verdict != proof.Told || e.Losses[2].Cause != "ring_gone" {
		t.Errorf("exit code %d, %+v, want all told: from 21 on the ring went", o.code, e)
	}
	for _, bad := range []string{write(t, "hello"), write(t, ""), write(t, `{"event_id":"x"} hello`), write(t, `[]`), write(t, `{"records":[]}`), "nonsense", filepath.Join(t.TempDir(), "gone")} {
		if o := run(t, t.Context(), Command{Format: "json", Records: records, Events: bad}); o.code != 2 || !strings.Contains(o.errs, "--events") {
			t.Errorf("--events %s: exit code %d: %s", bad, o.code, o.errs)
		}
	}
}

// Ctrl-C gives what there is, and never calls it whole.
func TestInterrupted(t *testing.T) {
	w := newWorld(t, 1)
	h := recent(prooftest.Events(1, 12))
	w.put(h.Cut(0, 4), h.Cut(8, 12))
	ctx, cancel := context.WithCancel(t.Context())
	w.after(6, cancel) // while it waits for what is missing
	o := w.verify(ctx, func(c *Command) { c.Patience = time.Hour })
	if o.code != 2 || !o.answer.Interrupted || o.answer.Verdict != unknown {
		t.Errorf("exit code %d: %s%s", o.code, o.out, o.errs)
	}
}

func TestWhatCannotBeChecked(t *testing.T) {
	t.Run("an empty stream", func(t *testing.T) {
		if o := newWorld(t, 1).verify(t.Context(), nil); o.code != 2 || !strings.Contains(o.out, "nothing was there to check") {
			t.Errorf("exit code %d: %s", o.code, o.out)
		}
	})
	t.Run("no stream", func(t *testing.T) {
		o := newWorld(t, 1).verify(t.Context(), func(c *Command) { c.Stream = "aws-rds-das-cluster-ZZZZZZZZZZZZZZZZZZZZZZZZZZ" })
		if o.code != 2 || !strings.Contains(o.errs, "aws-rds-das-cluster-ZZ") {
			t.Errorf("exit code %d: %s", o.code, o.errs)
		}
	})
	t.Run("Aurora's own", func(t *testing.T) {
		o := run(t, t.Context(), Command{Format: "json", Records: write(t, `{"type":"DatabaseActivityMonitoringRecord","clusterId":"c","instanceId":"i","databaseActivityEventList":[{"type":"heartbeat"}]}`)})
		if o.code != 2 || !strings.Contains(o.out, "no stream of Weir's") {
			t.Errorf("exit code %d: %s", o.code, o.out)
		}
	})
	t.Run("no file", func(t *testing.T) {
		if o := run(t, t.Context(), Command{Format: "json", Records: filepath.Join(t.TempDir(), "gone")}); o.code != 2 || !strings.Contains(o.errs, "gone") {
			t.Errorf("exit code %d: %s", o.code, o.errs)
		}
	})
	t.Run("no key", func(t *testing.T) {
		if o := run(t, t.Context(), Command{Format: "json", Records: write(t, "{}"), PublicKey: write(t, "hello")}); o.code != 2 || !strings.Contains(o.errs, "no public key") {
			t.Errorf("exit code %d: %s", o.code, o.errs)
		}
	})
}

func TestCalledWrongly(t *testing.T) {
	for _, c := range []struct {
		command Command
		want    string
	}{
		{Command{From: "latest"}, "--from latest"},
		{Command{To: "tomorrow"}, "--to tomorrow"},
		{Command{From: "1h", To: "2h"}, "is not before"},
		{Command{Records: "f", From: "1h"}, "--records"},
		{Command{Patience: -1}, "--patience"},
	} {
		if err := c.command.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.command, err, c.want)
		}
	}
	if err := (Command{From: "trim-horizon", To: "5m"}).Validate(); err != nil {
		t.Error(err)
	}
}
