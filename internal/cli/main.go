// SPDX-License-Identifier: Apache-2.0

// Package cli is the face of dkms: arguments in, text and an exit code out. It
// holds the tables of options, actions and exit codes, and knows nothing of
// how an action does its work.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"dkms-go/internal/action"
	"dkms-go/internal/altroot"
	"dkms-go/internal/aside"
	"dkms-go/internal/capacity"
	"dkms-go/internal/conf"
	"dkms-go/internal/host"
	"dkms-go/internal/kernel"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
)

// Compatible is the version of upstream that this program takes the place of.
const Compatible = "3.4.3"

// Stdio are the streams and the environment of one run.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
	Environ  []string
	// Version is this program's own version.
	Version string
}

// command is one parsed command under way.
type command struct {
	args   *args
	verb   *Verb
	io     Stdio
	advice advice
	engine *action.Engine
	// words are the whole command line. aside is the private place that this
	// process works in, "" for none.
	words   []string
	aside   string
	targets []plan.Target
}

// Main runs dkms with the arguments behind the program's name and returns the
// exit code. A signal that ends ctx is its cause, a Signal.
func Main(ctx context.Context, words []string, stdio Stdio) int {
	a, err := parse(words)
	if a.has("--quiet") {
		stdio.Out, stdio.Err = io.Discard, io.Discard
	}
	for _, name := range a.old {
		fmt.Fprintf(stdio.Err, "Deprecated feature: %s\n", name)
	}
	if err == nil {
		err = dispatch(ctx, a, words, stdio)
	}
	return finish(settle(ctx, err), adviceFor(a), stdio)
}

// settle makes whatever a signal has led to its failure.
func settle(ctx context.Context, err error) error {
	var f *action.Failure
	if err != nil && ctx.Err() != nil && !(errors.As(err, &f) && f.Reason == action.Interrupted) {
		return &action.Failure{Reason: action.Interrupted, Err: context.Cause(ctx)}
	}
	return err
}

// innerCode is the exit code of a run in another root, which has said all.
type innerCode int

func (c innerCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// finish shows an error that was not shown yet and returns its exit code.
func finish(err error, d advice, stdio Stdio) int {
	var u *usage
	var inner innerCode
	switch {
	case err == nil:
		return codeOK
	case errors.As(err, &inner):
		return int(inner)
	case errors.Is(err, syscall.EPIPE):
		return 128 + int(syscall.SIGPIPE) // nobody reads on: no reason to complain
	case errors.As(err, &u):
		fmt.Fprintf(stdio.Err, "\nError! %s\nSee `dkms --help`.\n", sentence(u.text))
		return u.code
	}
	f := asFailure(err)
	if !f.Said {
		d.explain(stdio.Err, f)
	}
	return code(f)
}

// asFailure returns the failure that an error is.
func asFailure(err error) *action.Failure {
	var f *action.Failure
	if !errors.As(err, &f) {
		f = &action.Failure{Reason: action.Internal, Err: err}
	}
	return f
}

func dispatch(ctx context.Context, a *args, words []string, stdio Stdio) error {
	switch a.stop {
	case "--version":
		_, err := fmt.Fprintln(stdio.Out, VersionString(stdio.Version))
		return err
	case "--help":
		_, err := io.WriteString(stdio.Out, help(a.action))
		return err
	}
	verb := verbNamed(a.action)
	if verb != nil {
		if err := a.strict(verb); err != nil {
			return err
		}
	}
	for _, word := range a.odd {
		fmt.Fprintf(stdio.Err, "Warning: don't know what to do with %q, ignoring it\n", word)
	}
	if verb == nil {
		return noAction(a, stdio)
	}
	if _, inside := altroot.Active(stdio.Environ); a.root != "" && !inside {
		return enter(ctx, a.root, words, stdio)
	}
	dir, environ, _ := aside.Active(stdio.Environ)
	stdio.Environ = environ
	return perform(ctx, &command{args: a, verb: verb, io: stdio, advice: adviceFor(a), words: words, aside: dir})
}

// noAction is for a command line without an action: as upstream shows its
// usage and succeeds, unless a word was probably meant as one.
func noAction(a *args, stdio Stdio) error {
	if a.module != "" {
		var names []string
		for _, v := range verbTable {
			names = append(names, v.Name)
		}
		return usageError("%q is no action%s", a.module, didYouMean(a.module, names))
	}
	fmt.Fprint(stdio.Err, "\nError! No action was given.\n")
	_, err := io.WriteString(stdio.Out, help(""))
	return err
}

// enter runs the same command in another root directory.
func enter(ctx context.Context, dir string, words []string, stdio Stdio) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() && !describes(dir) {
		return &action.Failure{Reason: action.NoOSRelease, Err: fmt.Errorf("%s has no os-release file", dir), Hint: []string{"A root without it is no system that dkms knows."}}
	}
	argv := append([]string{"dkms"}, words...)
	code, err := altroot.Exec(ctx, dir, argv, stdio.Environ, run.Stdio{In: stdio.In, Out: stdio.Out, Err: stdio.Err})
	if ctx.Err() != nil {
		return &action.Failure{Reason: action.Interrupted, Err: context.Cause(ctx), Said: true}
	}
	if err != nil {
		return err
	}
	if code != 0 {
		return innerCode(code)
	}
	return nil
}

