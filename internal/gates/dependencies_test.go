// SPDX-License-Identifier: Apache-2.0

package gates

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDependencies wants a reason for each module that the code imports, and those
// that only tests need apart from the others.
func TestDependencies(t *testing.T) {
	mod := read(t, "go.mod")
	if regexp.MustCompile(`(?m)^\s*replace\b`).MatchString(mod) {
		t.Error("go.mod replaces a module; others who build this would get another one")
	}
	page := read(t, "docs/dependencies.md")
	inProgram, inTests := importedModules(t, required(mod))
	for _, m := range required(mod) {
		heading := "## In the program"
		switch {
		case slices.Contains(inProgram, m):
		case slices.Contains(inTests, m):
			heading = "## In tests only"
		default:
			continue // needed by one of the others
		}
		if !strings.Contains(section(page, heading), "`"+m+"`") {
			t.Errorf("docs/dependencies.md gives no reason for %s under %q", m, heading)
		}
	}
	for _, name := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(page, -1) {
		if strings.Contains(name[1], "/") && !slices.Contains(required(mod), name[1]) {
			t.Errorf("docs/dependencies.md names %s, which go.mod doesn't", name[1])
		}
	}
}

// required lists the modules that go.mod requires.
func required(mod string) []string {
	var list []string
	for _, m := range regexp.MustCompile(`(?m)^(?:require)?\s+([a-z0-9.-]+\.[a-z]+/\S+) v`).FindAllStringSubmatch(mod, -1) {
		list = append(list, m[1])
	}
	return list
}

// importedModules sorts the modules that the code imports.
func importedModules(t *testing.T, modules []string) (inProgram, inTests []string) {
	for _, s := range sources(t) {
		for _, spec := range s.ast.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			for _, m := range modules {
				if path != m && !strings.HasPrefix(path, m+"/") {
					continue
				}
				if s.isTest() || s.lab() {
					inTests = append(inTests, m)
				} else {
					inProgram = append(inProgram, m)
				}
			}
		}
	}
	return inProgram, inTests
}

// section returns the text between a heading of a page and the next one of
// the same or a higher level.
func section(page, heading string) string {
	_, after, found := strings.Cut("\n"+page, "\n"+heading+"\n")
	if !found {
		return ""
	}
	level := strings.Count(strings.SplitN(heading, " ", 2)[0], "#")
	end := regexp.MustCompile(`(?m)^#{1,` + itoa(level) + `} `).FindStringIndex(after)
	if end == nil {
		return after
	}
	return after[:end[0]]
}
