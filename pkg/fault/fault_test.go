package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-das/weir/pkg/fault"
)

var codeOf = map[fault.Kind]codes.Code{
	fault.Invalid:   codes.InvalidArgument,
	fault.Denied:    codes.PermissionDenied,
	fault.Busy:      codes.ResourceExhausted,
	fault.NotReady:  codes.Unavailable,
	fault.Conflict:  codes.Aborted,
	fault.Corrupted: codes.DataLoss,
}

func TestEveryKindCrossesTheWire(t *testing.T) {
	for k, want := range codeOf {
		t.Run(k.String(), func(t *testing.T) {
			err := fmt.Errorf("appending: %w", fault.As(k, errors.New("position 7")))
			st := fault.Status(err)
			if st.Code() != want || st.Message() != "appending: position 7" {
				t.Errorf("Status(%v) = %v %q, want %v with the text", k, st.Code(), st.Message(), want)
			}
			back := fault.FromStatus(st.Err())
			if !fault.Is(back, k) {
				t.Errorf("FromStatus(%v) is %v, want %v", st.Code(), fault.Of(back), k)
			}
			if !strings.Contains(back.Error(), "position 7") {
				t.Errorf("FromStatus text = %q, want it to name position 7", back)
			}
		})
	}
}

func TestMarks(t *testing.T) {
	sentinel := errors.New("sentinel")
	tests := map[string]struct {
		err  error
		want fault.Kind
	}{
		"nil":              {nil, 0},
		"nil marked":       {fault.As(fault.Busy, nil), 0},
		"unmarked":         {sentinel, 0},
		"marked":           {fault.As(fault.Busy, sentinel), fault.Busy},
		"wrapped":          {fmt.Errorf("x: %w", fault.As(fault.Busy, sentinel)), fault.Busy},
		"outermost wins":   {fault.As(fault.Denied, fmt.Errorf("x: %w", fault.As(fault.Busy, sentinel))), fault.Denied},
		"first of a join":  {errors.Join(sentinel, fault.As(fault.Conflict, sentinel), fault.As(fault.Busy, sentinel)), fault.Conflict},
		"a peer's":         {fault.FromStatus(status.Error(codes.DataLoss, "x")), fault.Corrupted},
		"a peer's, marked": {fault.As(fault.Invalid, fault.FromStatus(status.Error(codes.DataLoss, "x"))), fault.Invalid},
	}
	for name, tt := range tests {
		if got := fault.Of(tt.err); got != tt.want {
			t.Errorf("%s: Of = %v, want %v", name, got, tt.want)
		}
		if tt.want != 0 && !fault.Is(tt.err, tt.want) {
			t.Errorf("%s: Is(%v) = false", name, tt.want)
		}
		if got, want := fault.Retryable(tt.err), tt.want == fault.Busy || tt.want == fault.NotReady; got != want {
			t.Errorf("%s: Retryable = %v, want %v", name, got, want)
		}
	}
	if err := fault.As(fault.Busy, sentinel); !errors.Is(err, sentinel) {
		t.Error("As hides the error it marks")
	}
	if fault.Is(nil, fault.Invalid) || fault.Is(sentinel, fault.Invalid) {
		t.Error("Is(unmarked, Invalid) = true")
	}
}

func TestUnmarkedErrorsSayNothing(t *testing.T) {
	secret := errors.New("reading /etc/weir/key")
	for name, err := range map[string]error{
		"plain":           secret,
		"wrapped status":  fmt.Errorf("x: %w", status.Error(codes.PermissionDenied, "secret")),
		"peer denied":     fmt.Errorf("x: %w", fault.FromStatus(status.Error(codes.PermissionDenied, "secret"))),
		"peer data loss":  fault.FromStatus(status.Error(codes.DataLoss, "secret")),
		"bare status":     status.Error(codes.Aborted, "secret"),
		"context's error": context.Canceled,
	} {
		st := fault.Status(err)
		if st.Code() != codes.Internal || st.Message() != "internal error" {
			t.Errorf("%s: Status = %v %q, want Internal, internal error", name, st.Code(), st.Message())
		}
	}
	st := fault.Status(fault.FromStatus(status.Error(codes.Unavailable, "10.0.0.7 refused")))
	if st.Code() != codes.Unavailable || strings.Contains(st.Message(), "10.0.0.7") {
		t.Errorf("Status(peer away) = %v %q, want Unavailable without the peer's text", st.Code(), st.Message())
	}
	if fault.Status(nil) != nil {
		t.Error("Status(nil) != nil")
	}
}

func TestFromStatusHidesTheStatus(t *testing.T) {
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		err := fault.FromStatus(fmt.Errorf("sealing: %w", status.Error(c, "text")))
		var carrier interface{ GRPCStatus() *status.Status }
		if errors.As(err, &carrier) {
			t.Errorf("FromStatus(%v) exposes GRPCStatus", c)
		}
		if fault.Of(err) == 0 {
			t.Errorf("FromStatus(%v) is unmarked", c)
		}
	}
	if err := fault.FromStatus(status.Error(codes.DeadlineExceeded, "")); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("a deadline is no longer a deadline")
	}
	if err := fault.FromStatus(status.Error(codes.Canceled, "")); !errors.Is(err, context.Canceled) {
		t.Error("a cancellation is no longer a cancellation")
	}
	if err := fault.FromStatus(io.EOF); err != io.EOF {
		t.Errorf("FromStatus(EOF) = %v, want EOF itself", err)
	}
	if err := fault.FromStatus(nil); err != nil {
		t.Errorf("FromStatus(nil) = %v", err)
	}
}

// A message over grpc's size limit must not be sent again for ever.
func TestExhaustedWithoutRetryInfoIsInvalid(t *testing.T) {
	err := fault.FromStatus(status.Error(codes.ResourceExhausted, "grpc: received message larger than max"))
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("FromStatus(too large) is %v, want invalid", fault.Of(err))
	}
}

func TestTextIsBoundedAndUTF8(t *testing.T) {
	st := fault.Status(fault.As(fault.Invalid, errors.New(strings.Repeat("é\xff", 2000))))
	if n := len(st.Message()); n > 2048 || !utf8.ValidString(st.Message()) {
		t.Errorf("Status text: %d bytes, valid %v", n, utf8.ValidString(st.Message()))
	}
}
