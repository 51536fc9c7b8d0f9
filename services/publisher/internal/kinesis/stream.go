package kinesis

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/fault"
)

// streamName is what Kinesis takes for a name.
var streamName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)

// tags are what Weir marks its streams with.
var tags = map[string]string{"weir": "database-activity-stream"}

// Ensure makes the stream exist and be active, and returns when it is or ctx
// ends. A new one is on demand, keeps records for 24 hours (Kinesis's default)
// and is not encrypted by the server: what is in it is sealed. One that exists is
// taken as it is; one that is being deleted is waited for and made again.
func (c *Client) Ensure(ctx context.Context, name string) (arn string, created bool, err error) {
	if !streamName.MatchString(name) {
		return "", false, fault.As(fault.Invalid, fmt.Errorf("stream name %.64q, want 1 to 128 of a-z A-Z 0-9 _ . -", name))
	}
	wait := backoff.Backoff{Min: 100 * time.Millisecond, Max: 2 * time.Second}
	for {
		d, err := c.describe(ctx, name)
		switch {
		case errors.Is(err, ErrNoStream):
			made, err := c.create(ctx, name)
			if err != nil {
				return "", created, err
			}
			created = created || made
		case err != nil:
			return "", created, err
		case d.StreamStatus == types.StreamStatusActive, d.StreamStatus == types.StreamStatusUpdating:
			if d.EncryptionType == types.EncryptionTypeKms {
				c.log.Warn("the Kinesis stream has server-side encryption: Aurora's consumers do not expect it", "stream", name)
			}
			return aws.ToString(d.StreamARN), created, nil
		}
		if err := wait.Wait(ctx); err != nil {
			return "", created, fault.As(fault.NotReady, fmt.Errorf("waiting for stream %s to be active: %w", name, err))
		}
	}
}

// create reports whether it was this call that created the stream.
func (c *Client) create(ctx context.Context, name string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, apiWait)
	defer cancel()
	_, err := c.api.CreateStream(ctx, &kinesis.CreateStreamInput{
		StreamName:        aws.String(name),
		StreamModeDetails: &types.StreamModeDetails{StreamMode: types.StreamModeOnDemand},
		Tags:              tags,
	})
	if _, exists := errors.AsType[*types.ResourceInUseException](err); exists {
		return false, nil // another replica was first
	}
	if err != nil {
		return false, mark("creating stream "+name, err)
	}
	return true, nil
}

// Delete deletes the stream, with its consumers and what nobody has read yet. It
// returns when Kinesis has begun. A stream that does not exist is no error.
func (c *Client) Delete(ctx context.Context, name string) error {
	if !streamName.MatchString(name) {
		return fault.As(fault.Invalid, fmt.Errorf("stream name %.64q, want 1 to 128 of a-z A-Z 0-9 _ . -", name))
	}
	ctx, cancel := context.WithTimeout(ctx, apiWait)
	defer cancel()
	_, err := c.api.DeleteStream(ctx, &kinesis.DeleteStreamInput{
		StreamName: aws.String(name), EnforceConsumerDeletion: aws.Bool(true),
	})
	if err == nil {
		return nil
	}
	if _, busy := errors.AsType[*types.ResourceInUseException](err); busy {
		if d, derr := c.describe(ctx, name); derr == nil && d.StreamStatus == types.StreamStatusDeleting {
			return nil
		}
		return fault.As(fault.NotReady, fmt.Errorf("deleting stream %s: it is being created or changed", name))
	}
	if err = mark("deleting stream "+name, err); errors.Is(err, ErrNoStream) {
		return nil
	}
	return err
}

func (c *Client) describe(ctx context.Context, name string) (*types.StreamDescriptionSummary, error) {
	ctx, cancel := context.WithTimeout(ctx, apiWait)
	defer cancel()
	out, err := c.api.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: aws.String(name)})
	if err != nil {
		return nil, mark("describing stream "+name, err)
	}
	return out.StreamDescriptionSummary, nil
}
