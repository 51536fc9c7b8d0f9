package kms

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-das/weir/pkg/localaws/internal/operation"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

const day = 24 * time.Hour

// change finds a key for administration, alters it and saves. A change that could not be saved is not made.
func (s *Service) change(c operation.Call, alter func(*key) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.findByID(c.Str("KeyId"), c.Now)
	if err != nil {
		return err
	}
	old := *k
	if err := alter(k); err != nil {
		return err
	}
	if err := s.save(); err != nil {
		*k = old
		return err
	}
	return nil
}

func (s *Service) pendingDeletion(k *key) error {
	if k.Deletion.IsZero() {
		return nil
	}
	return wire.Errorf("KMSInvalidStateException", "%s is pending deletion.", s.keyARN(k.ID))
}

func (s *Service) setEnabled(c operation.Call, on bool) error {
	return s.change(c, func(k *key) error {
		if err := s.pendingDeletion(k); err != nil {
			return err
		}
		k.Enabled = on
		return nil
	})
}

func (s *Service) enableKey(c operation.Call, _ *wire.Writer) error  { return s.setEnabled(c, true) }
func (s *Service) disableKey(c operation.Call, _ *wire.Writer) error { return s.setEnabled(c, false) }

func (s *Service) scheduleDeletion(c operation.Call, out *wire.Writer) error {
	days := c.Int("PendingWindowInDays", 30)
	if days < 7 || days > 30 {
		return wire.Errorf("ValidationException", "1 validation error detected: Value '%d' at 'pendingWindowInDays' failed to satisfy constraint: "+
			"Member must have value between 7 and 30", days)
	}
	return s.change(c, func(k *key) error {
		if err := s.pendingDeletion(k); err != nil {
			return err
		}
		k.Deletion = c.Now.UTC().Add(time.Duration(days) * day)
		k.Enabled = false // a cancelled deletion leaves the key disabled
		out.Map().Key("KeyId").Str(s.keyARN(k.ID))
		out.Key("DeletionDate").Time(k.Deletion)
		out.Key("KeyState").Str(k.state())
		out.Key("PendingWindowInDays").Int(days)
		out.EndMap()
		return nil
	})
}

func (s *Service) cancelDeletion(c operation.Call, out *wire.Writer) error {
	return s.change(c, func(k *key) error {
		if k.Deletion.IsZero() {
			return wire.Errorf("KMSInvalidStateException", "%s is not pending deletion.", s.keyARN(k.ID))
		}
		k.Deletion = time.Time{}
		out.Map().Key("KeyId").Str(s.keyARN(k.ID)).EndMap()
		return nil
	})
}

func (s *Service) updateDescription(c operation.Call, _ *wire.Writer) error {
	return s.change(c, func(k *key) error {
		if err := s.pendingDeletion(k); err != nil {
			return err
		}
		k.Description = c.Str("Description")
		return nil
	})
}

// defaultPolicy is what AWS gives a key made without one.
func (s *Service) defaultPolicy() string {
	return strings.ReplaceAll(`{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::ACCOUNT:root"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`, "ACCOUNT", s.opt.AccountID)
}

// policyIsDefault refuses any policy name but the only one there is.
func policyIsDefault(c operation.Call) error {
	if name := c.Str("PolicyName"); name != "" && name != "default" {
		return wire.Errorf("NotFoundException", "No such policy exists")
	}
	return nil
}

// look finds a key for administration without changing it.
func (s *Service) look(c operation.Call, do func(*key) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	k, err := s.findByID(c.Str("KeyId"), c.Now)
	if err != nil {
		return err
	}
	return do(k)
}

func (s *Service) getPolicy(c operation.Call, out *wire.Writer) error {
	return s.look(c, func(k *key) error {
		if err := policyIsDefault(c); err != nil {
			return err
		}
		policy := k.Policy
		if policy == "" {
			policy = s.defaultPolicy()
		}
		out.Map().Key("Policy").Str(policy).Key("PolicyName").Str("default").EndMap()
		return nil
	})
}

func (s *Service) putPolicy(c operation.Call, _ *wire.Writer) error {
	return s.change(c, func(k *key) error {
		if err := policyIsDefault(c); err != nil {
			return err
		}
		if err := s.pendingDeletion(k); err != nil {
			return err
		}
		k.Policy = c.Str("Policy")
		return nil
	})
}

func (s *Service) listPolicies(c operation.Call, out *wire.Writer) error {
	return s.look(c, func(*key) error {
		out.Map().Key("PolicyNames").List().Str("default").EndList().Key("Truncated").Bool(false).EndMap()
		return nil
	})
}

func (s *Service) rotationStatus(c operation.Call, out *wire.Writer) error {
	return s.look(c, func(k *key) error {
		out.Map().Key("KeyId").Str(s.keyARN(k.ID)).Key("KeyRotationEnabled").Bool(false).EndMap()
		return s.pendingDeletion(k)
	})
}

func tagsOf(in wire.Input) map[string]string {
	tags := map[string]string{}
	for i := range in.Len("Tags") {
		t := in.At("Tags", i)
		tags[t.Str("TagKey")] = t.Str("TagValue")
	}
	return tags
}

const maxTags = 50

func (s *Service) tagResource(c operation.Call, _ *wire.Writer) error {
	return s.change(c, func(k *key) error {
		all := maps.Clone(k.Tags)
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, tagsOf(c.Input))
		if len(all) > maxTags {
			return wire.Errorf("LimitExceededException", "Too many tags")
		}
		if err := s.pendingDeletion(k); err != nil {
			return err
		}
		k.Tags = all
		return nil
	})
}

func (s *Service) untagResource(c operation.Call, _ *wire.Writer) error {
	return s.change(c, func(k *key) error {
		if err := s.pendingDeletion(k); err != nil {
			return err
		}
		k.Tags = maps.Clone(k.Tags)
		for _, name := range c.Strs("TagKeys") {
			delete(k.Tags, name)
		}
		return nil
	})
}

func (s *Service) listResourceTags(c operation.Call, out *wire.Writer) error {
	return s.look(c, func(k *key) error {
		names, marker, err := page(slices.Sorted(maps.Keys(k.Tags)), c, maxTags)
		if err != nil {
			return err
		}
		out.Map().Key("Tags").List()
		for _, name := range names {
			out.Map().Key("TagKey").Str(name).Key("TagValue").Str(k.Tags[name]).EndMap()
		}
		out.EndList()
		writePage(out, marker)
		out.EndMap()
		return nil
	})
}
