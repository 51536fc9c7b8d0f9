package journal

import "testing"

// FuzzParseProof looks for an answer that counts as a proof and does not say so.
func FuzzParseProof(f *testing.F) {
	f.Add([]byte(`{"server":{"name":"nats-0"},"data":{"config":{"sync_always":true}}}`))
	f.Add([]byte(`{"server":{"name":"nats-0"},"data":{"config":{"sync_interval":120000000000}}}`))
	f.Add([]byte(`{"server":{"name":"nats-0"},"data":{"disabled":true,"config":{"sync_always":true}}}`))
	f.Add([]byte(`{"server":{"name":"nats-0"},"error":{"code":500,"description":"no"}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		server, always, err := parseProof(in)
		if err != nil && (always || server != "") {
			t.Fatalf("parseProof(%q) = %q, %v, %v, want nothing beside an error", in, server, always, err)
		}
	})
}

func TestParseProof(t *testing.T) {
	for in, want := range map[string]bool{
		`{"server":{"name":"a"},"data":{"config":{"sync_always":true}}}`:                 true,
		`{"server":{"name":"a"},"data":{"config":{"sync_interval":1}}}`:                  false,
		`{"server":{"name":"a"},"data":{}}`:                                              false,
		`{"server":{"name":"a"},"data":{"disabled":true,"config":{"sync_always":true}}}`: false,
	} {
		if server, always, err := parseProof([]byte(in)); err != nil || server != "a" || always != want {
			t.Errorf("parseProof(%s) = %q, %v, %v, want %v", in, server, always, err, want)
		}
	}
	for _, in := range []string{"", "[]", `{"server":{"name":"a"},"error":{"description":"no"}}`} {
		if _, _, err := parseProof([]byte(in)); err == nil {
			t.Errorf("parseProof(%s) = nil, want an error", in)
		}
	}
}
