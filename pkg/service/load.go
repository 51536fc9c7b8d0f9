package service

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/maps"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"
)

// delim joins paths inside koanf. It is not a dot because gRPC service names, which are keys too, have dots.
const delim = "\x00"

// maxFile bounds a configuration file, in bytes: somebody may point --config at the wrong thing.
const maxFile = 1 << 20

// errUnreadable marks a file of which nothing could be used, so that further complaints would be noise.
var errUnreadable = errors.New("the file cannot be used")

// Load returns the configuration of the service called name: the default tags of C, then the YAML in file (none if
// empty), then the environment. Unknown keys and values of the wrong type are errors, all reported at once; the
// configuration returned beside them has what was good. Load does not Validate.
func Load[C any](name, file string) (C, error) { return load[C](name, file, os.Environ()) }

// Default returns a C with its default tags applied and nothing else. A tag that does not fit its field panics.
func Default[C any]() C {
	c, err := load[C]("", "", nil)
	if err != nil {
		panic(fmt.Sprintf("service: default tags of %v: %v", reflect.TypeFor[C](), err))
	}
	return c
}

func load[C any](name, file string, environ []string) (cfg C, err error) {
	keys := schema(reflect.TypeFor[C]())
	k := koanf.New(delim)
	var errs []error
	layer := func(values map[string]any, problems []error) {
		errs = append(errs, problems...)
		if err := k.Load(provider(values), nil); err != nil {
			errs = append(errs, err)
		}
	}
	layer(fromDefaults(keys))
	if file != "" {
		values, problems := fromFile(file, reflect.TypeFor[C](), keys)
		if len(problems) > 0 && errors.Is(problems[0], errUnreadable) {
			return cfg, problems[0]
		}
		layer(values, problems)
	}
	layer(fromEnvironment(name, environ, keys))

	err = k.UnmarshalWithConf("", &cfg, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		TagName:    "koanf",
		DecodeHook: mapstructure.ComposeDecodeHookFunc(strictly, mapstructure.TextUnmarshallerHookFunc()),
	}})
	return cfg, errors.Join(append(errs, flatten(err)...)...)
}

// provider hands values that have been read already to koanf.
type provider map[string]any

func (p provider) Read() (map[string]any, error) { return p, nil }
func (p provider) ReadBytes() ([]byte, error)    { return nil, errors.ErrUnsupported }

func fromDefaults(keys []key) (map[string]any, []error) {
	values, errs := map[string]any{}, []error(nil)
	for _, k := range keys {
		if k.def == "" {
			continue
		}
		v, err := parse(k.typ, k.def)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: default: %w", k, err))
			continue
		}
		set(values, k.path, v)
	}
	return values, errs
}

func fromFile(file string, t reflect.Type, keys []key) (map[string]any, []error) {
	info, err := os.Stat(file)
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("%s: %d bytes, want at most %d", file, info.Size(), maxFile)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(file)
	}
	values := map[string]any{}
	if err == nil {
		if err = yaml.Unmarshal(data, &values); err != nil {
			err = fmt.Errorf("%s: %w", file, err)
		}
	}
	if err != nil {
		return nil, []error{fmt.Errorf("%w: %w", errUnreadable, err)}
	}
	maps.IntfaceKeysToStrings(values)
	prune(values)
	var errs []error
	for _, unknown := range unknownKeys(t, values, "") {
		errs = append(errs, fmt.Errorf("%s: unknown key %s%s", file, unknown, suggest(unknown, keys, key.String)))
	}
	return values, errs
}

// serviceLink matches the variables, with their values, that Kubernetes sets for every Service in a namespace: a Service
// called weir-crypto makes some that look like ours. They have no double underscore, as all of our groups do.
var serviceLink = regexp.MustCompile(`^[A-Z0-9]+(_[A-Z0-9]+)*_` +
	`(SERVICE_HOST=|SERVICE_PORT(_[A-Z0-9_]+)?=\d+$|PORT=(tcp|udp|sctp)://|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=)`)

func fromEnvironment(service string, environ []string, keys []key) (map[string]any, []error) {
	values, errs := map[string]any{}, []error(nil)
	for _, line := range environ {
		name, text, _ := strings.Cut(line, "=")
		if !strings.HasPrefix(name, prefix(service)) {
			continue
		}
		env := func(k key) string { return k.env(service) }
		i := slices.IndexFunc(keys, func(k key) bool { return env(k) == name })
		if i < 0 {
			if !serviceLink.MatchString(line) {
				errs = append(errs, fmt.Errorf("environment: unknown key %s%s", name, suggest(name, keys, env)))
			}
			continue
		}
		v, err := parse(keys[i].typ, text)
		if err != nil {
			errs = append(errs, fmt.Errorf("environment: %s: %w", name, err))
			continue
		}
		if v != nil {
			set(values, keys[i].path, v)
		}
	}
	return values, errs
}

// parse reads text as a value for t. Text and durations are themselves; a list may be written with commas; everything else
// is YAML. What is empty is not set, unless it is text.
func parse(t reflect.Type, text string) (any, error) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.String || isText(t) || t == reflect.TypeFor[time.Duration]() {
		if text == "" && t.Kind() != reflect.String {
			return nil, nil
		}
		return text, nil
	}
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		return nil, fmt.Errorf("%q: want %s: %w", text, typeName(t), err)
	}
	if _, isList := v.([]any); t.Kind() == reflect.Slice && v != nil && !isList {
		parts := strings.Split(text, ",")
		list := make([]any, len(parts))
		for i, p := range parts {
			list[i] = strings.TrimSpace(p)
		}
		return list, nil
	}
	return v, nil
}

func set(values map[string]any, path []string, v any) {
	for _, name := range path[:len(path)-1] {
		next, ok := values[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			values[name] = next
		}
		values = next
	}
	values[path[len(path)-1]] = v
}

// prune removes keys without a value: a group whose lines are all commented out must not erase the defaults in it.
func prune(values map[string]any) {
	for name, v := range values {
		switch v := v.(type) {
		case nil:
			delete(values, name)
		case map[string]any:
			prune(v)
		}
	}
}

// strictly refuses conversions that would quietly mean something else than was written.
func strictly(from, to reflect.Type, data any) (any, error) {
	switch {
	case to == reflect.TypeFor[time.Duration]() && from != to:
		text, ok := data.(string)
		if !ok {
			text = fmt.Sprint(data)
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no duration: write a number with its unit, such as 500ms, 10s or 5m", text)
		}
		return d, nil
	case from.Kind() == reflect.Float64 && to.Kind() >= reflect.Int && to.Kind() <= reflect.Uint64:
		f := data.(float64)
		if f != float64(int64(f)) {
			return nil, fmt.Errorf("%v is no integer", f)
		}
		return int64(f), nil
	}
	return data, nil
}

// flatten splits what mapstructure reports into one error a key, without its preamble.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range many.Unwrap() {
			all = append(all, flatten(e)...)
		}
		return all
	}
	return []error{err}
}
