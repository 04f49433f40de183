// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"slices"
	"strings"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// differs returns the first construct in s that the Go interpreter is known
// not to have, or to evaluate differently from bash; "" if there is none. The
// list was made by running single constructs through both.
func differs(s *script) string {
	if s.err != nil {
		return "syntax error"
	}
	if carriageReturns(s.text) {
		return "carriage return"
	}
	if strings.Contains(s.text, "\x00") {
		return "NUL" // bash passes over some of them, and ends the line at others
	}
	if strings.Contains(s.text, "[-") {
		return "bracket that begins with a minus" // an invalid range to the interpreter
	}
	if s.recurses() {
		return "recursive function"
	}
	reason := ""
	for _, stmt := range s.stmts {
		function := 0
		var stack []syntax.Node
		syntax.Walk(stmt, func(n syntax.Node) bool {
			if reason != "" {
				return false
			}
			if n == nil { // the end of the innermost node
				if _, ok := stack[len(stack)-1].(*syntax.FuncDecl); ok {
					function--
				}
				stack = stack[:len(stack)-1]
				return true
			}
			if _, ok := n.(*syntax.FuncDecl); ok {
				function++
			}
			stack = append(stack, n)
			reason = s.nodeDiffers(n, function > 0)
			return true
		})
	}
	return reason
}

// carriageReturns reports one that means more than the end of a plain line:
// bash keeps it in the value, the interpreter's parser drops it.
func carriageReturns(text string) bool {
	return strings.Contains(text, "\r") &&
		(strings.ContainsAny(text, "$`();") || strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\r"))
}

// nodeDiffers judges one node; inFunc says that it is in a function.
func (s *script) nodeDiffers(n syntax.Node, inFunc bool) string {
	if reason := asideReason(n); reason != "" {
		return reason
	}
	switch n := n.(type) {
	case *syntax.Stmt:
		if c, ok := n.Cmd.(*syntax.CallExpr); ok && len(c.Args) == 0 && len(c.Assigns) > 0 && len(n.Redirs) > 0 {
			return "assignment with a redirection" // bash assigns although it fails
		}
	case *syntax.CallExpr:
		return callDiffers(n)
	case *syntax.DeclClause:
		return declDiffers(n, inFunc)
	case *syntax.ParamExp:
		return s.paramDiffers(n)
	case *syntax.Redirect:
		return redirectDiffers(n)
	case *syntax.UnaryTest:
		if n.Op == syntax.TsVarSet || n.Op == syntax.TsOptSet || n.Op == syntax.TsRefVar {
			return "[[ " + n.Op.String() + " ]]"
		}
	case *syntax.ForClause:
		if n.Select {
			return "select"
		}
		if _, ok := n.Loop.(*syntax.CStyleLoop); ok {
			return "for ((…))" // the interpreter ends it with a command that fails
		}
	case *syntax.ArrayElem:
		if n.Index != nil && escapes(n.Value) {
			return "unquoted backslash"
		}
		if n.Index != nil && strings.Contains(literal(n.Value), "{") {
			return "braces in an element" // bash expands the index along with them
		}
	case *syntax.Assign:
		if n.Array != nil && s.glued(n) {
			return "text behind an array" // bash doesn't take it for a word of its own
		}
	case *syntax.ArithmExp, *syntax.ArithmCmd:
		if expands(n) {
			return "expansion in arithmetic" // it may be empty, which bash takes for an error
		}
		if based(n) {
			return "number with a base" // to the interpreter 0, if the base is none
		}
	case *syntax.SglQuoted:
		if n.Dollar && strings.Contains(n.Value, `\c`) {
			return `$'\c…'`
		}
	case *syntax.CaseClause:
		if escapes(n.Word) {
			return "unquoted backslash"
		}
	case *syntax.BinaryTest:
		if w, ok := n.X.(*syntax.Word); ok && escapes(w) {
			return "unquoted backslash"
		}
	case *syntax.CoprocClause, *syntax.LetClause, *syntax.ExtGlob, *syntax.TimeClause:
		return typeName(n)
	}
	return ""
}

func typeName(n syntax.Node) string {
	switch n.(type) {
	case *syntax.CoprocClause:
		return "coproc"
	case *syntax.LetClause:
		return "let"
	case *syntax.ExtGlob:
		return "extended glob"
	default:
		return "time"
	}
}

// callDiffers judges a command by its name and literal arguments.
func callDiffers(n *syntax.CallExpr) string {
	if len(n.Args) == 0 {
		return ""
	}
	name := n.Args[0].Lit()
	args := make([]string, 0, len(n.Args))
	for _, a := range n.Args[1:] {
		args = append(args, literal(a))
	}
	has := func(needle string) bool {
		return slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, needle) })
	}
	switch name {
	case "printf":
		if has("%q") || has("%(") || len(args) > 0 && strings.HasPrefix(args[0], "-") {
			return "printf -v, %q or %(…)T"
		}
	case "test", "[":
		if slices.ContainsFunc(args, func(a string) bool { return strings.Trim(a, `\<>`) == "" && a != "" }) {
			return "test of order"
		}
		if slices.Contains(args, "-v") || slices.Contains(args, "-R") || slices.Contains(args, "-o") && len(args) <= 3 {
			return "test -v"
		}
	case "unset":
		if has("[") || has("-n") {
			return "unset of an element"
		}
	case "source", ".":
		if has("/dev/") || has("/fd/") {
			return "source of a device"
		}
	case ":", "true", "false", "echo", "cd", "pwd", "return", "exit", "break", "continue",
		"shift", "command", "mapfile", "readarray", "read", "wait":
	default:
		if interp.IsBuiltin(name) {
			return "builtin " + name
		}
	}
	return ""
}

