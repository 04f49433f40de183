// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"errors"
	"fmt"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// script is shell text and the statements in it that bash would run.
type script struct {
	path  string
	text  string
	stmts []*syntax.Stmt
	err   error // where parsing stopped, nil for the whole text
}

// parseScript parses text as bash does: commands are complete up to a
// newline, and a syntax error ends the file but not what stands before it.
func parseScript(path, text string) *script {
	s := &script{path: path, text: text}
	s.parse()
	if s.err == nil {
		return s
	}
	for len(s.stmts) > 0 && s.continues(s.stmts[len(s.stmts)-1]) {
		s.stmts = s.stmts[:len(s.stmts)-1]
	}
	return s
}

// parse sets stmts and err. The parser panics on some invalid text.
func (s *script) parse() {
	defer func() {
		if p := recover(); p != nil {
			s.err = fmt.Errorf("parser: %v", p)
		}
	}()
	parser := syntax.NewParser(syntax.Variant(syntax.LangBash))
	s.err = parser.Stmts(strings.NewReader(s.text), func(stmt *syntax.Stmt) bool {
		s.stmts = append(s.stmts, stmt)
		return true
	})
}

// continues reports whether more of the same command list follows stmt on its
// line; such a list is lost with a syntax error in its rest.
func (s *script) continues(stmt *syntax.Stmt) bool {
	end := int(stmt.End().Offset())
	if end > len(s.text) {
		return false
	}
	rest, _, _ := strings.Cut(s.text[end:], "\n")
	rest = strings.TrimLeft(rest, "; \t\r")
	return rest != "" && rest[0] != '#'
}

// good returns the text up to the end of the last statement that is run.
func (s *script) good() string {
	if s.err == nil {
		return s.text
	}
	if len(s.stmts) == 0 {
		return ""
	}
	return s.text[:min(len(s.text), int(s.stmts[len(s.stmts)-1].End().Offset()))] + "\n"
}

// complaint is the text shown for a syntax error.
func (s *script) complaint() string {
	var parse syntax.ParseError
	if errors.As(s.err, &parse) {
		parse.Filename = s.path
		return parse.Error() + "\n"
	}
	return s.path + ": " + s.err.Error() + "\n"
}

// returnsAtTop reports a `return` outside any function.
func (s *script) returnsAtTop() bool {
	found := false
	for _, stmt := range s.stmts {
		syntax.Walk(stmt, func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.FuncDecl, *syntax.Subshell, *syntax.CmdSubst:
				return false
			case *syntax.CallExpr:
				found = found || len(n.Args) > 0 && n.Args[0].Lit() == "return"
			}
			return true
		})
	}
	return found
}

// recurses reports a function that may call itself. The interpreter has no
// bound for that: the process would run out of stack.
func (s *script) recurses() bool {
	calls := map[string][]string{}
	for _, stmt := range s.stmts {
		syntax.Walk(stmt, func(n syntax.Node) bool {
			if f, ok := n.(*syntax.FuncDecl); ok && f.Name != nil {
				calls[f.Name.Value] = append(calls[f.Name.Value], called(f.Body)...)
			}
			return true
		})
	}
	for name := range calls {
		seen := map[string]bool{}
		for todo := calls[name]; len(todo) > 0; {
			next := todo[0]
			todo = todo[1:]
			if next == name {
				return true
			}
			if !seen[next] {
				seen[next] = true
				todo = append(todo, calls[next]...)
			}
		}
	}
	return false
}

// called returns the commands that a function's body names.
func called(body *syntax.Stmt) []string {
	var names []string
	syntax.Walk(body, func(n syntax.Node) bool {
		if call, ok := n.(*syntax.CallExpr); ok && len(call.Args) > 0 {
			names = append(names, literal(call.Args[0]))
		}
		return true
	})
	return names
}

// unescape rewrites the values of assignments so that the interpreter gives
// X=a\ b the value "a b": it keeps an unquoted backslash there. The nodes
// lose their positions, so it is the last thing done before a run.
func unescape(stmts []*syntax.Stmt) {
	for _, stmt := range stmts {
		syntax.Walk(stmt, func(n syntax.Node) bool {
			if a, ok := n.(*syntax.Assign); ok && escapes(a.Value) {
				for i, part := range a.Value.Parts {
					if lit, ok := part.(*syntax.Lit); ok && strings.Contains(lit.Value, `\`) {
						a.Value.Parts[i] = &syntax.SglQuoted{Value: unescaped(lit.Value)}
					}
				}
			}
			return true
		})
	}
}

// unescaped removes the backslashes of unquoted text.
func unescaped(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) {
			i++
			if text[i] == '\n' {
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// Statements parses shell text as bash does, for who looks at it and runs nothing:
// the statements that bash would run, and where it would stop.
func Statements(text string) ([]*syntax.Stmt, error) {
	if len(text) > maxConf {
		return nil, fmt.Errorf("larger than %d bytes", maxConf)
	}
	s := parseScript("", text)
	return s.stmts, s.err
}
