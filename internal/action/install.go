// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/build"
	"dkms-go/internal/conf"
	"dkms-go/internal/install"
	"dkms-go/internal/plan"
	"dkms-go/internal/report"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
)

// Install installs a module for each target, adding and building it as far as
// needed. After: it is the active version for each target that didn't fail,
// and the module indexes are up to date.
func (e *Engine) Install(ctx context.Context, sel Selection, targets []plan.Target) error {
	if err := e.RequireRoot(); err != nil {
		return err
	}
	if strings.HasSuffix(sel.Archive, ".rpm") && sel.ID.Module == "" {
		return e.installRPM(ctx, sel.Archive, targets)
	}
	return e.forEach(ctx, sel, targets, "install", plan.InstallAll)
}

// installRPM hands a package to rpm(8) and installs what it brought. With
// --dry-run it only shows the command.
func (e *Engine) installRPM(ctx context.Context, file string, targets []plan.Target) error {
	if !readable(file) {
		return failf(NoArchive, "there is no package %q", file)
	}
	c := run.Cmd{Argv: []string{"rpm", "-Uvh", file}, Env: e.Environ, Stdout: e.Out, Stderr: e.Err}
	if e.DryRun {
		fmt.Fprintln(e.Out, c.Line())
		return nil
	}
	if err := c.Run(ctx); err != nil {
		return fail(RPMFailed, fmt.Errorf("installing %s: %w", file, err))
	}
	return e.Autoinstall(ctx, targets, state.ID{})
}

func (w *performance) installStep(ctx context.Context, s plan.Step, t plan.Target, out, errw io.Writer) error {
	remarksTo := errw
	if !w.facts.Results[s.Key].Built || s.Replace {
		remarksTo = io.Discard // the build has shown them
	}
	m, err := w.conf(s.Key, remarksTo)
	if err != nil {
		return err
	}
	if w.trial != nil {
		return w.trial.mark(w.tree, s.Key)
	}
	job := w.installJob(s.Key, t, m, out, errw)
	job.Replace = s.Replace
	// A version that only stays for its successor has no say against it.
	if v, ok := w.tree.Active(s.Key); ok && v != s.Key.Version {
		old := state.ID{Module: s.Key.Module, Version: v}
		job.ForceVersion = job.ForceVersion || w.tree.Retired(old)
	}
	w.forced(&job)
	w.commits.Lock()
	defer w.commits.Unlock()
	err = job.Install(ctx)
	if err == nil {
		w.touched(t, m, true)
		w.forgetABI(t)
	}
	var f *install.Failure
	if errors.As(err, &f) {
		return installFailure(f)
	}
	return err
}

func installFailure(i *install.Failure) *Failure {
	switch i.Problem {
	case install.PreInstallFailed:
		return fail(PreInstallFailed, i.Err, "Nothing was installed. --force installs nevertheless.")
	case install.NotLoadable:
		return fail(NotVerified, i.Err, "Nothing was installed. --force installs nevertheless.")
	case install.NothingToPlace:
		return fail(InstallFailed, i.Err, "You may override by specifying --force.")
	}
	return fail(InstallFailed, i.Err)
}

// installJob describes an install or uninstall of one result.
func (w *performance) installJob(key state.Key, t plan.Target, m *conf.Module, out, errw io.Writer) install.Job {
	return install.Job{
		Key: key, Tree: w.tree, Paths: w.Paths, Conf: m, Facts: w.kernelFacts(t), Dir: w.installDir,
		Suffix: w.suffix(t), Force: w.Force || w.RPMSafeUpgrade, ForceVersion: w.ForceVersion,
		Verify: w.verifyTarget(key, t, m), NoIndex: w.NoDepmod, Symlink: w.Symlink || w.Framework.SymlinkModules, Weak: w.weakOf(t.Kernel),
		Env: w.buildEnv(key, m), Out: out, Err: errw,
	}
}