// glued reports that something follows a node without a blank or an operator.
func (s *script) glued(n syntax.Node) bool {
	end := int(n.End().Offset())
	return end < len(s.text) && strings.IndexByte(" \t\r\n;&|()<>", s.text[end]) < 0
}

// escapes reports a backslash outside quotes.
func escapes(w *syntax.Word) bool {
	return w != nil && slices.ContainsFunc(w.Parts, func(p syntax.WordPart) bool {
		lit, ok := p.(*syntax.Lit)
		return ok && strings.Contains(lit.Value, `\`)
	})
}

// expands reports an expansion of a variable below n, other than that to its length.
func expands(n syntax.Node) bool {
	found := false
	syntax.Walk(n, func(n syntax.Node) bool {
		p, ok := n.(*syntax.ParamExp)
		found = found || ok && !p.Length
		return true
	})
	return found
}

// based reports a number with a base below n.
func based(n syntax.Node) bool {
	found := false
	syntax.Walk(n, func(n syntax.Node) bool {
		lit, ok := n.(*syntax.Lit)
		found = found || ok && strings.Contains(lit.Value, "#")
		return true
	})
	return found
}

// literal returns the literal parts of a word; nil has none.
func literal(w *syntax.Word) string {
	if w == nil {
		return ""
	}
	var b strings.Builder
	syntax.Walk(w, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Lit:
			b.WriteString(n.Value)
		case *syntax.SglQuoted:
			b.WriteString(n.Value)
		case *syntax.ParamExp, *syntax.CmdSubst:
			return false
		}
		return true
	})
	return b.String()
}

// declDiffers judges declare, local, export, readonly, typeset and nameref.
func declDiffers(n *syntax.DeclClause, inFunc bool) string {
	if n.Variant.Value == "local" && !inFunc {
		return "local outside a function"
	}
	if inFunc && (n.Variant.Value == "declare" || n.Variant.Value == "typeset") {
		return n.Variant.Value + " in a function" // the interpreter doesn't keep all in it
	}
	if n.Variant.Value == "readonly" {
		return "readonly" // a later assignment ends the file in bash
	}
	for _, a := range n.Args {
		if a.Index != nil {
			return n.Variant.Value + " of an element" // no name for bash
		}
		if a.Name != nil && a.Value != nil && strings.Contains(literal(a.Value), "{") {
			return n.Variant.Value + " with braces" // which bash expands, along with the name
		}
		if a.Name != nil || a.Value == nil {
			continue
		}
		flags := literal(a.Value)
		known := map[string]string{"declare": "axg", "typeset": "axg", "local": "ax"}[n.Variant.Value]
		if strings.HasPrefix(flags, "-") && (flags == "-" || strings.Trim(flags[1:], known) != "") || strings.HasPrefix(flags, "+") {
			return n.Variant.Value + " " + flags
		}
	}
	return ""
}

// paramDiffers judges an expansion.
func (s *script) paramDiffers(n *syntax.ParamExp) string {
	if n.Param == nil {
		return "expansion without a name"
	}
	name := n.Param.Value
	switch {
	case name == "BASH_REMATCH":
	case name == "BASH_SOURCE":
		if n.Index != nil && s.source(n.Index) != "0" {
			return "BASH_SOURCE beyond its first element"
		}
	case strings.HasPrefix(name, "BASH"), slices.Contains([]string{
		"FUNCNAME", "PIPESTATUS", "SHELLOPTS", "HOSTNAME", "HOSTTYPE", "MACHTYPE", "OSTYPE", "GROUPS", "GID",
		"EPOCHSECONDS", "EPOCHREALTIME", "SECONDS", "COPROC", "LINENO", "-", "_", "!", "$",
	}, name):
		return "$" + name
	}
	if n.Exp != nil {
		if n.Exp.Op == syntax.OtherParamOps {
			return "${" + name + "@…}"
		}
		if escapes(n.Exp.Word) {
			return "unquoted backslash"
		}
		if n.Index != nil && strings.Trim(s.source(n.Index), "@*") == "" {
			return "operator on a whole array"
		}
	}
	if n.Repl != nil && (n.Repl.Orig == nil || strings.IndexAny(s.source(n.Repl.Orig), "#%") == 0) {
		return "replacement at an end"
	}
	if (n.Repl != nil || n.Exp != nil) && extended(s.source(n)) {
		return "extended glob in an expansion"
	}
	return ""
}

// source returns the text of a node.
func (s *script) source(n syntax.Node) string {
	from, to := int(n.Pos().Offset()), int(n.End().Offset())
	if from < 0 || from > to || to > len(s.text) {
		return ""
	}
	return s.text[from:to]
}

// extended reports an extended glob in text, or what looks like one.
func extended(text string) bool {
	for i := range len(text) - 1 {
		if text[i+1] == '(' && strings.IndexByte("?*+@!", text[i]) >= 0 {
			return true
		}
	}
	return false
}

// redirectDiffers judges a redirection.
func redirectDiffers(n *syntax.Redirect) string {
	if escapes(n.Word) {
		return "unquoted backslash"
	}
	if n.N != nil && n.N.Value != "0" && n.N.Value != "1" && n.N.Value != "2" {
		return "file descriptor " + n.N.Value
	}
	switch n.Op {
	case syntax.RdrOut, syntax.AppOut, syntax.RdrIn, syntax.Hdoc, syntax.DashHdoc, syntax.WordHdoc, syntax.RdrAll, syntax.AppAll:
		return ""
	case syntax.DplOut:
		if target := n.Word.Lit(); target == "1" || target == "2" {
			return ""
		}
	}
	return "redirection " + n.Op.String()
}
