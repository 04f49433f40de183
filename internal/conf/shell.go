// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"time"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// killAfter is how long an external command may take to end after it was
// interrupted.
const killAfter = 200 * time.Millisecond

// session is an evaluation in the Go interpreter.
type session struct {
	*evaluation
	policy Policy
	stderr io.Writer
	out    *outcome
	calls  int // of functions, eval and source
}

// evaluateGo runs e in the Go interpreter.
func (l *Loader) evaluateGo(ctx context.Context, e *evaluation, p Policy, stderr io.Writer) (*outcome, error) {
	s := &session{evaluation: e, policy: p, stderr: stderr, out: &outcome{vars: e.values.clone()}}
	for _, sc := range e.scripts {
		if reason := differs(sc); reason != "" {
			s.out.note(reason)
		}
		raw, err := s.first(ctx, sc)
		if err != nil {
			return nil, err
		}
		if err := s.second(ctx, sc.path, raw); err != nil {
			return nil, err
		}
		for _, a := range e.forced {
			s.out.vars.set(a.name, a.index, a.value)
		}
	}
	return s.out, nil
}

// first runs a file and returns the elements of the allow-listed variables,
// split, globbed and joined as one unquoted echo does.
func (s *session) first(ctx context.Context, sc *script) ([]assign, error) {
	if sc.err != nil {
		io.WriteString(s.stderr, sc.complaint())
	}
	if sc.recurses() {
		fmt.Fprintf(s.stderr, "dkms: %s has a recursive function and is not evaluated\n", sc.path)
		return nil, nil
	}
	r, err := s.runner(sc, sc.path, strings.Join(s.names, " "))
	if err != nil {
		return nil, err
	}
	file := &syntax.File{Name: "dkms", Stmts: sc.stmts}
	returns := sc.returnsAtTop()
	if reason := withoutAside(file.Stmts); reason != "" {
		s.out.note(reason)
		if returns {
			return nil, nil // what is served is the text
		}
	}
	if returns {
		// Only a sourced file may return: the open handler serves it.
		file.Stmts = parseScript("", ". "+quote(sc.path)).stmts
	}
	unescape(file.Stmts)
	if err := run(ctx, r, file); err != nil {
		return nil, err
	}
	if r.Exited() {
		return nil, nil // exit discards everything
	}
	return s.collect(r)
}

// run runs a file; a non-zero status is no error.
func run(ctx context.Context, r *interp.Runner, file *syntax.File) error {
	outer := ctx
	ctx, stop := boundMemory(ctx)
	defer stop(nil)
	err := runBounded(ctx, r, file)
	if outer.Err() == nil && errors.Is(context.Cause(ctx), errMemory) {
		return errMemory
	}
	return err
}

// maxGrowth is how much memory the text of a conf may take, in bytes: it runs in
// this process, and twenty lines of x=$x$x are megabytes.
const maxGrowth = 64 << 20

var errMemory = errors.New("it takes more than 64 MiB of memory")

// boundMemory returns a context that ends once this process has grown by maxGrowth.
func boundMemory(ctx context.Context) (bounded context.Context, stop context.CancelCauseFunc) {
	bounded, stop = context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for first := heap(); ; {
			select {
			case <-bounded.Done():
				return
			case <-tick.C:
			}
			if heap() > first+maxGrowth {
				stop(errMemory)
			}
		}
	}()
	return bounded, stop
}

// heap returns the bytes of all objects in memory.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func runBounded(ctx context.Context, r *interp.Runner, file *syntax.File) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("interpreter: %v", p)
			}
		}()
		done <- r.Run(ctx, file)
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		// The interpreter stops by itself, unless a child keeps a pipe open.
		select {
		case <-done:
		case <-time.After(2 * killAfter):
		}
		return ctx.Err()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var status interp.ExitStatus
	if err != nil && !errors.As(err, &status) {
		return err
	}
	return nil
}

