package das

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Outer is the outer record: what Kinesis carries.
type Outer struct {
	Version string
	Events  []byte // the sealed message
	Key     []byte // the data key as KMS encrypted it
}

// Record is the record that lists events.
type Record struct {
	ClusterID  string
	InstanceID string
	// Elements are the list's elements, byte for byte: what the chain is over.
	Elements [][]byte
	// Weir is nil for a record that has no such extension, as Aurora's.
	Weir *Extension
	// GapObjects are Weir's gaps, byte for byte: items of the chain too. So are
	// StartedObjects and NoticeObjects.
	GapObjects     [][]byte
	StartedObjects [][]byte
	NoticeObjects  [][]byte
}

// IsHeartbeat says whether the record's list is a heartbeat's.
func (r *Record) IsHeartbeat() bool {
	return len(r.Elements) == 1 && string(r.Elements[0]) == HeartbeatList
}

// object is a JSON object whose names are compared exactly, which the
// structs of encoding/json do not.
type object map[string]json.RawMessage

// text reads the field name, which must be a string.
func (o object) text(name string) (string, error) {
	var s *string
	if err := json.Unmarshal(o[name], &s); err != nil || s == nil {
		return "", fmt.Errorf("das: %s: absent, or no string", name)
	}
	return *s, nil
}

// binary reads the field name, which must be base64 without line breaks.
func (o object) binary(name string) ([]byte, error) {
	s, err := o.text(name)
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("das: %s: no base64", name)
	}
	return b, nil
}

// parseObject reads an object whose field "type" must be want.
func parseObject(data []byte, limit int, want string) (object, error) {
	if len(data) > limit {
		return nil, fmt.Errorf("das: %d bytes, want at most %d", len(data), limit)
	}
	var o object
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, errors.New("das: no JSON object")
	}
	got, err := o.text("type")
	if err != nil {
		return nil, err
	}
	if got != want {
		return nil, fmt.Errorf("das: type %.40q, want %q", got, want)
	}
	return o, nil
}

// ParseOuter reads an outer record. Fields it does not know are ignored, as
// Aurora asks of consumers. Its errors hold nothing of what is sealed.
func ParseOuter(data []byte) (Outer, error) {
	o, err := parseObject(data, MaxOuter, TypeOuter)
	if err != nil {
		return Outer{}, err
	}
	var outer Outer
	var errs [3]error
	outer.Version, errs[0] = o.text("version")
	outer.Events, errs[1] = o.binary("databaseActivityEvents")
	outer.Key, errs[2] = o.binary("key")
	if err := errors.Join(errs[:]...); err != nil {
		return Outer{}, err
	}
	return outer, nil
}

