package wire_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

func TestParseJSON(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want any // nil and !ok: refused
		ok   bool
	}{
		{`{}`, map[string]any{}, true},
		{` { "a" : [ 1 , -2.5e3 , true , false , null ] } `, map[string]any{"a": []any{1.0, -2500.0, true, false, nil}}, true},
		{`"\u00e9\n\"\\"`, "é\n\"\\", true},
		{`{"a\"b":"c\\"}`, map[string]any{`a"b`: `c\`}, true},
		{`"\\\\\\"`, `\\\`, true},
		{`{"a":1,"a":2}`, map[string]any{"a": 2.0}, true},
		{`[]`, []any{}, true},
		{``, nil, false},
		{`{`, nil, false},
		{`{"a"}`, nil, false},
		{`{"a":1,}`, nil, false},
		{`[1,]`, nil, false},
		{`{} {}`, nil, false},
		{`01`, nil, false},
		{`1e999`, nil, false},
		{`nul`, nil, false},
		{"\"a\nb\"", nil, false},
		{"\"12345678\x01\"", nil, false},
		{"\"\xff\"", nil, false},
		{`"\x"`, nil, false},
		{`"abc\"`, nil, false},
		{strings.Repeat("[", 100) + strings.Repeat("]", 100), nil, false}, // too deep
		{"[" + strings.Repeat("0,", 70000) + "0]", nil, false},            // too many
	} {
		v, err := wire.ParseJSON([]byte(tc.in))
		if (err == nil) != tc.ok {
			t.Errorf("ParseJSON(%.40q) = %v, want ok: %t", tc.in, err, tc.ok)
			continue
		}
		if err == nil {
			if diff := cmp.Diff(tc.want, wire.Plain(v)); diff != "" {
				t.Errorf("ParseJSON(%q) differs (-want +got):\n%s", tc.in, diff)
			}
		}
	}
}

// FuzzParseJSON holds the parser against the standard library's: both take the same bodies and see the same in them. Ours
// refuses more for size and depth, numbers of more than 64 characters and invalid UTF-8.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{"Records":[{"Data":"aGk=","PartitionKey":"k"}]}`, `{"a\u0062":"\ud83d\ude00"}`, `[1e3,-0,0.5]`, `"\\\""`, ` null `} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var want any
		oracle := json.Unmarshal(in, &want)
		v, err := wire.ParseJSON(in)
		if err != nil {
			return // refusals are the table test's
		}
		if oracle != nil {
			t.Fatalf("ParseJSON(%q) takes what encoding/json refuses: %v", in, oracle)
		}
		if diff := cmp.Diff(want, wire.Plain(v)); diff != "" {
			t.Fatalf("ParseJSON(%q) differs (-encoding/json +ours):\n%s", in, diff)
		}
	})
}
