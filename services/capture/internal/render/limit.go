package render

import (
	"crypto/sha256"
	"strconv"

	"github.com/weir-das/weir/pkg/das"
)

// MaxBytes bounds what one event renders to, all its elements together: a
// record of it alone seals to far less than 900 KiB, however badly it
// compresses.
const MaxBytes = 512 << 10

// Limits of one event's parts. They are beyond what a server writes, whose
// names have 63 bytes: a forged payload meets them first.
const (
	maxObjects    = 1024
	maxParams     = 65_535 // what the wire protocol can carry
	maxName       = 512    // bytes, rendered: names of roles, databases, hosts
	maxObjectName = 1024   // bytes, rendered: schema and name, both quoted
	maxCode       = 128    // bytes, rendered: command tags, SQLSTATEs, ports
	maxCutParams  = 32     // bind values that say of themselves that they are cut
)

// mark notes that a field is not whole. The first mark of a field counts: an
// event's elements share their texts.
func (r *Renderer) mark(field string, t *text) {
	if r.marked(field) {
		return
	}
	m := das.Truncation{Field: field, Length: t.length}
	switch {
	case !t.cut(): // the engine kept all: it was cut here
		m.Length, m.SHA256 = uint64(len(t.kept)), sha256.Sum256(t.kept)
	default:
		copy(m.SHA256[:], t.sha256)
	}
	r.truncated = append(r.truncated, m)
}

// markList notes that a list has fewer items than there were.
func (r *Renderer) markList(field string, count uint64) {
	if !r.marked(field) {
		r.truncated = append(r.truncated, das.Truncation{Field: field, Length: count})
	}
}

func (r *Renderer) marked(field string) bool {
	for i := range r.truncated {
		if r.truncated[i].Field == field {
			return true
		}
	}
	return false
}

// text returns a text as UTF-8, and notes what the engine did not keep of it.
func (r *Renderer) text(field string, t *text) string {
	if t.cut() {
		r.mark(field, t)
	}
	return r.texts.utf8(t.kept)
}

// fillParams fills the bind values.
func (r *Renderer) fillParams() {
	a, e := &r.activity, &r.event
	r.params = r.params[:0]
	cut := 0
	for i := range a.params {
		p := &a.params[i]
		if p.null {
			r.params = append(r.params, das.Nullable[string]{})
			continue
		}
		if p.value.cut() {
			if cut++; cut > maxCutParams {
				break
			}
			r.mark(paramField(i), &p.value)
		}
		r.params = append(r.params, das.Some(r.texts.utf8(p.value.kept)))
	}
	e.ParamList = r.params
	if total := r.paramTotal(); uint64(len(e.ParamList)) < total {
		r.markList("paramList", total)
	}
}

// paramTotal is how many bind values the statement had.
func (r *Renderer) paramTotal() uint64 {
	return uint64(r.activity.paramCount) + uint64(r.activity.paramsOmitted)
}

func paramField(i int) string { return "paramList[" + strconv.Itoa(i) + "]" }

// appendElements appends the event's elements, whole if they may be.
func (r *Renderer) appendElements(dst []byte) (out []byte, elements int) {
	start, count := len(dst), max(1, r.itself+len(r.activity.objects))
	whole := r.textBytes() <= MaxBytes
	for i := 0; whole && i < count; i++ {
		dst = r.appendElement(dst, i)
		whole = len(dst)-start <= MaxBytes
	}
	if !whole {
		dst, count = r.appendCut(dst[:start], count)
	}
	if total := uint64(r.itself) + uint64(r.activity.objectCount) + uint64(r.activity.objectsOmitted); total > uint64(count) {
		r.markList(das.FieldElements, total)
	}
	return dst, count
}

// appendElement appends element i, behind a comma where it is not the first.
func (r *Renderer) appendElement(dst []byte, i int) []byte {
	if i > 0 {
		dst = append(dst, ',')
	}
	r.setObject(i)
	return r.event.Append(dst)
}