// ParseRecord reads a record, Aurora's or ours. The result shares no memory
// with data.
func ParseRecord(data []byte) (*Record, error) {
	o, err := parseObject(data, MaxRecord, TypeInner)
	if err != nil {
		return nil, err
	}
	var r Record
	var list []json.RawMessage
	var errs [3]error
	r.ClusterID, errs[0] = o.text("clusterId")
	r.InstanceID, errs[1] = o.text("instanceId")
	if json.Unmarshal(o["databaseActivityEventList"], &list) != nil || list == nil {
		errs[2] = errors.New("das: databaseActivityEventList: absent, or no list")
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	for _, element := range list {
		r.Elements = append(r.Elements, element)
	}
	weir, ok := o["weir"]
	if !ok {
		return &r, nil
	}
	if err := r.parseExtension(weir); err != nil {
		return nil, fmt.Errorf("das: weir: %w", err)
	}
	return &r, nil
}

// extensionVersion is the only version there is. A field more does not change it.
const extensionVersion = 1

func (r *Record) parseExtension(data []byte) error {
	var in struct {
		V         int               `json:"v"`
		Epoch     uint64            `json:"epoch"`
		N         []uint64          `json:"n"`
		Through   Nullable[uint64]  `json:"through"`
		Gaps      []json.RawMessage `json:"gaps"`
		Prev      Hash              `json:"prev"`
		Last      Hash              `json:"last"`
		Truncated []struct {
			N      uint64 `json:"n"`
			Field  string `json:"field"`
			Length uint64 `json:"length"`
			SHA256 Hash   `json:"sha256"`
		} `json:"truncated"`
		Details []struct {
			N                 uint64 `json:"n"`
			EffectiveUserName string `json:"effectiveUserName"`
		} `json:"details"`
		Started    []json.RawMessage `json:"started"`
		Notices    []json.RawMessage `json:"notices"`
		Checkpoint *checkpointJSON   `json:"checkpoint"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	if in.V != extensionVersion {
		return fmt.Errorf("version %d, want %d", in.V, extensionVersion)
	}
	if len(in.N) != len(r.Elements) && (len(in.N) != 0 || !r.IsHeartbeat()) {
		return fmt.Errorf("%d numbers for %d elements", len(in.N), len(r.Elements))
	}
	ext := Extension{Epoch: in.Epoch, Numbers: in.N, Through: in.Through, Prev: in.Prev, Last: in.Last, Checkpoint: in.Checkpoint.checkpoint()}
	for _, raw := range in.Gaps {
		gap, err := ParseGap(raw)
		if err != nil {
			return err
		}
		ext.Gaps = append(ext.Gaps, gap)
		r.GapObjects = append(r.GapObjects, raw)
	}
	for _, raw := range in.Started {
		started, err := ParseStarted(raw)
		if err != nil {
			return err
		}
		ext.Started = append(ext.Started, started)
		r.StartedObjects = append(r.StartedObjects, raw)
	}
	for _, raw := range in.Notices {
		notice, err := ParseNotice(raw)
		if err != nil {
			return err
		}
		ext.Notices = append(ext.Notices, notice)
		r.NoticeObjects = append(r.NoticeObjects, raw)
	}
	for _, t := range in.Truncated {
		ext.Truncated = append(ext.Truncated, Truncation{N: t.N, Field: t.Field, Length: t.Length, SHA256: t.SHA256})
	}
	for _, d := range in.Details {
		ext.Details = append(ext.Details, Detail{N: d.N, EffectiveUserName: d.EffectiveUserName})
	}
	r.Weir = &ext
	return nil
}

// ParseGap reads what Gap.Append rendered.
func ParseGap(data []byte) (Gap, error) {
	var in struct {
		First uint64  `json:"first"`
		Last  uint64  `json:"last"`
		From  instant `json:"from"`
		To    instant `json:"to"`
		Cause string  `json:"cause"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return Gap{}, fmt.Errorf("gap: %w", err)
	}
	if in.First == 0 || in.Last < in.First {
		return Gap{}, fmt.Errorf("gap: from number %d to %d", in.First, in.Last)
	}
	return Gap{First: in.First, Last: in.Last, From: in.From.Time, To: in.To.Time, Cause: in.Cause}, nil
}

// ParseEvent reads a list element of Aurora PostgreSQL, version 1.0 or 1.1; a
// field that is absent is zero. Of a heartbeat it reads the type.
func ParseEvent(data []byte) (Event, error) {
	if len(data) > MaxRecord {
		return Event{}, fmt.Errorf("das: event of %d bytes, want at most %d", len(data), MaxRecord)
	}
	var e Event
	err := e.UnmarshalJSON(data)
	return e, err
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *Event) UnmarshalJSON(data []byte) error {
	var in struct {
		StartTime      instant            `json:"startTime"`
		LogTime        instant            `json:"logTime"`
		StatementID    uint64             `json:"statementId"`
		SubstatementID uint64             `json:"substatementId"`
		ObjectType     Nullable[string]   `json:"objectType"`
		Command        string             `json:"command"`
		ObjectName     Nullable[string]   `json:"objectName"`
		DatabaseName   string             `json:"databaseName"`
		DBUserName     string             `json:"dbUserName"`
		RemoteHost     string             `json:"remoteHost"`
		RemotePort     string             `json:"remotePort"`
		SessionID      string             `json:"sessionId"`
		RowCount       Nullable[int64]    `json:"rowCount"`
		CommandText    Nullable[string]   `json:"commandText"`
		ParamList      []Nullable[string] `json:"paramList"`
		PID            int64              `json:"pid"`
		ClientApp      Nullable[string]   `json:"clientApplication"`
		ExitCode       exitCode           `json:"exitCode"`
		Class          string             `json:"class"`
		ServerVersion  string             `json:"serverVersion"`
		ServerType     string             `json:"serverType"`
		ServiceName    string             `json:"serviceName"`
		ServerHost     string             `json:"serverHost"`
		NetProtocol    string             `json:"netProtocol"`
		DBProtocol     string             `json:"dbProtocol"`
		Type           string             `json:"type"`
		ErrorMessage   Nullable[string]   `json:"errorMessage"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("das: event: %w", err)
	}
	*e = Event{
		StartTime: in.StartTime.Time, LogTime: in.LogTime.Time,
		StatementID: in.StatementID, SubstatementID: in.SubstatementID,
		ObjectType: in.ObjectType, Command: in.Command, ObjectName: in.ObjectName,
		DatabaseName: in.DatabaseName, DBUserName: in.DBUserName,
		RemoteHost: in.RemoteHost, RemotePort: in.RemotePort, SessionID: in.SessionID,
		RowCount: in.RowCount, CommandText: in.CommandText, ParamList: in.ParamList,
		PID: in.PID, ClientApp: in.ClientApp, ExitCode: Nullable[string](in.ExitCode), Class: in.Class,
		ServerVersion: in.ServerVersion, ServerType: in.ServerType, ServiceName: in.ServiceName,
		ServerHost: in.ServerHost, NetProtocol: in.NetProtocol, DBProtocol: in.DBProtocol,
		Type: in.Type, ErrorMessage: in.ErrorMessage,
	}
	return nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Nullable[T]) UnmarshalJSON(data []byte) error {
	*n = Nullable[T]{}
	if string(data) == "null" {
		return nil
	}
	n.Valid = true
	return json.Unmarshal(data, &n.Value)
}

// exitCode is a string that Aurora's documentation calls an integer.
type exitCode Nullable[string]

func (c *exitCode) UnmarshalJSON(data []byte) error {
	var number json.Number
	if data[0] != '"' && string(data) != "null" && json.Unmarshal(data, &number) == nil {
		*c = exitCode(Some(number.String()))
		return nil
	}
	return (*Nullable[string])(c).UnmarshalJSON(data)
}

// instant is a time in Aurora's format; null is the zero time.
type instant struct{ time.Time }

func (t *instant) UnmarshalJSON(data []byte) (err error) {
	var s *string
	if err := json.Unmarshal(data, &s); err != nil || s == nil {
		return err
	}
	t.Time, err = ParseTime(*s)
	return err
}

// UnmarshalJSON implements json.Unmarshaler.
func (h *Hash) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return errors.New("no SHA-256")
	}
	copy(h[:], b)
	return nil
}

// String returns h in hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }
