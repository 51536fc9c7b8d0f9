// Package das is the record of a database activity stream, byte for byte as
// Aurora PostgreSQL writes it: the event, the record that lists events, and the
// outer record that Kinesis carries. It renders and parses; it does no I/O and
// knows nothing of keys.
//
// The one idea: bytes are rendered once. An event becomes its list element in
// capture, the chain is computed over those bytes, and everything after that
// copies them. So a list is passed as rendered bytes, and what is parsed keeps
// the bytes of every element and of every gap.
//
// Field order, null rules and formats are those of version 1.1, checked against
// Aurora's documented samples. Beside Aurora's fields a record may carry
// Extension, which consumers of Aurora's streams ignore.
//
// Before: services/capture/internal/render, which fills an Event.
// Next: pkg/esdk, which seals the compressed record for the outer one.
package das

// VersionPostgreSQL is the protocol version in the outer record of Aurora
// PostgreSQL.
const VersionPostgreSQL = "1.1"

// The literal values of the fields "type". The outer one is a plural.
const (
	TypeOuter     = "DatabaseActivityMonitoringRecords"
	TypeInner     = "DatabaseActivityMonitoringRecord"
	TypeRecord    = "record"
	TypeHeartbeat = "heartbeat"
)

// Values that every event of a PostgreSQL server has.
const (
	ServerTypePostgreSQL = "PostgreSQL"
	DBProtocolPostgreSQL = "Postgres 3.0"
)

// HeartbeatList is the list of a heartbeat: one element, which has no other
// field and is never in a list with events.
const HeartbeatList = `{"type":"heartbeat"}`

// Limits of what is parsed, in bytes.
const (
	MaxOuter  = 10 << 20 // the largest record Kinesis can be set to take
	MaxRecord = 16 << 20 // what crypto takes to seal
)

// Nullable is a value, or JSON's null where Valid is false.
type Nullable[T any] struct {
	Value T
	Valid bool
}

// Some returns v as a value that is not null.
func Some[T any](v T) Nullable[T] { return Nullable[T]{Value: v, Valid: true} }

// Hash is a SHA-256. In JSON it is 64 hexadecimal digits.
type Hash [32]byte
