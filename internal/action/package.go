// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/conf"
	"dkms-go/internal/copytree"
	"dkms-go/internal/kernel"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// packageArgs are the arguments of common.postinst (reference 8.3); the version
// that was configured before makes no difference here.
type packageArgs struct {
	state.ID
	// Archives is the directory of an archive that the package may bring.
	Archives string
	Arch     string
}

// hookPackage registers the module of a package that was just configured, and
// builds and installs it for every kernel that is there. Before: its source is
// in the source tree, or an archive is. Nothing that works is deleted first: a
// kernel keeps its older version until this one is installed for it.
func (e *Engine) hookPackage(ctx context.Context, a packageArgs) error {
	if a.Module == "" || a.Version == "" {
		return failf(NoModule, "the module or its version is not given").hint("Say: dkms hook package <name> <version> [<directory> [<arch> [<old version>]]]")
	}
	if err := requireID(a.ID, "hook package"); err != nil {
		return err
	}
	if e.disabled() {
		return nil
	}
	if err := e.requireWritable(); err != nil {
		return err
	}
	unlock, err := e.lock(ctx)
	if err != nil {
		return e.packageGaveUp(ctx, err, a)
	}
	defer unlock()
	targets, waiting, err := e.everyKernel(a.Arch)
	if err != nil {
		return err
	}
	first := plan.Target{Kernel: unknownKernel}
	if len(targets) > 0 {
		first = targets[0]
	}
	err = e.registerPackage(ctx, a, first)
	m := (*conf.Module)(nil)
	if err == nil {
		if m, err = e.load(ctx, a.ID, first, conf.Auto, e.Err); err != nil {
			err = confFailure(err)
		}
	}
	if err != nil {
		return e.unusable(ctx, a.ID, append(targets, waiting...), failed(err))
	}
	if !m.Autoinstall {
		fmt.Fprintf(e.Out, "Not building %s: its dkms.conf does not ask for automatic installation.\n", a.ID)
		return nil
	}
	for _, t := range waiting {
		if err := e.keepWaiting(ctx, t, []state.ID{a.ID}, state.WaitingHeaders, strings.Join(e.noHeaders(ctx, t).Hint, " ")); err != nil {
			return err
		}
	}
	if err := e.installPackage(ctx, a.ID, targets, e.policy(m) == conf.Required); err != nil {
		return err
	}
	if left := e.leftUndone(nil); len(left) > 0 {
		return e.serve(ctx, left...)
	}
	return nil
}

// unusable deals with a module that can't even be read: it is registered all the
// same, so that its package can take it away again, and the failure is kept for
// every kernel.
func (e *Engine) unusable(ctx context.Context, id state.ID, targets []plan.Target, f *Failure) error {
	if !slices.Contains([]Reason{BadConf, NoConf, NoSource}, f.Reason) {
		return f
	}
	if c := e.tree.Condition(id); c == state.Absent || c == state.Hidden {
		if err := e.register(id, e.tree.Source(id)); err != nil {
			return fail(Internal, err)
		}
	}
	required := false
	for _, t := range targets {
		if err := e.keepFailure(t.Key(id), f); err != nil {
			return fail(NotWritable, err)
		}
		required = required || e.policyFor(ctx, id, t) == conf.Required
	}
	if required || len(targets) == 0 && e.Framework.Policy == conf.Required {
		return f
	}
	return e.harmless(f)
}

// everyKernel returns the kernels with headers, and those without: only their
// image is there.
func (e *Engine) everyKernel(arch string) (targets, waiting []plan.Target, err error) {
	_, machine, err := e.Running()
	if err != nil {
		return nil, nil, fail(Internal, err)
	}
	for _, release := range kernel.Installed(e.Paths) {
		t := plan.Target{Kernel: release, Arch: arch}
		if arch == "" {
			t.Arch = e.arch(release, machine)
		}
		switch k := e.kernel(t); {
		case strings.Contains(release, "BOOT"): // installers' kernels, as upstream
		case k.HasHeaders() || e.fetching() && k.HasImage(e.Paths):
			targets = append(targets, t)
		case k.HasImage(e.Paths):
			waiting = append(waiting, t)
		}
	}
	return targets, waiting, nil
}

