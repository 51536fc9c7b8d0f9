package proof_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/services/weir/internal/proof"
)

// one is the report of a stream with one epoch.
func one(t *testing.T, r *proof.Report) proof.Epoch {
	t.Helper()
	if len(r.Epochs) != 1 {
		t.Fatalf("%d epochs, want 1: %+v", len(r.Epochs), r)
	}
	return r.Epochs[0]
}

func mixed() []thing {
	list := events(1, 5)
	list = append(list, gap(6, 9, "ring_full"), ev(10, "select", "insert"), thing{First: 11, Last: 11, Kind: "started"})
	list = append(list, events(12, 14)...)
	list = append(list, thing{First: 15, Last: 15, Kind: "notice"}, gap(16, 16, "torn"))
	return append(list, events(17, 30)...)
}

// Whatever a capture does when it is killed and comes back (records in any
// order, twice, and cut differently the second time), a whole stream is whole.
func TestHonestStreams(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		h := historyOf(epoch, mixed())
		records := h.Cuts(0, 6, rnd)
		for range rnd.IntN(4) { // a capture that comes back begins at a boundary, or one behind
			records = append(records, h.Cuts(rnd.IntN(len(h.Things)), 1+rnd.IntN(8), rnd)...)
		}
		for range rnd.IntN(5) {
			records = append(records, h.Beat(rnd.IntN(len(h.Things)+1)))
		}
		rnd.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
		r := check(t, proof.Options{}, nil, records...)
		e := one(t, r)
		if !r.OK() || e.Verdict != proof.Told || e.First != 1 || e.Last != 30 || e.Present != 25 || e.Lost != 5 || e.LostUntold != 0 || e.Started != 1 || e.Notices != 1 {
			t.Fatalf("seed %d: %+v", seed, r)
		}
		want := []proof.Loss{{First: 6, Last: 9, Cause: "ring_full"}, {First: 16, Last: 16, Cause: "torn"}}
		for i, l := range sorted(e.Losses) {
			if l.First != want[i].First || l.Last != want[i].Last || l.Cause != want[i].Cause || l.Told != proof.InStream {
				t.Fatalf("seed %d: loss %+v, want %+v", seed, l, want[i])
			}
		}
	}
}

func sorted(l []proof.Loss) []proof.Loss {
	return slices.SortedFunc(slices.Values(l), func(a, b proof.Loss) int { return int(a.First) - int(b.First) })
}

// Against a model: which records are left out decides which numbers are missing.
func TestWhatIsMissingIsExact(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		h := historyOf(epoch, events(1, 60))
		there := map[uint64]bool{}
		var records []string
		for i := 0; i < len(h.Things); {
			j := min(len(h.Things), i+1+rnd.IntN(5))
			if rnd.IntN(3) > 0 {
				records = append(records, h.Cut(i, j))
				for _, x := range h.Things[i:j] {
					there[x.First] = true
				}
			}
			i = j
		}
		records = append(records, h.Beat(len(h.Things)))
		rnd.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
		e := one(t, check(t, proof.Options{}, nil, records...))
		var missing, want []uint64
		for _, l := range e.Losses {
			for n := l.First; n <= l.Last; n++ {
				missing = append(missing, n)
			}
			if l.Told != proof.NotChecked {
				t.Fatalf("seed %d: %+v, want told: not checked", seed, l)
			}
		}
		for n := uint64(1); n <= 60; n++ {
			if !there[n] {
				want = append(want, n)
			}
		}
		if !reflect.DeepEqual(missing, want) || e.Lost != uint64(len(want)) || e.LostUntold != e.Lost || e.Present != uint64(len(there)) {
			t.Fatalf("seed %d: missing %v, want %v; %+v", seed, missing, want, e)
		}
	}
}

