package kms

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/weir-das/weir/pkg/localaws/internal/operation"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

const (
	aliasPrefix    = "alias/"
	reservedPrefix = "alias/aws/"
)

// An alias is a second name of a key.
type alias struct {
	Name    string
	Target  string // a key's id
	Created time.Time
	Updated time.Time
}

var aliasRE = regexp.MustCompile(`^[a-zA-Z0-9:/_-]+$`)

// aliasName is the call's alias, if it is one that customers may have.
func aliasName(c operation.Call) (string, error) { return customerAlias(c.Str("AliasName")) }

func customerAlias(name string) (string, error) {
	switch {
	case !aliasRE.MatchString(name):
		return "", wire.Errorf("ValidationException", "1 validation error detected: Value '%s' at 'aliasName' failed to satisfy constraint: "+
			"Member must satisfy regular expression pattern: %s", name, aliasRE)
	case strings.HasPrefix(name, reservedPrefix):
		return "", wire.Errorf("NotAuthorizedException", "Aliases that begin with %s are reserved.", reservedPrefix)
	case !strings.HasPrefix(name, aliasPrefix) || name == aliasPrefix:
		return "", wire.Errorf("ValidationException", "Invalid identifier")
	case strings.Contains(name, ":"):
		return "", wire.Errorf("ValidationException", "%s contains invalid characters for an alias", name)
	}
	return name, nil
}

func (s *Service) createAlias(c operation.Call, _ *wire.Writer) error {
	name, err := aliasName(c)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.aliases[name]; old != nil && s.live(old.Target, c.Now) != nil {
		return wire.Errorf("AlreadyExistsException", "An alias with the name %s already exists", s.arn(name))
	}
	return s.pointAlias(c, name, c.Now.UTC())
}

// EnsureAlias makes a key with the alias name, "alias/…", unless there is an alias of that name already: then its key is
// right, whatever its state. For those who serve the endpoint and know no client that would make one.
func (s *Service) EnsureAlias(name string) error {
	if _, err := customerAlias(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UTC()
	if a := s.aliases[name]; a != nil && s.live(a.Target, now) != nil {
		return nil
	}
	k := newKey(now)
	old := s.aliases[name]
	s.keys[k.ID] = k
	s.aliases[name] = &alias{Name: name, Target: k.ID, Created: now, Updated: now}
	if err := s.save(); err != nil {
		delete(s.keys, k.ID)
		if s.aliases[name] = old; old == nil {
			delete(s.aliases, name)
		}
		return err
	}
	return nil
}

func (s *Service) updateAlias(c operation.Call, _ *wire.Writer) error {
	name, err := aliasName(c)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.alias(name, c.Now)
	if err != nil {
		return err
	}
	return s.pointAlias(c, name, old.Created)
}

// pointAlias makes name an alias of the call's target. The service is locked.
func (s *Service) pointAlias(c operation.Call, name string, created time.Time) error {
	target := c.Str("TargetKeyId")
	if resource, err := s.resource(target); err == nil && strings.HasPrefix(resource, aliasPrefix) {
		return wire.Errorf("ValidationException", "Aliases must refer to keys. Not aliases")
	}
	k, err := s.find(target, c.Now)
	if err != nil {
		return err
	}
	if err := s.pendingDeletion(k); err != nil {
		return err
	}
	old := s.aliases[name]
	if old == nil && len(s.aliases) >= maxKeys {
		return wire.Errorf("LimitExceededException", "This local endpoint keeps %d aliases.", maxKeys)
	}
	s.aliases[name] = &alias{Name: name, Target: k.ID, Created: created, Updated: c.Now.UTC()}
	if err := s.save(); err != nil {
		if s.aliases[name] = old; old == nil {
			delete(s.aliases, name)
		}
		return err
	}
	return nil
}

// alias is the alias of that name. The service is locked.
func (s *Service) alias(name string, now time.Time) (*alias, error) {
	a := s.aliases[name]
	if a == nil || s.live(a.Target, now) == nil {
		return nil, wire.Errorf("NotFoundException", "Alias %s is not found.", s.arn(name))
	}
	return a, nil
}

func (s *Service) deleteAlias(c operation.Call, _ *wire.Writer) error {
	name, err := aliasName(c)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.alias(name, c.Now)
	if err != nil {
		return err
	}
	delete(s.aliases, name)
	if err := s.save(); err != nil {
		s.aliases[name] = old
		return err
	}
	return nil
}

func (s *Service) listAliases(c operation.Call, out *wire.Writer) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	of := ""
	if c.Has("KeyId") {
		k, err := s.findByID(c.Str("KeyId"), c.Now)
		if err != nil {
			return err
		}
		of = k.ID
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(s.aliases)), func(name string) bool {
		target := s.aliases[name].Target
		return s.live(target, c.Now) == nil || of != "" && target != of
	})
	names, marker, err := page(names, c, 50)
	if err != nil {
		return err
	}
	out.Map().Key("Aliases").List()
	for _, name := range names {
		a := s.aliases[name]
		out.Map().Key("AliasName").Str(name).Key("AliasArn").Str(s.arn(name)).Key("TargetKeyId").Str(a.Target)
		out.Key("CreationDate").Time(a.Created).Key("LastUpdatedDate").Time(a.Updated).EndMap()
	}
	out.EndList()
	writePage(out, marker)
	out.EndMap()
	return nil
}
