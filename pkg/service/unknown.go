package service

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// unknownKeys returns the paths in values that no field of t has, sorted. It follows lists and maps of groups too.
func unknownKeys(t reflect.Type, values any, path string) []string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var unknown []string
	switch v := values.(type) {
	case map[string]any:
		fields := fieldTypes(t)
		for name, value := range v {
			sub := strings.TrimPrefix(path+"."+name, ".")
			switch field, ok := fields[name]; {
			case ok:
				unknown = append(unknown, unknownKeys(field, value, sub)...)
			case t.Kind() == reflect.Map:
				unknown = append(unknown, unknownKeys(t.Elem(), value, sub)...)
			case isGroup(t):
				unknown = append(unknown, sub)
			}
		}
	case []any:
		if t.Kind() == reflect.Slice {
			for i, value := range v {
				unknown = append(unknown, unknownKeys(t.Elem(), value, path+"["+strconv.Itoa(i)+"]")...)
			}
		}
	}
	slices.Sort(unknown)
	return unknown
}

// fieldTypes returns the settings directly in t, none if t is no group.
func fieldTypes(t reflect.Type) map[string]reflect.Type {
	if !isGroup(t) {
		return nil
	}
	fields := map[string]reflect.Type{}
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("koanf"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case options == "squash":
			for n, typ := range fieldTypes(f.Type) {
				fields[n] = typ
			}
		case name != "":
			fields[name] = f.Type
		}
	}
	return fields
}

// suggest names the known key closest to unknown, as show writes it.
func suggest(unknown string, keys []key, show func(key) string) string {
	best, distance := "", 0
	for _, k := range keys {
		known := show(k)
		d := 3 * edits(unknown, known)
		if k.path[len(k.path)-1] == unknown {
			d = 1 // the right name in the wrong group
		}
		if best == "" || d < distance {
			best, distance = known, d
		}
	}
	if best == "" {
		return ""
	}
	return "; the closest known key is " + best
}

// edits is the Levenshtein distance of a and b, in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
