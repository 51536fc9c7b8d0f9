package docs_test

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile(`\b((?:Test|Fuzz|Benchmark)[A-Z]\w*)(/[\w/]+)?`)
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z]\w*)\(`)
	literal  = regexp.MustCompile("\"([^\"\n]*)\"|`([^`]*)`")
	// A subtest may stand in italics behind its test, or behind the letter that a page gives the test: (S: *name*, *name*).
	italics = regexp.MustCompile("(?:`(Test\\w+)`|\\b([A-Z])): (\\*[^*]+\\*(?:, \\*[^*]+\\*)*)")
	letter  = regexp.MustCompile("\\b([A-Z]) is `(Test\\w+)`")
)

func TestTestsThatAreNamedExist(t *testing.T) {
	where := make(map[string][]string) // a test's name: the rooms that have one
	texts := make(map[string][]string) // a room: what its tests' source has in quotes
	for name := range tree(t) {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, room := content(t, name), path.Dir(name)
		for _, m := range testFunc.FindAllStringSubmatch(source, -1) {
			where[m[1]] = append(where[m[1]], room)
		}
		for _, m := range literal.FindAllStringSubmatch(source, -1) {
			texts[room] = append(texts[room], strings.ReplaceAll(m[1]+m[2], " ", "_"))
		}
	}
	// A subtest's name may be put together: it is enough that a text of its package begins so.
	has := func(test, sub string) bool {
		begins := func(text string) bool { return strings.HasPrefix(text, strings.ReplaceAll(sub, " ", "_")) }
		return slices.ContainsFunc(where[test], func(room string) bool { return slices.ContainsFunc(texts[room], begins) })
	}
	for _, d := range documents(t) {
		letters := make(map[string]string)
		for _, m := range letter.FindAllStringSubmatch(strings.Join(d.lines, "\n"), -1) {
			letters[m[1]] = m[2]
		}
		for i, line := range d.lines {
			for _, m := range testName.FindAllStringSubmatch(line, -1) {
				if len(where[m[1]]) == 0 {
					t.Errorf("%s:%d: there is no %s", d.name, i+1, m[1])
					continue
				}
				for _, sub := range strings.FieldsFunc(m[2], func(r rune) bool { return r == '/' }) {
					if !has(m[1], sub) {
						t.Errorf("%s:%d: %s has no %q", d.name, i+1, m[1], sub)
					}
				}
			}
			for _, m := range italics.FindAllStringSubmatch(line, -1) {
				test := m[1] + letters[m[2]]
				for _, sub := range strings.Split(strings.Trim(m[3], "*"), "*, *") {
					if sub = strings.TrimRight(sub, " …"); test != "" && !has(test, sub) {
						t.Errorf("%s:%d: %s has no %q", d.name, i+1, test, sub)
					}
				}
			}
		}
	}
}

var (
	command  = regexp.MustCompile(`(?:^|&&|;)\s*(?:[A-Z_]+=\S+\s+)*make(?:\s+([^#&;|]*))?(?:$|[#&;|])`)
	ruleName = regexp.MustCompile(`(?m)^([a-z0-9][\w.-]*)\s*:(?:[^=]|$)`)
)

func TestTargetsThatAreNamedExist(t *testing.T) {
	all := tree(t)
	for _, d := range documents(t) {
		for i := range d.lines {
			for _, code := range d.code[i] {
				for _, m := range command.FindAllStringSubmatch(code, -1) {
					// A block of a document that has a Makefile beside it is meant for that one.
					dir := "."
					if d.block[i] && all[path.Join(path.Dir(d.name), "Makefile")] {
						dir = path.Dir(d.name)
					}
					words := strings.Fields(m[1])
					for len(words) > 0 {
						word := words[0]
						words = words[1:]
						switch {
						case word == "-C" && len(words) > 0:
							dir, words = words[0], words[1:]
						case strings.HasPrefix(word, "-"), strings.Contains(word, "="):
						case !all[path.Join(dir, "Makefile")]:
							t.Errorf("%s:%d: make %s: there is no Makefile in %s", d.name, i+1, word, dir)
						case !slices.Contains(targets(t, path.Join(dir, "Makefile")), word):
							t.Errorf("%s:%d: make %s: there is no such target in %s", d.name, i+1, word, path.Join(dir, "Makefile"))
						}
					}
				}
			}
		}
	}
}

func targets(t *testing.T, makefile string) (names []string) {
	source := content(t, makefile)
	for _, m := range ruleName.FindAllStringSubmatch(source, -1) {
		names = append(names, m[1])
	}
	if strings.Contains(source, "include $(PGXS)") {
		names = append(names, "all", "install", "uninstall", "clean") // PostgreSQL's own
	}
	return names
}

var link = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	all := tree(t)
	for _, d := range documents(t) {
		for i, line := range d.lines {
			for _, m := range link.FindAllStringSubmatch(line, -1) {
				if !strings.Contains(m[1], "://") && !all[path.Join(path.Dir(d.name), m[1])] {
					t.Errorf("%s:%d: the link to %s leads nowhere", d.name, i+1, m[1])
				}
			}
		}
	}
}

var (
	onePath = regexp.MustCompile(`^[\w.-]+(?:/[\w.-]+)*/?$`)
	// In a block a path stands among other words; it is ours if it begins with a room of ours.
	inBlock = regexp.MustCompile(`(?:^|[\s"'=])((?:docs|deploy|pkg|proto|services)/[\w./-]*\w)`)
	ending  = regexp.MustCompile(`\.(?:c|h|go|md|proto|sql)$`)
	braces  = regexp.MustCompile(`\{([^{}]*)\}`)
)

func TestFilesThatAreNamedExist(t *testing.T) {
	all := tree(t)
	for _, d := range documents(t) {
		for i := range d.lines {
			for _, code := range d.code[i] {
				for _, name := range paths(code, d.block[i]) {
					if !exists(all, path.Dir(d.name), name) {
						t.Errorf("%s:%d: there is no %s", d.name, i+1, name)
					}
				}
			}
		}
	}
}

// paths are the names of files of the repository in a piece of code.
func paths(code string, block bool) (names []string) {
	if block {
		for _, m := range inBlock.FindAllStringSubmatch(code, -1) {
			names = append(names, m[1])
		}
		return names
	}
	if m := braces.FindStringSubmatchIndex(code); m != nil {
		for _, choice := range strings.Split(code[m[2]:m[3]], ",") {
			names = append(names, paths(code[:m[0]]+choice+code[m[1]:], block)...)
		}
		return names
	}
	first, _, several := strings.Cut(code, "/")
	ours := several && slices.Contains([]string{"..", "docs", "deploy", "pkg", "proto", "services", "engine", "internal", "design"}, first)
	if onePath.MatchString(code) && (ours || ending.MatchString(code)) {
		return []string{code}
	}
	return nil
}

// exists says whether a path leads there from the document or the root, or is the end of a path, as in `ring.h`.
func exists(all map[string]bool, dir, name string) bool {
	name = strings.TrimSuffix(name, "/")
	if all[path.Join(dir, name)] || all[path.Clean(name)] {
		return true
	}
	for p := range all {
		if strings.HasSuffix(p, "/"+name) {
			return true
		}
	}
	return false
}
