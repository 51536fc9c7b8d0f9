package esdk_test

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weir-das/weir/pkg/esdk"
)

// vector is a message whose key and plaintext are known.
type vector struct {
	Key       []byte `json:"wrappingKeyBase64"`
	Message   []byte `json:"messageBase64"`
	Plaintext string `json:"plaintext"`
}

func (v vector) key() *esdk.Key { return (*esdk.Key)(v.Key) }

func loadVectors(t testing.TB) map[string]vector {
	t.Helper()
	files, err := filepath.Glob("testdata/esdk-vector-*.json")
	if err != nil || len(files) != 4 {
		t.Fatalf("vectors: %v, %v; want 4", files, err)
	}
	vectors := make(map[string]vector)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v vector
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		vectors[strings.TrimSuffix(filepath.Base(file), ".json")] = v
	}
	return vectors
}

func gunzip(t *testing.T, b []byte) string {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func newKey(seed byte) *esdk.Key {
	var k esdk.Key
	for i := range k {
		k[i] = seed + byte(i)
	}
	return &k
}

func randomBytes(n int, seed uint64) []byte {
	var s [32]byte
	s[0] = byte(seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(s).Read(b)
	return b
}

func TestOpenVectors(t *testing.T) {
	for name, v := range loadVectors(t) {
		t.Run(name, func(t *testing.T) {
			got, err := esdk.Open(nil, v.key(), v.Message)
			if err != nil {
				t.Fatalf("Open = %v, want a plaintext", err)
			}
			if plain := gunzip(t, got); plain != v.Plaintext {
				t.Fatalf("Open = %.80q, want %.80q", plain, v.Plaintext)
			}
		})
	}
}

// The header of a message of ours differs from Aurora's only where it is random.
func TestHeaderIsAuroras(t *testing.T) {
	raw, err := os.ReadFile("testdata/captured-apg-outer-record.json")
	if err != nil {
		t.Fatal(err)
	}
	var outer struct {
		Events []byte `json:"databaseActivityEvents"`
	}
	if err := json.Unmarshal(raw, &outer); err != nil {
		t.Fatal(err)
	}
	captured := outer.Events
	const payload = 172
	ours := esdk.Seal(nil, newKey(1), make([]byte, payload))
	if len(ours) != len(captured) {
		t.Fatalf("Seal gave %d bytes, want %d", len(ours), len(captured))
	}
	// Message id; wrapping IV and wrapped key; header tag; ciphertext and tag.
	for _, random := range [][2]int{{4, 20}, {45, 57}, {59, 107}, {129, 145}, {169, 357}} {
		clear(ours[random[0]:random[1]])
		clear(captured[random[0]:random[1]])
	}
	if !bytes.Equal(ours, captured) {
		t.Fatalf("Seal gave\n%s\nwant\n%s", hex.Dump(ours), hex.Dump(captured))
	}
}

func TestSealOpen(t *testing.T) {
	key := newKey(1)
	sealer := esdk.NewSealer(key)
	for _, n := range []int{0, 1, 172, 4095, 4096, 4097, 8191, 8192, 8193, 100_000, 1 << 20} {
		plain := randomBytes(n, uint64(n))
		prefix := []byte("before")
		message := sealer.Seal(slices.Clone(prefix), plain)
		if !bytes.HasPrefix(message, prefix) {
			t.Fatalf("Seal(%d bytes) lost what stood before", n)
		}
		message = message[len(prefix):]
		if len(message) != esdk.SealedLen(n) {
			t.Errorf("Seal(%d bytes) gave %d bytes, SealedLen says %d", n, len(message), esdk.SealedLen(n))
		}
		got, err := esdk.Open(slices.Clone(prefix), key, message)
		if err != nil || !bytes.Equal(got, append(slices.Clone(prefix), plain...)) {
			t.Fatalf("Open(Seal(%d bytes)) = %d bytes, %v; want them back", n, len(got), err)
		}
	}
}

// Two messages with the same plaintext have nothing random in common.
func TestSealIsRandomised(t *testing.T) {
	sealer := esdk.NewSealer(newKey(1))
	a, b := sealer.Seal(nil, []byte("x")), sealer.Seal(nil, []byte("x"))
	for name, at := range map[string][2]int{"message id": {4, 20}, "wrapping IV": {45, 57}, "wrapped key": {59, 107}} {
		if bytes.Equal(a[at[0]:at[1]], b[at[0]:at[1]]) {
			t.Errorf("%s is the same in two messages", name)
		}
	}
}

func TestOpenRefusesWrongKey(t *testing.T) {
	message := esdk.Seal(nil, newKey(1), []byte("secret"))
	if _, err := esdk.Open(nil, newKey(2), message); !errors.Is(err, esdk.ErrOpen) {
		t.Fatalf("Open with another key = %v, want ErrOpen", err)
	}
}

// No bit of a message can be changed, nothing cut off, nothing added; and what
// was opened before the fault was found is not left behind.
func TestOpenRefusesChanges(t *testing.T) {
	vectors := loadVectors(t)
	messages := map[string]vector{
		"signed":  vectors["esdk-vector-js-0378-signed"],
		"two":     {Key: newKey(1)[:], Message: esdk.Seal(nil, newKey(1), bytes.Repeat([]byte{7}, 4096+64))},
		"nothing": {Key: newKey(1)[:], Message: esdk.Seal(nil, newKey(1), nil)},
	}
	for name, v := range messages {
		t.Run(name, func(t *testing.T) {
			room := make([]byte, 0, len(v.Message))
			refused := func(what string, message []byte) {
				t.Helper()
				out, err := esdk.Open(room, v.key(), message)
				if !errors.Is(err, esdk.ErrOpen) || out != nil {
					t.Fatalf("Open with %s = %d bytes, %v; want ErrOpen", what, len(out), err)
				}
				if left := room[:cap(room)]; bytes.ContainsFunc(left, func(r rune) bool { return r != 0 }) {
					t.Fatalf("Open with %s left plaintext behind", what)
				}
			}
			bits := 8
			if len(v.Message) > 1000 {
				bits = 1 // one bit of each byte is enough of 4 KiB of ciphertext
			}
			for i := range v.Message {
				for b := range bits {
					bit := byte(1) << ((i + b) % 8)
					v.Message[i] ^= bit
					refused(fmt.Sprintf("byte %d changed", i), v.Message)
					v.Message[i] ^= bit
				}
				refused(fmt.Sprintf("%d bytes of %d", i, len(v.Message)), v.Message[:i])
			}
			for b := range 256 {
				refused("a byte appended", append(slices.Clip(v.Message), byte(b)))
			}
			refused("itself appended", append(slices.Clip(v.Message), v.Message...))
			if _, err := esdk.Open(room, v.key(), v.Message); err != nil {
				t.Fatalf("Open of the unchanged message = %v", err)
			}
		})
	}
}

// Frames that are authentic each do not make another message.
func TestOpenRefusesMovedFrames(t *testing.T) {
	key := newKey(1)
	const header, frame = 145, 4 + 12 + 4096 + 16
	message := esdk.Seal(nil, key, bytes.Repeat([]byte{7}, 3*4096+1))
	other := esdk.Seal(nil, key, bytes.Repeat([]byte{7}, 3*4096+1))
	part := func(m []byte, n int) []byte { return m[header+n*frame : header+(n+1)*frame] }
	last := message[header+3*frame:]
	for name, m := range map[string][]byte{
		"a frame dropped":           slices.Concat(message[:header], part(message, 0), part(message, 2), last),
		"a frame repeated":          slices.Concat(message[:header], part(message, 0), part(message, 0), part(message, 2), last),
		"frames exchanged":          slices.Concat(message[:header], part(message, 1), part(message, 0), part(message, 2), last),
		"a frame of another":        slices.Concat(message[:header], part(message, 0), part(other, 1), part(message, 2), last),
		"another's header":          slices.Concat(other[:header], message[header:]),
		"the final frame too early": slices.Concat(message[:header], part(message, 0), last),
	} {
		if _, err := esdk.Open(nil, key, m); !errors.Is(err, esdk.ErrOpen) {
			t.Errorf("Open with %s = %v, want ErrOpen", name, err)
		}
	}
}

func TestKeyIsUnprintable(t *testing.T) {
	key := newKey('A')
	var logged bytes.Buffer
	withoutTime := func(_ []string, a slog.Attr) slog.Attr { // whose digits could be the key's
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{ReplaceAttr: withoutTime})).Info("x", "key", key, "value", *key)
	asJSON, err := json.Marshal(map[string]any{"key": key})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		fmt.Sprint(key), fmt.Sprint(*key), fmt.Sprintf("%x %d %s %q %#v %+v %v", *key, *key, *key, *key, *key, *key, *key),
		fmt.Sprintf("%x", struct{ K esdk.Key }{*key}), fmt.Errorf("with %v", key).Error(), logged.String(), string(asJSON),
	} {
		if !strings.Contains(s, "[redacted]") || strings.Contains(s, "ABCD") || strings.Contains(s, "414243") || strings.Contains(s, "65") {
			t.Errorf("a key prints as %s", s)
		}
	}
}

