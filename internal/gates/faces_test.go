// SPDX-License-Identifier: Apache-2.0

package gates

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dkms-go/internal/action"
	"dkms-go/internal/cli"
	"dkms-go/internal/lint"
)

// spellings returns all spellings of the options: old ones on demand.
func spellings(old bool) []string {
	var list []string
	for _, o := range cli.Options() {
		if o.Old && !old {
			continue
		}
		for _, s := range []string{o.Short, o.Long} {
			if s != "" {
				list = append(list, s)
			}
		}
	}
	slices.Sort(list)
	return list
}

// spelled returns the spellings of an option of the table.
func spelled(t *testing.T, name string) []string {
	t.Helper()
	for _, o := range cli.Options() {
		if o.Name() == name {
			return slices.DeleteFunc([]string{o.Short, o.Long}, func(s string) bool { return s == "" })
		}
	}
	t.Fatalf("the table of options has no %s", name)
	return nil
}

// own returns the spellings of the options that an action has for itself.
func own(t *testing.T, v cli.Verb) []string {
	var list []string
	for _, name := range v.Options {
		list = append(list, spelled(t, name)...)
	}
	slices.Sort(list)
	return list
}

// common returns the spellings of the options that no action has for itself.
func common(t *testing.T) []string {
	list := spellings(false)
	for _, v := range cli.Verbs() {
		list = slices.DeleteFunc(list, func(s string) bool { return slices.Contains(own(t, v), s) })
	}
	return list
}

func actions() []string {
	var list []string
	for _, v := range cli.Verbs() {
		list = append(list, v.Name)
	}
	slices.Sort(list)
	return list
}

// all returns the first group of every match, sorted, each once.
func all(expression, text string) []string {
	var list []string
	for _, m := range regexp.MustCompile(expression).FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// TestManual holds dkms(8) against the tables.
func TestManual(t *testing.T) {
	page := strings.ReplaceAll(read(t, "man/dkms.8.scd"), `\`, "")
	difference(t, "dkms(8), actions", actions(), all(`(?m)^\*([a-z_]+)\*`, section(page, "# ACTIONS")))
	var options []string
	for _, line := range strings.Split(section(page, "# OPTIONS"), "\n") {
		if strings.HasPrefix(line, "*-") {
			options = append(options, all(`\*(-[^*=]+)\*`, line)...)
		}
	}
	difference(t, "dkms(8), options", spellings(true), options)
	codes := all(`(?m)^\*([0-9]+)\*`, section(page, "# EXIT STATUS"))
	difference(t, "dkms(8), exit codes", exitCodes(), codes)
}

// TestCommands holds docs/commands.md against the tables.
func TestCommands(t *testing.T) {
	page := read(t, "docs/commands.md")
	difference(t, "docs/commands.md, actions", actions(), all("(?m)^### ([a-z_]+)$", page))
	options := "(?m)^\\| (`-.*?`) \\|"
	for _, v := range cli.Verbs() {
		text := section(page, "### "+v.Name)
		difference(t, "docs/commands.md, options of "+v.Name, own(t, v), cells(options, text))
		var codes []string
		for _, row := range cli.ExitTable() {
			if slices.Contains(v.Codes, row.Reason) && row.Code >= 0 {
				codes = append(codes, strconv.Itoa(row.Code))
			}
		}
		for _, code := range codes {
			if !regexp.MustCompile(`(?m)^Exit codes: .*\b` + code + `\b`).MatchString(text) {
				t.Errorf("docs/commands.md, exit codes of %s: %s is missing", v.Name, code)
			}
		}
	}
	difference(t, "docs/commands.md, common options", common(t), cells(options, section(page, "## Options of every action")))
	for _, o := range cli.Options() {
		if o.Old && !strings.Contains(page, "`"+o.Long+"`") {
			t.Errorf("docs/commands.md doesn't name %s", o.Long)
		}
	}
}

// cells returns the options in the first cells of a table's rows.
func cells(expression, text string) []string {
	var list []string
	for _, cell := range all(expression, text) {
		list = append(list, all("`(--?[a-zA-Z_-]+)", cell)...)
	}
	return list
}

// TestBashCompletion reads the lists of the script.
func TestBashCompletion(t *testing.T) {
	lists(t, "completions/dkms.bash", `(?m)^ *([a-z_]+)\) echo "([^"]*)" ;;$`, `(?m)^ *\*\) echo "([^"]*)" ;;$`)
}

// TestZshCompletion reads the lists of the script, and the table of what
// options mean.
func TestZshCompletion(t *testing.T) {
	const path = "completions/_dkms"
	lists(t, path, `(?m)^ *([a-z_]+)\) reply=\(([^)]*)\) ;;$`, `(?m)^ *\*\) reply=\(([^)]*)\) ;;$`)
	text := read(t, path)
	difference(t, path+", actions described", actions(), all(`(?m)^ *'([a-z_]+):`, text))
	difference(t, path+", options described", spellings(false), all(`(?m)^ *(--?[a-zA-Z_-]+) '`, text))
}

// lists compares the lists of options per action in a script with the tables.
// each matches an action and its options, rest what all actions have.
func lists(t *testing.T, path, each, rest string) {
	t.Helper()
	text := read(t, path)
	found := map[string][]string{}
	for _, m := range regexp.MustCompile(each).FindAllStringSubmatch(text, -1) {
		found[m[1]] = strings.Fields(m[2])
	}
	difference(t, path+", actions", actions(), sortedKeys(found))
	for _, v := range cli.Verbs() {
		difference(t, path+", options of "+v.Name, own(t, v), found[v.Name])
	}
	m := regexp.MustCompile(rest).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("%s has no list of the options that all actions have", path)
	}
	difference(t, path+", common options", common(t), strings.Fields(m[1]))
}