// weakOf returns what gathers a kernel's changed objects for weak-modules(8); nil
// where there is no such helper or the environment says NO_WEAK_MODULES.
func (w *performance) weakOf(kernel string) *install.Weak {
	add, remove := w.distro.Weak(w.Paths, kernel)
	if add == nil || w.noWeak() {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.weak[kernel] == nil {
		w.weak[kernel] = &install.Weak{Add: add, Remove: remove}
	}
	return w.weak[kernel]
}

func (e *Engine) noWeak() bool {
	for _, kv := range e.Environ {
		if v, ok := strings.CutPrefix(kv, "NO_WEAK_MODULES="); ok && v != "" {
			return true
		}
	}
	return false
}

// forced applies a distribution's list of modules to install by force.
func (w *performance) forced(job *install.Job) {
	entries, err := os.ReadDir(w.Paths.ForceDir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(w.Paths.ForceDir, entry.Name()))
		if err != nil {
			continue
		}
		for _, word := range strings.Fields(string(text)) {
			switch word {
			case job.Key.Module:
				job.Force = true
				fmt.Fprintf(job.Out, "Forcing installation of %s\n", job.Key.Module)
				return
			case job.Key.Module + "_version-override":
				job.ForceVersion = true
				fmt.Fprintf(job.Out, "Forcing version override of %s\n", job.Key.Module)
				return
			}
		}
	}
}

// refreshStep updates a kernel's module index, after weak-modules(8) has had its
// turn.
func (w *performance) refreshStep(ctx context.Context, t plan.Target, line *report.Line, out, errw io.Writer) error {
	w.weakOf(t.Kernel).Tell(ctx, w.baseEnv(), out, errw)
	command := "depmod -a " + t.Kernel
	if w.Verbose {
		fmt.Fprintln(out, command)
	} else {
		fmt.Fprint(out, "Running depmod...")
	}
	done, err := install.Refresh(ctx, w.Paths, t.Kernel, w.baseEnv(), w.Framework.DepmodOnly)
	switch {
	case !w.Verbose:
	case done.Ran:
		fmt.Fprintln(out, done.How)
	case err == nil:
		fmt.Fprintf(out, "skipped, the image of kernel %s is not installed\n", t.Kernel)
	}
	if err := build.Outcome(out, command, w.Verbose, err); err != nil {
		return fail(IndexFailed, err, "The objects are in place. The next dkms command that installs or removes tries again, or run: "+command)
	}
	if err := w.tree.IndexDone(t.Kernel); err != nil {
		return fail(NotWritable, err)
	}
	line.Stage("initramfs")
	if err := w.updateInitramfs(ctx, t, out); err != nil {
		return err
	}
	return w.modprobe(ctx, t)
}

// modprobe loads what the machine's devices ask for, if the kernel runs.
func (w *performance) modprobe(ctx context.Context, t plan.Target) error {
	if !w.ModprobeOnInstall && !w.Framework.ModprobeOnInstall || w.Root != "" {
		return nil
	}
	if release, _, err := w.Running(); err != nil || release != t.Kernel {
		return nil
	}
	aliases := map[string]bool{}
	filepath.WalkDir(w.Paths.SysDevices, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "modalias" {
			if text, err := os.ReadFile(path); err == nil && len(text) > 1 {
				aliases[strings.TrimSpace(string(text))] = true
			}
		}
		return nil
	})
	argv := []string{"modprobe", "-a", "-b", "-q"}
	for alias := range aliases {
		argv = append(argv, alias)
	}
	if len(aliases) > 0 {
		// Most aliases have no module; modprobe's status says nothing.
		_ = run.Cmd{Argv: argv, Env: w.baseEnv()}.Run(ctx)
	}
	if _, err := os.Stat(w.Paths.ModulesLoadUnit); err == nil {
		_ = run.Cmd{Argv: []string{"systemctl", "restart", filepath.Base(w.Paths.ModulesLoadUnit)}, Env: w.baseEnv()}.Run(ctx)
	}
	return nil
}