// describes reports whether a root directory says what distribution it has.
func describes(root string) bool {
	for _, file := range host.Default().OSRelease {
		if _, err := os.Lstat(filepath.Join(root, file)); err == nil {
			return true
		}
	}
	return false
}

// VersionString is what --version prints: upstream's version first, for
// scripts that compare it.
func VersionString(version string) string {
	return "dkms-" + Compatible + "+go" + version
}

// perform runs the action, and has the hub told of what it has changed.
func perform(ctx context.Context, c *command) error {
	do := carryOut
	if c.verb.Result && c.args.has("--json") {
		do = reported
	}
	err := do(ctx, c)
	if c.engine != nil && (c.verb.Result || c.verb.Name == "hook" || c.verb.Explicit) {
		c.engine.TellHub(ctx)
	}
	return err
}

// carryOut sets the engine up and runs the action.
func carryOut(ctx context.Context, c *command) error {
	a := c.args
	if a.missing != "" && a.module == "" && c.verb.Name != "ldtarball" && c.verb.Name != "log" {
		return &action.Failure{Reason: action.NoModule, Err: fmt.Errorf("%s is neither a directory with a dkms.conf nor an archive", a.missing)}
	}
	if err := c.countKernels(); err != nil {
		return err
	}
	s, err := settings(ctx, c)
	if err == nil {
		c.engine, err = action.New(s)
	}
	if err != nil {
		return c.harmless(err)
	}
	defer c.engine.Remember()
	if c.verb.ReadOnly || c.verb.Name == "generate_mok" || c.verb.Raw || c.verb.Words {
		return c.verb.run(ctx, c)
	}
	if a.has("--all") {
		a.kernels, c.targets = nil, []plan.Target{}
		return c.verb.run(ctx, c)
	}
	if !a.has("--json") || c.verb.Result {
		for _, d := range a.directives {
			name, value, _ := strings.Cut(d, "=")
			fmt.Fprintf(c.io.Out, "DIRECTIVE: %s=\"%s\"\n", name, value)
		}
	}
	if c.targets, err = c.engine.Targets(a.kernels, a.arches, !c.verb.Kernelless); err != nil {
		return err
	}
	if c.verb.One && !c.verb.Explicit && c.verb.Name != "autoinstall" {
		c.targets = c.targets[:1]
	}
	return c.verb.run(ctx, c)
}

// countKernels refuses --all and more than one kernel where they make no sense.
func (c *command) countKernels() error {
	a, v := c.args, c.verb
	if a.has("--all") && !v.All {
		return &usage{codeNoAll, "the action " + v.Name + " does not take --all"}
	}
	kernels := len(a.kernels)
	if a.kernelTree != "" {
		kernels++
	}
	if v.Explicit && kernels != 1 {
		return &usage{codeOneKernel, "the action " + v.Name + " needs exactly one kernel, given with -k"}
	}
	if v.One && kernels > 1 {
		return &usage{codeOneKernel, "the action " + v.Name + " works on one kernel at a time"}
	}
	return nil
}

