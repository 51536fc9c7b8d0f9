package render

import (
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-das/weir/pkg/das"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

// activity is a weir.activity.v1.Activity. Its bytes point into the payload.
// What a field means is said in activity.proto.
type activity struct {
	kind           activityv1.Kind
	class          activityv1.Class
	startedAt      timestamp
	endedAt        timestamp
	session        session
	statementID    uint64
	substatementID uint64
	command        []byte
	objects        []object
	objectCount    int // those beyond maxObjects included
	objectsOmitted uint32
	text           text
	params         []param
	paramCount     int // likewise
	paramsOmitted  uint32
	rows           uint64
	hasRows        bool
	sqlstate       []byte
	errorMessage   text
	exitCode       int32
	hasExitCode    bool
	notice         notice
}

type notice struct {
	kind    activityv1.NoticeKind
	subject []byte
}

type timestamp struct {
	set     bool
	seconds int64
	nanos   int32
}

type session struct {
	set         bool
	pid         int32
	startedAt   timestamp
	user        []byte
	database    []byte
	remoteHost  []byte
	remotePort  []byte
	application []byte
	local       bool
	encoding    []byte
	serverHost  []byte
	effective   []byte // the role in force
}

type object struct {
	kind    activityv1.ObjectType
	name    []byte
	command []byte
	class   activityv1.Class
}

type text struct {
	set    bool
	kept   []byte
	length uint64 // of the whole text; 0 where all was kept
	sha256 []byte
}

type param struct {
	null  bool
	value text
}

// reset empties a, keeping the room of its lists.
func (a *activity) reset() {
	clear(a.objects)
	clear(a.params)
	*a = activity{objects: a.objects[:0], params: a.params[:0]}
}

// The range of a protobuf Timestamp: the years 1 to 9999.
const (
	minSeconds = -62_135_596_800
	maxSeconds = 253_402_300_799
)

// valid says whether a has what every event has, in the range it can have.
func (a *activity) valid() bool {
	return a.kind != activityv1.Kind_KIND_UNSPECIFIED && a.session.set &&
		a.startedAt.set && a.startedAt.valid() && a.endedAt.set && a.endedAt.valid() &&
		a.session.startedAt.valid() && a.rows <= math.MaxInt64 &&
		a.text.valid() && a.errorMessage.valid()
}

func (t *timestamp) valid() bool {
	return t.seconds >= minSeconds && t.seconds <= maxSeconds && t.nanos >= 0 && t.nanos <= 999_999_999
}

// time is the instant, as pkg/das takes it.
func (t *timestamp) time() time.Time { return time.Unix(t.seconds, int64(t.nanos)) }

// cut says whether the engine kept only the beginning of t.
func (t *text) cut() bool { return t.length != 0 }

func (t *text) valid() bool { return len(t.sha256) == 0 || len(t.sha256) == len(das.Hash{}) }

// field is one field of a message, in protobuf's wire format.
type field struct {
	tag    uint64 // number and wire type, as they are encoded
	varint uint64
	bytes  []byte
}

// The wire types that fields of ours have. A field whose number is known and
// whose type is another is unknown, as with every protobuf decoder.
const (
	varint    = uint64(protowire.VarintType)
	delimited = uint64(protowire.BytesType)
)

// next reads one field off the front of b.
func next(b []byte) (f field, rest []byte, ok bool) {
	number, kind, n := protowire.ConsumeTag(b)
	if n < 0 || number > protowire.MaxValidNumber {
		return f, nil, false
	}
	b = b[n:]
	f.tag = protowire.EncodeTag(number, kind)
	switch kind {
	case protowire.VarintType:
		f.varint, n = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(b)
	default:
		n = protowire.ConsumeFieldValue(number, kind, b)
	}
	if n < 0 {
		return f, nil, false
	}
	return f, b[n:], true
}

// decode reads b into a. Of a field that comes twice the last one counts, and
// of a message that does the fields of both: so it is with protobuf.
func (a *activity) decode(b []byte) bool {
	for len(b) > 0 {
		f, rest, ok := next(b)
		if !ok || !a.decodeField(f) {
			return false
		}
		b = rest
	}
	return true
}

func (a *activity) decodeField(f field) bool {
	switch f.tag {
	case 1<<3 | varint:
		a.kind = activityv1.Kind(f.varint)
	case 2<<3 | delimited:
		return a.startedAt.decode(f.bytes)
	case 3<<3 | delimited:
		return a.endedAt.decode(f.bytes)
	case 4<<3 | delimited:
		return a.session.decode(f.bytes)
	case 5<<3 | varint:
		a.statementID = f.varint
	case 6<<3 | varint:
		a.substatementID = f.varint
	case 7<<3 | varint:
		a.class = activityv1.Class(f.varint)
	case 8<<3 | delimited:
		a.command = f.bytes
	case 9<<3 | delimited:
		return a.addObject(f.bytes)
	case 10<<3 | delimited:
		return a.text.decode(f.bytes)
	case 11<<3 | delimited:
		return a.addParam(f.bytes)
	case 12<<3 | varint:
		a.rows, a.hasRows = f.varint, true
	case 13<<3 | delimited:
		a.sqlstate = f.bytes
	case 14<<3 | delimited:
		return a.errorMessage.decode(f.bytes)
	case 15<<3 | varint:
		a.exitCode, a.hasExitCode = int32(f.varint), true
	case 16<<3 | varint:
		a.objectsOmitted = uint32(f.varint)
	case 17<<3 | varint:
		a.paramsOmitted = uint32(f.varint)
	case 18<<3 | delimited:
		return a.notice.decode(f.bytes)
	}
	return true
}

// addObject keeps the first maxObjects objects and counts all.
func (a *activity) addObject(b []byte) bool {
	var o object
	if !o.decode(b) {
		return false
	}
	a.objectCount++
	if len(a.objects) < maxObjects {
		a.objects = append(a.objects, o)
	}
	return true
}

// addParam keeps the first maxParams bind values and counts all.
func (a *activity) addParam(b []byte) bool {
	var p param
	if !p.decode(b) || !p.value.valid() {
		return false
	}
	a.paramCount++
	if len(a.params) < maxParams {
		a.params = append(a.params, p)
	}
	return true
}

func (t *timestamp) decode(b []byte) bool {
	t.set = true
	for len(b) > 0 {
		f, rest, ok := next(b)
		if !ok {
			return false
		}
		switch f.tag {
		case 1<<3 | varint:
			t.seconds = int64(f.varint)
		case 2<<3 | varint:
			t.nanos = int32(f.varint)
		}
		b = rest
	}
	return true
}

func (s *session) decode(b []byte) bool {
	s.set = true
	for len(b) > 0 {
		f, rest, ok := next(b)
		if !ok {
			return false
		}
		switch f.tag {
		case 1<<3 | varint:
			s.pid = int32(f.varint)
		case 2<<3 | delimited:
			if !s.startedAt.decode(f.bytes) {
				return false
			}
		case 3<<3 | delimited:
			s.user = f.bytes
		case 4<<3 | delimited:
			s.database = f.bytes
		case 5<<3 | delimited:
			s.remoteHost = f.bytes
		case 6<<3 | delimited:
			s.remotePort = f.bytes
		case 7<<3 | delimited:
			s.application = f.bytes
		case 8<<3 | varint:
			s.local = f.varint != 0
		case 9<<3 | delimited:
			s.encoding = f.bytes
		case 10<<3 | delimited:
			s.serverHost = f.bytes
		case 11<<3 | delimited:
			s.effective = f.bytes
		}
		b = rest
	}
	return true
}

func (o *object) decode(b []byte) bool {
	for len(b) > 0 {
		f, rest, ok := next(b)
		if !ok {
			return false
		}
		switch f.tag {
		case 1<<3 | varint:
			o.kind = activityv1.ObjectType(f.varint)
		case 2<<3 | delimited:
			o.name = f.bytes
		case 3<<3 | delimited:
			o.command = f.bytes
		case 4<<3 | varint:
			o.class = activityv1.Class(f.varint)
		}
		b = rest
	}
	return true
}

func (n *notice) decode(b []byte) bool {
	for len(b) > 0 {
		f, rest, ok := next(b)
		if !ok {
			return false
		}
		switch f.tag {
		case 1<<3 | varint:
			n.kind = activityv1.NoticeKind(f.varint)
		case 2<<3 | delimited:
			n.subject = f.bytes
		}
		b = rest
	}
	return true
}

func (t *text) decode(b []byte) bool {
	t.set = true
	for len(b) > 0 {
		f, rest, ok := next(b)
		if !ok {
			return false
		}
		switch f.tag {
		case 1<<3 | delimited:
			t.kept = f.bytes
		case 2<<3 | varint:
			t.length = f.varint
		case 3<<3 | delimited:
			t.sha256 = f.bytes
		}
		b = rest
	}
	return true
}

func (p *param) decode(b []byte) bool {
	for len(b) > 0 {
		f, rest, ok := next(b)
		if !ok {
			return false
		}
		switch f.tag {
		case 1<<3 | varint:
			p.null = f.varint != 0
		case 2<<3 | delimited:
			if !p.value.decode(f.bytes) {
				return false
			}
		}
		b = rest
	}
	return true
}
