package connect

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Patience is how long one call to a service may take.
const Patience = 15 * time.Second

// Explain turns a service's answer into an error for a person: what was tried,
// what the service said, and where the answer itself does not tell, the way out.
func Explain(doing string, err error) error {
	st, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%s: %w", doing, err)
	}
	switch st.Code() {
	case codes.Unavailable:
		if !unreached(st.Message()) {
			return fmt.Errorf("%s: %s; try again when that is well", doing, st.Message())
		}
		return fmt.Errorf("%s: not reached; is the mesh running, and are the address and the certificates its own? (%s)", doing, st.Message())
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: no answer in %s; is the mesh healthy?", doing, Patience)
	case codes.PermissionDenied, codes.Unauthenticated:
		return fmt.Errorf("%s: refused: %s; this certificate may not call it, see the allow list in the service's configuration", doing, st.Message())
	case codes.Internal:
		return fmt.Errorf("%s: %s; the service's log says more", doing, st.Message())
	default:
		return fmt.Errorf("%s: %s", doing, st.Message())
	}
}

// unreached tells a call that reached nobody from one that was answered: gRPC
// has one code for both, and only its own text for the first.
func unreached(message string) bool {
	for _, own := range []string{"connection error", "name resolver error", "error reading from server", "transport is closing", "no children to pick from"} {
		if strings.Contains(message, own) {
			return true
		}
	}
	return false
}