// Whatever is opened is the message that was sealed; everything else is refused.
func FuzzOpen(f *testing.F) {
	for _, v := range loadVectors(f) {
		if len(v.Message) < 4096 {
			f.Add(v.Message)
		}
	}
	key := newKey(0)
	known := make(map[string]bool)
	for _, v := range loadVectors(f) {
		known[string(v.Message)] = true
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		if _, err := esdk.Open(nil, key, message); err == nil && !known[string(message)] {
			t.Fatalf("Open accepted a message that was never sealed: %x", message)
		}
	})
}

// A message that is changed anywhere is refused: what the fuzzer chooses is the
// plaintext and the change.
func FuzzChangedMessage(f *testing.F) {
	f.Add([]byte("plain"), uint16(0), byte(1))
	f.Add(make([]byte, 5000), uint16(4300), byte(128))
	f.Fuzz(func(t *testing.T, plain []byte, at uint16, change byte) {
		key := newKey(3)
		message := esdk.Seal(nil, key, plain)
		got, err := esdk.Open(nil, key, message)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("Open(Seal(%x)) = %x, %v", plain, got, err)
		}
		if int(at) >= len(message) || change == 0 {
			return
		}
		message[at] ^= change
		if _, err := esdk.Open(nil, key, message); err == nil {
			t.Fatalf("Open accepted %x with byte %d changed by %x", plain, at, change)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, n := range []int{1 << 10, 64 << 10, 512 << 10} {
		b.Run(fmt.Sprintf("%dKiB", n>>10), func(b *testing.B) {
			sealer := esdk.NewSealer(newKey(1))
			plain, dst := make([]byte, n), make([]byte, 0, esdk.SealedLen(n))
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				dst = sealer.Seal(dst[:0], plain)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dKiB", n>>10), func(b *testing.B) {
			key := newKey(1)
			message, dst := esdk.Seal(nil, key, make([]byte, n)), make([]byte, 0, 2*n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if dst, err = esdk.Open(dst[:0], key, message); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
