package sign

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/weir-das/weir/pkg/fault"
)

// kmsWait bounds one call of KMS.
const kmsWait = 5 * time.Second

// KMS signs with a key in KMS: ECC_NIST_P256, usage SIGN_VERIFY.
type KMS struct {
	client *kms.Client
	key    string
}

// NewKMS returns a signer that uses the key, by id, ARN or alias.
func NewKMS(client *kms.Client, key string) *KMS { return &KMS{client: client, key: key} }

// Sign implements Signer.
func (k *KMS) Sign(ctx context.Context, text []byte) (Signature, error) {
	ctx, cancel := context.WithTimeout(ctx, kmsWait)
	defer cancel()
	out, err := k.client.Sign(ctx, &kms.SignInput{
		KeyId: &k.key, Message: text, MessageType: types.MessageTypeRaw, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
	})
	var api smithy.APIError
	switch {
	case errors.As(err, &api):
		// Our key, our fault: whoever asked for a signature may ask again.
		return Signature{}, fault.As(fault.NotReady, fmt.Errorf("asking KMS to sign with %s: %s: %s", k.key, api.ErrorCode(), strings.TrimSuffix(api.ErrorMessage(), ".")))
	case err != nil:
		return Signature{}, fault.As(fault.NotReady, fmt.Errorf("asking KMS to sign: %w", err))
	case len(out.Signature) == 0:
		return Signature{}, fault.As(fault.NotReady, errShort)
	}
	return Signature{Bytes: out.Signature, Algorithm: ecdsaName, KeyID: aws.ToString(out.KeyId)}, nil
}
