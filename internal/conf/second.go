// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// defaultIFS is the shell's word splitting unless a conf changes it.
const defaultIFS = " \t\n"

// splitter returns a function that does to a value what an unquoted expansion
// between two literal quotes and echo do: runs of blanks become one space, and
// words in it are globbed.
func (s *session) splitter(r *interp.Runner) func(string) (string, error) {
	ifs, ok := r.Vars["IFS"]
	custom := ok && ifs.IsSet() && ifs.String() != defaultIFS || ok && !ifs.IsSet()
	if custom {
		s.out.note("IFS")
	}
	return func(value string) (string, error) {
		if custom {
			return s.expandFields(r, value)
		}
		words := strings.FieldsFunc(value, func(c rune) bool { return strings.ContainsRune(defaultIFS, c) })
		for i, w := range words {
			// The quotes stick to a first or last word: no file is named so.
			inner := (i > 0 || blank(value[0])) && (i < len(words)-1 || blank(value[len(value)-1]))
			if inner && strings.ContainsAny(w, "*?[") {
				g, err := s.expandFields(r, " "+w+" ")
				if err != nil {
					return "", err
				}
				words[i] = strings.TrimSpace(g)
			}
		}
		if len(words) == 0 {
			if value != "" {
				return " ", nil
			}
			return "", nil
		}
		text := strings.Join(words, " ")
		if blank(value[0]) {
			text = " " + text
		}
		if blank(value[len(value)-1]) {
			text += " "
		}
		return text, nil
	}
}

func blank(c byte) bool { return strings.IndexByte(defaultIFS, c) >= 0 }

// expandFields expands \"$value\" as the shell does and returns what stands
// between the quotes.
func (s *session) expandFields(r *interp.Runner, value string) (string, error) {
	env := vars{
		"IFS":   r.Vars["IFS"],
		"value": {Set: true, Kind: expand.String, Str: value},
		"PWD":   r.Vars["PWD"],
	}
	cfg := &expand.Config{
		Env:      env,
		ReadDir2: func(dir string) ([]os.DirEntry, error) { return os.ReadDir(dir) },
	}
	word := &syntax.Word{Parts: []syntax.WordPart{
		&syntax.Lit{Value: `\"`},
		&syntax.ParamExp{Short: true, Param: &syntax.Lit{Value: "value"}},
		&syntax.Lit{Value: `\"`},
	}}
	fields, err := expand.Fields(cfg, word)
	if err != nil {
		return "", fmt.Errorf("split value %q: %w", value, err)
	}
	text := strings.Join(fields, " ")
	return strings.TrimSuffix(strings.TrimPrefix(text, `"`), `"`), nil
}

// second does the second evaluation, for the file at path: each value as written
// between double quotes, in order.
func (s *session) second(ctx context.Context, path string, raw []assign) error {
	for n, a := range raw {
		value, ok := unquote(a.value)
		if !ok {
			return s.secondShell(ctx, path, raw[n:])
		}
		s.out.vars.set(a.name, a.index, value)
	}
	return nil
}

// unquote returns what text means between double quotes if that takes no
// shell: it has no expansion and no quote that ends it.
func unquote(text string) (string, bool) {
	if !strings.ContainsAny(text, "$`\\\"") {
		return text, true
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		next := byte('"')
		if i+1 < len(text) {
			next = text[i+1]
		}
		switch {
		case c == '`' || c == '"' || c == '\\' && i+1 == len(text):
			return "", false
		case c == '$' && (isName(string(next)) || next >= '0' && next <= '9' || strings.IndexByte("{([@*#?$!-", next) >= 0):
			return "", false
		case c == '\\' && strings.IndexByte("$`\"\\", next) >= 0:
			b.WriteByte(next)
			i++
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), true
}

// secondShell runs the assignments in the interpreter. One that is no single
// assignment has an unescaped quote in its value and is lost.
func (s *session) secondShell(ctx context.Context, path string, raw []assign) error {
	whole := &script{}
	for _, a := range raw {
		sc := parseScript("", a.name+"["+strconv.Itoa(a.index)+"]=\""+a.value+"\"\n")
		reason := differs(sc)
		if sc.err != nil || len(sc.stmts) != 1 || !pure(sc.stmts[0]) {
			s.out.note("value with a double quote")
			fmt.Fprintf(s.stderr, "dkms: the value of %s[%d] has an unescaped double quote, it is ignored: %s\n", a.name, a.index, a.value)
			continue
		}
		if reason != "" {
			s.out.note(reason)
		}
		whole.stmts = append(whole.stmts, sc.stmts[0])
	}
	r, err := s.runner(whole, path)
	if err != nil {
		return err
	}
	if reason := withoutAside(whole.stmts); reason != "" {
		s.out.note(reason)
	}
	unescape(whole.stmts)
	if err := run(ctx, r, &syntax.File{Name: "dkms", Stmts: whole.stmts}); err != nil {
		return err
	}
	for _, name := range s.names {
		for i, value := range elements(r.Vars[name]) {
			s.out.vars.set(name, i, value)
		}
	}
	return nil
}

// pure reports a statement that is one assignment and nothing else.
func pure(stmt *syntax.Stmt) bool {
	call, ok := stmt.Cmd.(*syntax.CallExpr)
	return ok && len(call.Assigns) == 1 && len(call.Args) == 0 &&
		len(stmt.Redirs) == 0 && !stmt.Background && !stmt.Negated && !stmt.Coprocess
}
