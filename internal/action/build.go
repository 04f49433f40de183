// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"dkms-go/internal/build"
	"dkms-go/internal/conf"
	"dkms-go/internal/kernel"
	"dkms-go/internal/ko"
	"dkms-go/internal/mok"
	"dkms-go/internal/plan"
	"dkms-go/internal/report"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
)

// Build builds a module for each target, side by side where the machine has
// the cores. After: a result for each target that didn't fail.
func (e *Engine) Build(ctx context.Context, sel Selection, targets []plan.Target) error {
	e.compiles = true
	return e.forEach(ctx, sel, targets, "build", plan.BuildAll)
}

// forEach carries out the plan of build or install.
func (e *Engine) forEach(ctx context.Context, sel Selection, targets []plan.Target, verb string,
	compute func(state.ID, []plan.Target, *plan.Facts, plan.Options) *plan.Plan) error {
	sound := func() error {
		if sel.ID.Module == "" {
			return nil
		}
		return e.requireSound(sel.ID)
	}
	unlock, err := e.lockFor(ctx, sound)
	if err != nil {
		return err
	}
	defer unlock()
	if sel.ID.Module != "" {
		if err := e.requireSound(sel.ID); err != nil { // it may have changed meanwhile
			return err
		}
	}
	id, err := e.resolve(ctx, sel, targets[0], verb)
	if err != nil {
		return err
	}
	if e.arrived == id && id.Module != "" {
		if err := e.addNow(ctx, id, targets[0], false); err != nil {
			return err
		}
	}
	targets = distinct(targets)
	f := e.facts(ctx, []state.ID{id}, targets, func(other state.ID, r plan.Result) bool {
		return other == id || verb == "install" && r.Built
	})
	p := compute(id, targets, f, plan.Options{Force: e.Force, Again: e.CheckReproducible, NoRefresh: e.NoDepmod})
	outcomes, err := e.perform(ctx, p, f, false)
	if err == nil {
		err = verdict(outcomes)
	}
	if err != nil && verb == "install" {
		return e.despite(ctx, err)
	}
	if err != nil || verb != "install" {
		return err
	}
	return e.afterwards(ctx, targets)
}

