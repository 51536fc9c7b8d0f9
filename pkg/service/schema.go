package service

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"time"
)

// key is one setting: a leaf of a configuration struct.
type key struct {
	path []string // names from the root, as in YAML
	typ  reflect.Type
	def  string // the default tag
	help string // the help tag
}

func (k key) String() string { return strings.Join(k.path, ".") }

// env is the variable that sets k: WEIR_CAPTURE_RPC__LISTEN is rpc.listen of capture.
func (k key) env(service string) string {
	return prefix(service) + strings.ToUpper(strings.Join(k.path, "__"))
}

func prefix(service string) string {
	return "WEIR_" + strings.ToUpper(strings.ReplaceAll(service, "-", "_")) + "_"
}

// schema lists the keys of t in the order of its fields. Fields without a koanf tag, or with "-", are no settings.
func schema(t reflect.Type) []key { return appendKeys(nil, t, nil) }

func appendKeys(keys []key, t reflect.Type, path []string) []key {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("koanf"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case options == "squash":
			keys = appendKeys(keys, f.Type, path)
		case name == "":
		case isGroup(f.Type):
			keys = appendKeys(keys, f.Type, append(path[:len(path):len(path)], name))
		default:
			keys = append(keys, key{append(path[:len(path):len(path)], name), f.Type, f.Tag.Get("default"), f.Tag.Get("help")})
		}
	}
	return keys
}

// isGroup reports whether t is a struct of settings, rather than a value that happens to be a struct.
func isGroup(t reflect.Type) bool { return t.Kind() == reflect.Struct && !isText(t) }

// isText reports whether values of t are read from text by t itself.
func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// typeName says what to write for a value of t, to people who do not write Go.
func typeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case isText(t):
		return "text"
	}
	switch t.Kind() {
	case reflect.Slice:
		return "list of " + typeName(t.Elem())
	case reflect.Map:
		return "map of " + typeName(t.Key()) + " to " + typeName(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Struct:
		var fields []string
		for _, k := range schema(t) {
			fields = append(fields, k.String())
		}
		return "{" + strings.Join(fields, ", ") + "}"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "integer"
	case reflect.Float32, reflect.Float64:
		return "number"
	default:
		return t.Kind().String()
	}
}

func printHelp(w io.Writer, service string, t reflect.Type) {
	fmt.Fprintf(w, `Usage: %s [flags]

  --config FILE   read the configuration from this YAML file
  --check         say what is wrong with the configuration, and exit with 0 if nothing is, 1 otherwise
  --version       print the version
  --help          print this

The environment overrides the file. Every key, its variable, its type and its default:

`, service)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, k := range schema(t) {
		def := k.def
		if def == "" {
			def = "-"
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\t%s\n", k, k.env(service), typeName(k.typ), def, k.help)
	}
	_ = tw.Flush()
}