// registerPackage adds the module, or gives one that is there already its source
// back: it may be the kept one.
func (e *Engine) registerPackage(ctx context.Context, a packageArgs, t plan.Target) error {
	archive := filepath.Join(a.Archives, a.Module+"-"+a.Version+".dkms.tar.gz")
	if _, err := os.Stat(archive); a.Archives != "" && err == nil {
		defer func(force bool) { e.Force = force }(e.Force)
		e.Force = true
		if _, err := e.unpack(ctx, archive, t); err != nil {
			return err
		}
	}
	source := e.tree.Source(a.ID)
	if c := e.tree.Condition(a.ID); c == state.Absent || c == state.Hidden || e.arrived == a.ID {
		return e.addNow(ctx, a.ID, t, false)
	}
	if fi, err := os.Stat(source); err != nil || !fi.IsDir() {
		return e.requireSound(a.ID)
	}
	if to, err := os.Readlink(e.tree.SourceLink(a.ID)); err == nil && to == source && !readable(e.tree.KeptSource(a.ID)) && !readable(e.tree.PrebuiltSource(a.ID)) {
		return nil
	}
	return e.change(func(c *state.Change) error {
		c.Link(source, e.tree.SourceLink(a.ID))
		e.dropStandIns(c, a.ID, source)
		return nil
	})
}

// installPackage carries out the plan, for kernels side by side, and shows what
// is missing afterwards.
func (e *Engine) installPackage(ctx context.Context, id state.ID, targets []plan.Target, required bool) error {
	e.deep = true
	if len(targets) == 0 {
		fmt.Fprintf(e.Err, "Warning: no kernel with headers is installed; %s will be built when one comes\n", id)
	}
	idle := e.idle(id, targets)
	var f *plan.Facts
	if !idle {
		f = e.facts(ctx, []state.ID{id}, targets, func(other state.ID, r plan.Result) bool { return other == id || r.Built })
	} else {
		f = e.settledFacts(id, targets)
	}
	if len(targets) > 0 {
		fmt.Fprintf(e.Out, "Building %s for %s\n", id, kernelList(targets))
		p := plan.InstallAll(id, targets, f, plan.Options{NoRefresh: e.NoDepmod})
		for i, s := range p.Steps {
			if s.Kind == plan.Build {
				p.Steps[i].Heading = fmt.Sprintf("Kernel %s (%s):", s.Key.Kernel, s.Key.Arch)
			}
		}
		outcomes, err := e.perform(ctx, p, f, false)
		if err == nil && required {
			err = indexFailure(p, outcomes)
		}
		if err != nil {
			return err
		}
	}
	e.dependents(ctx, id, targets)
	if err := e.sweepRetired(id.Module); err != nil {
		return err
	}
	if !idle {
		if err := e.afterwards(ctx, targets); err != nil {
			return err
		}
	}
	list := e.Outcomes(Filter{Module: id.Module, Version: id.Version})
	Report(e.Err, list)
	if bad := requiredFailures(list); len(bad) > 0 {
		return &Failure{
			Reason: HookFailed, Status: bad[0].Code, Err: fmt.Errorf("%s is required and could not be installed for every kernel", id),
			Hint: []string{"What failed, and what to do, is told above."},
		}
	}
	return nil
}

// idle reports whether a module is installed for all targets, from the source that
// it has now, and no module index is due.
func (e *Engine) idle(id state.ID, targets []plan.Target) bool {
	e.forgetStamps()
	due := slices.ContainsFunc(targets, func(t plan.Target) bool { return !e.settled(id, t) })
	return !due && len(targets) > 0 && len(e.tree.KernelsDue()) == 0
}

// settledFacts are the facts of a module that is installed for all targets: there is
// nothing to evaluate for a plan that only says so.
func (e *Engine) settledFacts(id state.ID, targets []plan.Target) *plan.Facts {
	f := &plan.Facts{Modules: []plan.Module{{ID: id, Condition: state.Added}}, Kernels: map[plan.Target]plan.Kernel{}, Results: map[state.Key]plan.Result{}}
	for _, t := range targets {
		f.Kernels[t] = plan.Kernel{Headers: true}
		f.Results[t.Key(id)] = plan.Result{Built: true, Installed: true}
	}
	return f
}

func kernelList(targets []plan.Target) string {
	var names []string
	for _, t := range targets {
		names = append(names, t.Kernel)
	}
	return strings.Join(names, " ")
}

