package render

import (
	"google.golang.org/protobuf/encoding/protowire"

	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

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
