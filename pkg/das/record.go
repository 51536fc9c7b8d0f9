package das

import (
	"encoding/base64"
	"slices"
	"time"
)

// Extension is what Weir adds to a record: which numbers it holds, which are
// lost, and how they chain. Consumers of Aurora's streams ignore it.
type Extension struct {
	// Epoch is one life of the ring: its creation, in µs since 1970.
	Epoch uint64
	// Numbers has the number of each list element: one number may have several,
	// which then follow each other. It is empty for a heartbeat.
	Numbers []uint64
	// Through is the last number given to an item before Prev: what a record
	// without items says of where the chain stands. Others leave it out.
	Through Nullable[uint64]
	// Gaps are the numbers lost. With the elements' numbers, and those of what
	// travels beside the list, they make an unbroken sequence, which is the
	// order of the chain.
	Gaps []Gap
	// Prev is the chain's hash before the record's first item, and Last the one
	// after its last item. They are equal where the record has none.
	Prev, Last Hash
	// Truncated names what is not whole.
	Truncated []Truncation
	// Details are what Aurora's fields have no place for.
	Details []Detail
	// Started and Notices are what is no Aurora event and has a number all the
	// same: statements that began, and what the engine noticed.
	Started []Started
	Notices []Notice
	// Checkpoint is the latest that was signed; nil in most records.
	Checkpoint *Checkpoint
}

// Gap is a range of numbers whose events were lost. As Append renders it, it is
// an item of the chain.
type Gap struct {
	First, Last uint64
	From, To    time.Time
	Cause       string
}

// Why numbers have no event.
const (
	CauseRingFull = "ring_full" // the ring had no room
	CauseTorn     = "torn"      // the writer died between taking its number and committing
	CauseCorrupt  = "corrupt"   // what stood in the ring was no event
	CauseRefused  = "refused"   // no record of it can ever be sealed
	CauseUnread   = "unread"    // a log was gone before it was read: at least one event, nobody knows how many
)

// Truncation says that a field of an event is not whole.
type Truncation struct {
	// N is the event's number.
	N uint64
	// Field is the name of the field in the list element. For one bind value it
	// is "paramList[2]", counted from 0. "paramList" alone says that values are
	// missing at the end of the list, and FieldElements that elements are.
	Field string
	// Length is the whole length in bytes, as the database held it; for a list,
	// how many there were.
	Length uint64
	// SHA256 is the hash of the whole text, as the database held it. It is zero,
	// and absent in JSON, for a list.
	SHA256 Hash
}

// FieldElements is the Field of an event that touched more objects than it has
// list elements.
const FieldElements = "databaseActivityEventList"

// Append appends g as JSON. The result is an item of the chain: it depends on
// nothing but g.
func (g *Gap) Append(dst []byte) []byte {
	dst = append(dst, `{"first":`...)
	dst = appendUint(dst, g.First)
	dst = append(dst, `,"last":`...)
	dst = appendUint(dst, g.Last)
	dst = append(dst, `,"from":"`...)
	dst = AppendTime(dst, g.From)
	dst = append(dst, `","to":"`...)
	dst = AppendTime(dst, g.To)
	dst = append(dst, `","cause":`...)
	dst = AppendString(dst, g.Cause)
	return append(dst, '}')
}

func (t *Truncation) append(dst []byte) []byte {
	dst = append(dst, `{"n":`...)
	dst = appendUint(dst, t.N)
	dst = append(dst, `,"field":`...)
	dst = AppendString(dst, t.Field)
	dst = append(dst, `,"length":`...)
	dst = appendUint(dst, t.Length)
	if t.SHA256 != (Hash{}) {
		dst = append(dst, `,"sha256":`...)
		dst = appendHash(dst, &t.SHA256)
	}
	return append(dst, '}')
}

