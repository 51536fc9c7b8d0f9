package kms

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-das/weir/pkg/localaws/internal/operation"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

// maxKeys bounds the service's memory and its state file; AWS's own limit is 100,000.
const maxKeys = 10000

// A key's exported fields are what the state file holds.
type key struct {
	ID          string
	Material    []byte // 32 bytes, AES-256; of a key with a Spec, PKCS #8
	Spec        string `json:",omitempty"` // ECC_NIST_P256; empty is symmetric
	Created     time.Time
	Description string            `json:",omitempty"`
	Policy      string            `json:",omitempty"`
	Tags        map[string]string `json:",omitempty"`
	Enabled     bool
	Deletion    time.Time `json:",omitzero"` // when the key will be deleted
}

func (k *key) state() string {
	switch {
	case !k.Deletion.IsZero():
		return "PendingDeletion"
	case !k.Enabled:
		return "Disabled"
	}
	return "Enabled"
}

// A key's names. AWS takes an id, a key ARN, an alias name or an alias ARN wherever a key is used.
func (s *Service) arn(resource string) string {
	return "arn:aws:kms:" + s.opt.Region + ":" + s.opt.AccountID + ":" + resource
}

func (s *Service) keyARN(id string) string { return s.arn("key/" + id) }

// find is the key an id, ARN or alias names. The service is locked, for reading at least.
func (s *Service) find(ref string, now time.Time) (*key, error) {
	resource, err := s.resource(ref)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(resource, aliasPrefix) {
		a := s.aliases[resource]
		if a == nil || s.live(a.Target, now) == nil {
			return nil, wire.Errorf("NotFoundException", "Alias %s is not found.", s.arn(resource))
		}
		return s.keys[a.Target], nil
	}
	id := strings.TrimPrefix(resource, "key/")
	if k := s.live(id, now); k != nil {
		return k, nil
	}
	if resource == ref && !validID(id) {
		return nil, wire.Errorf("NotFoundException", "Invalid keyId '%s'", id)
	}
	return nil, wire.Errorf("NotFoundException", "Key '%s' does not exist", s.keyARN(id))
}

// findByID is find for operations that administer a key: they do not take aliases.
func (s *Service) findByID(ref string, now time.Time) (*key, error) {
	if resource, err := s.resource(ref); err == nil && strings.HasPrefix(resource, aliasPrefix) {
		return nil, wire.Errorf("NotFoundException", "Invalid keyId '%s'", ref)
	}
	return s.find(ref, now)
}

// resource is "alias/…", "key/…" or a bare id. Another account's ARNs are denied, another region's not found.
func (s *Service) resource(ref string) (string, error) {
	if !strings.HasPrefix(ref, "arn:") {
		return ref, nil
	}
	parts := strings.SplitN(ref, ":", 6)
	if len(parts) != 6 || parts[2] != "kms" || !strings.HasPrefix(parts[5], "key/") && !strings.HasPrefix(parts[5], aliasPrefix) {
		return "", wire.Errorf("NotFoundException", "Invalid arn %s", ref)
	}
	if parts[4] != s.opt.AccountID {
		return "", wire.Errorf("AccessDeniedException", "You are not authorized to perform this operation on resource %s: it does not exist in this account, or its policy does not allow you access.", ref)
	}
	if parts[3] != s.opt.Region {
		return "", wire.Errorf("NotFoundException", "Invalid arn %s", parts[3])
	}
	return parts[5], nil
}

// live is a key that is there and whose deletion is not due.
func (s *Service) live(id string, now time.Time) *key {
	k := s.keys[id]
	if k == nil || !k.Deletion.IsZero() && now.After(k.Deletion) {
		return nil
	}
	return k
}

func (s *Service) usable(k *key) error {
	switch k.state() {
	case "PendingDeletion":
		return wire.Errorf("KMSInvalidStateException", "%s is pending deletion.", s.keyARN(k.ID))
	case "Disabled":
		return wire.Errorf("DisabledException", "%s is disabled.", s.keyARN(k.ID))
	}
	return nil
}

func (s *Service) remove(k *key) {
	clear(k.Material)
	delete(s.keys, k.ID)
	maps.DeleteFunc(s.aliases, func(_ string, a *alias) bool { return a.Target == k.ID })
}

// newID is a random UUID (version 4).
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return formatID(b)
}

