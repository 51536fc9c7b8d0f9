package wire

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxViolations is how many violations AWS tells in one message.
const maxViolations = 10

// violations collects what is wrong with a request whose types are right.
type violations []string

func (vs *violations) add(path string, v *Value, want string, args ...any) {
	*vs = append(*vs, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: Member must ", show(v), path)+
		fmt.Sprintf(want, args...))
}

func constrain(v *Value, fields []Field) error {
	var vs violations
	vs.fields(v, fields, "")
	if len(vs) == 0 {
		return nil
	}
	s := ""
	if len(vs) > 1 {
		s = "s"
	}
	return Errorf("ValidationException", "%d validation error%s detected: %s", len(vs), s, strings.Join(vs, "; "))
}

func (vs *violations) fields(v *Value, fields []Field, parent string) {
	for i := range fields {
		f := &fields[i]
		m := v.field(f.Name)
		if m == nil || m.kind == Null {
			if f.Required && len(*vs) < maxViolations {
				vs.add(parent+lowerFirst(f.Name), &Value{}, "not be null")
			}
			continue
		}
		vs.value(m, f, parent, f.Name)
	}
}

// value checks one value that is there. Its path is only put together for a message: a PutRecords has 1,500 fields.
func (vs *violations) value(v *Value, f *Field, parent, name string) {
	if len(*vs) >= maxViolations {
		return
	}
	path := func() string { return parent + lowerFirst(name) }
	if f.Enum != nil && !contains(f.Enum, v.b) {
		vs.add(path(), v, "satisfy enum value set: [%s]", strings.Join(f.Enum, ", "))
	}
	if f.Pattern != nil && !f.Pattern.Match(v.b) {
		vs.add(path(), v, "satisfy regular expression pattern: %s", patternText(f))
	}
	vs.bounds(v, f, path)
	vs.members(v, f, path)
	switch f.Type {
	case TypeStruct:
		vs.fields(v, f.Fields, path()+".")
	case TypeList:
		vs.list(v, f, path)
	case TypeMap:
		for i := 0; i < len(v.list); i += 2 {
			if v.list[i+1].kind != Null {
				vs.value(&v.list[i+1], f.Elem, path()+"."+string(v.list[i].b)+".", "member")
			}
		}
	}
}

func (vs *violations) list(v *Value, f *Field, path func() string) {
	for i := range v.list {
		m := &v.list[i]
		if m.kind == Null {
			continue
		}
		if f.Elem.Type != TypeStruct {
			vs.value(m, f.Elem, fmt.Sprintf("%s.%d.", path(), i+1), "member")
			continue
		}
		if sound(m, f.Elem) {
			continue
		}
		vs.fields(m, f.Elem.Fields, fmt.Sprintf("%s.%d.member.", path(), i+1))
	}
}

// sound says whether a structure violates nothing, without putting any path together.
func sound(v *Value, f *Field) bool {
	var vs violations
	vs.fields(v, f.Fields, "")
	return len(vs) == 0
}

func (vs *violations) bounds(v *Value, f *Field, path func() string) {
	n, what := int64(0), "length"
	switch f.Type {
	case TypeInt:
		n, what = v.int(), "value"
	case TypeString:
		n = int64(utf8.RuneCount(v.b))
	case TypeBlob:
		n = int64(len(v.b))
	case TypeList:
		n = int64(len(v.list))
	case TypeMap:
		n = int64(len(v.list) / 2)
	default:
		return
	}
	if n < f.Min {
		vs.add(path(), v, "have %s greater than or equal to %d", what, f.Min)
	}
	if f.Max > 0 && n > f.Max {
		vs.add(path(), v, "have %s less than or equal to %d", what, f.Max)
	}
}

// members bounds the lengths of a map's keys and values and of a list's strings; AWS tells of the container.
func (vs *violations) members(v *Value, f *Field, path func() string) {
	const both = "satisfy constraint: [Member must have length less than or equal to %d, Member must have length greater than or equal to %d]"
	within := func(first, step int, lo, hi int64) bool {
		for i := first; i < len(v.list); i += step {
			if n := int64(utf8.RuneCount(v.list[i].b)); n < lo || n > hi {
				return false
			}
		}
		return true
	}
	switch {
	case f.Type == TypeList && f.ElemMax > 0 && !within(0, 1, 1, f.ElemMax):
		vs.add(path(), v, both, f.ElemMax, 1)
	case f.Type == TypeMap:
		if f.KeyMax > 0 && !within(0, 2, 1, f.KeyMax) {
			vs.add(path(), v, both, f.KeyMax, 1)
		}
		if f.ElemMax > 0 && !within(1, 2, 0, f.ElemMax) {
			vs.add(path(), v, both, f.ElemMax, 0)
		}
	}
}

// patternText is the pattern as AWS shows it: without the anchors.
func patternText(f *Field) string {
	return strings.TrimSuffix(strings.TrimPrefix(f.Pattern.String(), "^(?:"), ")$")
}

func contains(set []string, b []byte) bool {
	for _, s := range set {
		if s == string(b) {
			return true
		}
	}
	return false
}

func lowerFirst(s string) string {
	if s == "" || s[0] < 'A' || s[0] > 'Z' {
		return s
	}
	return string(s[0]-'A'+'a') + s[1:]
}

// show is a wrong value as AWS tells it back.
func show(v *Value) string {
	switch v.kind {
	case Null:
		return "null"
	case Bytes:
		return fmt.Sprintf("'java.nio.HeapByteBuffer[pos=0 lim=%d cap=%d]'", len(v.b), len(v.b))
	case List:
		return "'" + showList(v) + "'"
	case Map:
		return "'" + showMap(v) + "'"
	default:
		return "'" + string(clip(v.b)) + "'"
	}
}

// showFirst is how many members of a container are told back.
const showFirst = 10

func showList(v *Value) string {
	var b strings.Builder
	for i := range v.list[:min(len(v.list), showFirst)] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.Write(clip(v.list[i].b))
	}
	return "[" + b.String() + "]"
}

func showMap(v *Value) string {
	var b strings.Builder
	for i := 0; i+1 < min(len(v.list), 2*showFirst); i += 2 {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s=%s", clip(v.list[i].b), clip(v.list[i+1].b))
	}
	return "{" + b.String() + "}"
}
