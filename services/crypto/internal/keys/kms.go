package keys

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/weir-das/weir/pkg/fault"
)

// kmsWait bounds one call of KMS.
const kmsWait = 5 * time.Second

// contextKey names the cluster in the encryption context. Consumers must give
// the same pair to decrypt; it binds a data key to its cluster.
const contextKey = "aws:rds:dbc-id"

// KMS generates data keys at AWS KMS, or at what speaks its protocol.
type KMS struct{ client *kms.Client }

// NewKMS returns a client. An empty endpoint or region means the SDK's default
// chain, AWS_ENDPOINT_URL_KMS included. The SDK's own retries are off: the cache
// above has a back-off, and capture another.
func NewKMS(ctx context.Context, endpoint, region string) (*KMS, error) {
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
	return &KMS{kms.NewFromConfig(cfg, func(o *kms.Options) {
		o.Retryer = aws.NopRetryer{}
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
	})}, nil
}

// Client is the client itself, for what is not about data keys.
func (k *KMS) Client() *kms.Client { return k.client }

// Generate implements Generator.
func (k *KMS) Generate(ctx context.Context, keyID, cluster string) (*Generated, error) {
	ctx, cancel := context.WithTimeout(ctx, kmsWait)
	defer cancel()
	out, err := k.client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId:             aws.String(keyID),
		KeySpec:           types.DataKeySpecAes256,
		EncryptionContext: map[string]string{contextKey: cluster},
	})
	if err != nil {
		return nil, kmsError(err)
	}
	defer clear(out.Plaintext)
	g := &Generated{Ciphertext: out.CiphertextBlob, ARN: aws.ToString(out.KeyId)}
	if len(out.Plaintext) != len(g.Plaintext) || len(g.Ciphertext) == 0 {
		return nil, fault.As(fault.NotReady, fmt.Errorf("KMS sent a data key of %d bytes, want %d", len(out.Plaintext), len(g.Plaintext)))
	}
	copy(g.Plaintext[:], out.Plaintext)
	return g, nil
}

// kmsError marks what KMS said. The split that matters: an answer about the key
// stops the stream, trouble on the way to an answer does not. Our own expired or
// unknown credentials are trouble on the way: they say nothing about the key.
func kmsError(err error) error {
	kind, help := fault.NotReady, ""
	text := "asking KMS for a data key"
	var api smithy.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		case "AccessDeniedException", "AccessDenied":
			kind, help = fault.Denied, "its policy, and that of crypto's role, must allow kms:GenerateDataKey"
		case "DisabledException":
			kind, help = fault.Invalid, "enable it"
		case "KMSInvalidStateException":
			kind, help = fault.Invalid, "cancel its deletion and enable it"
		case "NotFoundException", "InvalidKeyUsageException", "InvalidArnException", "ValidationException",
			"InvalidGrantTokenException", "UnsupportedOperationException":
			kind = fault.Invalid
		case "ThrottlingException", "LimitExceededException", "TooManyRequestsException":
			kind = fault.Busy
		}
		text += ": " + api.ErrorCode() + ": " + strings.TrimSuffix(api.ErrorMessage(), ".")
		if help != "" {
			text += ": " + help
		}
		return fault.As(kind, errors.New(text))
	}
	return fault.As(kind, fmt.Errorf("%s: %w; can crypto's host reach KMS, and is kms_endpoint right?", text, err))
}
