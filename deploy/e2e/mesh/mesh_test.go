package mesh_test

import (
	"os"
	"testing"

	"github.com/weir-das/weir/deploy/e2e/mesh"
)

// script writes a file for pgbench.
func script(t *testing.T, m *mesh.Mesh, text string) string {
	t.Helper()
	path := m.Path("script.sql")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
