// SPDX-License-Identifier: Apache-2.0

package gates

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/action"
	"dkms-go/internal/cli"
)

// TestJSONFields wants every field and schema of what is written as JSON on
// the page that describes it.
func TestJSONFields(t *testing.T) {
	pages := map[string]string{
		"internal/cli/print.go":         "docs/json.md",
		"internal/cli/verify.go":        "docs/json.md",
		"internal/cli/ready.go":         "docs/json.md",
		"internal/cli/preflight.go":     "docs/json.md",
		"internal/cli/explain.go":       "docs/json.md",
		"internal/cli/matrix.go":        "docs/json.md",
		"internal/cli/doctor.go":        "docs/json.md",
		"internal/cli/fsck.go":          "docs/json.md",
		"internal/cli/lint.go":          "docs/json.md",
		"internal/cli/pack.go":          "docs/json.md",
		"internal/finding/finding.go":   "docs/json.md",
		"internal/cli/cache.go":         "docs/json.md",
		"internal/cli/autoload.go":      "docs/json.md",
		"internal/cli/result.go":        "docs/json.md",
		"internal/cli/key.go":           "docs/json.md",
		"internal/hubcli/hubcli.go":     "docs/json.md",
		"internal/cli/hub.go":           "docs/json.md",
		"internal/state/outcome.go":     "docs/on-disk.md",
		"internal/state/result.go":      "docs/on-disk.md",
		"internal/kernel/identity.go":   "docs/on-disk.md",
		"internal/cli/log.go":           "docs/json.md",
		"internal/diagnose/diagnose.go": "docs/json.md",
	}
	for file, page := range pages {
		text := read(t, page)
		fields := all("json:\"([a-z_0-9]+)[,\"]", read(t, filepath.FromSlash(file)))
		if len(fields) == 0 {
			t.Errorf("%s has no JSON fields; has it moved?", file)
		}
		for _, f := range fields {
			if !strings.Contains(text, "`"+f+"`") {
				t.Errorf("%s doesn't describe the field %s of %s", page, f, file)
			}
		}
	}
}

// documents lists the schemas that the program names, such as dkms-status/1.
func documents(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, s := range program(t) {
		list = append(list, all(`"(dkms-[a-z]+/[0-9]+)"`, s.text)...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// TestSchemas wants a schema and a section for each document that the program prints,
// and no others.
func TestSchemas(t *testing.T) {
	names := documents(t)
	page := read(t, "docs/json.md")
	difference(t, "docs/json.md, sections", names, all(`(?m)^## (dkms-[a-z]+/[0-9]+)$`, page))
	files, err := filepath.Glob(filepath.Join(top(t), "docs", "schema", "dkms-*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for _, path := range files {
		file := filepath.Base(path)
		text := read(t, "docs/schema/"+file)
		i := strings.LastIndex(file, "-")
		name := file[:i] + "/" + strings.TrimSuffix(file[i+1:], ".json")
		there = append(there, name)
		if !strings.Contains(text, `"const": "`+name+`"`) {
			t.Errorf("docs/schema/%s isn't the schema of %s", file, name)
		}
	}
	difference(t, "docs/schema", names, there)
}

// TestJSONIsTried wants a script that has each action print JSON: scripts hold that
// against the schema.
func TestJSONIsTried(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join(top(t), "test", "scripts", "testdata", "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	tried := map[string]bool{}
	for _, path := range scripts {
		for _, name := range all(`(?m)^(?:\[!peer\] )?(?:dkms [0-9]+|works|fails [0-9]+) ([a-z_]+) (?:[^\n]* )?--json\b`, read(t, "test/scripts/testdata/"+filepath.Base(path))) {
			tried[name] = true
		}
	}
	for _, v := range cli.Verbs() {
		if slices.Contains(v.Options, "--json") && !tried[v.Name] {
			t.Errorf("no script has %s print JSON", v.Name)
		}
	}
}

// TestReasonWords wants the word of each reason to be its name, and docs/exit-codes.md
// to list it.
func TestReasonWords(t *testing.T) {
	var rows []string
	for i, name := range reasonNames(t) {
		r := action.Reason(i)
		if got, want := strings.ReplaceAll(r.String(), "-", ""), strings.ToLower(name); got != want {
			t.Errorf("the word of %s is %q", name, r)
		}
		code := "*n*"
		if c := codeOf(r); c >= 0 {
			code = itoa(c)
		}
		rows = append(rows, r.String()+" "+code)
	}
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| ([0-9]+|\\*n\\*) \\|$").FindAllStringSubmatch(section(read(t, "docs/exit-codes.md"), "## Words"), -1) {
		listed = append(listed, m[1]+" "+m[2])
	}
	difference(t, "docs/exit-codes.md, words", rows, listed)
}

// TestJournalPage holds docs/journal.md against the kinds of entries.
func TestJournalPage(t *testing.T) {
	var kinds []string
	for _, k := range action.JournalKinds() {
		word := k.Action
		if word == "" {
			word = "any"
		}
		kinds = append(kinds, k.ID+" "+word+" "+string(k.Ending))
	}
	var rows []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([0-9a-f]{32})` \\| ([a-z]+) \\| ([a-z]+) \\|$").FindAllStringSubmatch(read(t, "docs/journal.md"), -1) {
		rows = append(rows, strings.Join(m[1:], " "))
	}
	difference(t, "docs/journal.md", kinds, rows)
	fields := all(`Name: "([A-Z_]+)"`, read(t, "internal/action/journal.go"))
	difference(t, "docs/journal.md, fields", fields, all("`((?:DKMS|MESSAGE|PRIORITY|SYSLOG)[A-Z_]*)`", section(read(t, "docs/journal.md"), "## Fields")))
}

// TestMetricsPage holds docs/metrics.md against the table of metrics.
func TestMetricsPage(t *testing.T) {
	var names []string
	for _, m := range cli.MetricTable() {
		names = append(names, m.Name)
	}
	difference(t, "docs/metrics.md", names, all("(?m)^\\| `(dkms_[a-z_]+)` \\|", read(t, "docs/metrics.md")))
}
