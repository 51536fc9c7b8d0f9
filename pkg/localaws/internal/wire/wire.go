// Package wire reads and writes what AWS's JSON 1.1 services speak: bodies in JSON or CBOR, checked against an
// operation's schema, and errors with a type.
//
// The one idea: a request becomes a tree of values that alias its body, and only what a schema calls a blob is decoded,
// all blobs of a request into one allocation. A PutRecords of 10 MiB costs two scans and one base64 pass, whichever
// encoding it came in. The order and wording of refusals (type errors before constraint violations, at most ten of these
// in one message) are AWS's, because clients match on them.
//
// It knows nothing of HTTP, nor of what an operation does.
//
// Before: pkg/localaws reads a request from the network. Next: pkg/localaws/kinesis and pkg/localaws/kms act on it.
package wire

import "fmt"

// An Error is what a client sees: AWS's error type, a message, and the HTTP status that goes with them.
type Error struct {
	Code    string
	Message string
	Status  int
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Errorf makes an error the client is to blame for (status 400).
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Status: 400}
}

// Fault makes the error of a given code with the status AWS sends it with.
func Fault(code, message string) *Error {
	e := &Error{Code: code, Message: message, Status: 400}
	switch code {
	case "InternalFailure", "InternalFailureException", "KMSInternalException", "KMSInternal":
		e.Status = 500
	case "ServiceUnavailable", "ServiceUnavailableException":
		e.Status = 503
	}
	return e
}

// Kind is what a value was in the request.
type Kind uint8

// The kinds of values.
const (
	Null Kind = iota
	Bool
	Number
	String
	Bytes
	List
	Map
)

// A Value is one value of a request. Its bytes alias the request's body until Check has copied the blobs out; whatever
// outlives the request is taken from it with Input's methods, which copy.
type Value struct {
	kind Kind
	b    []byte  // a string's or blob's bytes; a bool's "true" or "false"; an integer's digits
	f    float64 // a number
	list []Value // a list's members; a map's keys and values in turns
}

// Kind says what the value is.
func (v Value) Kind() Kind { return v.kind }

// field finds a map's value by key; of repeated keys the last one counts, as everywhere in JSON.
func (v *Value) field(name string) *Value {
	for i := len(v.list) - 2; i >= 0; i -= 2 {
		if string(v.list[i].b) == name {
			return &v.list[i+1]
		}
	}
	return nil
}

// Limits on a request's tree. Real requests stay far below: PutRecords has at most 500 records of three fields.
const (
	maxDepth  = 16
	maxValues = 1 << 16 // of 64 bytes each: what a small body may blow up to
)