func (e *Extension) append(dst []byte) []byte {
	dst = append(dst, `{"v":1,"epoch":`...)
	dst = appendUint(dst, e.Epoch)
	dst = append(dst, `,"n":[`...)
	for i, n := range e.Numbers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendUint(dst, n)
	}
	dst = append(dst, ']')
	if e.Through.Valid {
		dst = append(dst, `,"through":`...)
		dst = appendUint(dst, e.Through.Value)
	}
	for i := range e.Gaps {
		dst = append(dst, listStart(i, `,"gaps":[`)...)
		dst = e.Gaps[i].Append(dst)
	}
	dst = listEnd(dst, len(e.Gaps))
	dst = append(dst, `,"prev":`...)
	dst = appendHash(dst, &e.Prev)
	dst = append(dst, `,"last":`...)
	dst = appendHash(dst, &e.Last)
	for i := range e.Truncated {
		dst = append(dst, listStart(i, `,"truncated":[`)...)
		dst = e.Truncated[i].append(dst)
	}
	dst = listEnd(dst, len(e.Truncated))
	for i := range e.Details {
		dst = append(dst, listStart(i, `,"details":[`)...)
		dst = e.Details[i].Append(dst)
	}
	dst = listEnd(dst, len(e.Details))
	for i := range e.Started {
		dst = append(dst, listStart(i, `,"started":[`)...)
		dst = e.Started[i].Append(dst)
	}
	dst = listEnd(dst, len(e.Started))
	for i := range e.Notices {
		dst = append(dst, listStart(i, `,"notices":[`)...)
		dst = e.Notices[i].Append(dst)
	}
	dst = listEnd(dst, len(e.Notices))
	if e.Checkpoint != nil {
		dst = append(dst, `,"checkpoint":`...)
		dst = e.Checkpoint.append(dst)
	}
	return append(dst, '}')
}

// listStart is what stands before item i of a list that is absent when empty.
func listStart(i int, name string) string {
	if i == 0 {
		return name
	}
	return ","
}

func listEnd(dst []byte, n int) []byte {
	if n == 0 {
		return dst
	}
	return append(dst, ']')
}

// AppendRecord appends the record that lists events. list is the elements as
// they were rendered, joined by commas; it is copied as it is. ext may be nil.
func AppendRecord(dst []byte, clusterID, instanceID string, list []byte, ext *Extension) []byte {
	dst = append(dst, `{"type":"`+TypeInner+`","clusterId":`...)
	dst = AppendString(dst, clusterID)
	dst = append(dst, `,"instanceId":`...)
	dst = AppendString(dst, instanceID)
	dst = append(dst, `,"databaseActivityEventList":[`...)
	dst = append(dst, list...)
	dst = append(dst, ']')
	if ext != nil {
		dst = append(dst, `,"weir":`...)
		dst = ext.append(dst)
	}
	return append(dst, '}')
}

// AppendHeartbeat appends a record whose list is one heartbeat. It may carry
// what has no event to travel with: gaps, started statements, notices.
func AppendHeartbeat(dst []byte, clusterID, instanceID string, ext *Extension) []byte {
	return AppendRecord(dst, clusterID, instanceID, []byte(HeartbeatList), ext)
}

// The outer record's parts, in order. Nothing stands before, between or behind.
const (
	outerVersion = `{"type":"` + TypeOuter + `","version":`
	outerEvents  = `,"databaseActivityEvents":"`
	outerKey     = `","key":"`
	outerEnd     = `"}`
)

// AppendOuter appends the outer record: what Kinesis gets. events is the sealed
// message and key the data key as KMS encrypted it.
func AppendOuter(dst []byte, version string, events, key []byte) []byte {
	dst = slices.Grow(dst, OuterLen(version, len(events), len(key)))
	dst = append(dst, outerVersion...)
	dst = AppendString(dst, version)
	dst = append(dst, outerEvents...)
	dst = base64.StdEncoding.AppendEncode(dst, events)
	dst = append(dst, outerKey...)
	dst = base64.StdEncoding.AppendEncode(dst, key)
	return append(dst, outerEnd...)
}

// OuterLen is the length of the outer record of a message and a key of the
// given lengths; version must need no escapes.
func OuterLen(version string, events, key int) int {
	return len(outerVersion) + len(`""`) + len(version) +
		len(outerEvents) + base64.StdEncoding.EncodedLen(events) +
		len(outerKey) + base64.StdEncoding.EncodedLen(key) + len(outerEnd)
}
