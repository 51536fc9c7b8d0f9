package wire_test

import (
	"encoding/hex"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

func TestParseCBOR(t *testing.T) {
	for _, tc := range []struct {
		in   string // hex; RFC 8949, appendix A where there is a value
		want any
		ok   bool
	}{
		{"17", 23.0, true},
		{"1903e8", 1000.0, true},
		{"3903e7", -1000.0, true},
		{"3bffffffffffffffff", -18446744073709551616.0, true},
		{"f93e00", 1.5, true},
		{"f90001", 5.960464477539063e-8, true},
		{"f9c400", -4.0, true},
		{"fa47c35000", 100000.0, true},
		{"fb3ff199999999999a", 1.1, true},
		{"f4", false, true},
		{"f5", true, true},
		{"f6", nil, true},
		{"c11a514b67b0", 1363896240.0, true},
		{"4401020304", []byte{1, 2, 3, 4}, true},
		{"6449455446", "IETF", true},
		{"5f42010243030405ff", []byte{1, 2, 3, 4, 5}, true},
		{"7f657374726561646d696e67ff", "streaming", true},
		{"826161bf61626163ff", []any{"a", map[string]any{"b": "c"}}, true},
		{"9f018202039f0405ffff", []any{1.0, []any{2.0, 3.0}, []any{4.0, 5.0}}, true},
		{"", nil, false},
		{"18", nil, false},
		{"1c", nil, false},                   // reserved
		{"ff", nil, false},                   // a break alone
		{"f97e00", nil, false},               // NaN
		{"a10102", nil, false},               // a key that is no text
		{"bf6161ff", nil, false},             // a key without a value
		{"5f6161ff", nil, false},             // text inside bytes
		{"61ff", nil, false},                 // not UTF-8
		{"9bffffffffffffffff", nil, false},   // longer than anything
		{"5bffffffffffffffff00", nil, false}, // longer than the body
		{"1fff", nil, false},
		{"0000", nil, false}, // two values
		{strings.Repeat("81", 40) + "00", nil, false},
		{strings.Repeat("c1", 40) + "00", nil, false},
	} {
		in, err := hex.DecodeString(tc.in)
		if err != nil {
			t.Fatal(err)
		}
		v, err := wire.ParseCBOR(in)
		if (err == nil) != tc.ok {
			t.Errorf("ParseCBOR(%.40s) = %v, want ok: %t", tc.in, err, tc.ok)
			continue
		}
		if err == nil {
			if diff := cmp.Diff(tc.want, wire.Plain(v)); diff != "" {
				t.Errorf("ParseCBOR(%s) differs (-want +got):\n%s", tc.in, diff)
			}
		}
	}
}

// FuzzParseCBOR holds the parser against an independent one: what ours takes, that one takes and sees the same in it.
func FuzzParseCBOR(f *testing.F) {
	for _, s := range []string{"bf6161c11a514b67b0ff", "9f018202039f0405ffff", "fb3ff199999999999a", "5f42010243030405ff", "a2616101616202"} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	oracle, err := cbor.DecOptions{TimeTag: cbor.DecTagIgnored, MaxNestedLevels: 64, MaxArrayElements: 1 << 17, MaxMapPairs: 1 << 17,
		IntDec: cbor.IntDecConvertNone, BignumTag: cbor.BignumTagForbidden, DefaultByteStringType: nil}.DecMode()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := wire.ParseCBOR(in)
		if err != nil {
			return
		}
		var want any
		if err := oracle.Unmarshal(in, &want); err != nil {
			if strings.Contains(err.Error(), "tag") || strings.Contains(err.Error(), "time") { // it checks what tags promise; we read past them
				return
			}
			t.Fatalf("ParseCBOR(%x) takes what the oracle refuses: %v", in, err)
		}
		plain, tagged := plainCBOR(want)
		if tagged { // we read past tags
			return
		}
		if diff := cmp.Diff(plain, wire.Plain(v)); diff != "" {
			t.Fatalf("ParseCBOR(%x) differs (-oracle +ours):\n%s", in, diff)
		}
	})
}

// plainCBOR brings the oracle's types to those of wire.Plain. tagged says that the oracle made
// something else of a tag than its content, as it does of instants and of keys.
func plainCBOR(v any) (plain any, tagged bool) {
	var walk func(v any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case uint64:
			return float64(v)
		case int64:
			return float64(v)
		case float32:
			return float64(v)
		case big.Int:
			f, _ := v.Float64()
			return f
		case time.Time:
			tagged = true
			return float64(v.Unix())
		case cbor.Tag:
			return walk(v.Content)
		case []any:
			out := []any{}
			for _, m := range v {
				out = append(out, walk(m))
			}
			return out
		case map[any]any:
			out := map[string]any{}
			for k, m := range v {
				name, isText := k.(string)
				tagged = tagged || !isText
				out[name] = walk(m)
			}
			return out
		}
		return v
	}
	return walk(v), tagged
}

// TestWriter writes one answer in both encodings and has independent parsers read it.
func TestWriter(t *testing.T) {
	at := time.UnixMilli(1700000000123)
	write := func(w *wire.Writer) []byte {
		w.Map().Key("s").Str("a\"\\\n\x01é\xff")
		w.Key("i").Int(-5).Key("big").Int(math.MaxInt64).Key("b").Bool(true).Key("f").Bool(false).Key("t").Time(at)
		w.Key("x").Blob([]byte{0, 255}).Key("l").List().Int(1).List().EndList().Map().EndMap().Str("z").EndList().EndMap()
		return w.Bytes()
	}
	js, err := wire.ParseJSON(write(wire.NewWriter(nil, false)))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"s": "a\"\\\n\x01é\ufffd", "i": -5.0, "big": float64(math.MaxInt64), "b": true, "f": false, "t": 1700000000.123,
		"x": "AP8=", "l": []any{1.0, []any{}, map[string]any{}, "z"}}
	if diff := cmp.Diff(want, wire.Plain(js)); diff != "" {
		t.Errorf("JSON differs (-want +got):\n%s", diff)
	}
	var got any
	if err := cbor.Unmarshal(write(wire.NewWriter(nil, true)), &got); err != nil {
		t.Fatal(err)
	}
	want["x"], want["t"] = []byte{0, 255}, 1700000000123.0 // milliseconds, which the oracle takes for seconds
	if plain, _ := plainCBOR(got); !cmp.Equal(any(want), plain) {
		diff := cmp.Diff(any(want), plain)
		t.Errorf("CBOR differs (-want +got):\n%s", diff)
	}
}
