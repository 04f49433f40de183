// SPDX-License-Identifier: Apache-2.0

package action

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/conf"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// HookNames lists the hooks of `dkms hook`: who calls each, and when.
func HookNames() [][2]string {
	return [][2]string{
		{"image", "a kernel's image was installed; ends well whatever happens, so that later hooks run"},
		{"headers", "a kernel's headers were installed"},
		{"verdict", "the last of a kernel's hooks: fails if a required module has failed"},
		{"preinst", "a kernel is about to be replaced"},
		{"prerm", "a kernel is about to be removed"},
		{"package", "a package with a module was configured: name, version, archive directory, arch, old version"},
		{"replaced", "a package with a module is about to be replaced: name, version"},
		{"autoinstaller", "start [<kernel>]: as upstream's dkms_autoinstaller"},
		{"kernel-install", "add|remove <kernel>: as a plugin of kernel-install(8)"},
		{"pacman", "install|remove, with paths on the standard input"},
		{"boot", "the machine has started"},
	}
}

// HarmlessHook reports whether a hook ends well whatever happens: its failure would
// keep a kernel package's other hooks from running.
func HarmlessHook(name string) bool {
	return slices.Contains([]string{"image", "preinst", "prerm", "kernel-install"}, name)
}

// Hook does the work of a package manager's hook. A failed module is kept in the
// tree and shown in one block. It is the hook's failure only if the module is
// required, see conf.Module.Policy.
func (e *Engine) Hook(ctx context.Context, name string, args []string, in io.Reader) error {
	if err := e.RequireRoot(); err != nil {
		return err
	}
	e.hooked = true
	err := e.hook(ctx, name, args, in)
	if name != "image" && name != "kernel-install" { // what boots is written after these
		e.watchGate(ctx)
	}
	return err
}

func (e *Engine) hook(ctx context.Context, name string, args []string, in io.Reader) error {
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch name {
	case "image":
		e.ownInitramfs = true // its own hook makes it next
		return e.harmless(e.hookKernel(ctx, false, arg(0)))
	case "headers":
		return e.hookKernel(ctx, true, arg(0))
	case "verdict":
		return e.hookVerdict(ctx, arg(0))
	case "preinst":
		return nil // what was built stays until its successor works
	case "prerm":
		return e.harmless(e.hookRemove(ctx, arg(0)))
	case "package":
		return e.hookPackage(ctx, packageArgs{state.ID{Module: arg(0), Version: arg(1)}, arg(2), arg(3)})
	case "replaced":
		return e.hookReplaced(ctx, state.ID{Module: arg(0), Version: arg(1)})
	case "autoinstaller":
		return e.hookAutoinstaller(ctx, arg(0), arg(1))
	case "kernel-install":
		return e.harmless(e.hookKernelInstall(ctx, arg(0), arg(1)))
	case "pacman":
		return e.hookPacman(ctx, arg(0), in)
	case "boot":
		return e.hookKernel(ctx, false, "")
	}
	return failf(Internal, "there is no hook %q", name)
}

// harmless is Harmless that shows the error where all others are shown.
func (e *Engine) harmless(err error) error {
	return Harmless(err, func(f *Failure) { e.Explain(e.Err, f) })
}

// Harmless shows an error and forgets it, for hooks whose failure would keep others
// from running. Only an interruption remains one.
func Harmless(err error, show func(f *Failure)) error {
	if err == nil {
		return nil
	}
	if f := failed(err); f.Reason == Interrupted {
		return f
	} else if !f.Said {
		show(f)
	}
	return nil
}

// hookTarget is the kernel that a hook names, or the running one.
func (e *Engine) hookTarget(release string) (plan.Target, error) {
	var kernels []string
	if release != "" {
		kernels = []string{release}
	}
	targets, err := e.Targets(kernels, nil, true)
	if err != nil {
		return plan.Target{}, err
	}
	return targets[0], nil
}

// hookKernel makes the modules for kernels of which a package has just come. If
// headersOnly, it was that of the headers, and a kernel whose image isn't there
// yet waits for it: what a module reads of the image would be missing from it.
func (e *Engine) hookKernel(ctx context.Context, headersOnly bool, releases ...string) error {
	var targets []plan.Target
	for _, release := range releases {
		t, err := e.hookTarget(release)
		if err != nil {
			return err
		}
		if k := e.kernel(t); k.HasHeaders() || k.HasImage(e.Paths) { // else a container's host runs it
			targets = append(targets, t)
		}
	}
	if _, err := os.Stat(e.tree.Dir); err != nil || len(targets) == 0 || e.disabled() {
		return nil
	}
	unlock, err := e.lock(ctx)
	if err != nil {
		return e.gaveUp(ctx, err, e.latest(), targets...)
	}
	defer unlock()
	if t := targets[0]; headersOnly && !e.kernel(t).HasImage(e.Paths) {
		return e.wait(ctx, t, state.WaitingImage, fmt.Sprintf("The image of kernel %s is not there yet. Its package builds the modules; now: dkms autoinstall -k %s", t.Kernel, t.Kernel))
	}
	return e.serve(ctx, append(targets, e.leftUndone(targets)...)...)
}

