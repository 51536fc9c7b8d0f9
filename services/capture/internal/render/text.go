package render

import (
	"unicode/utf8"
	"unsafe"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

// maxScratch is how much memory for decoded text is kept from one event to the
// next.
const maxScratch = 1 << 20

// maxRaw is how much of a text in another encoding is decoded. Two bytes of any
// encoding make one byte of UTF-8 at least, so what is left over is more than
// an event may have.
const maxRaw = 4 * MaxBytes

// texts makes the texts of one event UTF-8.
type texts struct {
	decoder  *encoding.Decoder // nil where the texts are taken as UTF-8
	decoders map[string]*encoding.Decoder

	// scratch holds what is not in the payload as it is needed. It only grows
	// during an event, so that strings into it stay as they are.
	scratch []byte
}

// reset begins an event whose texts are in PostgreSQL's encoding name.
func (t *texts) reset(name []byte) {
	t.scratch = t.scratch[:0]
	t.decoder = nil
	if len(name) == 0 || string(name) == "UTF8" {
		return
	}
	known, ok := t.decoders[string(name)]
	if !ok {
		e := encodingOf(string(name))
		if e == nil {
			return
		}
		if t.decoders == nil {
			t.decoders = make(map[string]*encoding.Decoder)
		}
		known = e.NewDecoder()
		t.decoders[string(name)] = known
	}
	t.decoder = known
}

// release gives back what one large event took.
func (t *texts) release() {
	if cap(t.scratch) > maxScratch {
		t.scratch = nil
	}
}

// keep copies b, which is good until the next event.
func (t *texts) keep(b []byte) string {
	start := len(t.scratch)
	t.scratch = append(t.scratch, b...)
	return view(t.scratch[start:])
}

// utf8 is raw as UTF-8. Where the encoding is not known, or none, it is raw as
// it is: pkg/das replaces what is not UTF-8 in it.
func (t *texts) utf8(raw []byte) string {
	// Every encoding a server can have is ASCII where its bytes are.
	if t.decoder == nil || isASCII(raw) {
		return view(raw)
	}
	raw = raw[:min(len(raw), maxRaw)]
	start := len(t.scratch)
	for len(raw) > 0 {
		// No byte of any encoding becomes more than three of UTF-8; the rest is
		// room for a character that a decoder holds back.
		free := len(t.scratch) + 3*len(raw) + utf8.UTFMax
		if cap(t.scratch) < free {
			t.scratch = append(make([]byte, 0, max(free, 2*cap(t.scratch))), t.scratch...)
		}
		t.decoder.Reset()
		n, read, err := t.decoder.Transform(t.scratch[len(t.scratch):free], raw, true)
		t.scratch = t.scratch[:len(t.scratch)+n]
		raw = raw[read:]
		if err != nil && len(raw) > 0 {
			// Decoders replace what they cannot decode. One that stops all the
			// same does not take the rest of the text along.
			t.scratch = utf8.AppendRune(t.scratch, utf8.RuneError)
			raw = raw[1:]
		}
	}
	return view(t.scratch[start:])
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// view is b as a string without a copy. The string is good for as long as b
// does not change, which for a payload is one Append.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// encodingOf returns the encoding that PostgreSQL calls name. It is nil for
// SQL_ASCII, which says nothing about bytes of 0x80 and more, and for those
// that nobody decodes: MULE_INTERNAL, EUC_TW, JOHAB.
func encodingOf(name string) encoding.Encoding {
	switch name {
	case "LATIN1":
		return charmap.ISO8859_1
	case "LATIN2":
		return charmap.ISO8859_2
	case "LATIN3":
		return charmap.ISO8859_3
	case "LATIN4":
		return charmap.ISO8859_4
	case "LATIN5":
		return charmap.ISO8859_9
	case "LATIN6":
		return charmap.ISO8859_10
	case "LATIN7":
		return charmap.ISO8859_13
	case "LATIN8":
		return charmap.ISO8859_14
	case "LATIN9":
		return charmap.ISO8859_15
	case "LATIN10":
		return charmap.ISO8859_16
	case "ISO_8859_5":
		return charmap.ISO8859_5
	case "ISO_8859_6":
		return charmap.ISO8859_6
	case "ISO_8859_7":
		return charmap.ISO8859_7
	case "ISO_8859_8":
		return charmap.ISO8859_8
	case "WIN1250":
		return charmap.Windows1250
	case "WIN1251":
		return charmap.Windows1251
	case "WIN1252":
		return charmap.Windows1252
	case "WIN1253":
		return charmap.Windows1253
	case "WIN1254":
		return charmap.Windows1254
	case "WIN1255":
		return charmap.Windows1255
	case "WIN1256":
		return charmap.Windows1256
	case "WIN1257":
		return charmap.Windows1257
	case "WIN1258":
		return charmap.Windows1258
	case "WIN866":
		return charmap.CodePage866
	case "WIN874":
		return charmap.Windows874
	case "KOI8R":
		return charmap.KOI8R
	case "KOI8U":
		return charmap.KOI8U
	case "EUC_JP", "EUC_JIS_2004": // what the newer one adds becomes U+FFFD
		return japanese.EUCJP
	case "SJIS", "SHIFT_JIS_2004":
		return japanese.ShiftJIS
	case "EUC_KR", "UHC":
		return korean.EUCKR
	case "EUC_CN", "GBK": // GBK has all of EUC_CN
		return simplifiedchinese.GBK
	case "GB18030":
		return simplifiedchinese.GB18030
	case "BIG5":
		return traditionalchinese.Big5
	default:
		return nil
	}
}
