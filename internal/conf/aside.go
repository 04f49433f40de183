// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// The interpreter runs the parts of a pipe, commands in the background and
// process substitutions in goroutines of its own. It panics on some texts, which
// nobody could catch there, so it never gets to see any of them: they are bash's.

// asideReason names what n would have the interpreter run in a goroutine of its
// own, "" for nothing.
func asideReason(n syntax.Node) string {
	switch n := n.(type) {
	case *syntax.Stmt:
		if n.Background || n.Coprocess {
			return "background command"
		}
	case *syntax.BinaryCmd:
		if n.Op == syntax.Pipe || n.Op == syntax.PipeAll {
			return "pipe"
		}
	case *syntax.ProcSubst:
		return "process substitution"
	}
	return ""
}

// withoutAside replaces what asideReason names by commands that do nothing and
// fail, or no text for a substitution, and returns the first reason. As with
// unescape, nodes lose their positions.
func withoutAside(stmts []*syntax.Stmt) (reason string) {
	for _, stmt := range stmts {
		syntax.Walk(stmt, func(n syntax.Node) bool {
			why := asideReason(n)
			if reason == "" {
				reason = why
			}
			switch n := n.(type) {
			case *syntax.Stmt:
				if why == "" {
					why = asideReason(n.Cmd)
				}
				if why != "" {
					if reason == "" {
						reason = why
					}
					*n = syntax.Stmt{Position: n.Position, Cmd: &syntax.CallExpr{Args: []*syntax.Word{{Parts: []syntax.WordPart{&syntax.Lit{Value: "false"}}}}}}
				}
			case *syntax.ProcSubst:
				n.Stmts = nil
			}
			return true
		})
	}
	return reason
}

// asideIn returns the first reason why text, which a command is about to run, is
// not the interpreter's.
func asideIn(text string) string { return withoutAside(parseScript("", text).stmts) }

// evaluated returns the shell text that a command runs in the shell itself, "" for
// none: eval, trap, and both behind builtin or command.
func evaluated(args []string) string {
	for len(args) > 1 && (args[0] == "builtin" || args[0] == "command") {
		args = args[1:]
	}
	switch {
	case args[0] == "eval":
		return strings.Join(args[1:], " ")
	case args[0] == "trap" && len(args) > 1:
		return strings.Join(args[1:], "\n")
	}
	return ""
}
