package tail

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/weir-das/weir/pkg/esdk"
)

const (
	// maxKeys bounds the cache. A crypto replica makes a key an hour, so this
	// is more than a day of forty of them.
	maxKeys = 1024

	// refusalHolds is how long KMS's no is believed, so that a thousand
	// records under a disabled key are not a thousand calls.
	refusalHolds = 5 * time.Second
)

// keys are the opened data keys, by their ciphertext: every record carries
// the ciphertext, and few of them differ. It may be used by several goroutines.
type keys struct {
	kms     *kms.Client       // immutable
	context map[string]string // immutable

	mu   sync.Mutex // guards what follows; not held while KMS is asked
	held map[string]*dataKey
	age  []string // the ciphertexts in held, oldest first
}

// dataKey is one entry. Whoever holds mu asks KMS; the others wait for him.
type dataKey struct {
	mu      sync.Mutex
	key     *esdk.Key
	refused error
	until   time.Time // refused is believed so long
}

func newOpener(client *kms.Client, resourceID string) *opener {
	pair := "aws:rds:dbc-id"
	if strings.HasPrefix(resourceID, "db-") {
		pair = "aws:rds:db-id"
	}
	return &opener{keys: &keys{
		kms:     client,
		context: map[string]string{pair: resourceID},
		held:    make(map[string]*dataKey),
	}}
}

// get returns the data key that ciphertext holds.
func (k *keys) get(ctx context.Context, ciphertext []byte) (*esdk.Key, error) {
	d := k.entry(string(ciphertext))
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.key != nil:
		return d.key, nil
	case d.refused != nil && time.Now().Before(d.until):
		return nil, d.refused
	}
	out, err := k.kms.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: ciphertext, EncryptionContext: k.context})
	switch {
	case err != nil && (transient(err) || ctx.Err() != nil):
		return nil, err
	case err != nil:
		d.refused, d.until = k.explain(err), time.Now().Add(refusalHolds)
		return nil, d.refused
	case len(out.Plaintext) != len(esdk.Key{}):
		d.refused, d.until = &refusal{cause: fmt.Sprintf("the data key has %d bytes, want %d: not the key of an activity record", len(out.Plaintext), len(esdk.Key{}))}, time.Now().Add(refusalHolds)
		return nil, d.refused
	}
	d.key = (*esdk.Key)(out.Plaintext)
	return d.key, nil
}

// entry finds or makes the entry of a ciphertext; the oldest makes room.
func (k *keys) entry(ciphertext string) *dataKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	if d := k.held[ciphertext]; d != nil {
		return d
	}
	if len(k.age) >= maxKeys {
		delete(k.held, k.age[0])
		k.age = k.age[1:]
	}
	d := new(dataKey)
	k.held[ciphertext] = d
	k.age = append(k.age, ciphertext)
	return d
}

// explain says what KMS's answer means for somebody who wants to read, and
// what he can do about it.
func (k *keys) explain(err error) error {
	var (
		disabled *types.DisabledException
		state    *types.KMSInvalidStateException
		cipher   *types.InvalidCiphertextException
		missing  *types.NotFoundException
		wrong    *types.IncorrectKeyException
		api      smithy.APIError
	)
	switch {
	case errors.As(err, &disabled):
		return &refusal{"the KMS key is disabled: enable it (`aws kms enable-key`), then read again", err}
	case errors.As(err, &state):
		return &refusal{"the KMS key cannot be used, it is probably scheduled for deletion: cancel that (`aws kms cancel-key-deletion`) and enable it", err}
	case errors.As(err, &cipher):
		return &refusal{fmt.Sprintf("KMS cannot decrypt the data key: it was not made for %s by a key of this account and region, or was changed on its way", k.resource()), err}
	case errors.As(err, &missing):
		return &refusal{"KMS does not know the key: it was deleted, or belongs to another account, region or endpoint", err}
	case errors.As(err, &wrong):
		return &refusal{"the data key was made with another KMS key", err}
	case errors.As(err, &api) && strings.HasPrefix(api.ErrorCode(), "AccessDenied"):
		return &refusal{fmt.Sprintf("KMS denies kms:Decrypt: grant it on the key, for the encryption context of %s", k.resource()), err}
	default:
		return &refusal{"asking KMS for the data key", err}
	}
}

func (k *keys) resource() string {
	for _, id := range k.context {
		return id
	}
	return ""
}
