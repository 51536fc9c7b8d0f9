package fault

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// retryAfter is what a Busy status asks for. It is a floor for clients that have no back-off of their own.
	retryAfter = 100 * time.Millisecond
	// maxText bounds what one error may put into the headers of a response, in bytes.
	maxText = 1024
)

// Status returns the gRPC status that err has at its own service's boundary.
//
// A marked error keeps its kind (as a code) and its text. An unmarked one is Internal with a fixed text, also when a
// status is wrapped in it, for detail belongs in our log. A kind that came from a peer is not ours to pass on: unless
// someone has marked the error again, NotReady and Busy become Unavailable (our caller may retry), everything else
// Internal, and the peer's text stays here.
func Status(err error) *status.Status {
	if err == nil {
		return nil
	}
	m, ok := errors.AsType[*marked](err)
	switch {
	case !ok:
		return status.New(codes.Internal, "internal error")
	case m.peer && (m.kind == NotReady || m.kind == Busy):
		return status.New(codes.Unavailable, "a service behind this one is not ready")
	case m.peer:
		return status.New(codes.Internal, "internal error")
	}
	st := status.New(code(m.kind), text(err))
	if m.kind == Busy {
		if with, err := st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)}); err == nil {
			return with
		}
	}
	return st
}

// text is err's text, cut to maxText and valid UTF-8, which a status message must be.
func text(err error) string {
	s := err.Error()
	if len(s) > maxText {
		s = s[:maxText] + "…"
	}
	return strings.ToValidUTF8(s, "�")
}

func code(k Kind) codes.Code {
	switch k {
	case Invalid:
		return codes.InvalidArgument
	case Denied:
		return codes.PermissionDenied
	case Busy:
		return codes.ResourceExhausted
	case NotReady:
		return codes.Unavailable
	case Conflict:
		return codes.Aborted
	case Corrupted:
		return codes.DataLoss
	default:
		return codes.Internal
	}
}

// FromStatus turns the status a peer answered with into a marked error, for the client that made the call and knows
// what it means there. The result exposes no GRPCStatus, so that neither grpc nor Status hands the peer's answer to our
// own caller; to do that on purpose, mark it again with As. context.Canceled and context.DeadlineExceeded still answer
// to errors.Is. Nil, io.EOF and other errors without a status are returned as they are.
func FromStatus(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	p := &peerError{code: st.Code(), text: st.Message()}
	switch st.Code() {
	case codes.Canceled:
		p.cause = context.Canceled
	case codes.DeadlineExceeded:
		p.cause = context.DeadlineExceeded
	}
	return &marked{kind: kind(st), err: p, peer: true}
}

// kind is the inverse of code, for every code that a peer, grpc or something in between may send.
func kind(st *status.Status) Kind {
	switch st.Code() {
	case codes.InvalidArgument, codes.OutOfRange, codes.NotFound:
		return Invalid
	case codes.PermissionDenied, codes.Unauthenticated:
		return Denied
	case codes.ResourceExhausted:
		// A busy service says when to come back. grpc uses the same code, without that, for a message over the
		// size limit, which no amount of waiting makes smaller.
		for _, d := range st.Details() {
			if _, ok := d.(*errdetails.RetryInfo); ok {
				return Busy
			}
		}
		return Invalid
	case codes.Aborted, codes.AlreadyExists, codes.FailedPrecondition:
		return Conflict
	case codes.DataLoss:
		return Corrupted
	default:
		// Unavailable, DeadlineExceeded, Canceled; Unimplemented while replicas of two versions run; Internal and
		// Unknown, where the only thing that loses nothing is to try again.
		return NotReady
	}
}

// peerError is what remains of a peer's status: text for people.
type peerError struct {
	code  codes.Code
	text  string
	cause error // a context error, or nil
}

func (e *peerError) Error() string { return e.code.String() + ": " + e.text }
func (e *peerError) Unwrap() error { return e.cause }
