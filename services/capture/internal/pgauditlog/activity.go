package pgauditlog

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

// What is kept of an event's texts, in bytes.
const (
	maxText  = 256 << 10 // of a statement, and of all bind values together
	maxValue = 16 << 10  // of one bind value and of an error message
	maxName  = 1 << 10   // of a name
)

// activity is what an entry tells, nil where it tells nothing that a stream has.
func (e *entry) activity() (*activityv1.Activity, error) {
	audit, isAudit := strings.CutPrefix(e.message, "AUDIT: ")
	switch {
	case isAudit:
		return e.audited(audit)
	case e.severity == "ERROR", e.severity == "FATAL", e.severity == "PANIC":
		if e.user == "" {
			return nil, nil // the server's own processes
		}
		return e.failed(), nil
	case strings.HasPrefix(e.message, "connection authorized: "), strings.HasPrefix(e.message, "replication connection authorized: "):
		return e.connected(), nil
	case strings.HasPrefix(e.message, "disconnection: "):
		a := e.event(activityv1.Kind_KIND_DISCONNECT, activityv1.Class_CLASS_MISC, "DISCONNECT")
		return a, nil
	}
	return nil, nil
}

// event is what all have. The log has one time: when the line was written.
func (e *entry) event(kind activityv1.Kind, class activityv1.Class, command string) *activityv1.Activity {
	return &activityv1.Activity{
		Kind: kind, Class: class, Command: name(command),
		StartedAt: timestamppb.New(e.at), EndedAt: timestamppb.New(e.at),
		Session: &activityv1.Session{
			Pid: e.pid, BackendStartedAt: timestamppb.New(e.began),
			UserName: []byte(name(e.user)), DatabaseName: []byte(name(e.database)),
			RemoteHost: []byte(name(e.remoteHost)), RemotePort: []byte(name(e.remotePort)),
			ApplicationName: []byte(name(e.application)), LocalSocket: e.local,
		},
	}
}

// connected is a login. At that time the server has not set application_name yet, and says it in the message.
func (e *entry) connected() *activityv1.Activity {
	a := e.event(activityv1.Kind_KIND_CONNECT, activityv1.Class_CLASS_MISC, "CONNECT")
	a.StatementId = 1
	if _, told, ok := strings.Cut(e.message, " application_name="); ok && e.application == "" {
		for _, end := range []string{" SSL enabled (", " GSS ("} {
			if i := strings.LastIndex(told, end); i >= 0 {
				told = told[:i]
			}
		}
		a.Session.ApplicationName = []byte(name(told))
	}
	return a
}

// failed is an ERROR or a FATAL: a login that was refused, or a statement that failed.
func (e *entry) failed() *activityv1.Activity {
	var a *activityv1.Activity
	switch {
	case e.severity == "FATAL" && (e.tag == "authentication" || e.tag == "startup" || e.tag == "initializing" || e.tag == ""):
		a = e.event(activityv1.Kind_KIND_CONNECT, activityv1.Class_CLASS_MISC, "CONNECT")
		a.StatementId = 1
	default:
		class, command := guess(e.query)
		a = e.event(activityv1.Kind_KIND_STATEMENT, class, command)
	}
	message := e.message
	if e.query != "" {
		shown, cut := redact(e.query)
		if at := strings.IndexAny(shown, "'$"); !cut && a.GetClass() == activityv1.Class_CLASS_ROLE && at >= 0 {
			shown, cut = shown[:at]+redacted, true // a password, with the word before it misspelt
		}
		a.Text = text(shown, maxText)
		if cut {
			message = redacted // it may quote what was cut
		}
	}
	a.Sqlstate = name(e.sqlstate)
	if len(a.Sqlstate) != 5 {
		a.Sqlstate = "XX000"
	}
	a.ErrorMessage = text(message, maxValue)
	return a
}

// Where pgaudit's fields stand.
const (
	auditStatementID = iota + 1
	auditSubstatementID
	auditClass
	auditCommand
	auditObjectType
	auditObjectName
	auditStatement
	auditParameter
	auditRows // with pgaudit.log_rows
)

// audited reads pgaudit's line: CSV in the log's own format, and in it the bind values, CSV again.
func (e *entry) audited(message string) (*activityv1.Activity, error) {
	row, err := fields(make([]string, 0, auditRows+1), message)
	if err != nil || len(row) < auditParameter+1 || len(row) > auditRows+1 || row[0] != "SESSION" && row[0] != "OBJECT" {
		return nil, fmt.Errorf("%w: pgaudit's line has %d fields: %v", errRecord, len(row), err)
	}
	class, known := classes[row[auditClass]]
	id, idErr := strconv.ParseUint(row[auditStatementID], 10, 63)
	sub, subErr := strconv.ParseUint(row[auditSubstatementID], 10, 63)
	if !known || idErr != nil || subErr != nil {
		return nil, fmt.Errorf("%w: pgaudit's line has class %q and ids %q, %q", errRecord, clip(row[auditClass]),
			clip(row[auditStatementID]), clip(row[auditSubstatementID]))
	}
	a := e.event(activityv1.Kind_KIND_STATEMENT, class, row[auditCommand])
	a.StatementId, a.SubstatementId = id, sub
	if row[auditObjectType] != "" || row[auditObjectName] != "" {
		a.Objects = []*activityv1.Object{{Type: objectType(row[auditObjectType]), Name: name(row[auditObjectName])}}
	}
	switch statement := row[auditStatement]; statement {
	case "<not logged>", "<previously logged>":
	default:
		shown, _ := redact(statement)
		a.Text = text(shown, maxText)
	}
	switch parameter := row[auditParameter]; parameter {
	case "<not logged>", "<previously logged>", "<none>", "<long param suppressed>":
	default:
		if err := parameters(a, parameter); err != nil {
			return nil, err
		}
	}
	if len(row) > auditRows {
		rows, err := strconv.ParseUint(row[auditRows], 10, 63)
		if err != nil {
			return nil, fmt.Errorf("%w: pgaudit's line has %q rows", errRecord, clip(row[auditRows]))
		}
		// Of what counts no rows pgaudit says 0.
		if rows > 0 || class == activityv1.Class_CLASS_READ || class == activityv1.Class_CLASS_WRITE {
			a.Rows = &rows
		}
	}
	return a, nil
}

// parameters reads bind values. NULL and the empty string are the same to pgaudit; it comes out as the empty string.
func parameters(a *activityv1.Activity, list string) error {
	values, err := fields(nil, list)
	if err != nil {
		return fmt.Errorf("%w: bind values: %w", errRecord, err)
	}
	left := maxText
	for _, value := range values {
		t := text(value, maxValue)
		// A value that is empty takes room too, where there are very many.
		if left -= len(t.GetKept()) + 8; left < 0 {
			a.ParametersOmitted++
			continue
		}
		a.Parameters = append(a.Parameters, &activityv1.Parameter{Value: t})
	}
	return nil
}

// text keeps at most limit bytes of s, whole characters.
func text(s string, limit int) *activityv1.Text {
	if len(s) <= limit {
		return &activityv1.Text{Kept: []byte(s)}
	}
	kept := limit
	for kept > limit-utf8.UTFMax && !utf8.RuneStart(s[kept]) {
		kept--
	}
	sum := sha256.Sum256([]byte(s))
	return &activityv1.Text{Kept: []byte(s[:kept]), Length: uint64(len(s)), Sha256: sum[:]}
}

// name keeps what a name may have, as UTF-8: a command is a protobuf string.
func name(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxName)], "\uFFFD") }
