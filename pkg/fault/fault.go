// Package fault marks errors with the one thing their caller has to know: what to do about them.
//
// An error is marked where the meaning is known, deep inside; it travels as an ordinary wrapped error; the innermost
// server interceptor turns it into a gRPC status (Status), and the client on the other side turns that back into a
// marked error (FromStatus). Of an error that crosses a process only its kind and its text survive, never the chain
// behind it; of an unmarked one nothing survives at all. What a peer said stops at its caller: see FromStatus.
//
// The package does not retry, and knows no service.
//
// Before: every package that can fail. Next: pkg/rpc, which calls Status for every handler.
package fault

import "errors"

// Kind says what the caller of a failed operation does next. There are six, and no more.
type Kind uint8

const (
	Invalid   Kind = iota + 1 // the data's fault: retrying is useless, count it and keep it aside
	Denied                    // the caller may not: stop and alert
	Busy                      // no room at this moment: back off with jitter and retry
	NotReady                  // the service, or one behind it, is away: retry elsewhere
	Conflict                  // the caller's position is out of date: read it again and resume
	Corrupted                 // what was stored is not what was written: stop the stream, page someone
)

// String returns the kind as metrics and logs name it.
func (k Kind) String() string {
	switch k {
	case Invalid:
		return "invalid"
	case Denied:
		return "denied"
	case Busy:
		return "busy"
	case NotReady:
		return "not ready"
	case Conflict:
		return "conflict"
	case Corrupted:
		return "corrupted"
	default:
		return "unmarked"
	}
}

// marked is an error with a kind. Its text is the text of the error it marks.
type marked struct {
	kind Kind
	err  error
	peer bool // set by FromStatus: another service's judgement, not ours
}

func (m *marked) Error() string { return m.err.Error() }
func (m *marked) Unwrap() error { return m.err }

// As marks err as k. Nil stays nil. Marking again overrules what is inside: the outer code knows more.
func As(k Kind, err error) error {
	if err == nil {
		return nil
	}
	return &marked{kind: k, err: err}
}

// Is reports whether the outermost mark of err is k. In an errors.Join the first marked error counts.
func Is(err error, k Kind) bool { return Of(err) == k }

// Of returns the outermost mark of err, 0 if it has none.
func Of(err error) Kind {
	if m, ok := errors.AsType[*marked](err); ok {
		return m.kind
	}
	return 0
}

// Retryable reports whether the same call may succeed later: the kinds Busy and NotReady.
func Retryable(err error) bool {
	k := Of(err)
	return k == Busy || k == NotReady
}