// wait keeps that the modules for a kernel wait, and says so.
func (e *Engine) wait(ctx context.Context, t plan.Target, what, hint string) error {
	if err := e.keepWaiting(ctx, t, e.latest(), what, hint); err != nil {
		return err
	}
	Report(e.Err, e.Outcomes(Filter{Kernel: t.Kernel, Arch: t.Arch}))
	return nil
}

// latest are the modules that an autoinstall looks at.
func (e *Engine) latest() []state.ID {
	f := &plan.Facts{}
	for _, id := range e.modules("", "") {
		f.Modules = append(f.Modules, plan.Module{ID: id, Condition: e.tree.Condition(id), Retired: e.tree.Retired(id)})
	}
	return f.Latest()
}

// serve installs for kernels, side by side, what wants to be, leaves alone what
// has failed with the same inputs before, and shows all that is missing. The
// failure is that of a required module. The caller holds the lock.
func (e *Engine) serve(ctx context.Context, targets ...plan.Target) error {
	var with []plan.Target
	var worst error
	keep := func(err error) {
		if worst == nil {
			worst = err
		}
	}
	for _, t := range targets {
		if e.kernel(t).HasHeaders() || e.fetching() {
			with = append(with, t)
		} else {
			keep(e.wait(ctx, t, state.WaitingHeaders, strings.Join(e.noHeaders(ctx, t).Hint, " ")))
		}
	}
	e.remember = true
	for _, r := range e.autoinstall(ctx, with, state.ID{}) {
		keep(e.served(ctx, r))
	}
	return worst
}

// served ends what was done for one kernel.
func (e *Engine) served(ctx context.Context, r *round) error {
	t, err := r.target, r.err
	switch f := failed(err); {
	case err == nil || f.Reason == AutoinstallFailed:
	case (f.Reason == IndexFailed || f.Reason == InitramfsFailed) && !e.requiredFor(ctx, t):
		err = e.harmless(f) // the next command tries the index again; ready tells
	default:
		return err
	}
	if err == nil && r.done {
		err = e.afterwards(ctx, []plan.Target{t})
	}
	list := e.Outcomes(Filter{Kernel: t.Kernel, Arch: t.Arch})
	Report(e.Err, list)
	if len(requiredFailures(list)) > 0 {
		return &Failure{Reason: AutoinstallFailed, Err: fmt.Errorf("a required module is missing for kernel %s", t.Kernel), Hint: []string{"What failed, and what to do, is told above."}}
	}
	return nil
}

// requiredFor reports whether a required module is installed for a kernel.
func (e *Engine) requiredFor(ctx context.Context, t plan.Target) bool {
	return slices.ContainsFunc(e.kernelModules(t, func(id state.ID) bool { return e.tree.Installed(t.Key(id)) }), func(id state.ID) bool {
		m, _ := e.load(ctx, id, t, conf.Auto, io.Discard) // without a conf the default counts
		return e.policy(m) == conf.Required
	})
}

// hookVerdict fails for a kernel whose required modules have failed.
func (e *Engine) hookVerdict(ctx context.Context, release string) error {
	t, err := e.hookTarget(release)
	if err != nil {
		return err
	}
	lacking := e.requiredLacking(ctx, t)
	if len(lacking) == 0 {
		return nil
	}
	f := failf(AutoinstallFailed, "required modules have failed for kernel %s", t.Kernel)
	f.Hint = lacking
	return f.hint("Fix them, then: dkms autoinstall -k %s, and dpkg --configure -a. Or declare them optional: FAILURE_POLICY=optional in %s/<module>.conf", t.Kernel, e.Paths.ConfDir)
}

// requiredLacking has a line for each required module that isn't installed for a
// kernel, whatever was kept of it, except those that only wait for a package.
func (e *Engine) requiredLacking(ctx context.Context, t plan.Target) []string {
	if !e.kernel(t).HasHeaders() {
		return nil // all wait
	}
	var lines []string
	for _, id := range e.required(ctx, t) {
		reason := "not installed"
		for _, o := range e.Outcomes(Filter{Module: id.Module, Kernel: t.Kernel, Arch: t.Arch}) {
			if reason = o.Error; o.State == state.OutcomeWaiting && o.Waiting != state.WaitingLock {
				reason = ""
			}
		}
		if v, ok := e.tree.Active(t.Key(id)); ok && e.tree.Installed(t.Key(state.ID{Module: id.Module, Version: v})) && reason == "not installed" {
			reason = ""
		}
		if reason != "" {
			lines = append(lines, id.String()+": "+reason)
		}
	}
	return lines
}

