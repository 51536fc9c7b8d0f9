package wire

import (
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A Writer builds an answer in JSON or CBOR. Maps and lists are opened and closed; commas come by themselves. Maps in
// CBOR have indefinite length, as Kinesis's own have, so that nothing must be counted beforehand.
type Writer struct {
	buf   []byte
	cbor  bool
	comma bool // JSON: a value has been written at this level
}

// NewWriter writes JSON, or CBOR, into buf's spare room.
func NewWriter(buf []byte, cbor bool) *Writer { return &Writer{buf: buf[:0], cbor: cbor} }

// Bytes is what has been written.
func (w *Writer) Bytes() []byte { return w.buf }

// Reset forgets what has been written.
func (w *Writer) Reset() { w.buf, w.comma = w.buf[:0], false }

func (w *Writer) sep() {
	if w.comma && !w.cbor {
		w.buf = append(w.buf, ',')
	}
	w.comma = true
}

func (w *Writer) open(json, cbor byte) {
	w.sep()
	if w.comma = false; w.cbor {
		json = cbor
	}
	w.buf = append(w.buf, json)
}

func (w *Writer) close(json byte) {
	if w.comma = true; w.cbor {
		json = cborBreak
	}
	w.buf = append(w.buf, json)
}

// Map opens a map.
func (w *Writer) Map() *Writer { w.open('{', cborMap<<5|cborIndefinite); return w }

// EndMap closes it.
func (w *Writer) EndMap() *Writer { w.close('}'); return w }

// List opens a list.
func (w *Writer) List() *Writer { w.open('[', cborArray<<5|cborIndefinite); return w }

// EndList closes it.
func (w *Writer) EndList() *Writer { w.close(']'); return w }

// Key begins a map's entry; the next call writes its value.
func (w *Writer) Key(name string) *Writer {
	w.Str(name)
	if w.comma = false; !w.cbor {
		w.buf = append(w.buf, ':')
	}
	return w
}

// Str writes a string.
func (w *Writer) Str(s string) *Writer {
	w.sep()
	if w.cbor {
		s = strings.ToValidUTF8(s, "\ufffd")
		w.head(cborText, uint64(len(s)))
		w.buf = append(w.buf, s...)
		return w
	}
	w.buf = appendQuoted(w.buf, s)
	return w
}

// Blob writes bytes: base64 in JSON.
func (w *Writer) Blob(b []byte) *Writer {
	w.sep()
	if w.cbor {
		w.head(cborBytes, uint64(len(b)))
		w.buf = append(w.buf, b...)
		return w
	}
	w.buf = append(w.buf, '"')
	w.buf = base64.StdEncoding.AppendEncode(w.buf, b)
	w.buf = append(w.buf, '"')
	return w
}

// Int writes an integer.
func (w *Writer) Int(n int64) *Writer {
	w.sep()
	switch {
	case !w.cbor:
		w.buf = strconv.AppendInt(w.buf, n, 10)
	case n < 0:
		w.head(cborNegative, uint64(-1-n))
	default:
		w.head(cborUint, uint64(n))
	}
	return w
}

// Bool writes true or false.
func (w *Writer) Bool(b bool) *Writer {
	w.sep()
	switch {
	case !w.cbor:
		w.buf = strconv.AppendBool(w.buf, b)
	case b:
		w.buf = append(w.buf, cborSimple<<5|21)
	default:
		w.buf = append(w.buf, cborSimple<<5|20)
	}
	return w
}

// Time writes an instant: seconds with milliseconds in JSON, whole milliseconds with tag 1 in CBOR, where AWS and RFC
// 8949 differ about the unit.
func (w *Writer) Time(t time.Time) *Writer {
	w.sep()
	ms := t.UnixMilli()
	if w.cbor {
		w.head(cborTag, 1)
		w.head(cborUint, uint64(max(ms, 0)))
		return w
	}
	w.buf = strconv.AppendInt(w.buf, ms/1000, 10)
	if ms %= 1000; ms > 0 {
		w.buf = append(w.buf, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	}
	return w
}

func (w *Writer) head(major byte, n uint64) {
	major <<= 5
	switch {
	case n < 24:
		w.buf = append(w.buf, major|byte(n))
	case n < 1<<8:
		w.buf = append(w.buf, major|24, byte(n))
	case n < 1<<16:
		w.buf = binary.BigEndian.AppendUint16(append(w.buf, major|25), uint16(n))
	case n < 1<<32:
		w.buf = binary.BigEndian.AppendUint32(append(w.buf, major|26), uint32(n))
	default:
		w.buf = binary.BigEndian.AppendUint64(append(w.buf, major|27), n)
	}
}

// Error writes an error's body. AWS spells a type error's message with a capital.
func (w *Writer) Error(e *Error) {
	w.Map().Key("__type").Str(e.Code)
	key := "message"
	if e.Code == "SerializationException" {
		key = "Message"
	}
	if e.Message != "" {
		w.Key(key).Str(e.Message)
	}
	w.EndMap()
}

func appendQuoted(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[from:i]...), `\ufffd`...)
				from = i + 1
			}
			i += n
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[from:i]...)
		if c < 0x20 {
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, '\\', c)
		}
		i++
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}
