package pgauditlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// entry is one record of the server's log, whatever its format: the fields that are of use here.
type entry struct {
	at          time.Time
	user        string
	database    string
	pid         int32
	remoteHost  string
	remotePort  string
	local       bool
	began       time.Time // when the session's process began
	tag         string    // what the session was doing, as ps shows it
	severity    string
	sqlstate    string
	message     string
	query       string // of an error
	application string
}

// errRecord says that a record is none that PostgreSQL writes with the settings that this source needs.
var errRecord = errors.New("no record of PostgreSQL's")

// The columns of a csv log. Later versions append: 13 backend_type, 14 leader_pid and query_id.
const (
	csvTime = iota
	csvUser
	csvDatabase
	csvPID
	csvFrom
	csvSession
	_ // session_line_num
	csvTag
	_ // session_start_time: the session's id has it, in UTC
	_ // virtual_transaction_id
	_ // transaction_id
	csvSeverity
	csvState
	csvMessage
	_ // detail
	_ // hint
	_ // internal_query
	_ // internal_query_pos
	_ // context
	csvQuery
	_ // query_pos
	_ // location
	csvApplication
	csvColumns
)

// parser turns records into entries. It keeps its memory from one to the next.
type parser struct {
	json bool
	zone *time.Location
	row  []string
}

// parse reads one record, without its line end.
func (p *parser) parse(record []byte) (entry, error) {
	if p.json {
		return p.parseJSON(record)
	}
	return p.parseCSV(string(record))
}

func (p *parser) parseCSV(record string) (e entry, err error) {
	if p.row, err = fields(p.row[:0], record); err != nil {
		return e, fmt.Errorf("%w: %w", errRecord, err)
	}
	defer func() { clear(p.row) }()
	if len(p.row) < csvColumns || len(p.row) > csvColumns+16 {
		return e, fmt.Errorf("%w: %d columns", errRecord, len(p.row))
	}
	e = entry{
		user: p.row[csvUser], database: p.row[csvDatabase], tag: p.row[csvTag], severity: p.row[csvSeverity],
		sqlstate: p.row[csvState], message: p.row[csvMessage], query: p.row[csvQuery], application: p.row[csvApplication],
	}
	host, port := p.row[csvFrom], ""
	if colon := strings.LastIndexByte(host, ':'); colon >= 0 {
		host, port = host[:colon], host[colon+1:]
	}
	e.from(host, port)
	return e, p.finish(&e, p.row[csvTime], p.row[csvPID], p.row[csvSession])
}

func (p *parser) parseJSON(record []byte) (e entry, err error) {
	var in struct {
		Timestamp       string      `json:"timestamp"`
		User            string      `json:"user"`
		Database        string      `json:"dbname"`
		PID             json.Number `json:"pid"`
		RemoteHost      string      `json:"remote_host"`
		RemotePort      json.Number `json:"remote_port"`
		SessionID       string      `json:"session_id"`
		PS              string      `json:"ps"`
		ErrorSeverity   string      `json:"error_severity"`
		StateCode       string      `json:"state_code"`
		Message         string      `json:"message"`
		Statement       string      `json:"statement"`
		ApplicationName string      `json:"application_name"`
	}
	if err := json.Unmarshal(record, &in); err != nil {
		return e, fmt.Errorf("%w: %w", errRecord, err)
	}
	e = entry{
		user: in.User, database: in.Database, tag: in.PS, severity: in.ErrorSeverity, sqlstate: in.StateCode,
		message: in.Message, query: in.Statement, application: in.ApplicationName,
	}
	e.from(in.RemoteHost, in.RemotePort.String())
	return e, p.finish(&e, in.Timestamp, in.PID.String(), in.SessionID)
}

// from takes the client's address. The server writes [local] for a local socket.
func (e *entry) from(host, port string) {
	e.local = host == "[local]"
	if !e.local {
		e.remoteHost, e.remotePort = host, port
	}
}

// finish reads what every record has.
func (p *parser) finish(e *entry, at, pid, session string) (err error) {
	if e.at, err = p.time(at); err != nil {
		return err
	}
	if e.at.Year() < 1970 || e.at.Year() > 9999 {
		return fmt.Errorf("%w: time %q", errRecord, clip(at))
	}
	n, err := strconv.ParseInt(pid, 10, 32)
	if err != nil || n <= 0 {
		return fmt.Errorf("%w: process id %q", errRecord, clip(pid))
	}
	e.pid = int32(n)
	began, _, found := strings.Cut(session, ".")
	seconds, err := strconv.ParseInt(began, 16, 64)
	if err != nil || !found || seconds < 0 || seconds > 253402300799 {
		return fmt.Errorf("%w: session id %q", errRecord, clip(session))
	}
	e.began = time.Unix(seconds, 0).UTC()
	switch e.severity {
	case "LOG", "INFO", "NOTICE", "WARNING", "ERROR", "FATAL", "PANIC",
		"DEBUG", "DEBUG1", "DEBUG2", "DEBUG3", "DEBUG4", "DEBUG5":
		return nil
	}
	return fmt.Errorf("%w: severity %q: set lc_messages = 'C'", errRecord, clip(e.severity))
}

// time reads a time such as 2026-11-23 12:40:01.123 UTC. An abbreviation is good in the zone that was configured alone:
// elsewhere it may mean several things.
func (p *parser) time(s string) (time.Time, error) {
	const layout = "2006-01-02 15:04:05.999 "
	if len(s) > 24 && (s[24] == '+' || s[24] == '-') {
		// A zone without an abbreviation is written +03 or +0530.
		zone := "-07"
		if len(s) > 27 {
			zone = "-0700"
		}
		t, err := time.Parse(layout+zone, s)
		return t.UTC(), wrapTime(err, s)
	}
	t, err := time.ParseInLocation(layout+"MST", s, p.zone)
	if err != nil {
		return t, wrapTime(err, s)
	}
	name, offset := t.Zone()
	in, inOffset := t.In(p.zone).Zone()
	if name != "UTC" && name != "GMT" && (name != in || offset != inOffset) {
		return t, fmt.Errorf("%w: the zone of %q is not that of %s: set log_timezone = 'UTC', or pgaudit_log.timezone to the server's log_timezone",
			errRecord, clip(s), p.zone)
	}
	return t.UTC(), nil
}

func wrapTime(err error, s string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: time %q", errRecord, clip(s))
}

// clip keeps an error short. It is for fields that hold no statement.
func clip(s string) string { return s[:min(len(s), 40)] }
