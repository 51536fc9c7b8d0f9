package wire

import (
	"math"
	"time"
)

// An Input is a request that passed its schema. Strings it gives are copies; blobs are slices of one allocation that
// belongs to the request's data and may be kept (it stays until the last of them is let go).
type Input struct {
	v    Value
	cbor bool
}

func (in Input) get(name string) *Value {
	v := in.v.field(name)
	if v == nil || v.kind == Null {
		return nil
	}
	return v
}

// Has says whether the field was given.
func (in Input) Has(name string) bool { return in.get(name) != nil }

// Str is a string field; "" when absent.
func (in Input) Str(name string) string {
	if v := in.get(name); v != nil {
		return string(v.b)
	}
	return ""
}

// Blob is a blob field; nil when absent.
func (in Input) Blob(name string) []byte {
	if v := in.get(name); v != nil {
		return v.b
	}
	return nil
}

// Int is an integer field, or def when absent.
func (in Input) Int(name string, def int64) int64 {
	if v := in.get(name); v != nil {
		return v.int()
	}
	return def
}

// Bool is a boolean field; false when absent.
func (in Input) Bool(name string) bool {
	v := in.get(name)
	return v != nil && string(v.b) == "true"
}

// Time is a time field to the millisecond; zero when absent. CBOR carries milliseconds, JSON seconds.
func (in Input) Time(name string) time.Time {
	v := in.get(name)
	if v == nil {
		return time.Time{}
	}
	ms := v.f
	if !in.cbor {
		ms *= 1000
	}
	return time.UnixMilli(int64(math.Round(max(-1<<53, min(ms, 1<<53)))))
}

// Len is how many members a list has.
func (in Input) Len(name string) int {
	if v := in.get(name); v != nil {
		return len(v.list)
	}
	return 0
}

// At is a list's i-th member, a structure.
func (in Input) At(name string, i int) Input { return Input{v: in.get(name).list[i]} }

// Struct is a structure field; an empty one when absent.
func (in Input) Struct(name string) Input {
	if v := in.get(name); v != nil {
		return Input{v: *v}
	}
	return Input{}
}

// Strs is a list of strings.
func (in Input) Strs(name string) []string {
	var out []string
	if v := in.get(name); v != nil {
		for i := range v.list {
			out = append(out, string(v.list[i].b))
		}
	}
	return out
}

// StrMap is a map of strings; nil when absent.
func (in Input) StrMap(name string) map[string]string {
	v := in.get(name)
	if v == nil {
		return nil
	}
	out := make(map[string]string, len(v.list)/2)
	for i := 0; i < len(v.list); i += 2 {
		out[string(v.list[i].b)] = string(v.list[i+1].b)
	}
	return out
}

// int is a number without its fraction, held to what an Integer of AWS's can be.
func (v *Value) int() int64 {
	return int64(math.Floor(max(math.MinInt32, min(v.f, math.MaxInt32))))
}
