// Package kms is a small Key Management Service: symmetric keys, aliases, data keys and encryption contexts, and keys that sign
// (ECC_NIST_P256), answered and refused as AWS does.
//
// The one idea: a ciphertext blob says which key sealed it and is bound to its encryption context by AES-GCM, so Decrypt
// needs no key id and refuses the same things for the same reasons as AWS. Blobs are as long as AWS's (a 32-byte data key
// makes 184 bytes), so records made here have the sizes of production.
//
// Keys lie in memory and, if there is a state file, in clear in that file (mode 0600): enough for a laptop, where old
// streams must stay readable, and no protection at all. It is not meant for production. Other asymmetric keys and HMAC keys, grants,
// imported material, rotation and the evaluation of key policies are not there; policies are kept and given back.
//
// Before: services/crypto asks for data keys. Next: consumers decrypt them.
package kms

import (
	"context"
	"sync"
	"time"

	"github.com/weir-das/weir/pkg/localaws/inject"
	"github.com/weir-das/weir/pkg/localaws/internal/operation"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

// Options say how the service behaves.
type Options struct {
	Region, AccountID string
	// StateFile keeps the keys across restarts; empty: in memory only. It is written whole after every change and replaced
	// in one step. Two processes must not share one.
	StateFile string
}

// Service is the endpoint. It may be used concurrently.
type Service struct {
	opt Options
	set operation.Set

	mu      sync.RWMutex
	keys    map[string]*key   // by id
	aliases map[string]*alias // by name, "alias/…"
}

// New makes a service with the keys of the state file, if there is one.
func New(opt Options) (*Service, error) {
	s := &Service{opt: opt, keys: map[string]*key{}, aliases: map[string]*alias{}}
	s.set.Operations = s.operations()
	if opt.StateFile == "" {
		return s, nil
	}
	return s, s.load()
}

// Fail injects a fault into all operations, or those it names, and returns the function that removes it.
func (s *Service) Fail(f inject.Fault) (remove func()) { return s.set.Faults.Add(f) }

// ClearFaults removes all injected faults.
func (s *Service) ClearFaults() { s.set.Faults.Clear() }

// Knows says whether op is an operation.
func (s *Service) Knows(op string) bool { return s.set.Knows(op) }

// Call carries out an operation it knows and writes its answer; or returns the error the client gets.
func (s *Service) Call(ctx context.Context, op string, body wire.Value, cbor bool, out *wire.Writer) error {
	return s.set.Call(ctx, op, body, cbor, out)
}

// Disable disables a key, as an administrator of the account would behind our back. ref is an id, ARN or alias.
func (s *Service) Disable(ref string) error { return s.enable(ref, false) }

// Enable enables a key again.
func (s *Service) Enable(ref string) error { return s.enable(ref, true) }

// Delete removes a key's material for good, at once: what ScheduleKeyDeletion does after days.
func (s *Service) Delete(ref string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.find(ref, time.Now())
	if err != nil {
		return err
	}
	s.remove(k)
	return s.save()
}

func (s *Service) enable(ref string, on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.find(ref, time.Now())
	if err != nil {
		return err
	}
	k.Enabled = on
	return s.save()
}

// Usable says whether a key can encrypt and decrypt now: nil, or the error with which KMS would refuse.
func (s *Service) Usable(ref string) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	k, err := s.find(ref, time.Now())
	if err != nil {
		return err
	}
	return s.usable(k)
}

