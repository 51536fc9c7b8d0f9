package pgauditlog_test

import (
	"testing"

	"github.com/weir-das/weir/pkg/service"
	"github.com/weir-das/weir/services/capture/internal/pgauditlog"
)

// A configuration without the section is one with its keys' defaults, and is
// right: it follows no log.
func TestTheSectionMayBeLeftOut(t *testing.T) {
	for name, c := range map[string]pgauditlog.Config{"a file without it": service.Default[pgauditlog.Config](), "nothing at all": {}} {
		if err := c.Validate(); err != nil || c.On() {
			t.Errorf("%s: Validate = %v, on %v, want nothing wrong, and off", name, err, c.On())
		}
	}
}