// textBytes is the length of the texts that an element has, before they are
// rendered, which makes none shorter.
func (r *Renderer) textBytes() int {
	n := len(r.event.CommandText.Value) + len(r.event.ErrorMessage.Value)
	for i := range r.event.ParamList {
		n += len(r.event.ParamList[i].Value)
	}
	return n
}

// appendCut appends as many of count elements as there is room for, with as
// much of their texts. The first element may have half of all room, so that
// texts of that size are whole in one of them; the others share what is left.
func (r *Renderer) appendCut(dst []byte, count int) (out []byte, elements int) {
	whole := r.takeTexts()
	start := len(dst)
	room := MaxBytes
	if count > 1 {
		room /= 2
	}
	r.putTexts(whole, room-r.bareSize(dst, 0))
	dst = r.appendElement(dst, 0)
	if count == 1 {
		return dst, 1
	}

	room = MaxBytes - (len(dst) - start)
	r.putTexts(whole, 0)
	elements = 1
	for elements < count {
		size := r.bareSize(dst, elements)
		if size > room {
			break
		}
		room -= size
		elements++
	}
	if elements > 1 {
		r.putTexts(whole, room/(elements-1))
	}
	for i := 1; i < elements; i++ {
		dst = r.appendElement(dst, i)
	}
	return dst, elements
}

// bareSize is what element i takes without texts. It uses the room behind dst.
func (r *Renderer) bareSize(dst []byte, i int) int {
	whole := r.takeTexts()
	size := len(r.appendElement(dst, i)) - len(dst)
	r.event.CommandText, r.event.ErrorMessage, r.event.ParamList = whole.command, whole.message, whole.params
	return size
}

// elementTexts are the parts of an element that may be of any length.
type elementTexts struct {
	command das.Nullable[string]
	message das.Nullable[string]
	params  []das.Nullable[string]
}

// takeTexts leaves the event with empty texts, null where they were null.
func (r *Renderer) takeTexts() elementTexts {
	e := &r.event
	t := elementTexts{command: e.CommandText, message: e.ErrorMessage, params: e.ParamList}
	e.CommandText.Value, e.ErrorMessage.Value, e.ParamList = "", "", e.ParamList[:0]
	return t
}

// putTexts gives the event as much of t as renders to room bytes: an eighth of
// it at most for the message, three eighths of the rest for the bind values
// where the statement needs all it can get, and what is left for either.
func (r *Renderer) putTexts(t elementTexts, room int) {
	e := &r.event
	room = max(room, 0)
	e.ErrorMessage.Value = r.cut("errorMessage", t.message.Value, &r.activity.errorMessage, room/8)
	room -= das.StringLen(e.ErrorMessage.Value)
	params := 0
	for i := 0; i < len(t.params) && params < room; i++ {
		params += paramLen(t.params[i])
	}
	e.CommandText.Value = r.cut("commandText", t.command.Value, &r.activity.text, room-min(params, room*3/8))
	room -= das.StringLen(e.CommandText.Value)

	e.ParamList = t.params
	for i, p := range t.params {
		size := paramLen(p)
		if size <= room {
			room -= size
			continue
		}
		// The list ends with the beginning of the value that has no room.
		n := 0
		if p.Valid {
			n = das.Fit(p.Value, max(room-paramLen(das.Some("")), 0))
		}
		e.ParamList = t.params[:i]
		if n > 0 {
			r.mark(paramField(i), &r.activity.params[i].value)
			r.cutParams = append(append(r.cutParams[:0], t.params[:i]...), das.Some(p.Value[:n]))
			e.ParamList = r.cutParams
		}
		if total := r.paramTotal(); uint64(len(e.ParamList)) < total {
			r.markList("paramList", total)
		}
		return
	}
}

// paramLen is what a bind value takes in the list, with quotes and comma.
func paramLen(p das.Nullable[string]) int {
	if !p.Valid {
		return len(`null,`)
	}
	return len(`"",`) + das.StringLen(p.Value)
}

// cut returns the beginning of s that renders to at most limit bytes.
func (r *Renderer) cut(field, s string, t *text, limit int) string {
	n := das.Fit(s, limit)
	if n < len(s) {
		r.mark(field, t)
	}
	return s[:n]
}