// A hole has the times of its neighbours.
func TestWhenSomethingIsMissing(t *testing.T) {
	h := historyOf(epoch, events(1, 9))
	e := one(t, check(t, proof.Options{}, nil, h.Cut(0, 3), h.Cut(5, 9)))
	if len(e.Losses) != 1 || e.Losses[0].First != 4 || e.Losses[0].Last != 5 ||
		e.Losses[0].Since.Format("05") != "03" || e.Losses[0].Until.Format("05") != "06" {
		t.Errorf("%+v, want numbers 4 and 5, lost between the times of 3 and 6", e.Losses)
	}
}

// Each thing that somebody could do to a stream, and by what name it is told.
func TestTampering(t *testing.T) {
	h := historyOf(epoch, events(1, 12))
	all := []string{h.Cut(0, 4), h.Cut(4, 8), h.Cut(8, 12), h.Beat(12)}
	other := historyOf(epoch+1, events(1, 12))
	forged := append(events(1, 4), ev(5, "select 'never'"))
	forgery := historyOf(epoch, append(forged, events(6, 12)...))
	swapped := events(1, 12)
	swapped[5].Elements, swapped[6].Elements = swapped[6].Elements, swapped[5].Elements

	with := func(i int, record string) []string {
		list := slices.Clone(all)
		list[i] = record
		return list
	}
	for _, c := range []struct {
		name    string
		records []string
		kind    string // of the finding; "" where numbers are missing instead
		first   uint64
	}{
		{"a record is removed", []string{all[0], all[2], all[3]}, "", 5},
		{"the beginning is removed", all[1:], "", 1},
		{"the end is removed, the heartbeats are left", []string{all[0], all[1], all[3]}, "", 9},
		{"a text is altered", with(1, strings.Replace(all[1], "select 6", "select 7", 1)), proof.Broken, 5},
		{"a text is altered, and the record's end with it", with(1, forgery.Cut(4, 8)), proof.Contradiction, 8},
		{"a record's end alone is altered", with(1, strings.Replace(all[1], `"last":"`, `"last":"00`, 1)), proof.Altered, 0},
		{"events are exchanged within a record", with(1, strings.Replace(strings.Replace(strings.Replace(all[1], "select 6", "x", 1), "select 7", "select 6", 1), `"x"`, `"select 7"`, 1)), proof.Broken, 5},
		{"the same, chained anew", with(1, historyOf(epoch, swapped).Cut(4, 8)), proof.Contradiction, 8},
		{"numbers are exchanged", with(1, strings.Replace(all[1], `"n":[5,6,7,8]`, `"n":[5,7,6,8]`, 1)), proof.Broken, 5},
		{"an event is taken out of a record", with(1, h.Record(h.Things[4].JSON()+","+h.Things[6].JSON()+","+h.Things[7].JSON(), "5,7,8", "", h.Heads[4], h.Heads[8])), proof.Altered, 0},
		{"a record is repeated under other numbers", append(slices.Clone(all), h.Record(h.Things[0].JSON(), "13", "", h.Heads[0], h.Heads[1])), proof.Contradiction, 12},
		{"a record is forged beside the true one", append(slices.Clone(all), forgery.Cut(4, 8)), proof.Contradiction, 5},
		{"an event is told as lost", with(1, historyOf(epoch, append(events(1, 4), gap(5, 8, "ring_full"))).Cut(4, 5)), proof.Contradiction, 8},
		{"a lost number is told, and there", append(slices.Clone(all), h.Record(`{"type":"heartbeat"}`, "", `,"gaps":[`+gap(6, 6, "torn").JSON()+`]`, h.Heads[5], hash(h.Heads[5], 6, gap(6, 6, "torn").JSON()))), proof.Contradiction, 6},
		{"a record of another epoch is put in", with(1, strings.Replace(other.Cut(4, 8), fmt.Sprint(epoch+1), fmt.Sprint(epoch), 1)), proof.Contradiction, 4},
		{"the first record of another epoch is put in", with(0, strings.Replace(other.Cut(0, 4), fmt.Sprint(epoch+1), fmt.Sprint(epoch), 1)), proof.Contradiction, 0},
		{"a record of another cluster is put in", append(slices.Clone(all), strings.Replace(all[1], cluster, "cluster-CCCCCCCCCCCCCCCCCCCCCCCCCC", 1)), proof.Foreign, 0},
		{"a record is put under another instance", append(slices.Clone(all), strings.Replace(all[1], instance, "db-CCCCCCCCCCCCCCCCCCCCCCCCCC", 1)), proof.Foreign, 0},
		{"a heartbeat of another history", append(slices.Clone(all), forgery.Beat(12)), proof.Contradiction, 12},
		{"a record in Aurora's manner", append(slices.Clone(all), `{"type":"DatabaseActivityMonitoringRecord","clusterId":"`+cluster+`","instanceId":"`+instance+`","databaseActivityEventList":[]}`), proof.Altered, 0},
		{"a list that stands twice", with(1, strings.Replace(all[1], `"weir":`, `"databaseActivityEventList":[],"weir":`, 1)), proof.Altered, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, order := range []string{"forwards", "backwards"} {
				records := slices.Clone(c.records)
				if order == "backwards" {
					slices.Reverse(records)
				}
				r := check(t, proof.Options{Cluster: cluster}, nil, records...)
				if r.OK() {
					t.Fatalf("%s: all is well: %+v", order, r)
				}
				if c.kind == "" {
					e := one(t, r)
					if r.Found != 0 || len(e.Losses) != 1 || e.Losses[0].First != c.first || e.Losses[0].Count() != 4 || e.Verdict != proof.Untold {
						t.Errorf("%s: %+v, want four numbers missing from %d on", order, r, c.first)
					}
					continue
				}
				if !slices.ContainsFunc(r.Findings, func(f proof.Finding) bool { return f.Kind == c.kind }) {
					t.Errorf("%s: %+v, want a finding %q", order, r.Findings, c.kind)
				}
				if order == "forwards" && !slices.ContainsFunc(r.Findings, func(f proof.Finding) bool { return f.Kind == c.kind && f.First == c.first }) {
					t.Errorf("%+v, want %q at number %d", r.Findings, c.kind, c.first)
				}
			}
		})
	}
}

