package wire

import (
	"encoding/base64"
	"regexp"
)

// Type is what a field must be.
type Type uint8

// The types of AWS's models that we need.
const (
	TypeString Type = iota
	TypeBool
	TypeInt
	TypeBlob
	TypeTime
	TypeList
	TypeMap
	TypeStruct
)

// A Field is one member of an operation's input with its constraints. The zero Max is no limit. For strings, blobs,
// lists and maps Min and Max are lengths; for integers values.
type Field struct {
	Name     string
	Type     Type
	Required bool
	Pattern  *regexp.Regexp
	Enum     []string
	Min, Max int64
	Elem     *Field  // a list's member, a map's value
	Fields   []Field // a structure's
	// KeyMax bounds the lengths of a map's keys, from 1; ElemMax those of a map's values, from 0, or of a list's members,
	// from 1. Zero: no limit.
	KeyMax, ElemMax int64
}

// Check holds a request against the schema of its operation: first all types (SerializationException), then all
// constraints (ValidationException). cbor says which encoding v came in, for the unit of its times.
func Check(v Value, fields []Field, cbor bool) (Input, error) {
	root := Field{Type: TypeStruct, Fields: fields}
	var slab []byte
	if n := blobBytes(&v, &root); n > 0 {
		slab = make([]byte, 0, n)
	}
	if err := convert(&v, &root, &slab); err != nil {
		return Input{}, err
	}
	if err := constrain(&v, fields); err != nil {
		return Input{}, err
	}
	return Input{v: v, cbor: cbor}, nil
}

// blobBytes is how much room the blobs of v take when decoded, or a little more.
func blobBytes(v *Value, f *Field) int {
	n := 0
	switch {
	case f.Type == TypeBlob && v.kind == String:
		return base64.StdEncoding.DecodedLen(len(v.b))
	case f.Type == TypeBlob && v.kind == Bytes:
		return len(v.b)
	case f.Type == TypeStruct && v.kind == Map:
		for i := range f.Fields {
			if m := v.field(f.Fields[i].Name); m != nil {
				n += blobBytes(m, &f.Fields[i])
			}
		}
	case f.Type == TypeList && v.kind == List:
		for i := range v.list {
			n += blobBytes(&v.list[i], f.Elem)
		}
	}
	return n
}

func typeErrorf(format string, args ...any) *Error {
	return Errorf("SerializationException", format, args...)
}

const (
	jsonNumber = "class com.amazon.coral.value.json.numbers.TruncatingBigNumber"
	listFound  = "Start of list found where not expected"
	mapFound   = "Start of structure or map found where not expected."
)

// convert checks v's type and turns it into what the schema says; of blobs it puts the bytes into slab.
func convert(v *Value, f *Field, slab *[]byte) error {
	if v.kind == Null {
		return nil
	}
	switch f.Type {
	case TypeStruct:
		return convertStruct(v, f, slab)
	case TypeList:
		return convertList(v, f, slab)
	case TypeMap:
		return convertMap(v, f, slab)
	}
	switch v.kind {
	case List:
		return typeErrorf(listFound)
	case Map:
		return typeErrorf(mapFound)
	}
	switch f.Type {
	case TypeString:
		return scalar(v, String, "an String")
	case TypeInt:
		return scalar(v, Number, "an Integer")
	case TypeTime:
		return scalar(v, Number, "milliseconds since epoch")
	case TypeBool:
		if v.kind == String {
			return typeErrorf("'%s' can not be converted to an Boolean", upper(v.b))
		}
		return scalar(v, Bool, "an Boolean")
	default:
		return convertBlob(v, slab)
	}
}

func scalar(v *Value, want Kind, what string) error {
	if v.kind == want {
		return nil
	}
	class := "class java.lang.String"
	switch v.kind {
	case Bool:
		class = "class java.lang.Boolean"
	case Number:
		class = jsonNumber
	case Bytes:
		class = "class java.nio.HeapByteBuffer"
	}
	return typeErrorf("%s can not be converted to %s", class, what)
}

func convertBlob(v *Value, slab *[]byte) error {
	switch v.kind {
	case Bytes: // CBOR; copied, because the body is reused
		from := len(*slab)
		*slab = append(*slab, v.b...)
		v.b = (*slab)[from:len(*slab):len(*slab)]
		return nil
	case String:
	default:
		return scalar(v, String, "a Blob")
	}
	if len(v.b)%4 != 0 {
		return typeErrorf("'%s' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: %d",
			clip(v.b), len(v.b))
	}
	from := len(*slab)
	out, err := base64.StdEncoding.Strict().AppendDecode(*slab, v.b)
	// The decoder skips line ends, which then leave the result shorter than its length says.
	if pad := padding(v.b); err != nil || len(out)-from != len(v.b)/4*3-pad {
		return typeErrorf("'%s' can not be converted to a Blob: Invalid Base64 character", clip(v.b))
	}
	*slab = out
	*v = Value{kind: Bytes, b: out[from:len(out):len(out)]}
	return nil
}

func padding(b []byte) int {
	n := 0
	for n < 2 && n < len(b) && b[len(b)-1-n] == '=' {
		n++
	}
	return n
}

func convertStruct(v *Value, f *Field, slab *[]byte) error {
	switch v.kind {
	case Map:
	case List:
		return typeErrorf(listFound)
	default:
		return typeErrorf("Expected null")
	}
	for i := range f.Fields {
		if m := v.field(f.Fields[i].Name); m != nil {
			if err := convert(m, &f.Fields[i], slab); err != nil {
				return err
			}
		}
	}
	return nil
}

func convertList(v *Value, f *Field, slab *[]byte) error {
	switch v.kind {
	case List:
	case Map:
		return typeErrorf(mapFound)
	default:
		return typeErrorf("Expected list or null")
	}
	for i := range v.list {
		if err := convert(&v.list[i], f.Elem, slab); err != nil {
			return err
		}
	}
	return nil
}

func convertMap(v *Value, f *Field, slab *[]byte) error {
	switch v.kind {
	case Map:
	case List:
		return typeErrorf(listFound)
	default:
		return typeErrorf("Expected map or null")
	}
	for i := 1; i < len(v.list); i += 2 {
		if err := convert(&v.list[i], f.Elem, slab); err != nil {
			return err
		}
	}
	return nil
}

// clip bounds what of a wrong value is told back.
func clip(b []byte) []byte { return b[:min(len(b), 256)] }

func upper(b []byte) []byte {
	out := append([]byte(nil), clip(b)...)
	for i, c := range out {
		if 'a' <= c && c <= 'z' {
			out[i] = c - 'a' + 'A'
		}
	}
	return out
}
