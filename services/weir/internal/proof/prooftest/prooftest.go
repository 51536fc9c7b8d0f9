// Package prooftest writes records as a capture does, and as no capture ever
// would, for tests. It was written from the description of the format
// (docs/flow.md) and shares no code with capture, with pkg/das or with proof.
package prooftest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// What the records are of.
const (
	Cluster  = "cluster-AAAAAAAAAAAAAAAAAAAAAAAAAA"
	Instance = "db-BBBBBBBBBBBBBBBBBBBBBBBBBB"
	Epoch    = 1_767_225_600_000_000
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Thing is an item as the engine made it: what follows from it is in no record
// yet.
type Thing struct {
	First, Last uint64
	Kind        string // event, gap, started, notice
	Elements    []string
	Cause       string
}

// JSON is the item as it is hashed.
func (t Thing) JSON() string {
	switch t.Kind {
	case "gap":
		return fmt.Sprintf(`{"first":%d,"last":%d,"from":%q,"to":%q,"cause":%q}`, t.First, t.Last, at(t.First), at(t.Last), t.Cause)
	case "started":
		return fmt.Sprintf(`{"n":%d,"sessionId":"s","startTime":%q}`, t.First, at(t.First))
	case "notice":
		return fmt.Sprintf(`{"n":%d,"time":%q,"kind":"hook_replaced"}`, t.First, at(t.First))
	}
	return strings.Join(t.Elements, ",")
}

func at(n uint64) string {
	return start.Add(time.Duration(n) * time.Second).Format("2006-01-02 15:04:05.000000+00")
}

// Event is an event of one element for each text.
func Event(n uint64, texts ...string) Thing {
	t := Thing{First: n, Last: n, Kind: "event"}
	if len(texts) == 0 {
		texts = []string{fmt.Sprintf("select %d", n)}
	}
	for _, s := range texts {
		t.Elements = append(t.Elements, fmt.Sprintf(`{"startTime":%q,"logTime":%q,"commandText":%q,"type":"record"}`, at(n), at(n), s))
	}
	return t
}

// Gap is a loss that is told.
func Gap(first, last uint64, cause string) Thing {
	return Thing{First: first, Last: last, Kind: "gap", Cause: cause}
}

// Events are first to last, each with a text of its own.
func Events(first, last uint64) (list []Thing) {
	for n := first; n <= last; n++ {
		list = append(list, Event(n))
	}
	return list
}

// Hash is the chain's value after an item.
func Hash(prev []byte, n uint64, content string) []byte {
	h := sha256.New()
	h.Write(prev)
	h.Write(binary.BigEndian.AppendUint64(nil, n))
	h.Write([]byte(content))
	return h.Sum(nil)
}

// Begin is the chain's value before the first item.
func Begin(epoch uint64) []byte {
	h := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("weir chain v1"), epoch))
	return h[:]
}

// History is an epoch's items with the chain after each.
type History struct {
	epoch    uint64
	Instance string
	Things   []Thing
	Heads    [][]byte // before Thing i; one more at the end
}

// Epoch is the epoch.
func (h *History) Epoch() uint64 { return h.epoch }

// New chains things.
func New(epoch uint64, things []Thing) *History {
	h := &History{epoch: epoch, Instance: Instance, Things: things, Heads: [][]byte{Begin(epoch)}}
	for _, t := range things {
		h.Heads = append(h.Heads, Hash(h.Heads[len(h.Heads)-1], t.Last, t.JSON()))
	}
	return h
}

// Cut is the record of Things[i:j].
func (h *History) Cut(i, j int) string {
	var list, numbers, gaps, starts, notices []string
	for _, t := range h.Things[i:j] {
		switch t.Kind {
		case "gap":
			gaps = append(gaps, t.JSON())
		case "started":
			starts = append(starts, t.JSON())
		case "notice":
			notices = append(notices, t.JSON())
		default:
			list = append(list, t.Elements...)
			for range t.Elements {
				numbers = append(numbers, fmt.Sprint(t.First))
			}
		}
	}
	if list == nil {
		list = []string{`{"type":"heartbeat"}`}
	}
	more := ""
	for name, l := range map[string][]string{"gaps": gaps, "started": starts, "notices": notices} {
		if l != nil {
			more += fmt.Sprintf(`,%q:[%s]`, name, strings.Join(l, ","))
		}
	}
	return h.Record(strings.Join(list, ","), strings.Join(numbers, ","), more, h.Heads[i], h.Heads[j])
}

// Beat is a heartbeat after Things[:i].
func (h *History) Beat(i int) string {
	through := uint64(0)
	if i > 0 {
		through = h.Things[i-1].Last
	}
	return h.Record(`{"type":"heartbeat"}`, "", fmt.Sprintf(`,"through":%d`, through), h.Heads[i], h.Heads[i])
}

// Signed is a heartbeat that carries a signed checkpoint of where the chain is
// after Things[:i]. sign gets what is to be signed.
func (h *History) Signed(i int, alg string, sign func(text string) []byte) string {
	text := fmt.Sprintf("weir checkpoint v1\n%s\n%s\n%d\n%d\n%s\n%s\n", Cluster, h.Instance, h.epoch, h.Things[i-1].Last, hex.EncodeToString(h.Heads[i]), at(uint64(i)))
	checkpoint := fmt.Sprintf(`,"checkpoint":{"epoch":%d,"n":%d,"hash":%q,"at":%q,"instance":%q,"alg":%q,"key":"k","sig":%q}`,
		h.epoch, h.Things[i-1].Last, hex.EncodeToString(h.Heads[i]), at(uint64(i)), h.Instance, alg, base64.StdEncoding.EncodeToString(sign(text)))
	return h.Record(`{"type":"heartbeat"}`, "", fmt.Sprintf(`,"through":%d`, h.Things[i-1].Last)+checkpoint, h.Heads[i], h.Heads[i])
}

// Record is a record of what it is told, true or not.
func (h *History) Record(list, numbers, more string, prev, last []byte) string {
	return fmt.Sprintf(`{"type":"DatabaseActivityMonitoringRecord","clusterId":%q,"instanceId":%q,"databaseActivityEventList":[%s],"weir":{"v":1,"epoch":%d,"n":[%s]%s,"prev":%q,"last":%q}}`,
		Cluster, h.Instance, list, h.epoch, numbers, more, hex.EncodeToString(prev), hex.EncodeToString(last))
}

// Cuts cuts all of Things from i on into records of at most size.
func (h *History) Cuts(i, size int, rnd *rand.Rand) (records []string) {
	for i < len(h.Things) {
		j := min(len(h.Things), i+1+rnd.IntN(size))
		records = append(records, h.Cut(i, j))
		i = j
	}
	return records
}
