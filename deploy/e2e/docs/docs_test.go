// Package docs_test holds the documents against the repository: what they name exists. A promise whose test was renamed
// looks like a promise that is kept.
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../../.."

// documents are README.md, CONTRIBUTING.md, all that is in docs, and the READMEs of services and deploy.
func documents(t *testing.T) []document {
	var docs []document
	for name := range tree(t) {
		room, _, _ := strings.Cut(name, "/")
		readme := filepath.Base(name) == "README.md" && (room == "services" || room == "deploy")
		if name != "README.md" && name != "CONTRIBUTING.md" && !(room == "docs" && strings.HasSuffix(name, ".md")) && !readme {
			continue
		}
		docs = append(docs, read(t, name))
	}
	if len(docs) < 10 {
		t.Fatalf("%d documents found; this looks in the wrong place", len(docs))
	}
	slices.SortFunc(docs, func(a, b document) int { return strings.Compare(a.name, b.name) })
	return docs
}

// document is one file: its lines, and of each what is code, in backquotes or in a block.
type document struct {
	name  string
	lines []string
	code  [][]string
	block []bool // whether the line is in a block
}

var quoted = regexp.MustCompile("`([^`]+)`")

func read(t *testing.T, name string) document {
	d := document{name: name, lines: strings.Split(content(t, name), "\n")}
	inBlock := false
	for _, line := range d.lines {
		var code []string
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence:
			inBlock = !inBlock
		case inBlock:
			code = []string{line}
		default:
			for _, m := range quoted.FindAllStringSubmatch(line, -1) {
				code = append(code, m[1])
			}
		}
		d.code, d.block = append(d.code, code), append(d.block, inBlock)
	}
	return d
}

func content(t *testing.T, name string) string {
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// tree is every file and directory of the repository by its path, without what is built or downloaded.
func tree(t *testing.T) map[string]bool {
	paths := make(map[string]bool)
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || name == "." {
			return err
		}
		if slices.Contains([]string{".git", ".bin", ".weir", "bin", "build", "certs", "node_modules"}, e.Name()) {
			if e.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		paths[filepath.ToSlash(name)] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
