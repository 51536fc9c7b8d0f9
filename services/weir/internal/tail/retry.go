package tail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/obs"
)

// persist calls f until it succeeds, fails for good or patience ends. The
// reader is the only one that tries again: the SDK's clients must not.
func (r *reader) persist(ctx context.Context, service string, f func() error) error {
	b := backoff.Backoff{Min: r.Pace, Max: 5 * time.Second}
	var since time.Time
	for {
		err := f()
		switch {
		case err == nil:
			r.reached.Store(true)
			if !since.IsZero() && time.Since(since) > time.Second {
				r.Log.Info("answers again", obs.KeyPeer, service)
			}
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !transient(err):
			r.reached.Store(true)
			return err
		}
		if since.IsZero() {
			since = time.Now()
			if !throttled(err) {
				r.Log.Warn("does not answer, trying again", obs.KeyPeer, service, obs.KeyErr, err)
			}
		}
		waited := time.Since(since)
		if !r.reached.Load() && waited > r.Patience || r.finishing() && waited > 3*r.Patience {
			return fmt.Errorf("%s does not answer: %w", service, err)
		}
		if err := b.Wait(ctx); err != nil {
			return err
		}
	}
}

// transient reports that the same call may succeed later: the service was not
// reached, is overloaded or broken for the moment.
func transient(err error) bool {
	var send *smithyhttp.RequestSendError
	if errors.As(err, &send) || throttled(err) {
		return true
	}
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) && answer.HTTPStatusCode() >= 500 {
		return true
	}
	return retry.RetryableConnectionError{}.IsErrorRetryable(err) == aws.TrueTernary
}

// throttled reports that the service asks for fewer calls.
func throttled(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	if _, ok := retry.DefaultThrottleErrorCodes[api.ErrorCode()]; ok {
		return true
	}
	return api.ErrorCode() == "KMSThrottlingException"
}