// collect writes the elements of all allow-listed variables.
func (s *session) collect(r *interp.Runner) ([]assign, error) {
	var all []assign
	split := s.splitter(r)
	for _, name := range s.names {
		vr := r.Vars[name]
		if vr.Kind == expand.NameRef {
			_, vr = vr.Resolve(vars(r.Vars))
		}
		if vr.Kind == expand.Associative {
			s.out.note("associative array " + name)
			continue
		}
		elements := elements(vr)
		for _, i := range elements.Sorted() {
			text, err := split(strings.TrimSuffix(elements[i], "\r"))
			if err != nil {
				return nil, err
			}
			all = append(all, assign{name: name, index: i, value: text})
		}
	}
	return all, nil
}

// elements returns a variable's elements by their real index: an indexed
// variable's List is packed.
func elements(vr expand.Variable) Array {
	if vr.Kind == expand.String && vr.IsSet() {
		return Array{0: vr.Str}
	}
	// After X[0]=a alone the interpreter has the element, but not the mark
	// that X is set.
	if vr.Kind != expand.Indexed || len(vr.List) == 0 {
		return nil
	}
	a := make(Array, len(vr.List))
	for i, value := range vr.List {
		if vr.Indexes != nil {
			i = vr.Indexes[i]
		}
		a[i] = value
	}
	return a
}

// vars makes a runner's variables an environment.
type vars map[string]expand.Variable

func (v vars) Get(name string) expand.Variable { return v[name] }

func (v vars) Each(fn func(string, expand.Variable) bool) {
	for name, vr := range v {
		if !fn(name, vr) {
			return
		}
	}
}

// environ returns what a shell of this evaluation sees: the environment, the
// shell variables and the values so far.
func (s *session) environ(source string) vars {
	env := make(vars, len(s.env)+len(s.shell)+len(s.out.vars)+1)
	for _, kv := range s.env {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = expand.Variable{Set: true, Exported: true, Kind: expand.String, Str: value}
	}
	for name, value := range s.shell {
		env[name] = expand.Variable{Set: true, Exported: env[name].Exported, Kind: expand.String, Str: value}
	}
	for name, a := range s.out.vars {
		env[name] = variable(a)
	}
	if source != "" {
		env["BASH_SOURCE"] = expand.Variable{Set: true, Kind: expand.Indexed, List: []string{source}}
	}
	return env
}

// variable is the inverse of elements.
func variable(a Array) expand.Variable {
	vr := expand.Variable{Set: true, Kind: expand.Indexed}
	indices := a.Sorted()
	for _, i := range indices {
		vr.List = append(vr.List, a[i])
	}
	if a.Max() != len(a)-1 {
		vr.Indexes = indices
	}
	return vr
}

// runner returns an interpreter for one file, or one evaluation, with its parameters.
func (s *session) runner(sc *script, params ...string) (*interp.Runner, error) {
	var r *interp.Runner
	isFunction := func(name string) bool { return r.Funcs[name] != nil }
	r, err := interp.New(
		interp.Env(s.environ(sc.path)),
		interp.Dir(s.dir),
		interp.StdIO(nil, nil, s.stderr),
		interp.Params(append([]string{"--"}, params...)...),
		interp.OpenHandler(s.open(sc)),
		interp.ExecHandlers(s.exec),
		interp.CallHandler(func(_ context.Context, args []string) ([]string, error) { return s.call(sc, args, isFunction) }),
	)
	if err != nil {
		return nil, fmt.Errorf("start interpreter: %w", err)
	}
	return r, nil
}