// TestFishCompletion reads the complete commands of the script.
func TestFishCompletion(t *testing.T) {
	const path = "completions/dkms.fish"
	found, everywhere := map[string][]string{}, []string{}
	var named []string
	for _, line := range strings.Split(read(t, path), "\n") {
		if !strings.HasPrefix(line, "complete -c dkms ") {
			continue
		}
		named = append(named, all(`^complete -c dkms -f -n __dkms_no_action -a ([a-z_]+) `, line)...)
		var options []string
		for _, s := range all(` -s ([a-zA-Z])\b`, line) {
			options = append(options, "-"+s)
		}
		for _, l := range all(` -l ([a-z_-]+)\b`, line) {
			options = append(options, "--"+l)
		}
		only := regexp.MustCompile(`-n '__dkms_action ([a-z_ ]+)'`).FindStringSubmatch(line)
		if only == nil {
			everywhere = append(everywhere, options...)
			continue
		}
		for _, action := range strings.Fields(only[1]) {
			found[action] = append(found[action], options...)
		}
	}
	difference(t, path+", actions", actions(), named)
	difference(t, path+", common options", common(t), everywhere)
	for _, v := range cli.Verbs() {
		difference(t, path+", options of "+v.Name, own(t, v), found[v.Name])
	}
}

// TestCheckTables holds the tables of docs/fsck.md and docs/lint.md against the
// checks and their severities.
func TestCheckTables(t *testing.T) {
	rows := map[string][]string{}
	for _, c := range action.FsckChecks() {
		rows["docs/fsck.md"] = append(rows["docs/fsck.md"], string(c.Name)+" "+c.Severity.String())
	}
	for _, r := range lint.Rules() {
		rows["docs/lint.md"] = append(rows["docs/lint.md"], r.Name+" "+r.Severity.String())
	}
	for path, want := range rows {
		var got []string
		for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (note|warning|error) \\|").FindAllStringSubmatch(read(t, path), -1) {
			got = append(got, m[1]+" "+m[2])
		}
		difference(t, path, want, got)
	}
}
