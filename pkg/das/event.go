package das

import (
	"strconv"
	"time"
)

// Event is one element of a record's list, with exactly the fields of Aurora
// PostgreSQL's version 1.1. Fields that are not Nullable are never null.
type Event struct {
	StartTime      time.Time // when execution began
	LogTime        time.Time // when it ended
	StatementID    uint64    // counts the client's statements of a session, from 1
	SubstatementID uint64    // counts the statements inside one of them, from 1
	ObjectType     Nullable[string]
	Command        string // the command tag without counts
	ObjectName     Nullable[string]
	DatabaseName   string
	DBUserName     string // the role that logged in; consumers fail on a null here
	RemoteHost     string
	RemotePort     string
	SessionID      string // PostgreSQL's %c: start in seconds and pid, hexadecimal
	RowCount       Nullable[int64]
	CommandText    Nullable[string]   // null for logins and disconnects
	ParamList      []Nullable[string] // a null among them is SQL's NULL
	PID            int64
	ClientApp      Nullable[string] // clientApplication
	ExitCode       Nullable[string] // SQLSTATE of a failure, or how a session ended
	Class          string
	ServerVersion  string
	ServerType     string
	ServiceName    string
	ServerHost     string
	NetProtocol    string
	DBProtocol     string
	Type           string // TypeRecord
	ErrorMessage   Nullable[string]
}

// Append appends e as JSON, compact, in the order of Aurora's documentation.
// It allocates nothing but the room behind dst.
func (e *Event) Append(dst []byte) []byte {
	dst = append(dst, `{"startTime":"`...)
	dst = AppendTime(dst, e.StartTime)
	dst = append(dst, `","logTime":"`...)
	dst = AppendTime(dst, e.LogTime)
	dst = append(dst, `","statementId":`...)
	dst = appendUint(dst, e.StatementID)
	dst = append(dst, `,"substatementId":`...)
	dst = appendUint(dst, e.SubstatementID)
	dst = append(dst, `,"objectType":`...)
	dst = appendNullable(dst, e.ObjectType)
	dst = append(dst, `,"command":`...)
	dst = AppendString(dst, e.Command)
	dst = append(dst, `,"objectName":`...)
	dst = appendNullable(dst, e.ObjectName)
	dst = append(dst, `,"databaseName":`...)
	dst = AppendString(dst, e.DatabaseName)
	dst = append(dst, `,"dbUserName":`...)
	dst = AppendString(dst, e.DBUserName)
	dst = append(dst, `,"remoteHost":`...)
	dst = AppendString(dst, e.RemoteHost)
	dst = append(dst, `,"remotePort":`...)
	dst = AppendString(dst, e.RemotePort)
	dst = append(dst, `,"sessionId":`...)
	dst = AppendString(dst, e.SessionID)
	dst = append(dst, `,"rowCount":`...)
	if e.RowCount.Valid {
		dst = strconv.AppendInt(dst, e.RowCount.Value, 10)
	} else {
		dst = append(dst, "null"...)
	}
	dst = append(dst, `,"commandText":`...)
	dst = appendNullable(dst, e.CommandText)
	dst = append(dst, `,"paramList":[`...)
	for i, p := range e.ParamList {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendNullable(dst, p)
	}
	dst = append(dst, `],"pid":`...)
	dst = strconv.AppendInt(dst, e.PID, 10)
	dst = append(dst, `,"clientApplication":`...)
	dst = appendNullable(dst, e.ClientApp)
	dst = append(dst, `,"exitCode":`...)
	dst = appendNullable(dst, e.ExitCode)
	dst = append(dst, `,"class":`...)
	dst = AppendString(dst, e.Class)
	dst = append(dst, `,"serverVersion":`...)
	dst = AppendString(dst, e.ServerVersion)
	dst = append(dst, `,"serverType":`...)
	dst = AppendString(dst, e.ServerType)
	dst = append(dst, `,"serviceName":`...)
	dst = AppendString(dst, e.ServiceName)
	dst = append(dst, `,"serverHost":`...)
	dst = AppendString(dst, e.ServerHost)
	dst = append(dst, `,"netProtocol":`...)
	dst = AppendString(dst, e.NetProtocol)
	dst = append(dst, `,"dbProtocol":`...)
	dst = AppendString(dst, e.DBProtocol)
	dst = append(dst, `,"type":`...)
	dst = AppendString(dst, e.Type)
	dst = append(dst, `,"errorMessage":`...)
	dst = appendNullable(dst, e.ErrorMessage)
	return append(dst, '}')
}

// MarshalJSON implements json.Marshaler: what Append renders.
func (e Event) MarshalJSON() ([]byte, error) { return e.Append(nil), nil }
