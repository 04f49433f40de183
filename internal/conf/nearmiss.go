// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"dkms-go/internal/nearmiss"
)

// Unknown is an assignment that looks like a misspelt directive.
type Unknown struct {
	Name       string
	Suggestion string
	Line       int // counted from 1
}

// nearMisses returns the upper-case variables that a conf assigns, never
// uses, and that differ from a directive by one or two letters.
func nearMisses(sc *script) []Unknown {
	used := map[string]bool{"PATH": true, "SHELL": true, "HOME": true}
	var found []Unknown
	for _, stmt := range sc.stmts {
		syntax.Walk(stmt, func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.ParamExp:
				if n.Param != nil {
					used[n.Param.Value] = true
				}
			case *syntax.Assign:
				if n.Name == nil {
					break
				}
				if near := suggestion(n.Name.Value); near != "" {
					found = append(found, Unknown{Name: n.Name.Value, Suggestion: near, Line: int(n.Pos().Line())})
				}
			}
			return true
		})
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(found, func(u Unknown) bool {
		drop := used[u.Name] || seen[u.Name]
		seen[u.Name] = true
		return drop
	})
}

// suggestion returns the directive nearest to name, "" if name is one, is not
// upper case, or none is near.
func suggestion(name string) string {
	if name != strings.ToUpper(name) || len(name) < 4 {
		return ""
	}
	limit := 3
	if len(name) <= 5 {
		limit = 2
	}
	var directives []string
	for _, directive := range moduleNames() {
		if name == directive {
			return ""
		}
		if directive == strings.ToUpper(directive) {
			directives = append(directives, directive)
		}
	}
	return nearmiss.Find(name, directives, limit)
}