func formatID(b [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// parseID reads a key id's 16 bytes.
func parseID(id string) (b [16]byte, ok bool) {
	raw, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(raw) != len(b) {
		return b, false
	}
	b = [16]byte(raw)
	return b, formatID(b) == id
}

func validID(id string) bool { _, ok := parseID(id); return ok }

// newKey is an enabled key with new material, which nobody knows of yet.
func newKey(created time.Time) *key {
	k := &key{ID: newID(), Material: make([]byte, 32), Created: created, Enabled: true}
	rand.Read(k.Material)
	return k
}

func (s *Service) createKey(c operation.Call, out *wire.Writer) error {
	spec := max(c.Str("KeySpec"), c.Str("CustomerMasterKeySpec"))
	switch {
	case spec != "" && spec != symmetric && spec != eccP256:
		return wire.Errorf("UnsupportedOperationException", "This local endpoint makes keys of the kinds SYMMETRIC_DEFAULT and ECC_NIST_P256 only, not %s.", spec)
	case spec == eccP256 && c.Str("KeyUsage") != signVerify:
		return wire.Errorf("ValidationException", "You must specify a KeyUsage value of SIGN_VERIFY for keys of the kind ECC_NIST_P256.")
	case spec != eccP256 && c.Has("KeyUsage") && c.Str("KeyUsage") != "ENCRYPT_DECRYPT":
		return wire.Errorf("ValidationException", "The KeyUsage %s is not compatible with KeySpec SYMMETRIC_DEFAULT.", c.Str("KeyUsage"))
	case c.Has("Origin") && c.Str("Origin") != "AWS_KMS", c.Bool("MultiRegion"):
		return wire.Errorf("UnsupportedOperationException", "This local endpoint makes single-region keys of its own only.")
	}
	k := newKey(c.Now.UTC())
	if spec == eccP256 {
		if err := k.makeSigning(); err != nil {
			return err
		}
	}
	k.Description, k.Policy, k.Tags = c.Str("Description"), c.Str("Policy"), tagsOf(c.Input)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.keys) >= maxKeys {
		return wire.Errorf("LimitExceededException", "This local endpoint keeps %d keys.", maxKeys)
	}
	s.keys[k.ID] = k
	if err := s.save(); err != nil {
		delete(s.keys, k.ID)
		return err
	}
	out.Map()
	s.writeMetadata(out, k)
	out.EndMap()
	return nil
}

func (s *Service) describeKey(c operation.Call, out *wire.Writer) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	k, err := s.find(c.Str("KeyId"), c.Now)
	if err != nil {
		return err
	}
	out.Map()
	s.writeMetadata(out, k)
	out.EndMap()
	return nil
}

func (s *Service) writeMetadata(out *wire.Writer, k *key) {
	out.Key("KeyMetadata").Map()
	out.Key("AWSAccountId").Str(s.opt.AccountID)
	out.Key("KeyId").Str(k.ID)
	out.Key("Arn").Str(s.keyARN(k.ID))
	out.Key("CreationDate").Time(k.Created)
	out.Key("Enabled").Bool(k.state() == "Enabled")
	out.Key("Description").Str(k.Description)
	spec, usage, algorithms, algorithm := symmetric, "ENCRYPT_DECRYPT", "EncryptionAlgorithms", symmetric
	if k.Spec != "" {
		spec, usage, algorithms, algorithm = k.Spec, signVerify, "SigningAlgorithms", ecdsaSHA256
	}
	out.Key("KeyUsage").Str(usage)
	out.Key("KeyState").Str(k.state())
	if !k.Deletion.IsZero() {
		out.Key("DeletionDate").Time(k.Deletion)
	}
	out.Key("Origin").Str("AWS_KMS")
	out.Key("KeyManager").Str("CUSTOMER")
	out.Key("CustomerMasterKeySpec").Str(spec)
	out.Key("KeySpec").Str(spec)
	out.Key(algorithms).List().Str(algorithm).EndList()
	out.Key("MultiRegion").Bool(false)
	out.EndMap()
}

func (s *Service) listKeys(c operation.Call, out *wire.Writer) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var ids []string
	for id := range s.keys {
		if s.live(id, c.Now) != nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	ids, marker, err := page(ids, c, 100)
	if err != nil {
		return err
	}
	out.Map().Key("Keys").List()
	for _, id := range ids {
		out.Map().Key("KeyId").Str(id).Key("KeyArn").Str(s.keyARN(id)).EndMap()
	}
	out.EndList()
	writePage(out, marker)
	out.EndMap()
	return nil
}

// page cuts a sorted list at the call's Marker and Limit; marker is where the next page begins, if there is one.
func page(names []string, c operation.Call, limit int64) (cut []string, marker string, err error) {
	if c.Has("Marker") {
		after, err := hex.DecodeString(c.Str("Marker"))
		if err != nil {
			return nil, "", wire.Errorf("InvalidMarkerException", "Could not deserialize marker '%s'", c.Str("Marker"))
		}
		i, found := slices.BinarySearch(names, string(after))
		if found {
			i++
		}
		names = names[i:]
	}
	n := int(c.Int("Limit", limit))
	if len(names) <= n {
		return names, "", nil
	}
	return names[:n], hex.EncodeToString([]byte(names[n-1])), nil
}

func writePage(out *wire.Writer, marker string) {
	out.Key("Truncated").Bool(marker != "")
	if marker != "" {
		out.Key("NextMarker").Str(marker)
	}
}
