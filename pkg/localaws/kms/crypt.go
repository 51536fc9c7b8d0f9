package kms

import (
	"crypto/rand"

	"github.com/weir-das/weir/pkg/localaws/internal/operation"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

const symmetric = "SYMMETRIC_DEFAULT"

// using finds a key that is to encrypt and gives it to do, holding the lock: a key disabled is one no longer in use.
func (s *Service) using(ref string, c operation.Call, do func(*key) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	k, err := s.find(ref, c.Now)
	if err != nil {
		return err
	}
	if err := s.usable(k); err != nil {
		return err
	}
	if k.Spec != "" {
		return wrongUsage(s.keyARN(k.ID), signVerify, "this operation")
	}
	return do(k)
}

// dryRun is the error that says a call would have succeeded.
func dryRun(c operation.Call) error {
	if c.Bool("DryRun") {
		return &wire.Error{Code: "DryRunOperationException", Status: 412,
			Message: "The request would have succeeded, but the DryRun option is set."}
	}
	return nil
}

func dataKeySize(c operation.Call) (int64, error) {
	spec, size := c.Str("KeySpec"), c.Int("NumberOfBytes", 0)
	switch {
	case (spec == "") == (size == 0):
		return 0, wire.Errorf("ValidationException", "Please specify either number of bytes or key spec.")
	case spec == "AES_256":
		return 32, nil
	case spec == "AES_128":
		return 16, nil
	}
	return size, nil
}

func (s *Service) generateDataKey(c operation.Call, out *wire.Writer) error {
	return s.dataKey(c, out, true)
}

func (s *Service) generateSealedDataKey(c operation.Call, out *wire.Writer) error {
	return s.dataKey(c, out, false)
}

func (s *Service) dataKey(c operation.Call, out *wire.Writer, clear bool) error {
	size, err := dataKeySize(c)
	if err != nil {
		return err
	}
	return s.using(c.Str("KeyId"), c, func(k *key) error {
		if err := dryRun(c); err != nil {
			return err
		}
		plain := make([]byte, size)
		rand.Read(plain)
		out.Map().Key("CiphertextBlob").Blob(k.seal(plain, c.StrMap("EncryptionContext")))
		if clear {
			out.Key("Plaintext").Blob(plain)
		}
		out.Key("KeyId").Str(s.keyARN(k.ID)).EndMap()
		return nil
	})
}

func (s *Service) generateRandom(c operation.Call, out *wire.Writer) error {
	if !c.Has("NumberOfBytes") {
		return wire.Errorf("ValidationException", "NumberOfBytes is required.")
	}
	b := make([]byte, c.Int("NumberOfBytes", 0))
	rand.Read(b)
	out.Map().Key("Plaintext").Blob(b).EndMap()
	return nil
}

// onlySymmetric refuses algorithms of other kinds of keys.
func onlySymmetric(alg string) error {
	if alg == "" || alg == symmetric {
		return nil
	}
	return wire.Errorf("InvalidKeyUsageException", "The EncryptionAlgorithm %s is not compatible with this key.", alg)
}

func (s *Service) encrypt(c operation.Call, out *wire.Writer) error {
	return s.using(c.Str("KeyId"), c, func(k *key) error {
		if err := onlySymmetric(c.Str("EncryptionAlgorithm")); err != nil {
			return err
		}
		if err := dryRun(c); err != nil {
			return err
		}
		out.Map().Key("CiphertextBlob").Blob(k.seal(c.Blob("Plaintext"), c.StrMap("EncryptionContext")))
		out.Key("KeyId").Str(s.keyARN(k.ID)).Key("EncryptionAlgorithm").Str(symmetric).EndMap()
		return nil
	})
}

// opened is the plaintext of the call's CiphertextBlob and the key that sealed it. want, if not empty, is the key the
// caller expects. The service is locked.
func (s *Service) opened(c operation.Call, want, alg, context string) ([]byte, *key, error) {
	var expected *key
	if want != "" {
		var err error
		if expected, err = s.find(want, c.Now); err != nil {
			return nil, nil, err
		}
	}
	if err := onlySymmetric(alg); err != nil {
		return nil, nil, err
	}
	b, ok := parseBlob(c.Blob("CiphertextBlob"))
	if !ok {
		return nil, nil, invalidCiphertext()
	}
	k := s.live(formatID(b.keyID), c.Now)
	if k == nil { // another account's or region's, or deleted: AWS does not say which
		return nil, nil, wire.Errorf("AccessDeniedException",
			"The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.")
	}
	if expected != nil && expected != k {
		return nil, nil, wire.Errorf("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
	}
	if err := s.usable(k); err != nil {
		return nil, nil, err
	}
	plain, err := k.open(b, c.StrMap(context))
	return plain, k, err
}

func (s *Service) decrypt(c operation.Call, out *wire.Writer) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	plain, k, err := s.opened(c, c.Str("KeyId"), c.Str("EncryptionAlgorithm"), "EncryptionContext")
	if err != nil {
		return err
	}
	if err := dryRun(c); err != nil {
		return err
	}
	out.Map().Key("KeyId").Str(s.keyARN(k.ID)).Key("Plaintext").Blob(plain)
	out.Key("EncryptionAlgorithm").Str(symmetric).EndMap()
	return nil
}

func (s *Service) reEncrypt(c operation.Call, out *wire.Writer) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	plain, from, err := s.opened(c, c.Str("SourceKeyId"), c.Str("SourceEncryptionAlgorithm"), "SourceEncryptionContext")
	if err != nil {
		return err
	}
	to, err := s.find(c.Str("DestinationKeyId"), c.Now)
	if err != nil {
		return err
	}
	if err := s.usable(to); err != nil {
		return err
	}
	if to.Spec != "" {
		return wrongUsage(s.keyARN(to.ID), signVerify, "ReEncrypt")
	}
	if err := onlySymmetric(c.Str("DestinationEncryptionAlgorithm")); err != nil {
		return err
	}
	if err := dryRun(c); err != nil {
		return err
	}
	out.Map().Key("CiphertextBlob").Blob(to.seal(plain, c.StrMap("DestinationEncryptionContext")))
	out.Key("SourceKeyId").Str(s.keyARN(from.ID)).Key("KeyId").Str(s.keyARN(to.ID))
	out.Key("SourceEncryptionAlgorithm").Str(symmetric).Key("DestinationEncryptionAlgorithm").Str(symmetric).EndMap()
	return nil
}
