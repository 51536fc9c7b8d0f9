package mesh

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
)

// Account is what a set of records says of one epoch's numbers. It is made
// from the decrypted records alone, and shares no code with their writer.
type Account struct {
	Epoch  uint64
	Events map[uint64][][]byte // the list elements of each number
	Told   map[uint64]string   // the cause of each number told as a gap
	Beside map[uint64]Beside   // what has a number and is no Aurora event
	First  uint64
	Last   uint64
}

// Beside is a started statement or a notice.
type Beside struct {
	Notice  bool
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
	User    string `json:"dbUserName"`
	Session string `json:"sessionId"`
	Text    string `json:"commandText"`
	Raw     []byte `json:"-"`
}

// Event is a list element with its number.
type Event struct {
	Number uint64
	Fields map[string]any
	Raw    []byte
}

// AccountFor holds the records of every epoch to account: the same number must
// always be the same bytes, and every record's chain must lead from its prev
// to its last.
func AccountFor(records []Record) (map[uint64]*Account, error) {
	epochs := map[uint64]*Account{}
	after := map[uint64]map[uint64]string{} // epoch → number → hash after it
	for _, r := range records {
		w := r.Weir
		if w == nil || w.V != 1 {
			return nil, fmt.Errorf("a record has no weir object of version 1")
		}
		a := epochs[w.Epoch]
		if a == nil {
			a = &Account{Epoch: w.Epoch, Events: map[uint64][][]byte{}, Told: map[uint64]string{}, Beside: map[uint64]Beside{}}
			epochs[w.Epoch], after[w.Epoch] = a, map[uint64]string{}
		}
		if err := a.add(r, after[w.Epoch]); err != nil {
			return nil, fmt.Errorf("epoch %d: %w", w.Epoch, err)
		}
	}
	for _, a := range epochs {
		a.bounds()
	}
	return epochs, nil
}

// link is one item of the chain: a number with its bytes, or a gap.
type link struct {
	first, number uint64
	bytes         []byte
}

func (a *Account) add(r Record, after map[uint64]string) error {
	var links []link
	if len(r.Weir.N) > 0 && len(r.Weir.N) != len(r.Events) {
		return fmt.Errorf("%d numbers for %d list elements", len(r.Weir.N), len(r.Events))
	}
	for i := 0; i < len(r.Weir.N); {
		n, j := r.Weir.N[i], i
		var elements [][]byte
		for ; j < len(r.Weir.N) && r.Weir.N[j] == n; j++ {
			elements = append(elements, r.Events[j])
		}
		i = j
		joined := bytes.Join(elements, []byte(","))
		if old, seen := a.Events[n]; seen && !bytes.Equal(bytes.Join(old, []byte(",")), joined) {
			return fmt.Errorf("number %d has two shapes", n)
		}
		a.Events[n] = elements
		links = append(links, link{n, n, joined})
	}
	for i, raw := range append(slices.Clone(r.Weir.Started), r.Weir.Notices...) {
		beside := Beside{Notice: i >= len(r.Weir.Started), Raw: raw}
		var place struct{ N uint64 }
		if err := errors.Join(json.Unmarshal(raw, &place), json.Unmarshal(raw, &beside)); err != nil {
			return err
		}
		if old, seen := a.Beside[place.N]; seen && !bytes.Equal(old.Raw, raw) {
			return fmt.Errorf("number %d has two shapes", place.N)
		}
		a.Beside[place.N] = beside
		links = append(links, link{place.N, place.N, raw})
	}
	refused := false
	for _, raw := range r.Weir.Gaps {
		var gap struct {
			First, Last uint64
			Cause       string
		}
		if err := json.Unmarshal(raw, &gap); err != nil {
			return err
		}
		if gap.First == 0 || gap.Last < gap.First || gap.Last-gap.First > 1e8 {
			return fmt.Errorf("gap from %d to %d", gap.First, gap.Last)
		}
		for n := gap.First; n <= gap.Last; n++ {
			a.Told[n] = gap.Cause
		}
		// It stands for events that the chain holds already, and nobody has any more.
		refused = refused || gap.Cause == "refused"
		links = append(links, link{gap.First, gap.Last, raw})
	}
	if refused {
		return nil
	}
	sort.Slice(links, func(i, j int) bool { return links[i].number < links[j].number })

	hash, err := hex.DecodeString(r.Weir.Prev)
	if err != nil {
		return err
	}
	if len(links) > 0 {
		before := links[0].first - 1
		if was, seen := after[before]; seen && was != string(hash) {
			return fmt.Errorf("number %d has two hashes: the record after it says another", before)
		}
		after[before] = string(hash)
	}
	for _, l := range links {
		h := sha256.New()
		h.Write(hash)
		h.Write(binary.BigEndian.AppendUint64(nil, l.number))
		h.Write(l.bytes)
		hash = h.Sum(nil)
		if was, seen := after[l.number]; seen && was != string(hash) {
			return fmt.Errorf("number %d has two hashes", l.number)
		}
		after[l.number] = string(hash)
	}
	if got := hex.EncodeToString(hash); got != r.Weir.Last {
		return fmt.Errorf("the chain leads to %s, the record says %s", got, r.Weir.Last)
	}
	return nil
}

func (a *Account) bounds() {
	for _, n := range slices.Concat(keys(a.Events), keys(a.Told), keys(a.Beside)) {
		if a.First == 0 || n < a.First {
			a.First = n
		}
		a.Last = max(a.Last, n)
	}
}

// Missing are the numbers up to last that are neither there nor told.
func (a *Account) Missing(last uint64) []uint64 {
	var missing []uint64
	for n := uint64(1); n <= last; n++ {
		if _, ok := a.Events[n]; ok {
			continue
		}
		if _, ok := a.Told[n]; ok {
			continue
		}
		if _, ok := a.Beside[n]; ok {
			continue
		}
		missing = append(missing, n)
	}
	return missing
}

// Kept is how many numbers are there, whatever they are.
func (a *Account) Kept() int { return len(a.Events) + len(a.Beside) }

// All are the list elements in the order of their numbers.
func (a *Account) All() []Event {
	var all []Event
	numbers := keys(a.Events)
	sort.Slice(numbers, func(i, j int) bool { return numbers[i] < numbers[j] })
	for _, n := range numbers {
		for _, raw := range a.Events[n] {
			e := Event{Number: n, Raw: raw}
			json.Unmarshal(raw, &e.Fields)
			all = append(all, e)
		}
	}
	return all
}

func keys[V any](m map[uint64]V) []uint64 {
	all := make([]uint64, 0, len(m))
	for k := range m {
		all = append(all, k)
	}
	return all
}
