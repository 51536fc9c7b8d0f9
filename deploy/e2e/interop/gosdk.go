package interop

import (
	"context"

	mpl "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygenerated"
	mpltypes "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygeneratedtypes"
	sdk "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygenerated"
	sdktypes "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygeneratedtypes"
)

// OpenGo opens a message with AWS's Encryption SDK for Go, set as AWS's sample
// consumers are, and returns its plaintext: the record in its gzip.
func OpenGo(ctx context.Context, m Message) ([]byte, error) {
	namespace := m.Namespace
	if namespace == "" {
		namespace = "BC"
	}
	materials, err := mpl.NewClient(mpltypes.MaterialProvidersConfig{})
	if err != nil {
		return nil, err
	}
	keyring, err := materials.CreateRawAesKeyring(ctx, mpltypes.CreateRawAesKeyringInput{
		KeyName: "DataKey", KeyNamespace: namespace,
		WrappingKey: m.Key, WrappingAlg: mpltypes.AesWrappingAlgAlgAes256GcmIv12Tag16,
	})
	if err != nil {
		return nil, err
	}
	policy := mpltypes.ESDKCommitmentPolicyRequireEncryptAllowDecrypt
	client, err := sdk.NewClient(sdktypes.AwsEncryptionSdkConfig{CommitmentPolicy: &policy})
	if err != nil {
		return nil, err
	}
	out, err := client.Decrypt(ctx, sdktypes.DecryptInput{Ciphertext: m.Message, Keyring: keyring})
	if err != nil {
		return nil, err
	}
	return out.Plaintext, nil
}
