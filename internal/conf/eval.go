// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"sync"
)

// evaluation is one run over a list of files, in the protocol of upstream:
//
// For each file: (1) the file is run in a shell that sees the variables of
// shell, those of values and the environment; (2) every element of every
// variable in names is written as NAME[i]="value", unquoted, so that it is
// split into words and globbed once, with a trailing CR removed; those lines
// are then run in a shell that sees shell and the values so far.
type evaluation struct {
	names  []string
	files  []confFile
	shell  map[string]string // visible to the conf, not exported
	values Vars              // initial values of names
	env    []string          // exported
	dir    string
	// foreign says that the files aren't the administrator's own.
	foreign bool
	forced  []assign // DKMS_DIRECTIVE* variables, set after each file

	scripts []*script // the files, parsed
}

// assign is one element of a variable of the allow-list.
type assign struct {
	name  string
	index int
	value string
}

// outcome is the result of an evaluation.
type outcome struct {
	vars Vars

	mu         sync.Mutex // parts of a pipeline run concurrently
	incomplete bool
	notes      []string // what was refused, or differs from bash
}

func (o *outcome) note(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.incomplete = true
	if !slices.Contains(o.notes, text) {
		o.notes = append(o.notes, text)
	}
}

func (l *Loader) newEvaluation(names []string, files []confFile) *evaluation {
	environ := l.Environ
	if environ == nil {
		environ = os.Environ()
	}
	e := &evaluation{names: names, files: files, values: Vars{}, dir: l.Dir}
	for _, f := range files {
		e.scripts = append(e.scripts, parseScript(f.path, f.text))
	}
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || !isName(name) || slices.Contains(compilerNames(), name) || slices.Contains(names, name) {
			continue
		}
		e.env = append(e.env, kv)
		if strings.HasPrefix(name, "DKMS_DIRECTIVE") {
			e.force(value)
		}
	}
	return e
}

// force keeps a NAME=value pair given as a DKMS_DIRECTIVE* variable.
func (e *evaluation) force(pair string) {
	name, value, ok := strings.Cut(pair, "=")
	if ok && slices.Contains(e.names, name) {
		e.forced = append(e.forced, assign{name: name, value: value})
	}
}

// evaluate runs e by policy p.
func (l *Loader) evaluate(ctx context.Context, e *evaluation, p Policy) (*outcome, error) {
	if p == Bash && l.bash(e) != nil {
		return l.evaluateBash(ctx, e)
	}
	strict := p == Auto && l.bash(e) != nil
	if strict && e.foreign && l.Confined != nil {
		p = NoExec
	}
	if strict && slices.ContainsFunc(e.scripts, func(s *script) bool { return differs(s) != "" }) {
		return l.evaluateBash(ctx, e)
	}
	var shown bounded
	out, err := l.evaluateGo(ctx, e, p, &shown)
	if strict && ctx.Err() == nil && (err != nil || out.incomplete || shown.complains()) {
		return l.evaluateBash(ctx, e)
	}
	if l.Stderr != nil {
		l.Stderr.Write(shown.data)
	}
	return out, err
}

// bash returns what runs real bash for e, nil if nothing does.
func (l *Loader) bash(e *evaluation) BashFunc {
	if e.foreign && l.Confined != nil {
		return l.Confined
	}
	return l.Bash
}

// bounded keeps the start of what a conf writes to its standard error, until
// it is clear whose words those are. Its methods may be called concurrently.
type bounded struct {
	mu   sync.Mutex
	data []byte
}

// maxShown bounds the kept text in bytes.
const maxShown = 64 << 10

func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data = append(b.data, p[:min(len(p), maxShown-len(b.data))]...)
	return len(p), nil
}

// complains reports that the Go interpreter met something it does not have.
func (b *bounded) complains() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, word := range []string{"unsupported", "unhandled", "not supported", "not implemented", "division by zero", "indirect expansion",
		"subscript", "negative ", "exponent ", "would exceed", "extended glob", "invalid format", "readonly"} {
		if bytes.Contains(b.data, []byte(word)) {
			return true
		}
	}
	return false
}

// isName reports whether s is a shell variable name.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
