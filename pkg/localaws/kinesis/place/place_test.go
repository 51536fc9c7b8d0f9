package place_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-das/weir/pkg/localaws/kinesis/place"
)

// TestSequenceForm: the layout is AWS's, here as kinesalite 3.3.3 writes it from the same fields.
func TestSequenceForm(t *testing.T) {
	for want, s := range map[string]place.Sequence{
		"49646437577175378652512468275258999061140677508613537842": {Created: 1700000000, Index: 7, Arrived: 1700000005, Shard: 3},
		"49646437577387235731898509195093916978173919909522707138": {Created: 1700000000, Index: math.MaxInt64, Arrived: 1700000005, Shard: 300},
	} {
		if got := s.String(); got != want {
			t.Errorf("%+v = %s, want %s", s, got, want)
		}
	}
}

func sequences() *rapid.Generator[place.Sequence] {
	return rapid.Custom(func(t *rapid.T) place.Sequence {
		return place.Sequence{
			Created: rapid.Int64Range(0, 1<<36-1).Draw(t, "created"),
			Arrived: rapid.Int64Range(0, 1<<36-1).Draw(t, "arrived"),
			Index:   rapid.Uint64Range(0, math.MaxInt64).Draw(t, "index"),
			Shard:   rapid.Uint32Range(0, math.MaxInt32).Draw(t, "shard"),
		}
	})
}

// TestSequenceRoundTrip: text and back, and within a shard the order of the numbers is the order of the indexes.
func TestSequenceRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := sequences().Draw(t, "a"), sequences().Draw(t, "b")
		text := a.String()
		if got, ok := place.ParseSequence(text); !ok || got != a {
			t.Fatalf("ParseSequence(%s) = %+v, %t, want %+v", text, got, ok, a)
		}
		if len(text) != 56 {
			t.Fatalf("%+v has %d digits, want 56", a, len(text))
		}
		b.Created, b.Shard = a.Created, a.Shard
		if (a.Index < b.Index) != (text < b.String()) && a.Index != b.Index {
			t.Fatalf("%+v and %+v are not ordered by index", a, b)
		}
	})
}

func FuzzParseSequence(f *testing.F) {
	f.Add("49543463076548007577105092703039560359975228518395012686")
	f.Add(place.Sequence{Created: 1700000000, Arrived: 1700000001, Index: 1, Shard: 3}.String())
	f.Add("0")
	f.Fuzz(func(t *testing.T, text string) {
		s, ok := place.ParseSequence(text)
		if !ok {
			return
		}
		want, valid := new(big.Int).SetString(text, 10)
		got, _ := new(big.Int).SetString(s.String(), 10)
		if !valid || got.Cmp(want) != 0 {
			t.Fatalf("ParseSequence(%q) = %+v, which is %s", text, s, got)
		}
	})
}

func FuzzParseHashKey(f *testing.F) {
	f.Add("340282366920938463463374607431768211455")
	f.Add("340282366920938463463374607431768211456")
	f.Add("00")
	max128 := new(big.Int).Lsh(big.NewInt(1), 128)
	f.Fuzz(func(t *testing.T, text string) {
		h, ok := place.ParseHashKey(text)
		digits := text != ""
		for _, c := range text {
			digits = digits && c >= '0' && c <= '9'
		}
		want, _ := new(big.Int).SetString(text, 10)
		if fits := digits && want.Cmp(max128) < 0; ok != fits {
			t.Fatalf("ParseHashKey(%q) = %t, want %t", text, ok, fits)
		}
		if ok && h.String() != want.String() {
			t.Fatalf("ParseHashKey(%q) = %s, want %s", text, h.String(), want)
		}
	})
}

// TestSplit holds the parts against math/big: floor(2^128/n)·i.
func TestSplit(t *testing.T) {
	all := new(big.Int).Lsh(big.NewInt(1), 128)
	for _, n := range []uint64{1, 2, 3, 7, 10, 1000, 99999} {
		width := new(big.Int).Div(all, new(big.Int).SetUint64(n))
		for _, i := range []uint64{0, 1, n / 2, n - 1} {
			if i >= n {
				continue
			}
			want := new(big.Int).Mul(width, new(big.Int).SetUint64(i)).String()
			if got := place.Split(i, n).String(); got != want {
				t.Errorf("Split(%d, %d) = %s, want %s", i, n, got, want)
			}
		}
	}
}