// distinct returns targets without those that came before: two builds of one
// key would share its directory.
func distinct(targets []plan.Target) []plan.Target {
	var list []plan.Target
	for _, t := range targets {
		if !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	return list
}

// prepareStep finds out whether and how objects for a kernel are signed; what
// it finds is shown once per kernel.
func (w *performance) prepareStep(ctx context.Context, t plan.Target, out, errw io.Writer) error {
	if w.trial != nil || !w.kernel(t).HasHeaders() { // prebuilts are signed already
		return nil
	}
	w.keys.Lock() // two kernels must not both make the key
	defer w.keys.Unlock()
	w.mu.Lock()
	_, done := w.signing[t]
	w.mu.Unlock()
	if done {
		return nil
	}
	k := w.kernel(t)
	fw, err := w.framework(ctx, t.Kernel, errw)
	if err != nil {
		return fail(BadConf, err)
	}
	var s signing
	s.plan, err = mok.Prepare(ctx, w.signingRequest(k, fw), func(line string) { s.last = line; fmt.Fprintln(out, line) })
	if err != nil {
		return fail(KeyFailed, err)
	}
	fmt.Fprintln(out)
	w.mu.Lock()
	w.signing[t] = s
	w.mu.Unlock()
	return nil
}

// signing is how a kernel's objects are signed; without a plan they aren't, and
// the last line of what was found out tells why.
type signing struct {
	plan *mok.Plan
	last string
	told bool // that the kernel doesn't trust the key
}

func (e *Engine) signingRequest(k kernel.Kernel, fw conf.Framework) mok.Request {
	return mok.Request{
		Paths: e.Paths, Distro: e.distro.ID, Kernel: k.Release,
		KernelConfigFile: k.ConfigFile, KernelSourceDir: k.SourceDir, KernelConfig: k.Config,
		SignFile: fw.SignFile, Key: fw.MOKSigningKey, Cert: fw.MOKCertificate, Try: fw.TrySignModules,
		CA: fw.MOKCACertificate, PassphraseFile: fw.MOKPassphraseFile,
		Environ:  e.whole,
		LookPath: func(name string) (string, error) { return run.LookPath(name, e.Environ) },
		Run: func(ctx context.Context, argv, env []string) error {
			return run.Cmd{Argv: argv, Env: append(e.baseEnv(), env...)}.Run(ctx)
		},
	}
}

// buildStep builds, unless the result of the same inputs is in the cache.
func (w *performance) buildStep(ctx context.Context, s plan.Step, line *report.Line, out, errw io.Writer) error {
	t := plan.Target{Kernel: s.Key.Kernel, Arch: s.Key.Arch}
	m, err := w.conf(s.Key, errw)
	if err == nil {
		err = w.requireDepends(s, t, m, errw)
	}
	if err != nil {
		return errors.Join(err, w.forgo(s.Key.ID, w.uses()))
	}
	if w.CheckReproducible {
		return w.checkStep(ctx, s, t, w.job(s, t, m, out, errw))
	}
	if done, err := w.fetchStep(ctx, s, t, out); done {
		return err
	} else if err != nil {
		return errors.Join(err, w.forgo(s.Key.ID, w.uses()))
	}
	r := w.reusable(ctx, s, t, m, errw)
	if r != nil && !w.Force && r.restore(ctx, out, errw) {
		return nil
	}
	job := w.job(s, t, m, out, errw)
	job.OnStage = shown(line)
	chain, err := w.equip(ctx, t, &job)
	if err != nil {
		return errors.Join(err, w.forgo(s.Key.ID, w.uses()))
	}
	if r != nil {
		job.Keep = r.keeper(chain)
	}
	go job.Verify.Kernel.Prefetch() // beside the compilers
	return w.explained(ctx, s.Key, m, job.Run(ctx, w.rooms[s.Key.ID]))
}

// explained turns the failure of a build into one of the verb.
func (w *performance) explained(ctx context.Context, key state.Key, m *conf.Module, err error) error {
	var f *build.Failure
	if errors.As(err, &f) {
		if w.trial == nil {
			w.reportProblem(ctx, key)
		}
		failure := w.buildFailure(ctx, key, m, f)
		w.refused(failure, key.Module, f.Refused)
		return failure
	}
	return err
}

// requireDepends fails if a module that the build needs isn't installed. The
// plan counted on dependencies that were excluded in the meantime.
func (w *performance) requireDepends(s plan.Step, t plan.Target, m *conf.Module, errw io.Writer) error {
	if missing := w.notInstalled(m.BuildDepends, t); len(missing) > 0 && !w.Force {
		return w.missingDepends(s.Key, missing)
	}
	if len(s.Missing) > 0 {
		fmt.Fprintf(errw, "Warning: building %s although these are not installed for kernel %s: %s\n", s.Key.ID, t.Kernel, strings.Join(s.Missing, " "))
	}
	return nil
}

// equip adds to a build what it needs of the kernel's toolchain, or tells why
// there can be none.
func (w *performance) equip(ctx context.Context, t plan.Target, job *build.Job) (toolchain, error) {
	chain, err := w.toolchain(ctx, job.Kernel)
	if err == nil {
		err = w.compilerMissing(job.Kernel, chain)
	}
	if err != nil {
		return chain, err
	}
	job.Env, job.LLVM = append(job.Env, chain.env...), chain.llvm
	job.Inputs = w.inputsRecord(job.Key, job.Conf, chain)
	job.Finish = w.finish(t, chain)
	return chain, w.confined(job)
}

// job is a build but for what depends on the kernel's toolchain.
func (w *performance) job(s plan.Step, t plan.Target, m *conf.Module, out, errw io.Writer) build.Job {
	k := w.kernel(t)
	return build.Job{
		Key: s.Key, Tree: w.tree, Paths: w.Paths, Conf: m, Kernel: k, Facts: w.kernelFacts(t),
		Env: w.compileEnv(s.Key, m, k), Vars: w.vars(s.Key, k), Jobs: w.Jobs, Server: w.jobs,
		Depends: w.dependVersions(m, t), Verify: w.verifyTarget(s.Key, t, m), Force: w.Force,
		Verbose: w.Verbose, Version: w.Version,
		RealUname: func(err error) {
			w.untold.Store(true)
			w.realUname.Do(func() {
				fmt.Fprintf(errw, "Warning: builds see the running kernel's uname here: %v\n", err)
			})
		}, Out: out, Err: errw,
	}
}

// inputDigests is what the record of a build tells of its inputs but for the
// compiler.
func (w *performance) inputDigests(key state.Key, m *conf.Module) state.Record {
	r := state.Record{Settings: w.settingsDigest(m, key.ID), WatchesImage: w.watchesImage(key.ID, m)}
	r.Identity = w.identity(plan.Target{Kernel: key.Kernel, Arch: key.Arch})
	r.Tried, _ = w.sought(key)
	r.Source, _ = w.sourceDigest(key.ID) // prepare tells what can't be read
	return r
}

// inputsRecord is what the record of a build tells of its inputs.
func (w *performance) inputsRecord(key state.Key, m *conf.Module, chain toolchain) state.Record {
	r := w.inputDigests(key, m)
	environ := append(w.baseEnv(), chain.env...)
	cc, _, _ := strings.Cut(lastValue(chain.env, "CC"), " ")
	for _, name := range []string{cc, "gcc", "cc", "clang"} {
		if r.Compiler = w.program(name, environ); r.Compiler != nil {
			r.Compiler.Banner = w.banner(r.Compiler.Path)
			break
		}
	}
	return r
}

// installedAs returns the version of a module that is installed for a kernel.
func (e *Engine) installedAs(module string, t plan.Target) (id state.ID, ok bool) {
	key := t.Key(state.ID{Module: module})
	if key.Version, ok = e.tree.Active(key); !ok {
		return key.ID, false
	}
	return key.ID, e.tree.Installed(key)
}

// notInstalled returns those modules that no version of is installed.
func (e *Engine) notInstalled(names []string, t plan.Target) (missing []string) {
	for _, name := range names {
		if _, ok := e.installedAs(name, t); !ok {
			missing = append(missing, name)
		}
	}
	return missing
}

// lastValue returns what a program finds for a variable in environ.
func lastValue(environ []string, name string) string {
	value := ""
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

// buildEnvironment returns what the file named by build_environment in
// framework.conf exports.
func (e *Engine) buildEnvironment(ctx context.Context) ([]string, error) {
	file := e.Framework.BuildEnvironment
	if file == "" {
		return nil, nil
	}
	if fi, err := os.Stat(file); err != nil || !fi.Mode().IsRegular() {
		return nil, nil
	}
	out, err := run.Cmd{Argv: []string{"bash", "-c", `. "$1" >/dev/null 2>&1; env -0`, "bash", file}, Env: e.baseEnv()}.Output(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading build_environment %s: %w", file, err)
	}
	return strings.Split(strings.TrimRight(string(out), "\x00"), "\x00"), nil
}

// buildEnv is the environment of a module's commands: the caller's, and the
// four variables that hooks rely on (reference 5.6).
func (e *Engine) buildEnv(k state.Key, m *conf.Module) []string {
	env := append(e.baseEnv(), "module="+k.Module, "module_version="+k.Version, "kernelver="+k.Kernel, "arch="+k.Arch)
	return append(env, m.Env...)
}

// compileEnv is the environment of a build: that of the module's commands, and
// what makes the same inputs give the same bytes where the caller doesn't say
// otherwise. A time stamp keeps pahole, by the kernel's makefiles, from writing
// types in the order in which its threads end (scripts/Makefile.btf); compilers
// take __DATE__ from SOURCE_DATE_EPOCH (reproducible-builds.org).
func (e *Engine) compileEnv(key state.Key, m *conf.Module, k kernel.Kernel) []string {
	env := e.buildEnv(key, m)
	for name, value := range map[string]string{"SOURCE_DATE_EPOCH": sourceEpoch, "KBUILD_BUILD_TIMESTAMP": sourceTime} {
		if lastValue(env, name) == "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// sourceTime is the time that builds are told to write where they write one, and
// sourceEpoch the same in seconds since 1970.
const (
	sourceTime  = "1980-01-01T00:00:00Z"
	sourceEpoch = "315532800"
)

// vars are the variables that the text of MAKE may use besides.
func (e *Engine) vars(key state.Key, k kernel.Kernel) map[string]string {
	return map[string]string{
		"dkms_tree": e.Paths.DKMSTree, "source_tree": e.Paths.SourceTree, "install_tree": e.Paths.InstallTree,
		"kernel_source_dir": k.SourceDir, "kernel_config": k.ConfigFile, "parallel_jobs": e.Jobs,
		"tmp_location": e.Framework.TmpLocation,
		"source_dir":   e.tree.SourceLink(key.ID), "build_dir": e.tree.Build(key.ID),
	}
}

// dependVersions are the versions of the dependencies a build records.
func (w *performance) dependVersions(m *conf.Module, t plan.Target) map[string]string {
	if !m.BuildDependsRebuild || w.Force {
		return nil
	}
	versions := map[string]string{}
	for _, d := range m.BuildDepends {
		if v, ok := w.tree.Active(t.Key(state.ID{Module: d})); ok {
			versions[d] = v
		}
	}
	return versions
}

// finish returns how a kernel's objects are stripped, signed and compressed.
func (w *performance) finish(t plan.Target, c toolchain) build.Finish {
	w.mu.Lock()
	sign := w.signing[t]
	w.mu.Unlock()
	f := build.Finish{Strip: "strip", Clang: c.clang, Sign: sign.plan, Compression: ko.Compression(w.suffix(t))}
	if sign.plan == nil {
		f.Unsigned = strings.TrimSuffix(sign.last, mok.Unsigned)
	}
	if c.clang {
		f.Strip = "llvm-strip"
	}
	f.Compressor = compressor(f.Compression, w.Framework)
	return f
}

// compressor returns the command for a compression that the administrator gave
// options for; without options it is done in this process.
func compressor(c ko.Compression, fw conf.Framework) []string {
	var tool, opts, usual string
	switch c {
	case ko.Gzip:
		tool, opts = "gzip", fw.CompressGzipOpts
	case ko.XZ:
		tool, opts, usual = "xz", fw.CompressXZOpts, "--check=crc32 --lzma2=dict=1MiB"
	case ko.Zstd:
		tool, opts, usual = "zstd", fw.CompressZstdOpts, "-q --rm -T0"
	}
	if tool == "" || opts == "" || opts == usual {
		return nil
	}
	words := slices.DeleteFunc(strings.Fields(opts), func(o string) bool { return o == "--rm" || o == "-f" })
	return append(append([]string{tool}, words...), "-c")
}

// reportProblem tells Ubuntu's crash reporter of a failed build.
func (w *performance) reportProblem(ctx context.Context, k state.Key) {
	if fi, err := os.Stat(w.Paths.Apport); err != nil || fi.Mode()&0o111 == 0 {
		return
	}
	c := run.Cmd{Argv: []string{"python3", w.Paths.ApportHook, "-m", k.Module, "-v", k.Version, "-k", k.Kernel}, Env: w.baseEnv()}
	if err := c.Run(ctx); err != nil && w.Verbose {
		fmt.Fprintf(w.Err, "Warning: telling apport: %v\n", err)
	}
}
