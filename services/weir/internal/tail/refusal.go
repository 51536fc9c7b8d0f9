package tail

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
)

// refusal says why a record does not open. Its cause is the same for every
// record that does not open for the same reason; err says what is particular.
type refusal struct {
	cause string
	err   error // may be nil
}

func (r *refusal) Error() string {
	if r.err == nil {
		return r.cause
	}
	return fmt.Sprintf("%s (%s)", r.cause, brief(r.err))
}

func (r *refusal) Unwrap() error { return r.err }

// Locked reports that a record did not open for want of its data key: the key
// is disabled, deleted or denied, which says nothing of the record.
func Locked(err error) bool {
	var disabled *types.DisabledException
	var state *types.KMSInvalidStateException
	var missing *types.NotFoundException
	var api smithy.APIError
	return errors.As(err, &disabled) || errors.As(err, &state) || errors.As(err, &missing) ||
		errors.As(err, &api) && strings.HasPrefix(api.ErrorCode(), "AccessDenied")
}

// brief is what AWS answered, without the request's id and the names of the
// SDK's layers.
func brief(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode() + ": " + api.ErrorMessage()
	}
	return err.Error()
}

// Refusals tells of records that do not open: each cause when it is first
// seen, so that a wrong key is one message and not ten thousand. It may be
// used by several goroutines.
type Refusals struct {
	mu   sync.Mutex // guards what follows
	err  io.Writer
	seen map[string]bool
}

// maxCauses bounds how many causes are told apart.
const maxCauses = 20

// NewRefusals tells them to w.
func NewRefusals(w io.Writer) *Refusals { return &Refusals{err: w, seen: make(map[string]bool)} }

// Refuse tells of one record.
func (r *Refusals) Refuse(rec Record, err error) {
	cause := err.Error()
	var known *refusal
	if errors.As(err, &known) {
		cause = known.cause
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen[cause] || len(r.seen) > maxCauses {
		return
	}
	r.seen[cause] = true
	if len(r.seen) > maxCauses {
		fmt.Fprintln(r.err, "weir: more records cannot be opened, for other causes; only counted from here on")
		return
	}
	fmt.Fprintf(r.err, "weir: record %s of %s cannot be opened: %v (others like it are only counted)\n", rec.Sequence, rec.Shard, err)
}
