// SPDX-License-Identifier: Apache-2.0

package gates

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dkms-go/internal/action"
	"dkms-go/internal/cli"
)

// exitCodes lists the codes of the table, 0 and those of the command line.
func exitCodes() []string {
	list := []string{"0"}
	for _, row := range cli.ExitTable() {
		if row.Code >= 0 {
			list = append(list, strconv.Itoa(row.Code))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// TestExitCodes holds docs/exit-codes.md against the table: every code, with
// the words of each of its reasons.
func TestExitCodes(t *testing.T) {
	page := read(t, "docs/exit-codes.md")
	difference(t, "docs/exit-codes.md", exitCodes(), all(`(?m)^\| ([0-9]+) \|`, page))
	for _, row := range cli.ExitTable() {
		if !strings.Contains(page, row.Words) {
			t.Errorf("docs/exit-codes.md doesn't say %q (code %d)", row.Words, row.Code)
		}
	}
}

// outcome matches a script's line that says how dkms ends, with the reason
// that it shows.
var outcome = regexp.MustCompile(`(?m)^(?:\[[^\]]*\] *)?(?:dkms|interrupt|run) ([0-9]+)(?: .*?)?(?:# reason: ([A-Za-z]+))?$`)

// TestExitCodesHappen wants a script that ends with each code, and for each
// reason in the table a line "dkms CODE arguments # reason: NAME".
func TestExitCodesHappen(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join(top(t), "test", "scripts", "testdata", "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	names := reasonNames(t)
	codes, shown := map[string]bool{}, map[string]bool{}
	for _, path := range scripts {
		rel, err := filepath.Rel(top(t), path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range outcome.FindAllStringSubmatch(read(t, rel), -1) {
			codes[m[1]] = true
			if m[2] == "" {
				continue
			}
			reason := slices.Index(names, m[2])
			if reason < 0 {
				t.Errorf("%s: there is no reason %s", rel, m[2])
				continue
			}
			if want := codeOf(action.Reason(reason)); want >= 0 && strconv.Itoa(want) != m[1] {
				t.Errorf("%s: %s has code %d, not %s", rel, m[2], want, m[1])
			}
			shown[m[2]] = true
		}
	}
	for _, code := range exitCodes() {
		if !codes[code] {
			t.Errorf("no script in test/scripts/testdata ends with exit code %s", code)
		}
	}
	for _, row := range cli.ExitTable() {
		if name := names[row.Reason]; !shown[name] {
			t.Errorf("no script in test/scripts/testdata has a line with \"# reason: %s\" (%s)", name, row.Words)
		}
	}
}

// codeOf returns a reason's code, -1 if it has no fixed one.
func codeOf(r action.Reason) int {
	for _, row := range cli.ExitTable() {
		if row.Reason == r {
			return row.Code
		}
	}
	return -1
}

// reasonNames lists the constants of action.Reason by their values.
func reasonNames(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(top(t), "internal", "action", "failure.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		var names []string
		for _, s := range g.Specs {
			names = append(names, s.(*ast.ValueSpec).Names[0].Name)
		}
		return names
	}
	t.Fatal("internal/action/failure.go has no constants")
	return nil
}