func (s *Service) operations() map[string]operation.Operation {
	var (
		str    = &wire.Field{Type: wire.TypeString}
		keyID  = wire.Field{Name: "KeyId", Required: true, Min: 1, Max: 2048}
		anyKey = wire.Field{Name: "KeyId", Min: 1, Max: 2048}
		pairs  = func(name string) wire.Field { return wire.Field{Name: name, Type: wire.TypeMap, Elem: str} }
		blob   = func(name string, required bool, max int64) wire.Field {
			return wire.Field{Name: name, Type: wire.TypeBlob, Required: required, Min: 1, Max: max}
		}
		number = func(name string, required bool, min, max int64) wire.Field {
			return wire.Field{Name: name, Type: wire.TypeInt, Required: required, Min: min, Max: max}
		}
		text   = func(name string, max int64) wire.Field { return wire.Field{Name: name, Max: max} }
		dryRun = wire.Field{Name: "DryRun", Type: wire.TypeBool}
		alg    = func(name string) wire.Field {
			return wire.Field{Name: name, Enum: []string{"SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"}}
		}
		keySpec = wire.Field{Name: "KeySpec", Enum: []string{"AES_256", "AES_128"}}
		size    = number("NumberOfBytes", false, 1, 1024)
		limit   = func(max int64) wire.Field { return number("Limit", false, 1, max) }
		marker  = wire.Field{Name: "Marker", Min: 1, Max: 1024}
		name    = wire.Field{Name: "AliasName", Required: true, Min: 1, Max: 256}
		target  = wire.Field{Name: "TargetKeyId", Required: true, Min: 1, Max: 2048}
		tag     = &wire.Field{Type: wire.TypeStruct, Fields: []wire.Field{
			{Name: "TagKey", Required: true, Min: 1, Max: 128}, {Name: "TagValue", Required: true, Max: 256}}}
		tags = func(required bool) wire.Field {
			return wire.Field{Name: "Tags", Type: wire.TypeList, Required: required, Max: 50, Elem: tag}
		}
		op = func(do func(operation.Call, *wire.Writer) error, fs ...wire.Field) operation.Operation {
			return operation.Operation{Fields: fs, Do: do}
		}
		policyName = wire.Field{Name: "PolicyName", Min: 1, Max: 128}
		policy     = wire.Field{Name: "Policy", Required: true, Min: 1, Max: 32768}
	)
	messageType := wire.Field{Name: "MessageType", Enum: []string{"RAW", "DIGEST"}}
	signingAlgorithm := wire.Field{Name: "SigningAlgorithm", Required: true, Enum: []string{ecdsaSHA256, "ECDSA_SHA_384", "ECDSA_SHA_512",
		"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512", "RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384",
		"RSASSA_PKCS1_V1_5_SHA_512", "SM2DSA", "ML_DSA_SHAKE_256", "ED25519_SHA_512", "ED25519_PH_SHA_512"}}
	return map[string]operation.Operation{
		"CreateKey": op(s.createKey, text("Policy", 32768), text("Description", 8192), text("KeyUsage", 64), text("KeySpec", 64),
			text("CustomerMasterKeySpec", 64), text("Origin", 64), tags(false), wire.Field{Name: "MultiRegion", Type: wire.TypeBool}),
		"DescribeKey":          op(s.describeKey, keyID),
		"ListKeys":             op(s.listKeys, limit(1000), marker),
		"EnableKey":            op(s.enableKey, keyID),
		"DisableKey":           op(s.disableKey, keyID),
		"ScheduleKeyDeletion":  op(s.scheduleDeletion, keyID, number("PendingWindowInDays", false, 1, 365)),
		"CancelKeyDeletion":    op(s.cancelDeletion, keyID),
		"UpdateKeyDescription": op(s.updateDescription, keyID, wire.Field{Name: "Description", Required: true, Max: 8192}),
		"GetKeyPolicy":         op(s.getPolicy, keyID, policyName),
		"PutKeyPolicy":         op(s.putPolicy, keyID, policyName, policy),
		"ListKeyPolicies":      op(s.listPolicies, keyID, limit(1000), marker),
		"GetKeyRotationStatus": op(s.rotationStatus, keyID),
		"TagResource":          op(s.tagResource, keyID, tags(true)),
		"UntagResource": op(s.untagResource, keyID, wire.Field{Name: "TagKeys", Type: wire.TypeList, Required: true, Max: 50,
			ElemMax: 128, Elem: str}),
		"ListResourceTags": op(s.listResourceTags, keyID, limit(50), marker),

		"CreateAlias": op(s.createAlias, name, target),
		"UpdateAlias": op(s.updateAlias, name, target),
		"DeleteAlias": op(s.deleteAlias, name),
		"ListAliases": op(s.listAliases, anyKey, limit(100), marker),

		"GenerateDataKey":                 op(s.generateDataKey, keyID, pairs("EncryptionContext"), size, keySpec, dryRun),
		"GenerateDataKeyWithoutPlaintext": op(s.generateSealedDataKey, keyID, pairs("EncryptionContext"), size, keySpec, dryRun),
		"Sign":                            op(s.sign, keyID, blob("Message", true, 4096), messageType, signingAlgorithm, dryRun),
		"Verify":                          op(s.verify, keyID, blob("Message", true, 4096), messageType, blob("Signature", true, 6144), signingAlgorithm, dryRun),
		"GetPublicKey":                    op(s.publicKey, keyID),

		"GenerateRandom": op(s.generateRandom, size),
		"Encrypt":        op(s.encrypt, keyID, blob("Plaintext", true, 4096), pairs("EncryptionContext"), alg("EncryptionAlgorithm"), dryRun),
		"Decrypt":        op(s.decrypt, blob("CiphertextBlob", true, 6144), pairs("EncryptionContext"), anyKey, alg("EncryptionAlgorithm"), dryRun),
		"ReEncrypt": op(s.reEncrypt, blob("CiphertextBlob", true, 6144), pairs("SourceEncryptionContext"), wire.Field{Name: "SourceKeyId", Min: 1, Max: 2048},
			wire.Field{Name: "DestinationKeyId", Required: true, Min: 1, Max: 2048}, pairs("DestinationEncryptionContext"),
			alg("SourceEncryptionAlgorithm"), alg("DestinationEncryptionAlgorithm"), dryRun),
	}
}
