// Package render turns an event as the engine wrote it into the bytes that
// consumers get: the elements of Aurora's list, one per object the statement
// touched.
//
// The one idea: rendering is a function of the payload and the configuration,
// and of nothing else. After a restart the same event is rendered again to the
// same bytes, so that a duplicate is one and the chain goes on. That holds for
// what is cut as well: every limit is a constant.
//
// The payload is not trusted. Whoever runs as the engine's account can write
// anything into the ring: it is decoded by hand, with every length checked,
// without allocating by what a field says; and what comes out is valid JSON of
// bounded size, whatever went in.
//
// Before: internal/ring, which reads the payload.
// Next: internal/chain, which hashes the bytes.
package render

import (
	"errors"
	"strconv"

	"github.com/weir-das/weir/pkg/das"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

// ErrMalformed means that a payload is nothing an engine writes. Nobody can
// repair it: the caller counts its number as lost.
var ErrMalformed = errors.New("render: payload is malformed")

// DefaultServiceName is the serviceName where none is configured. Aurora's is
// "Amazon Aurora PostgreSQL-Compatible edition".
const DefaultServiceName = "PostgreSQL"

// Config is what an event says about its server and the payload does not.
type Config struct {
	ServerVersion string // as the engine calls itself: "15.20"
	ServerType    string // empty means "PostgreSQL"
	ServiceName   string // empty means DefaultServiceName
	ServerHost    string // for sessions that came without one, over a local socket
}

// Renderer renders events. It keeps its memory from one to the next: it belongs
// to one goroutine.
type Renderer struct {
	cfg Config // immutable after New

	// What follows is about one event and is reset with the next.
	activity  activity
	event     das.Event
	command   string // of the statement; an object may have another one
	class     string // likewise
	pid       int32
	itself    int // 1 where the statement has an element before its objects'
	texts     texts
	truncated []das.Truncation
	detail    *das.Detail
	started   *das.Started
	notice    *das.Notice
	params    []das.Nullable[string] // the room of event.ParamList
	cutParams []das.Nullable[string] // likewise, where it is cut
}

// New returns a Renderer.
func New(cfg Config) *Renderer {
	if cfg.ServerType == "" {
		cfg.ServerType = das.ServerTypePostgreSQL
	}
	if cfg.ServiceName == "" {
		cfg.ServiceName = DefaultServiceName
	}
	for _, s := range []*string{&cfg.ServerVersion, &cfg.ServerType, &cfg.ServiceName, &cfg.ServerHost} {
		*s = (*s)[:das.Fit(*s, maxName)]
	}
	return &Renderer{cfg: cfg}
}

// Append appends the elements of the event with this number to dst, joined by
// commas, and returns how many there are, together at most MaxBytes. There is
// none where it is no Aurora event: Beside then says what it is, and dst gets
// its object. payload must not change until Append returns, nor lie in the room
// behind dst.
//
// truncated names what is not whole; it is valid until the next call. The only
// error is ErrMalformed, with dst as it was.
func (r *Renderer) Append(dst []byte, number uint64, payload []byte) (out []byte, elements int, truncated []das.Truncation, err error) {
	defer r.forget()
	if !r.activity.decode(payload) || !r.activity.valid() {
		return dst, 0, nil, ErrMalformed
	}
	r.pid = r.activity.session.pid
	r.texts.reset(r.activity.session.encoding)
	r.truncated = r.truncated[:0]
	r.detail, r.started, r.notice = nil, nil, nil
	switch r.activity.kind {
	case activityv1.Kind_KIND_STARTED:
		out = r.appendStarted(dst, number)
	case activityv1.Kind_KIND_NOTICE:
		out = r.appendNotice(dst, number)
	default:
		r.fill()
		out, elements = r.appendElements(dst)
		r.fillDetail(number)
	}
	for i := range r.truncated {
		r.truncated[i].N = number
	}
	return out, elements, r.truncated, nil
}

// PID is the process of the session that the last event is of.
func (r *Renderer) PID() int32 { return r.pid }

// forget drops what points into the caller's payload.
func (r *Renderer) forget() {
	clear(r.params)
	clear(r.cutParams)
	r.event = das.Event{}
	r.activity.reset()
	r.texts.release()
}

// fill fills the event's fields, but for those of its objects.
func (r *Renderer) fill() {
	a, e := &r.activity, &r.event
	s := &a.session
	e.StartTime, e.LogTime = a.startedAt.time(), a.endedAt.time()
	e.StatementID, e.SubstatementID = a.statementID, a.substatementID
	r.itself = 0
	if r.hasItself() {
		r.itself = 1
	}
	r.command, r.class = r.name("command", a.command, maxCode), className(a.kind, a.class)
	e.DatabaseName = r.name("databaseName", s.database, maxName)
	e.DBUserName = r.name("dbUserName", s.user, maxName)
	e.SessionID = r.sessionID()
	e.PID = int64(s.pid)
	if app := r.name("clientApplication", s.application, maxName); app != "" {
		e.ClientApp = das.Some(app)
	}
	switch {
	case s.local:
		e.RemoteHost, e.NetProtocol = localHost, netLocal
	case len(s.remoteHost) > 0 || len(s.remotePort) > 0:
		e.RemoteHost = r.name("remoteHost", s.remoteHost, maxName)
		e.RemotePort = r.name("remotePort", s.remotePort, maxCode)
		e.NetProtocol = netTCP
	default: // a background worker: nobody is connected
	}
	if e.ServerHost = r.name("serverHost", s.serverHost, maxName); e.ServerHost == "" {
		e.ServerHost = r.cfg.ServerHost
	}
	if a.hasRows {
		e.RowCount = das.Some(int64(a.rows))
	}
	if a.text.set {
		e.CommandText = das.Some(r.text("commandText", &a.text))
	}
	if a.errorMessage.set {
		e.ErrorMessage = das.Some(r.text("errorMessage", &a.errorMessage))
	}
	e.ExitCode = r.exitCode()
	r.fillParams()
	e.ServerVersion, e.ServerType, e.ServiceName = r.cfg.ServerVersion, r.cfg.ServerType, r.cfg.ServiceName
	e.DBProtocol = das.DBProtocolPostgreSQL
	e.Type = das.TypeRecord

	// A login has a command, also where the engine sees none.
	if r.command == "" {
		switch a.kind {
		case activityv1.Kind_KIND_CONNECT:
			r.command = "CONNECT"
		case activityv1.Kind_KIND_DISCONNECT:
			r.command = "DISCONNECT"
		}
	}
}

// Where a session came from that has no address, and over what.
const (
	localHost = "[local]"
	netLocal  = "Unix"
	netTCP    = "TCP"
)

// hasItself says whether the statement has an element of its own before those
// of its objects: where each of them saw another command, as the function of
// SELECT f() or the tables of REFRESH, for else nothing would say what the
// statement was. A query that reads or writes relations is told by them alone,
// as with pgaudit.
func (r *Renderer) hasItself() bool {
	a := &r.activity
	functions := true
	for i := range a.objects {
		if len(a.objects[i].command) == 0 {
			return false
		}
		functions = functions && a.objects[i].kind == activityv1.ObjectType_OBJECT_TYPE_FUNCTION
	}
	return len(a.objects) > 0 && a.kind == activityv1.Kind_KIND_STATEMENT && (functions || string(a.command) != "SELECT")
}

// setObject makes the event element i: the statement itself, or one of its objects.
func (r *Renderer) setObject(i int) {
	e := &r.event
	e.Command, e.Class = r.command, r.class
	e.ObjectType, e.ObjectName = das.Nullable[string]{}, das.Nullable[string]{}
	if i -= r.itself; i < 0 || i >= len(r.activity.objects) {
		return
	}
	o := &r.activity.objects[i]
	e.ObjectType = objectTypeName(o.kind)
	if len(o.name) > 0 {
		e.ObjectName = das.Some(r.name("objectName", o.name, maxObjectName))
	}
	if len(o.command) > 0 {
		e.Command = r.name("command", o.command, maxCode)
	}
	if o.class != activityv1.Class_CLASS_UNSPECIFIED {
		e.Class = className(r.activity.kind, o.class)
	}
}

// name returns a name as UTF-8, cut where it renders to more than limit bytes.
// No server has such names: whoever forged one can still not make an event
// larger than it may be.
func (r *Renderer) name(field string, raw []byte, limit int) string {
	s := r.texts.utf8(raw)
	n := das.Fit(s, limit)
	if n < len(s) {
		r.mark(field, &text{kept: raw})
	}
	return s[:n]
}

// sessionID is PostgreSQL's %c: when the session began and its process.
func (r *Renderer) sessionID() string {
	s := &r.activity.session
	var buf [2*16 + 1]byte
	b := strconv.AppendUint(buf[:0], uint64(s.startedAt.seconds), 16)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(uint32(s.pid)), 16)
	return r.texts.keep(b)
}

// exitCode is how it ended: the SQLSTATE of a failure, or for a session that
// ended without one, its exit code.
func (r *Renderer) exitCode() das.Nullable[string] {
	a := &r.activity
	if len(a.sqlstate) > 0 {
		return das.Some(r.name("exitCode", a.sqlstate, maxCode))
	}
	if !a.hasExitCode {
		return das.Nullable[string]{}
	}
	var buf [20]byte
	return das.Some(r.texts.keep(strconv.AppendInt(buf[:0], int64(a.exitCode), 10)))
}
