package das

import (
	"encoding/json"
	"fmt"
	"time"
)

// Started says that a statement began: told before it runs, or while it has
// been running for long. Its end is an event of the same session and ids. As
// Append renders it, it is an item of the chain.
type Started struct {
	N              uint64 // its own number
	SessionID      string
	StatementID    uint64
	SubstatementID uint64
	StartTime      time.Time
	Class          string
	Command        string
	CommandText    Nullable[string]
	DBUserName     string
	DatabaseName   string
}

// Notice is something that the engine noticed about the audit itself: an
// attempt to get round it, or a change of what it rests on. As Append renders
// it, it is an item of the chain.
type Notice struct {
	N          uint64
	Time       time.Time
	Kind       string // one of the Notice constants, or what a later engine calls it
	Subject    string // the name of the hook, library, setting or process
	SessionID  string
	DBUserName string // empty where the engine itself noticed it
}

// What an engine can notice.
const (
	NoticeHookReplaced     = "hook_replaced"
	NoticeMessagesReplaced = "messages_replaced"
	NoticeLibraryLoaded    = "library_loaded"
	NoticeSettingChanged   = "setting_changed"
	NoticeRingRemoved      = "ring_removed"
	NoticeBreakGlass       = "break_glass"
	NoticeSessionCrashed   = "session_crashed"
	NoticeGuardSilent      = "guard_silent"
	NoticeUnknown          = "unknown" // this build has no name for it
)

// Append appends s as JSON. The result depends on nothing but s.
func (s *Started) Append(dst []byte) []byte {
	dst = append(dst, `{"n":`...)
	dst = appendUint(dst, s.N)
	dst = append(dst, `,"sessionId":`...)
	dst = AppendString(dst, s.SessionID)
	dst = append(dst, `,"statementId":`...)
	dst = appendUint(dst, s.StatementID)
	dst = append(dst, `,"substatementId":`...)
	dst = appendUint(dst, s.SubstatementID)
	dst = append(dst, `,"startTime":"`...)
	dst = AppendTime(dst, s.StartTime)
	dst = append(dst, `","class":`...)
	dst = AppendString(dst, s.Class)
	dst = append(dst, `,"command":`...)
	dst = AppendString(dst, s.Command)
	dst = append(dst, `,"commandText":`...)
	dst = appendNullable(dst, s.CommandText)
	dst = append(dst, `,"dbUserName":`...)
	dst = AppendString(dst, s.DBUserName)
	dst = append(dst, `,"databaseName":`...)
	dst = AppendString(dst, s.DatabaseName)
	return append(dst, '}')
}

// Append appends n as JSON. The result depends on nothing but n.
func (n *Notice) Append(dst []byte) []byte {
	dst = append(dst, `{"n":`...)
	dst = appendUint(dst, n.N)
	dst = append(dst, `,"time":"`...)
	dst = AppendTime(dst, n.Time)
	dst = append(dst, `","kind":`...)
	dst = AppendString(dst, n.Kind)
	dst = append(dst, `,"subject":`...)
	dst = AppendString(dst, n.Subject)
	dst = append(dst, `,"sessionId":`...)
	dst = AppendString(dst, n.SessionID)
	dst = append(dst, `,"dbUserName":`...)
	dst = AppendString(dst, n.DBUserName)
	return append(dst, '}')
}

// ParseStarted reads what Started.Append rendered.
func ParseStarted(data []byte) (Started, error) {
	var in struct {
		N              uint64           `json:"n"`
		SessionID      string           `json:"sessionId"`
		StatementID    uint64           `json:"statementId"`
		SubstatementID uint64           `json:"substatementId"`
		StartTime      instant          `json:"startTime"`
		Class          string           `json:"class"`
		Command        string           `json:"command"`
		CommandText    Nullable[string] `json:"commandText"`
		DBUserName     string           `json:"dbUserName"`
		DatabaseName   string           `json:"databaseName"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return Started{}, fmt.Errorf("started: %w", err)
	}
	if in.N == 0 {
		return Started{}, fmt.Errorf("started: without a number")
	}
	return Started{
		N: in.N, SessionID: in.SessionID, StatementID: in.StatementID, SubstatementID: in.SubstatementID,
		StartTime: in.StartTime.Time, Class: in.Class, Command: in.Command, CommandText: in.CommandText,
		DBUserName: in.DBUserName, DatabaseName: in.DatabaseName,
	}, nil
}

// ParseNotice reads what Notice.Append rendered.
func ParseNotice(data []byte) (Notice, error) {
	var in struct {
		N          uint64  `json:"n"`
		Time       instant `json:"time"`
		Kind       string  `json:"kind"`
		Subject    string  `json:"subject"`
		SessionID  string  `json:"sessionId"`
		DBUserName string  `json:"dbUserName"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return Notice{}, fmt.Errorf("notice: %w", err)
	}
	if in.N == 0 {
		return Notice{}, fmt.Errorf("notice: without a number")
	}
	return Notice{
		N: in.N, Time: in.Time.Time, Kind: in.Kind, Subject: in.Subject, SessionID: in.SessionID, DBUserName: in.DBUserName,
	}, nil
}