// What is put in again as it is, is named, and harms nothing.
func TestReplayIsNamed(t *testing.T) {
	h := historyOf(epoch, events(1, 12))
	r := check(t, proof.Options{}, nil, h.Cut(0, 6), h.Cut(6, 12), h.Cut(2, 4), h.Cut(2, 4))
	e := one(t, r)
	if !r.OK() || e.Verdict != proof.Complete || e.Repeated != 4 || !reflect.DeepEqual(e.Repeats, []proof.Range{{First: 3, Last: 4}}) {
		t.Errorf("%+v, want numbers 3 and 4 repeated, four times in all", r)
	}
}

// A record that can never be sealed leaves a gap in its place, and the chain
// goes on as if it were there. Delivered after all, nothing is lost.
func TestRefused(t *testing.T) {
	h := historyOf(epoch, events(1, 12))
	refused := h.Record(`{"type":"heartbeat"}`, "", `,"gaps":[`+gap(5, 8, "refused").JSON()+`]`, h.Heads[4], h.Heads[8])
	for _, c := range []struct {
		more    []string
		verdict string
		lost    uint64
	}{{nil, proof.Told, 4}, {[]string{h.Cut(5, 7)}, proof.Told, 2}, {[]string{h.Cut(4, 6), h.Cut(6, 8)}, proof.Complete, 0}} {
		r := check(t, proof.Options{}, nil, append([]string{h.Cut(0, 4), refused, h.Cut(8, 12)}, c.more...)...)
		if e := one(t, r); !r.OK() || e.Verdict != c.verdict || e.Lost != c.lost || e.LostUntold != 0 {
			t.Errorf("with %d more records: %+v, want %s, %d lost", len(c.more), r, c.verdict, c.lost)
		}
	}
}

// What the notifier told counts, and nothing beyond it.
func TestLedger(t *testing.T) {
	h := historyOf(epoch, events(1, 20))
	records := []string{h.Cut(0, 4), h.Cut(8, 10), h.Cut(14, 16), h.Beat(20)} // 5–8, 11–14 and 17–20 are missing
	ledger := proof.NewLedger([]proof.Window{
		{Epoch: epoch, First: 7, Last: 12, Cause: "b"}, {Epoch: epoch, First: 5, Last: 6, Cause: "a"},
		{Epoch: epoch + 1, First: 1, Last: 100}, {Epoch: epoch, First: 17, LowerBound: true, Cause: "power"},
	})
	e := one(t, check(t, proof.Options{}, ledger, records...))
	told := map[uint64]string{}
	for _, l := range e.Losses {
		told[l.First] = l.Told + "/" + l.Cause
	}
	want := map[uint64]string{5: proof.ByNotifier + "/a", 11: proof.NotTold + "/", 17: proof.ByNotifier + "/power"}
	if !reflect.DeepEqual(told, want) || e.Verdict != proof.Untold || e.Lost != 12 || e.LostUntold != 4 {
		t.Errorf("%v, %+v, want %v", told, e, want)
	}
}

// What was numbered before the stream was made may have gone into the one before it.
// What was numbered later is missing.
func TestAnOlderStreamMayHaveHadIt(t *testing.T) {
	h := historyOf(epoch, events(1, 200)) // one a second
	records := []string{h.Cut(19, 25), h.Cut(27, 100), h.Cut(105, 200)}
	made := time.UnixMicro(epoch).Add(30 * time.Second)
	for _, c := range []struct {
		made           time.Time
		first, missing uint64
	}{
		{time.Time{}, 20, 2 + 5}, // 26 and 27, and 101 to 105
		{made, 28, 5},
	} {
		e := one(t, check(t, proof.Options{Horizon: made.Add(time.Hour), Made: c.made}, nil, records...))
		if !e.OpenBeginning || e.First != c.first || e.LostUntold != c.missing {
			t.Errorf("made at %v: %+v, want it judged from %d on, with %d missing", c.made, e, c.first, c.missing)
		}
	}
	// An epoch that is there from its first number on never was anywhere else.
	e := one(t, check(t, proof.Options{Horizon: made.Add(time.Hour), Made: made}, nil, h.Cut(0, 25), h.Cut(27, 100)))
	if e.OpenBeginning || e.LostUntold != 2 {
		t.Errorf("%+v, want numbers 26 and 27 missing", e)
	}
}

func TestNothingToCheck(t *testing.T) {
	r := check(t, proof.Options{}, nil)
	if len(r.Epochs) != 0 || r.Records != 0 {
		t.Errorf("%+v, want nothing", r)
	}
	r = check(t, proof.Options{}, nil, historyOf(epoch, nil).Beat(0))
	if e := one(t, r); !r.OK() || e.Verdict != proof.Complete || e.Present != 0 || e.First != 1 || e.Last != 0 {
		t.Errorf("a heartbeat alone: %+v, want an epoch without numbers", r)
	}
}

// FuzzAdd: nothing that decrypts makes the checker panic, and records that are
// each as a capture writes them never do either.
func FuzzAdd(f *testing.F) {
	h := historyOf(epoch, mixed())
	f.Add([]byte(h.Cut(0, 8)), []byte(h.Cut(4, len(h.Things))))
	f.Add([]byte(h.Beat(3)), []byte(h.Cut(7, 9)))
	f.Add([]byte(`{"type":"DatabaseActivityMonitoringRecord"}`), []byte(`[]`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		r := check(t, proof.Options{}, nil, h.Cut(0, 12), string(a), string(b))
		for _, e := range r.Epochs {
			if e.Present > 0 && e.First > e.Last {
				t.Errorf("%d numbers from %d to %d", e.Present, e.First, e.Last)
			}
		}
	})
}