// required are the required modules that want to be installed for a kernel. One
// whose conf can't be read wants to be.
func (e *Engine) required(ctx context.Context, t plan.Target) []state.ID {
	var list []state.ID
	for _, id := range e.newest() {
		if e.policyFor(ctx, id, t) != conf.Required {
			continue
		}
		m, err := e.load(ctx, id, t, conf.Auto, io.Discard)
		if err != nil || m.Autoinstall && m.Applies(e.kernelFacts(t)).OK {
			list = append(list, id)
		}
	}
	return list
}

// newest are the newest versions of all modules, also of broken ones.
func (e *Engine) newest() []state.ID {
	list := e.latest()
	for _, id := range e.tree.Modules("", "") {
		known := slices.ContainsFunc(list, func(l state.ID) bool { return l.Module == id.Module })
		if !known && e.tree.Condition(id) == state.Broken {
			list = append(list, id)
		}
	}
	return list
}

// hookRemove takes out what was made for a kernel that goes. Modules stay
// registered.
func (e *Engine) hookRemove(ctx context.Context, release string) error {
	if release == "" { // not the running one
		return failf(EmptyKernel, "the kernel that goes is not given")
	}
	t, err := e.hookTarget(release)
	if err != nil {
		return err
	}
	e.ownInitramfs = true // it goes with its kernel
	if err := e.KernelPrerm(ctx, t); err != nil {
		return err
	}
	if err := e.openGateFor(ctx, t.Kernel); err != nil {
		fmt.Fprintf(e.Err, "Warning: %v\n", err)
	}
	if _, err := os.Stat(e.tree.Dir); err != nil {
		return nil // nothing was ever added
	}
	unlock, err := e.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, o := range e.Outcomes(Filter{Kernel: t.Kernel, Arch: t.Arch}) {
		if err := e.tree.DropOutcome(o.Key()); err != nil {
			return fail(NotWritable, err)
		}
	}
	return e.sweepRetired("")
}

// hookAutoinstaller answers the calls of an init script (reference 8.2).
func (e *Engine) hookAutoinstaller(ctx context.Context, verb, release string) error {
	if verb != "start" {
		return nil
	}
	t, err := e.hookTarget(release)
	if err != nil {
		return err
	}
	if !e.kernel(t).HasHeaders() && !e.fetching() {
		fmt.Fprintf(e.Out, "Automatic installation of modules for kernel %s was skipped since its headers are missing.\n", t.Kernel)
		return nil
	}
	if err := e.hookKernel(ctx, false, t.Kernel); err != nil {
		f := failed(err)
		return &Failure{Reason: Internal, Err: f.Err, Hint: f.Hint, Said: f.Said}
	}
	return nil
}

// hookKernelInstall is a plugin of kernel-install(8): the initramfs is made by
// a later one.
func (e *Engine) hookKernelInstall(ctx context.Context, verb, release string) error {
	e.ownInitramfs = true
	switch {
	case release == "":
		return nil
	case verb == "add":
		return e.hookKernel(ctx, false, release)
	case verb == "remove":
		return e.hookRemove(ctx, release)
	}
	return nil
}

// hookPacman reads the paths that a transaction has put in place, or is about to
// take away (alpm-hooks(5), NeedsTargets): parts of kernels, and sources.
func (e *Engine) hookPacman(ctx context.Context, verb string, in io.Reader) error {
	kernels, sources := e.pacmanTargets(in)
	var worst error
	keep := func(err error) {
		if worst == nil {
			worst = err
		}
	}
	for _, id := range sources {
		if verb == "remove" {
			keep(e.Back(ctx, id, nil, true, plan.ToNothing))
		} else {
			keep(e.hookPackage(ctx, packageArgs{ID: id}))
		}
	}
	if verb != "remove" && len(kernels) > 0 {
		keep(e.hookKernel(ctx, false, kernels...))
		return worst
	}
	for _, k := range kernels {
		keep(e.hookRemove(ctx, k))
	}
	return worst
}

// pacmanTargets sorts paths below the root into kernels and modules.
func (e *Engine) pacmanTargets(in io.Reader) (kernels []string, sources []state.ID) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		path := "/" + strings.TrimPrefix(strings.TrimSpace(lines.Text()), "/")
		if filepath.Base(path) == "dkms.conf" {
			m, err := e.loadFile(context.Background(), state.ID{}, plan.Target{Kernel: unknownKernel}, path, conf.NoExec, io.Discard)
			if m == nil || err != nil {
				continue
			}
			if id := (state.ID{Module: m.Name, Version: m.Version}); id.Check() == nil {
				sources = append(sources, id)
			}
			continue
		}
		_, below, ok := strings.Cut(path, e.Paths.InstallTree+"/")
		if release, _, _ := strings.Cut(below, "/"); ok && !slices.Contains(kernels, release) {
			kernels = append(kernels, release)
		}
	}
	return kernels, sources
}
