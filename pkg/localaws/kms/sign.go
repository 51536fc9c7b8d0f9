package kms

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"github.com/weir-das/weir/pkg/localaws/internal/operation"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

// The one kind of signing key that there is here.
const (
	eccP256     = "ECC_NIST_P256"
	signVerify  = "SIGN_VERIFY"
	ecdsaSHA256 = "ECDSA_SHA_256"
)

// makeSigning turns a new key into one that signs.
func (k *key) makeSigning() error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	k.Spec, k.Material = eccP256, der
	return nil
}

// whole says whether the material is what the key's kind needs.
func (k *key) whole() bool {
	if k.Spec == "" {
		return len(k.Material) == 32
	}
	_, err := k.signing()
	return k.Spec == eccP256 && err == nil
}

func (k *key) signing() (*ecdsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(k.Material)
	if err != nil {
		return nil, fmt.Errorf("the state file holds no key for %s: %w", k.ID, err)
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the state file holds a %T for %s", parsed, k.ID)
	}
	return private, nil
}

func wrongUsage(arn, usage, operation string) error {
	return wire.Errorf("InvalidKeyUsageException", "%s key usage is %s which is not valid for %s.", arn, usage, operation)
}

// signer finds a key that signs and gives it to do with the digest of the call's message.
func (s *Service) signer(c operation.Call, name string, do func(*key, *ecdsa.PrivateKey, []byte) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	k, err := s.find(c.Str("KeyId"), c.Now)
	if err != nil {
		return err
	}
	if err := s.usable(k); err != nil {
		return err
	}
	if k.Spec == "" {
		return wrongUsage(s.keyARN(k.ID), "ENCRYPT_DECRYPT", name)
	}
	if alg := c.Str("SigningAlgorithm"); alg != ecdsaSHA256 {
		return wire.Errorf("InvalidKeyUsageException", "Algorithm %s is incompatible with key spec %s.", alg, k.Spec)
	}
	digest := c.Blob("Message")
	if c.Str("MessageType") == "DIGEST" {
		if len(digest) != sha256.Size {
			return wire.Errorf("ValidationException", "Digest is invalid length for algorithm %s.", ecdsaSHA256)
		}
	} else {
		sum := sha256.Sum256(digest)
		digest = sum[:]
	}
	private, err := k.signing()
	if err != nil {
		return err
	}
	if err := dryRun(c); err != nil {
		return err
	}
	return do(k, private, digest)
}

func (s *Service) sign(c operation.Call, out *wire.Writer) error {
	return s.signer(c, "Sign", func(k *key, private *ecdsa.PrivateKey, digest []byte) error {
		signature, err := ecdsa.SignASN1(rand.Reader, private, digest)
		if err != nil {
			return fmt.Errorf("signing: %w", err)
		}
		out.Map().Key("KeyId").Str(s.keyARN(k.ID)).Key("Signature").Blob(signature).Key("SigningAlgorithm").Str(ecdsaSHA256).EndMap()
		return nil
	})
}

func (s *Service) verify(c operation.Call, out *wire.Writer) error {
	return s.signer(c, "Verify", func(k *key, private *ecdsa.PrivateKey, digest []byte) error {
		if !ecdsa.VerifyASN1(&private.PublicKey, digest, c.Blob("Signature")) {
			return wire.Errorf("KMSInvalidSignatureException", "")
		}
		out.Map().Key("KeyId").Str(s.keyARN(k.ID)).Key("SignatureValid").Bool(true).Key("SigningAlgorithm").Str(ecdsaSHA256).EndMap()
		return nil
	})
}

func (s *Service) publicKey(c operation.Call, out *wire.Writer) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	k, err := s.find(c.Str("KeyId"), c.Now)
	if err != nil {
		return err
	}
	if k.Spec == "" {
		return wire.Errorf("UnsupportedOperationException", "GetPublicKey is not valid for symmetric KMS keys.")
	}
	if err := s.usable(k); err != nil {
		return err
	}
	private, err := k.signing()
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return fmt.Errorf("writing the public key: %w", err)
	}
	out.Map().Key("KeyId").Str(s.keyARN(k.ID)).Key("PublicKey").Blob(der)
	out.Key("CustomerMasterKeySpec").Str(k.Spec).Key("KeySpec").Str(k.Spec).Key("KeyUsage").Str(signVerify)
	out.Key("SigningAlgorithms").List().Str(ecdsaSHA256).EndList().EndMap()
	return nil
}