// open opens files for redirections and for `source`.
func (s *session) open(sc *script) interp.OpenHandlerFunc {
	byDefault := interp.DefaultOpenHandler()
	served := !sc.returnsAtTop()
	return func(ctx context.Context, path string, flag int, perm os.FileMode) (io.ReadWriteCloser, error) {
		if !served && path == sc.path {
			served = true
			return text{strings.NewReader(sc.good())}, nil
		}
		if path == os.DevNull {
			return byDefault(ctx, path, flag, perm)
		}
		if flag&(os.O_WRONLY|os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND) != 0 {
			if s.policy == NoExec {
				s.out.note("write to " + path)
				return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
			}
			return byDefault(ctx, path, flag, perm)
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(interp.HandlerCtx(ctx).Dir, path)
		}
		// A pipe or a device may have no end, or block for ever.
		if st, err := os.Stat(path); err == nil && (!st.Mode().IsRegular() && !st.IsDir() || st.Size() > maxRead) {
			s.out.note("read of " + path)
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
		}
		return byDefault(ctx, path, flag, perm)
	}
}

// maxRead bounds a file that a conf reads in the interpreter, in bytes.
const maxRead = 64 << 20

// text is a read-only file with fixed contents.
type text struct{ *strings.Reader }

func (text) Write([]byte) (int, error) { return 0, fs.ErrPermission }
func (text) Close() error              { return nil }

// exec runs external commands, or refuses them.
func (s *session) exec(interp.ExecHandlerFunc) interp.ExecHandlerFunc {
	byDefault := interp.DefaultExecHandler(killAfter)
	return func(ctx context.Context, args []string) error {
		if s.policy == NoExec {
			s.out.note("command " + args[0])
			return interp.ExitStatus(127)
		}
		return byDefault(ctx, args)
	}
}

// maxCalls bounds the calls of functions, eval and source in one file: each may be
// in the one before, and the interpreter has no bound of its own.
const maxCalls = 1000

// call sees every command with its arguments expanded. It looks into text that a
// conf sources or evaluates, and at numbers in a test, as these may differ from bash.
func (s *session) call(sc *script, args []string, isFunction func(string) bool) ([]string, error) {
	if (args[0] == "[" || args[0] == "test") && !numbers(args) {
		return s.inError(args), nil
	}
	text, sources := evaluated(args), args[0] == "." || args[0] == "source"
	if text != "" || sources || isFunction(args[0]) {
		if s.calls++; s.calls > maxCalls {
			return nil, fmt.Errorf("more than %d calls", maxCalls)
		}
	}
	if sources && len(args) > 1 && args[1] != sc.path {
		if !filepath.IsAbs(args[1]) {
			s.out.note("source of a relative path")
			return []string{"false"}, nil
		}
		var err error
		if text, err = readConf(args[1]); err != nil || plain(text) {
			return args, nil
		}
		if reason := differs(parseScript(args[1], text)); reason != "" {
			s.out.note(reason)
		}
	}
	if reason := asideIn(text); reason != "" {
		s.out.note(reason)
		return []string{"false"}, nil
	}
	return args, nil
}

// inError returns what is run for a test of what is no number: bash finds it in
// error, the interpreter takes 0.
func (s *session) inError(test []string) []string {
	if len(test) == 4 && test[0] == "test" || len(test) == 5 && test[0] == "[" {
		return []string{"false"}
	}
	s.out.note("test of what is no number")
	return test
}

// numbers reports whether the operands of all numeric tests are numbers.
func numbers(args []string) bool {
	for i := 1; i+1 < len(args); i++ {
		switch args[i] {
		case "-eq", "-ne", "-lt", "-le", "-gt", "-ge":
			if !number(args[i-1]) || !number(args[i+1]) {
				return false
			}
		}
	}
	return true
}

func number(s string) bool {
	_, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	return err == nil
}

// plain reports text of comments and simple assignments only, as a kernel's
// configuration has.
func plain(text string) bool {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		name, value, ok := strings.Cut(line, "=")
		if line == "" || line[0] == '#' {
			continue
		}
		if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
			value = strings.ReplaceAll(value[1:n-1], " ", "")
		}
		if !ok || !isName(name) || strings.ContainsAny(value, "$`\\\"' \t\r;&|<>()*?[~#") {
			return false
		}
	}
	return true
}

// quote returns s as one word for bash.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// sortedNames returns the keys of m in order.
func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