// dependents tries those modules again that have failed for want of this one.
func (e *Engine) dependents(ctx context.Context, id state.ID, targets []plan.Target) {
	e.remember = true
	for _, o := range e.Outcomes(Filter{}) {
		t := plan.Target{Kernel: o.Kernel, Arch: o.Arch}
		if !slices.Contains(targets, t) || o.Module == id.Module {
			continue
		}
		m, err := e.load(ctx, o.Key().ID, t, conf.Auto, e.Err)
		if err != nil || !slices.Contains(m.BuildDepends, id.Module) {
			continue
		}
		// What fails is kept, and shown by its own hook.
		e.autoinstall(ctx, []plan.Target{t}, o.Key().ID)
	}
}

// hookReplaced is called before a package with a module makes room for another one of
// its name. After: the module stays installed where it is, until the hook "package" of
// what comes next has found that its successor works; one that is installed nowhere is
// gone. A module that was never registered is no error.
func (e *Engine) hookReplaced(ctx context.Context, id state.ID) error {
	if err := requireID(id, "hook replaced"); err != nil {
		return err
	}
	if e.condition(id) != state.Added { // a broken one has nothing that could be kept
		return nil
	}
	e.retires = true
	return e.Back(ctx, id, nil, true, plan.ToNothing)
}

// retire keeps a module whose package is being replaced: its source, which the
// package takes away, is copied, and it stays installed where it is.
func (e *Engine) retire(id state.ID) error {
	fmt.Fprintf(e.Out, "Keeping %s where it is installed until the new version of its package works.\n", id)
	if e.tree.Retired(id) {
		return nil
	}
	return e.change(func(c *state.Change) error {
		kept := e.tree.KeptSource(id)
		tmp, err := c.Stage(kept)
		if err == nil {
			err = copytree.Copy(e.tree.SourceLink(id), tmp)
		}
		if err != nil {
			return fmt.Errorf("keeping the source of %s: %w", id, err)
		}
		c.Link(kept, e.tree.SourceLink(id))
		return nil
	})
}

// replacing reports whether this process was started by a maintainer script of
// a Debian package that is being replaced and not removed: dpkg calls the old
// `prerm upgrade` before the new version is there (deb-prerm(5)). Only the
// script's arguments tell.
func (e *Engine) replacing() bool {
	if !slices.Contains(e.Environ, "DPKG_MAINTSCRIPT_NAME=prerm") {
		return false
	}
	pid := fmt.Sprint(os.Getppid())
	for range 8 {
		words := strings.Split(readFile(filepath.Join(e.Paths.Proc, pid, "cmdline")), "\x00")
		for i, w := range words {
			if base := filepath.Base(w); (base == "prerm" || strings.HasSuffix(base, ".prerm")) && i+1 < len(words) {
				return slices.Contains([]string{"upgrade", "failed-upgrade", "deconfigure"}, words[i+1])
			}
		}
		pid = parentOf(readFile(filepath.Join(e.Paths.Proc, pid, "status")))
		if pid == "" || pid == "0" {
			break
		}
	}
	return false
}

// readFile returns the text of a file, or "".
func readFile(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(text)
}

// parentOf returns the parent that a process's status names (proc_pid_status(5)).
func parentOf(status string) string {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, "PPid:"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// sweepRetired takes away retired modules, and their results, where they aren't
// installed any more; name limits it to one module.
func (e *Engine) sweepRetired(name string) error {
	for _, id := range e.tree.Modules(name, "") {
		if !e.tree.Retired(id) {
			continue
		}
		left := 0
		err := e.change(func(c *state.Change) error {
			for _, k := range e.tree.Results(id, "*", "") {
				if e.tree.Installed(k) {
					left++
					continue
				}
				c.Remove(e.tree.Result(k))
				c.Prune(filepath.Dir(e.tree.Result(k)), e.tree.Version(id))
			}
			if left == 0 {
				fmt.Fprintf(e.Out, "Deleting %s: its successor has taken its place.\n", id)
				e.forget(c, id)
			}
			return nil
		})
		if err != nil {
			return fail(NotWritable, err)
		}
	}
	return nil
}

// forget makes a change delete a module with all that is kept for it.
func (e *Engine) forget(c *state.Change, id state.ID) {
	c.Remove(e.tree.Version(id))
	c.Prune(e.tree.Module(id.Module), e.tree.Dir)
	for _, dir := range []string{e.tree.KeptLogs(id), e.tree.KeptSource(id), e.tree.PrebuiltSource(id), e.tree.OutcomesDir(id)} {
		c.Remove(dir)
		c.Prune(filepath.Dir(dir), e.tree.Dir)
	}
}
