// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"dkms-go/test/docs"
)

// TestDocsParse parses each line of a block of the documentation that begins with
// dkms as the command line that it is: its action and its options must be known, and
// the action must have the options. test/docs runs those that people type.
func TestDocsParse(t *testing.T) {
	pages := []string{"README.md", "man/dkms.8.scd"}
	for _, pattern := range []string{"../../docs/*.md", "../../docs/guides/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range found {
			pages = append(pages, strings.TrimPrefix(page, "../../"))
		}
	}
	count := 0
	for _, page := range pages {
		for _, b := range docs.Blocks(t, page) {
			if path, _ := b.File(); path != "" || b.Info == "text" {
				continue
			}
			for _, l := range b.Lines {
				for _, words := range dkmsCalls(t, l) {
					count++
					if why := misread(words); why != "" {
						t.Errorf("%s: %s: %s", l.At, l.Command(), why)
					}
				}
			}
		}
	}
	if count < 100 {
		t.Errorf("only %d command lines were found", count)
	}
}

// notation matches what describes the form of a command line: "<module>".
var notation = regexp.MustCompile(`<[a-z/]|\[-|\[options\]`)

// dkmsCalls returns the arguments of each dkms that a line calls.
func dkmsCalls(t *testing.T, l docs.Line) [][]string {
	t.Helper()
	first := strings.TrimPrefix(strings.TrimPrefix(l.Command(), "sudo "), "bin/")
	if first != "dkms" && !strings.HasPrefix(first, "dkms ") || notation.MatchString(first) {
		return nil
	}
	file, err := syntax.NewParser().Parse(strings.NewReader(l.Text), l.At)
	if err != nil {
		t.Errorf("%s: %v", l.At, err)
		return nil
	}
	var calls [][]string
	syntax.Walk(file, func(n syntax.Node) bool {
		call, ok := n.(*syntax.CallExpr)
		if !ok {
			return true
		}
		words, err := expand.Fields(&expand.Config{}, call.Args...)
		if err != nil {
			t.Errorf("%s: %v", l.At, err)
			return true
		}
		if len(words) > 1 && words[0] == "sudo" {
			words = words[1:]
		}
		if len(words) > 0 && filepath.Base(words[0]) == "dkms" {
			calls = append(calls, words[1:])
		}
		return true
	})
	return calls
}

// misread tells what is wrong with a command line, or nothing.
func misread(words []string) string {
	a, err := parse(words)
	switch v := verbNamed(a.action); {
	case err != nil:
		return err.Error()
	case v == nil && a.stop == "":
		return "there is no such action"
	case v != nil && !v.Raw:
		return foreign(v, words)
	}
	return ""
}

// foreign names the first option that is neither the action's nor every action's.
func foreign(v *Verb, words []string) string {
	for _, word := range words {
		o, _, _, ok := find(word)
		if !strings.HasPrefix(word, "-") || !ok || slices.Contains(v.Options, o.Name()) {
			continue
		}
		if slices.ContainsFunc(verbTable, func(other Verb) bool { return slices.Contains(other.Options, o.Name()) }) {
			return v.Name + " has no option " + word
		}
	}
	return ""
}
