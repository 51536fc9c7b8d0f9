// Package kinesis is the publisher's Kinesis: putting records, and the streams
// they go to.
//
// One idea: Kinesis answers for each record, so this package does too, and marks
// every answer by what to do next. It never retries, and the SDK's own retries
// are off: the relay owns the records and retries them.
//
// Before: internal/relay. Next: Kinesis, and whoever consumes the stream.
package kinesis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"

	"github.com/weir-das/weir/pkg/fault"
)

const (
	// MaxRecords is how many records one PutRecords takes.
	MaxRecords = 500
	// MaxBytes is how many bytes of data and partition keys one PutRecords is
	// given: older endpoints refuse more than 5 MiB.
	MaxBytes = 4608 << 10

	// putWait bounds one PutRecords, apiWait any other call.
	putWait = 10 * time.Second
	apiWait = 10 * time.Second
)

// ErrNoStream is in the chain of errors about a stream that does not exist.
var ErrNoStream = errors.New("the Kinesis stream does not exist")

// Client talks to Kinesis. It is safe for concurrent use.
type Client struct {
	api *kinesis.Client
	log *slog.Logger
}

// New returns a client. An empty endpoint or region means the SDK's default
// chain, AWS_ENDPOINT_URL_KINESIS included.
func New(ctx context.Context, endpoint, region string, log *slog.Logger) (*Client, error) {
	var opts []func(*config.LoadOptions) error
	if region != "" {
		opts = append(opts, config.WithRegion(region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("reading the AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, errors.New("region: empty, and AWS_REGION is not set")
	}
	return &Client{log: log, api: kinesis.NewFromConfig(cfg, func(o *kinesis.Options) {
		o.Retryer = aws.NopRetryer{}
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
	})}, nil
}

// Record is one record to put.
type Record struct {
	PartitionKey string
	Data         []byte
	ClusterID    string // whose it is, as people know it; not put
}

// Size is what the record counts towards MaxBytes.
func (r Record) Size() int { return len(r.PartitionKey) + len(r.Data) }

// Fits says whether a record is within the limits that every Kinesis stream has.
func (r Record) Fits() bool {
	chars := utf8.RuneCountInString(r.PartitionKey)
	return len(r.Data) > 0 && r.Size() <= 1<<20 && chars >= 1 && chars <= 256
}

// Put puts up to MaxRecords records of up to MaxBytes. The first result says for
// each record whether Kinesis has it (nil) or why not; it is nil when the whole
// call failed with the error. Marks: Invalid when Kinesis will never take the
// request as it is, Busy when it is throttled, Denied when we may not, NotReady
// otherwise; a missing stream is NotReady with ErrNoStream.
func (c *Client) Put(ctx context.Context, stream string, records []Record) ([]error, error) {
	ctx, cancel := context.WithTimeout(ctx, putWait)
	defer cancel()
	entries := make([]types.PutRecordsRequestEntry, len(records))
	for i, r := range records {
		entries[i] = types.PutRecordsRequestEntry{Data: r.Data, PartitionKey: aws.String(r.PartitionKey)}
	}
	out, err := c.api.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: aws.String(stream), Records: entries})
	if err != nil {
		return nil, mark("putting records", err)
	}
	if len(out.Records) != len(records) {
		return nil, fault.As(fault.NotReady, fmt.Errorf("putting records: Kinesis answered for %d of %d", len(out.Records), len(records)))
	}
	results := make([]error, len(records))
	for i, r := range out.Records {
		if r.ErrorCode != nil {
			results[i] = fault.As(kind(*r.ErrorCode), fmt.Errorf("putting a record: %s: %s", *r.ErrorCode, aws.ToString(r.ErrorMessage)))
		}
	}
	return results, nil
}

// mark sorts an error of Kinesis.
func mark(doing string, err error) error {
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		return fault.As(fault.NotReady, fmt.Errorf("%s: %w", doing, ErrNoStream))
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		return fault.As(kind(api.ErrorCode()), fmt.Errorf("%s: %s: %s%s", doing, api.ErrorCode(), api.ErrorMessage(), help(api.ErrorCode())))
	}
	return fault.As(fault.NotReady, fmt.Errorf("%s: %w; can the publisher's host reach Kinesis, and is kinesis_endpoint right?", doing, err))
}

// help says what only an operator can do about an error code.
func help(code string) string {
	switch code {
	case "AccessDeniedException":
		return "; the policy of the publisher's role must allow kinesis:PutRecords"
	case "ProvisionedThroughputExceededException":
		return "; it passes by itself, or the stream needs more shards"
	}
	return ""
}

// kind sorts Kinesis's error codes. Unknown ones are NotReady: a record is given
// up only for a reason that is known to be its own.
func kind(code string) fault.Kind {
	switch code {
	case "ProvisionedThroughputExceededException", "LimitExceededException", "ThrottlingException",
		"KMSThrottlingException", "TooManyRequestsException", "RequestLimitExceeded":
		return fault.Busy
	case "ValidationException", "InvalidArgumentException", "SerializationException", "RequestEntityTooLarge":
		return fault.Invalid
	case "AccessDeniedException":
		return fault.Denied
	}
	return fault.NotReady
}