// settings joins the command line with framework.conf.
func settings(ctx context.Context, c *command) (action.Settings, error) {
	a, environ := c.args, c.io.Environ
	paths := host.Default()
	if tmp := lookup(environ, "TMPDIR"); tmp != "" {
		paths.Temp = tmp
	}
	loader := conf.Loader{Paths: paths, Environ: environ, Stderr: c.io.Err, Bash: bash}
	if c.verb.ReadOnly {
		loader.Policy = conf.NoExec
	}
	fw, err := loader.Framework(ctx, "")
	if err != nil {
		return action.Settings{}, &action.Failure{Reason: action.BadConf, Err: err}
	}
	if len(fw.Refused) > 0 {
		fmt.Fprintf(c.io.Err, "Warning: %s runs no commands, and framework.conf has some; its settings may differ here: %s\n", c.verb.Name, strings.Join(fw.Refused, "; "))
	}
	for _, tree := range []struct {
		to              *string
		conf, arg, name string
	}{
		{&paths.DKMSTree, fw.DKMSTree, a.dkmsTree, "--dkmstree"},
		{&paths.SourceTree, fw.SourceTree, a.sourceTree, "--sourcetree"},
		{&paths.InstallTree, fw.InstallTree, a.insTree, "--installtree"},
	} {
		if err := choose(tree.to, tree.conf, tree.arg, tree.name); err != nil {
			return action.Settings{}, err
		}
	}
	if fw.TmpLocation == "" {
		fw.TmpLocation = paths.Temp
	}
	root, _ := altroot.Active(environ)
	s := action.Settings{
		Paths: paths, Framework: fw, Environ: environ, Version: VersionString(c.io.Version), Root: root, Confines: true,
		Force: a.has("--force"), ForceVersion: a.has("--force-version-override"),
		Verbose: a.has("--verbose") || a.has("--debug") || fw.Verbose, NoDepmod: a.has("--no-depmod"),
		ModprobeOnInstall: a.has("--modprobe-on-install"), Symlink: a.has("--symlink-modules"),
		RPMSafeUpgrade: a.has("--rpm_safe_upgrade"), DryRun: a.has("--dry-run"), CheckReproducible: a.has("--check-reproducible"),
		Conf: absolute(a.conf), KernelConfig: absolute(a.kconfig), KernelSource: absolute(a.ksource), Directives: a.directives,
		Out: c.io.Out, Err: c.io.Err, Explain: c.advice.explain, People: c.advice.people, Code: code,
		Running: func() (string, string, error) { return kernel.Running(paths) },
	}
	if _, ok := conf.ParseSize(fw.Vars.Get("result_cache_size")); !ok && fw.Vars.Get("result_cache_size") != "" {
		fmt.Fprintf(c.io.Err, "Warning: result_cache_size is %q in framework.conf, which is no number of bytes such as 500M; using %s\n", fw.Vars.Get("result_cache_size"), conf.DefaultCacheSize)
	}
	if _, ok := conf.ParseSeconds(fw.Vars.Get("hook_lock_timeout")); !ok && fw.Vars.Get("hook_lock_timeout") != "" {
		fmt.Fprintf(c.io.Err, "Warning: hook_lock_timeout is %q in framework.conf, which is no number of seconds; using %s\n", fw.Vars.Get("hook_lock_timeout"), conf.DefaultHookLockTimeout)
	}
	err = jobs(a, &s, c.io.Err)
	if err == nil && a.kernelTree != "" && c.verb.Name != "preflight" && c.verb.Name != "matrix" {
		err = takeTree(a, &s)
	}
	return s, err
}

// takeTree makes a kernel tree that was given with -k the kernel to work on.
func takeTree(a *args, s *action.Settings) error {
	k, err := kernel.FromTree(s.Paths, a.kernelTree)
	if err != nil {
		return &action.Failure{Reason: action.BadKernelTree, Err: err, Hint: []string{"A kernel source must be configured and prepared: make modules_prepare."}}
	}
	a.kernels = append(a.kernels, k.Release)
	s.KernelSource = a.kernelTree
	return nil
}

// choose sets a tree to what the configuration or the command line says, the latter by
// an option.
func choose(to *string, configured, given, option string) error {
	if fi, err := os.Stat(given); given != "" && err == nil && !fi.IsDir() {
		return usageError("%s needs a directory, and %s is none", option, given)
	}
	for _, dir := range []string{configured, given} {
		if dir == "" {
			continue
		}
		abs, err := filepath.Abs(dir)
		if err != nil {
			return fmt.Errorf("finding %s: %w", dir, err)
		}
		*to = abs
	}
	return nil
}

func absolute(path string) string {
	if path == "" {
		return ""
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// jobs sets make's -j argument and the number of jobs over all builds. A setting
// that is no number is passed over with a warning, an option is refused.
func jobs(a *args, s *action.Settings, warn io.Writer) error {
	cpus := capacity.CPUs()
	given := s.Framework.ParallelJobs
	if a.set["-j"] {
		given = a.jobs
	}
	s.Jobs, s.Tokens = strconv.Itoa(cpus), cpus
	if given == "" {
		return nil
	}
	switch n, err := strconv.Atoi(given); {
	case err == nil && n == 0:
		s.Jobs, s.JobsGiven = "", true
	case err == nil && n > 0:
		s.Jobs, s.Tokens, s.JobsGiven = strconv.Itoa(n), n, true
	case a.set["-j"]:
		return usageError("%q is not a number of jobs", given)
	default:
		fmt.Fprintf(warn, "Warning: parallel_jobs is %q in framework.conf or the environment, which is no number; using %d\n", given, cpus)
	}
	return nil
}

func lookup(environ []string, name string) string {
	value := ""
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

func bash(ctx context.Context, p conf.Program) ([]byte, error) {
	cmd := p.Command()
	cmd.Stderr = os.Stderr
	return cmd.Output(ctx)
}
