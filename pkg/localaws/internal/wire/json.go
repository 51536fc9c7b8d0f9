package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"
)

var (
	errSyntax  = errors.New("malformed body")
	errTooMuch = errors.New("body has too many or too deeply nested values")
)

// ParseJSON reads one JSON value that is the whole of body. The value aliases body.
func ParseJSON(body []byte) (Value, error) {
	if !utf8.Valid(body) {
		return Value{}, errSyntax
	}
	p := jsonParser{in: body}
	v, err := p.value(0)
	if err != nil {
		return Value{}, err
	}
	if p.space(); p.at != len(p.in) {
		return Value{}, errSyntax
	}
	return v, nil
}

type jsonParser struct {
	in    []byte
	at    int
	count int
}

func (p *jsonParser) space() {
	for p.at < len(p.in) {
		switch p.in[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// next is the next byte that is not white space, unread; 0 at the end, which no JSON token begins with.
func (p *jsonParser) next() byte {
	if p.space(); p.at < len(p.in) {
		return p.in[p.at]
	}
	return 0
}

func (p *jsonParser) value(depth int) (Value, error) {
	if p.count++; p.count > maxValues || depth > maxDepth {
		return Value{}, errTooMuch
	}
	switch c := p.next(); c {
	case '{':
		return p.object(depth)
	case '[':
		return p.array(depth)
	case '"':
		b, err := p.str()
		return Value{kind: String, b: b}, err
	case 't':
		return p.word("true", Bool)
	case 'f':
		return p.word("false", Bool)
	case 'n':
		return p.word("null", Null)
	default:
		return p.number()
	}
}

func (p *jsonParser) word(word string, kind Kind) (Value, error) {
	if !bytes.HasPrefix(p.in[p.at:], []byte(word)) {
		return Value{}, errSyntax
	}
	b := p.in[p.at : p.at+len(word)]
	p.at += len(word)
	return Value{kind: kind, b: b}, nil
}

func (p *jsonParser) number() (Value, error) {
	from := p.at
	for p.at < len(p.in) && bytes.IndexByte([]byte("+-0123456789.eE"), p.in[p.at]) >= 0 {
		p.at++
	}
	b := p.in[from:p.at]
	if len(b) > 64 || !json.Valid(b) { // the grammar of numbers is the standard library's business
		return Value{}, errSyntax
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return Value{}, errSyntax // out of range
	}
	return Value{kind: Number, b: b, f: f}, nil
}

func (p *jsonParser) array(depth int) (Value, error) {
	v := Value{kind: List}
	p.at++
	if p.next() == ']' {
		p.at++
		return v, nil
	}
	for {
		m, err := p.value(depth + 1)
		if err != nil {
			return v, err
		}
		v.list = append(v.list, m)
		switch p.next() {
		case ',':
			p.at++
		case ']':
			p.at++
			return v, nil
		default:
			return v, errSyntax
		}
	}
}

func (p *jsonParser) object(depth int) (Value, error) {
	v := Value{kind: Map, list: make([]Value, 0, 4)}
	p.at++
	if p.next() == '}' {
		p.at++
		return v, nil
	}
	for {
		if p.next() != '"' {
			return v, errSyntax
		}
		key, err := p.str()
		if err != nil {
			return v, err
		}
		if p.next() != ':' {
			return v, errSyntax
		}
		p.at++
		m, err := p.value(depth + 1)
		if err != nil {
			return v, err
		}
		v.list = append(v.list, Value{kind: String, b: key}, m)
		switch p.next() {
		case ',':
			p.at++
		case '}':
			p.at++
			return v, nil
		default:
			return v, errSyntax
		}
	}
}

// str reads a string, p.at being at its opening quote. Without escapes the result aliases the body.
func (p *jsonParser) str() ([]byte, error) {
	from := p.at + 1
	end := from
	for {
		n := bytes.IndexByte(p.in[end:], '"')
		if n < 0 {
			return nil, errSyntax
		}
		end += n
		if bytes.IndexByte(p.in[from:end], '\\') < 0 {
			break // the usual case: a megabyte of base64
		}
		if !escaped(p.in[from:end]) {
			return p.unquote(from, end)
		}
		end++
	}
	p.at = end + 1
	if hasControl(p.in[from:end]) {
		return nil, errSyntax
	}
	return p.in[from:end], nil
}

// escaped says whether a quote after b is: whether b ends in an odd number of backslashes.
func escaped(b []byte) bool {
	n := len(b) - len(bytes.TrimRight(b, `\`))
	return n%2 == 1
}

// unquote is the slow way, for strings with escapes; their grammar is the standard library's business.
func (p *jsonParser) unquote(from, end int) ([]byte, error) {
	var s string
	if err := json.Unmarshal(p.in[from-1:end+1], &s); err != nil {
		return nil, errSyntax
	}
	p.at = end + 1
	return []byte(s), nil
}

// hasControl says whether b has a byte below 0x20, which JSON forbids inside strings. Eight bytes at a time.
func hasControl(b []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		if (x-0x20*ones)&^x&highs != 0 {
			return true
		}
		b = b[8:]
	}
	for _, c := range b {
		if c < 0x20 {
			return true
		}
	}
	return false
}
