package wire

// Plain is a value as encoding/json would have it, for comparisons; bytes stay bytes.
func Plain(v Value) any {
	switch v.kind {
	case Bool:
		return string(v.b) == "true"
	case Number:
		return v.f
	case String:
		return string(v.b)
	case Bytes:
		return append([]byte{}, v.b...)
	case List:
		out := []any{}
		for _, m := range v.list {
			out = append(out, Plain(m))
		}
		return out
	case Map:
		out := map[string]any{}
		for i := 0; i < len(v.list); i += 2 {
			out[string(v.list[i].b)] = Plain(v.list[i+1])
		}
		return out
	}
	return nil
}
