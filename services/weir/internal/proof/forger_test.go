package proof_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/services/weir/internal/proof"
)

const (
	cluster  = "cluster-AAAAAAAAAAAAAAAAAAAAAAAAAA"
	instance = "db-BBBBBBBBBBBBBBBBBBBBBBBBBB"
	epoch    = 1_767_225_600_000_000
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// thing is an item as the engine made it: what follows from it is in no record
// yet.
type thing struct {
	first, last uint64
	kind        string // event, gap, started, notice
	elements    []string
	cause       string
}

func (t thing) json() string {
	switch t.kind {
	case "gap":
		return fmt.Sprintf(`{"first":%d,"last":%d,"from":%q,"to":%q,"cause":%q}`, t.first, t.last, at(t.first), at(t.last), t.cause)
	case "started":
		return fmt.Sprintf(`{"n":%d,"sessionId":"s","startTime":%q}`, t.first, at(t.first))
	case "notice":
		return fmt.Sprintf(`{"n":%d,"time":%q,"kind":"hook_replaced"}`, t.first, at(t.first))
	}
	return strings.Join(t.elements, ",")
}

func at(n uint64) string {
	return start.Add(time.Duration(n) * time.Second).Format("2006-01-02 15:04:05.000000+00")
}

func ev(n uint64, texts ...string) thing {
	t := thing{first: n, last: n, kind: "event"}
	if len(texts) == 0 {
		texts = []string{fmt.Sprintf("select %d", n)}
	}
	for _, s := range texts {
		t.elements = append(t.elements, fmt.Sprintf(`{"startTime":%q,"logTime":%q,"commandText":%q,"type":"record"}`, at(n), at(n), s))
	}
	return t
}

func gap(first, last uint64, cause string) thing {
	return thing{first: first, last: last, kind: "gap", cause: cause}
}

func events(first, last uint64) (list []thing) {
	for n := first; n <= last; n++ {
		list = append(list, ev(n))
	}
	return list
}

func hash(prev []byte, n uint64, content string) []byte {
	h := sha256.New()
	h.Write(prev)
	h.Write(binary.BigEndian.AppendUint64(nil, n))
	h.Write([]byte(content))
	return h.Sum(nil)
}

func begin(epoch uint64) []byte {
	h := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("weir chain v1"), epoch))
	return h[:]
}

// history is an epoch's items with the chain after each.
type history struct {
	epoch    uint64
	instance string
	things   []thing
	heads    [][]byte // before thing i; one more at the end
}

func historyOf(epoch uint64, things []thing) *history {
	h := &history{epoch: epoch, instance: instance, things: things, heads: [][]byte{begin(epoch)}}
	for _, t := range things {
		h.heads = append(h.heads, hash(h.heads[len(h.heads)-1], t.last, t.json()))
	}
	return h
}

// cut is the record of things[i:j].
func (h *history) cut(i, j int) string {
	var list, numbers, gaps, starts, notices []string
	for _, t := range h.things[i:j] {
		switch t.kind {
		case "gap":
			gaps = append(gaps, t.json())
		case "started":
			starts = append(starts, t.json())
		case "notice":
			notices = append(notices, t.json())
		default:
			list = append(list, t.elements...)
			for range t.elements {
				numbers = append(numbers, fmt.Sprint(t.first))
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
	return h.record(strings.Join(list, ","), strings.Join(numbers, ","), more, h.heads[i], h.heads[j])
}

// beat is a heartbeat after things[:i].
func (h *history) beat(i int) string {
	through := uint64(0)
	if i > 0 {
		through = h.things[i-1].last
	}
	return h.record(`{"type":"heartbeat"}`, "", fmt.Sprintf(`,"through":%d`, through), h.heads[i], h.heads[i])
}

func (h *history) record(list, numbers, more string, prev, last []byte) string {
	return fmt.Sprintf(`{"type":"DatabaseActivityMonitoringRecord","clusterId":%q,"instanceId":%q,"databaseActivityEventList":[%s],"weir":{"v":1,"epoch":%d,"n":[%s]%s,"prev":%q,"last":%q}}`,
		cluster, h.instance, list, h.epoch, numbers, more, hex.EncodeToString(prev), hex.EncodeToString(last))
}

// cuts cuts all of things from i on into records of at most size.
func (h *history) cuts(i, size int, rnd *rand.Rand) (records []string) {
	for i < len(h.things) {
		j := min(len(h.things), i+1+rnd.IntN(size))
		records = append(records, h.cut(i, j))
		i = j
	}
	return records
}

// check gives records to a checker in this order.
func check(t testing.TB, opt proof.Options, ledger *proof.Ledger, records ...string) *proof.Report {
	t.Helper()
	c := proof.New(opt)
	defer c.Close()
	for i, r := range records {
		if err := c.Add(proof.Source{Line: int64(i + 1)}, []byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	return c.Report(ledger)
}
