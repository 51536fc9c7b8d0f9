package wire

import (
	"encoding/binary"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"
)

// ParseCBOR reads one CBOR value (RFC 8949) that is the whole of body, as the Java SDK and the KCL send it: definite and
// indefinite lengths, tags skipped. Map keys must be text. Byte and text strings alias body unless they come in chunks.
func ParseCBOR(body []byte) (Value, error) {
	p := cborParser{in: body}
	v, err := p.value(0)
	if err != nil {
		return Value{}, err
	}
	if len(p.in) != 0 {
		return Value{}, errSyntax
	}
	return v, nil
}

// CBOR's major types.
const (
	cborUint = iota
	cborNegative
	cborBytes
	cborText
	cborArray
	cborMap
	cborTag
	cborSimple
)

const (
	cborIndefinite = 31
	cborBreak      = 0xff
)

type cborParser struct {
	in    []byte
	count int
}

// head reads a value's first bytes: its major type, the additional information and the argument that follows from it.
func (p *cborParser) head() (major, info byte, arg uint64, err error) {
	if len(p.in) == 0 {
		return 0, 0, 0, errSyntax
	}
	major, info = p.in[0]>>5, p.in[0]&31
	p.in = p.in[1:]
	if info < 24 {
		return major, info, uint64(info), nil
	}
	if info == cborIndefinite {
		return major, info, 0, nil
	}
	if info > 27 {
		return 0, 0, 0, errSyntax // reserved
	}
	n := 1 << (info - 24)
	if len(p.in) < n {
		return 0, 0, 0, errSyntax
	}
	var wide [8]byte
	copy(wide[8-n:], p.in[:n])
	p.in = p.in[n:]
	return major, info, binary.BigEndian.Uint64(wide[:]), nil
}

func (p *cborParser) value(depth int) (Value, error) {
	if p.count++; p.count > maxValues || depth > maxDepth {
		return Value{}, errTooMuch
	}
	major, info, arg, err := p.head()
	if err != nil {
		return Value{}, err
	}
	switch major {
	case cborBytes, cborText:
		return p.str(major, info, arg)
	case cborArray:
		return p.members(Value{kind: List}, info, arg, depth)
	case cborMap:
		return p.members(Value{kind: Map}, info, arg, depth)
	case cborSimple:
		return simple(info, arg)
	}
	if info == cborIndefinite {
		return Value{}, errSyntax
	}
	switch major {
	case cborUint:
		return Value{kind: Number, b: strconv.AppendUint(nil, arg, 10), f: float64(arg)}, nil
	case cborNegative:
		n := new(big.Int).SetUint64(arg)
		n.Not(n) // −1 − arg
		f, _ := n.Float64()
		return Value{kind: Number, b: n.Append(nil, 10), f: f}, nil
	default: // a tag says how to read a value (1: a time); the schema says it already
		return p.value(depth + 1)
	}
}

// str reads a byte or text string whose head has been read.
func (p *cborParser) str(major, info byte, arg uint64) (Value, error) {
	v := Value{kind: Bytes}
	if major == cborText {
		v.kind = String
	}
	if info != cborIndefinite {
		b, err := p.take(major, arg)
		v.b = b
		return v, err
	}
	for {
		if len(p.in) > 0 && p.in[0] == cborBreak {
			p.in = p.in[1:]
			return v, nil
		}
		m, i, n, err := p.head()
		if err != nil {
			return v, err
		}
		if m != major || i == cborIndefinite {
			return v, errSyntax
		}
		b, err := p.take(major, n)
		if err != nil {
			return v, err
		}
		v.b = append(v.b, b...)
	}
}

func (p *cborParser) take(major byte, n uint64) ([]byte, error) {
	if n > uint64(len(p.in)) {
		return nil, errSyntax
	}
	b := p.in[:n:n]
	p.in = p.in[n:]
	if major == cborText && !utf8.Valid(b) {
		return nil, errSyntax
	}
	return b, nil
}

// members reads a list's members, or a map's keys and values, into v.
func (p *cborParser) members(v Value, info byte, n uint64, depth int) (Value, error) {
	perItem := 1
	if v.kind == Map {
		perItem = 2
	}
	if n > maxValues {
		return v, errTooMuch
	}
	for i := 0; info == cborIndefinite || i < int(n)*perItem; i++ {
		if info == cborIndefinite && len(p.in) > 0 && p.in[0] == cborBreak {
			if i%perItem != 0 {
				return v, errSyntax // a key without a value
			}
			p.in = p.in[1:]
			break
		}
		m, err := p.value(depth + 1)
		if err != nil {
			return v, err
		}
		if v.kind == Map && i%2 == 0 && m.kind != String {
			return v, errSyntax
		}
		v.list = append(v.list, m)
	}
	return v, nil
}

func simple(info byte, arg uint64) (Value, error) {
	var f float64
	switch info {
	case 20:
		return Value{kind: Bool, b: []byte("false")}, nil
	case 21:
		return Value{kind: Bool, b: []byte("true")}, nil
	case 22, 23: // null, undefined
		return Value{}, nil
	case 25:
		f = half(uint16(arg))
	case 26:
		f = float64(math.Float32frombits(uint32(arg)))
	case 27:
		f = math.Float64frombits(arg)
	default:
		return Value{}, errSyntax
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return Value{}, errSyntax // no field of AWS's takes them, and JSON cannot say them
	}
	return Value{kind: Number, b: strconv.AppendFloat(nil, f, 'f', -1, 64), f: f}, nil
}

// half is an IEEE 754 half-precision number.
func half(h uint16) float64 {
	exp, frac := int(h>>10&31), float64(h&0x3ff)
	var f float64
	switch exp {
	case 0:
		f = math.Ldexp(frac, -24)
	case 31:
		f = math.Inf(1)
		if frac != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(1024+frac, exp-25)
	}
	if h>>15 == 1 {
		f = -f
	}
	return f
}
