package proof

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

const (
	// maxNumber bounds numbers and epochs: JSON readers keep 53 bits.
	maxNumber = 1<<53 - 1
	// maxRecord bounds a record in bytes; no capture writes a larger one.
	maxRecord = 16 << 20
	// timeLayout is Aurora's.
	timeLayout = "2006-01-02 15:04:05.000000+00"
)

// kind says what stands for a number.
type kind uint8

const (
	event   kind = iota // list elements
	gap                 // told as lost
	started             // a statement began
	notice              // something about the audit itself
)

// item is one link of the chain: a number, or for a gap several.
type item struct {
	kind         kind
	first, last  uint64
	content      []byte // what is hashed, byte for byte as in the record
	since, until time.Time
	cause        string // of a gap
}

// record is what a record says of numbers and chain.
type record struct {
	cluster, instance string
	epoch             uint64
	prev, last        Hash
	items             []item // in the order of their numbers, without a hole
	// through is what a heartbeat says: numbers up to this were given, and
	// prev is the chain's value after it. known is false where it says nothing.
	through    uint64
	known      bool
	checkpoint *Checkpoint
}

// errNoExtension says that a record has no weir object: Aurora's have none.
var errNoExtension = errors.New("the record has no weir object: no capture of Weir's wrote it")

// parse reads a record. An error says why no capture wrote such bytes.
func parse(plain []byte) (*record, error) {
	if len(plain) > maxRecord {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(plain), maxRecord)
	}
	outer, err := object(plain)
	if err != nil {
		return nil, fmt.Errorf("the record: %w", err)
	}
	var r record
	var typ string
	var list []json.RawMessage
	if err := errors.Join(
		outer.need("type", &typ), outer.need("clusterId", &r.cluster), outer.need("instanceId", &r.instance),
		outer.need("databaseActivityEventList", &list),
	); err != nil {
		return nil, err
	}
	if typ != "DatabaseActivityMonitoringRecord" {
		return nil, fmt.Errorf("type %.40q", typ)
	}
	if _, ok := outer["weir"]; !ok {
		return nil, errNoExtension
	}
	weir, err := object(outer["weir"])
	if err != nil {
		return nil, fmt.Errorf("weir: %w", err)
	}
	if err := r.extension(weir, list); err != nil {
		return nil, fmt.Errorf("weir: %w", err)
	}
	return &r, nil
}

func (r *record) extension(weir fields, list []json.RawMessage) error {
	var version int
	var numbers []uint64
	var prev, last string
	var gaps, starts, notices []json.RawMessage
	if err := errors.Join(
		weir.need("v", &version), weir.need("epoch", &r.epoch), weir.need("n", &numbers),
		weir.need("prev", &prev), weir.need("last", &last),
		weir.take("gaps", &gaps), weir.take("started", &starts), weir.take("notices", &notices),
		weir.take("through", &r.through),
	); err != nil {
		return err
	}
	if version != 1 {
		return fmt.Errorf("version %d, want 1", version)
	}
	if r.epoch == 0 || r.epoch > maxNumber || r.through > maxNumber {
		return fmt.Errorf("epoch %d, through %d", r.epoch, r.through)
	}
	_, r.known = weir["through"]
	if err := errors.Join(r.prev.parse(prev), r.last.parse(last)); err != nil {
		return err
	}
	if err := r.events(numbers, list); err != nil {
		return err
	}
	if err := errors.Join(r.gaps(gaps), r.others(started, starts, "startTime"), r.others(notice, notices, "time")); err != nil {
		return err
	}
	slices.SortStableFunc(r.items, func(a, b item) int { return int(a.last) - int(b.last) })
	for i := range r.items {
		if i > 0 && r.items[i].first != r.items[i-1].last+1 {
			return fmt.Errorf("number %d follows %d within the record", r.items[i].first, r.items[i-1].last)
		}
	}
	if raw, ok := weir["checkpoint"]; ok {
		c, err := parseCheckpoint(raw)
		if err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		r.checkpoint = c
	}
	return nil
}

