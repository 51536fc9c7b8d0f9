package registry

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/weir-das/weir/pkg/fault"
)

// maxID is RDS's limit on the length of an identifier.
const maxID = 63

// resourceIDLen is how many characters follow cluster- and db-.
const resourceIDLen = 26

const (
	clusterPrefix  = "cluster-"
	instancePrefix = "db-"
)

// ClusterID checks a cluster's id and returns it as it is kept: RDS keeps
// identifiers in lower case, so that Orders and orders are one cluster.
func ClusterID(id string) (string, error) { return checkID("cluster_id", id) }

// InstanceID does the same for an instance's.
func InstanceID(id string) (string, error) { return checkID("instance_id", id) }

func checkID(field, id string) (string, error) {
	if len(id) == 0 || len(id) > maxID {
		return "", fault.As(fault.Invalid, fmt.Errorf("%s: %d characters, want 1 to %d letters, digits and hyphens", field, len(id), maxID))
	}
	for i := range len(id) {
		c := id[i]
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return "", fault.As(fault.Invalid, fmt.Errorf("%s %q: character %q at %d, want 1 to %d letters, digits and hyphens", field, id, c, i+1, maxID))
		}
	}
	return strings.ToLower(id), nil
}

// IsClusterResourceID reports whether s is a cluster's resource id. No cluster
// may be registered under such a name, for then GetCluster could mean two.
func IsClusterResourceID(s string) bool { return isResourceID(clusterPrefix, s) }

func isResourceID(prefix, s string) bool {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok || len(rest) != resourceIDLen {
		return false
	}
	for i := range len(rest) {
		if c := rest[i]; (c < 'A' || c > 'Z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// newResourceID makes a name that nobody had and nobody will have: 128 random
// bits and two that are zero, in base32.
func newResourceID(prefix string) string {
	var b [16]byte
	rand.Read(b[:]) // never returns an error: it crashes the process instead
	return prefix + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])
}
