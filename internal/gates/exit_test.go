// SPDX-License-Identifier: Apache-2.0

package gates

import (
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

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

// TestExitCodesHappen wants a script that ends with each code: a line
// "dkms CODE arguments" in one of the script tests.
func TestExitCodesHappen(t *testing.T) {
	scripts, _ := filepath.Glob(filepath.Join(top(t), "test", "scripts", "testdata", "*.txtar"))
	// awaited are the codes whose script is still to be written.
	awaited := []string{"10", "101", "14", "16", "7", "77", "8", "9"}
	var text strings.Builder
	for _, path := range scripts {
		rel, err := filepath.Rel(top(t), path)
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(read(t, rel))
	}
	for _, code := range exitCodes() {
		if !regexp.MustCompile(`(?m)^(?:\[[^\]]*\] *)?dkms ` + code + `( |$)`).MatchString(text.String()) {
			if !slices.Contains(awaited, code) {
				t.Errorf("no script in test/scripts/testdata ends with exit code %s", code)
			}
		} else if slices.Contains(awaited, code) {
			t.Logf("exit code %s has a script now: no need to await it", code)
		}
	}
}