// events groups the list's elements by their numbers.
func (r *record) events(numbers []uint64, list []json.RawMessage) error {
	if len(numbers) == 0 {
		if len(list) != 1 || !heartbeat(list[0]) {
			return fmt.Errorf("no number for %d elements", len(list))
		}
		return nil
	}
	if len(numbers) != len(list) {
		return fmt.Errorf("%d numbers for %d elements", len(numbers), len(list))
	}
	for i := 0; i < len(numbers); {
		j := i + 1
		for j < len(numbers) && numbers[j] == numbers[i] {
			j++
		}
		content := []byte(list[i])
		if j > i+1 {
			parts := make([][]byte, 0, j-i)
			for _, e := range list[i:j] {
				parts = append(parts, e)
			}
			content = bytes.Join(parts, []byte{','})
		}
		// Times serve people only, and only those at the ends of a record are
		// ever shown.
		it := item{kind: event, first: numbers[i], last: numbers[i], content: content}
		if i == 0 || j == len(numbers) {
			it.since = timeIn(list[i], "logTime")
			it.until = it.since
		}
		r.items = append(r.items, it)
		i = j
	}
	return r.checkNumbers()
}

func (r *record) gaps(raw []json.RawMessage) error {
	for _, g := range raw {
		f, err := object(g)
		if err != nil {
			return fmt.Errorf("gap: %w", err)
		}
		it := item{kind: gap, content: g}
		if err := errors.Join(f.need("first", &it.first), f.need("last", &it.last), f.need("cause", &it.cause)); err != nil {
			return fmt.Errorf("gap: %w", err)
		}
		it.since, it.until = timeIn(g, "from"), timeIn(g, "to")
		r.items = append(r.items, it)
	}
	return r.checkNumbers()
}

// others reads what has a number and is no Aurora event.
func (r *record) others(k kind, raw []json.RawMessage, at string) error {
	for _, o := range raw {
		f, err := object(o)
		if err != nil {
			return err
		}
		it := item{kind: k, content: o}
		if err := f.need("n", &it.first); err != nil {
			return err
		}
		it.last = it.first
		it.since = timeIn(o, at)
		it.until = it.since
		r.items = append(r.items, it)
	}
	return r.checkNumbers()
}

func (r *record) checkNumbers() error {
	for _, it := range r.items {
		if it.first == 0 || it.first > it.last || it.last > maxNumber {
			return fmt.Errorf("numbers %d to %d", it.first, it.last)
		}
	}
	return nil
}

func heartbeat(element json.RawMessage) bool {
	f, err := object(element)
	var typ string
	return err == nil && f.need("type", &typ) == nil && typ == "heartbeat"
}

// timeIn is a time in an object, or zero.
func timeIn(raw json.RawMessage, name string) time.Time {
	f, err := object(raw)
	if err != nil {
		return time.Time{}
	}
	var s string
	if f.need(name, &s) != nil {
		return time.Time{}
	}
	t, err := time.Parse(timeLayout, s)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// fields are a JSON object's, byte for byte. Names are told apart exactly and
// stand once: two readers must not see two records in the same bytes.
type fields map[string]json.RawMessage

func object(data []byte) (fields, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("no JSON object")
	}
	f := fields{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, errors.New("no JSON object")
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, errors.New("no JSON object")
		}
		if _, twice := f[name.(string)]; twice {
			return nil, fmt.Errorf("field %.40q stands twice", name)
		}
		f[name.(string)] = raw
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("no JSON object")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something stands behind the JSON object")
	}
	return f, nil
}

// need reads a field that must be there.
func (f fields) need(name string, v any) error {
	raw, ok := f[name]
	if !ok || string(raw) == "null" {
		return fmt.Errorf("field %s is absent", name)
	}
	if json.Unmarshal(raw, v) != nil {
		return fmt.Errorf("field %s has another type", name)
	}
	return nil
}

// take reads a field that may be absent.
func (f fields) take(name string, v any) error {
	if _, ok := f[name]; !ok {
		return nil
	}
	return f.need(name, v)
}

func (h *Hash) parse(s string) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return errors.New("a value of the chain is no SHA-256")
	}
	copy(h[:], b)
	return nil
}
