// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
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

func sorted[T any](list []T, compare func(a, b T) int) []T {
	return slices.SortedStableFunc(slices.Values(list), compare)
}

// disabled reports, and says, that the administrator has turned off automatic
// installation with a file.
func (e *Engine) disabled() bool {
	if _, err := os.Stat(filepath.Join(e.Paths.ConfDir, "no-autoinstall")); err != nil {
		return false
	}
	fmt.Fprintln(e.Out, "Automatic installation of modules has been disabled.")
	return true
}

// Autoinstall installs, for one kernel, the newest version of every module
// that asks for it, in the order of their dependencies. only limits it to one
// module. One module's failure doesn't keep the others from being installed.
func (e *Engine) Autoinstall(ctx context.Context, targets []plan.Target, only state.ID) error {
	if err := e.RequireRoot(); err != nil {
		return err
	}
	if e.disabled() {
		return nil
	}
	known := func() error {
		if only.Module == "" {
			return nil
		}
		return e.requireKnown(only)
	}
	if _, err := os.Stat(e.tree.Dir); err != nil {
		return known() // nothing was ever added
	}
	unlock, err := e.lockFor(ctx, known)
	if err != nil {
		return e.autoinstallGaveUp(ctx, err, targets, only)
	}
	defer unlock()
	if only.Module != "" { // it may have gone meanwhile
		if err := e.requireKnown(only); err != nil {
			return err
		}
	}
	var worst error
	var changed []plan.Target
	for _, r := range e.autoinstall(ctx, targets, only) {
		if r.done {
			changed = append(changed, r.target)
		}
		if worst == nil {
			worst = r.err
		}
	}
	if worst != nil || len(changed) == 0 {
		return worst
	}
	return e.afterwards(ctx, changed)
}

// requireKnown fails unless the named module, in any version if none is given,
// is in the tree.
func (e *Engine) requireKnown(only state.ID) error {
	if only.Version != "" {
		if err := e.requireSound(only); err != nil {
			return err
		}
		return e.requireAdded(only)
	}
	if len(e.tree.Modules(only.Module, "")) == 0 {
		return failf(UnknownModule, "there is no module %s in the DKMS tree", only.Module).hint("`dkms status` lists the modules that are.")
	}
	return nil
}

// round is an autoinstall for one kernel.
type round struct {
	target plan.Target
	auto   *plan.Auto
	facts  *plan.Facts
	// done reports whether anything was due, and attempted.
	done bool
	err  error
}

// autoinstall serves kernels side by side, by one plan, and returns how it went
// for each.
func (e *Engine) autoinstall(ctx context.Context, targets []plan.Target, only state.ID) []*round {
	for _, id := range e.modules("", "") {
		if e.tree.Condition(id) == state.Broken {
			e.Explain(e.Err, failed(e.requireSound(id)))
		}
	}
	latest := map[state.ID]bool{}
	for _, id := range e.latest() {
		latest[id] = true
	}
	if only.Version != "" {
		latest[only] = true
	}
	var rounds, due []*round
	for _, t := range distinct(targets) {
		if t.Kernel == unknownKernel {
			continue // a root without kernels has nothing to install for
		}
		r := &round{target: t}
		rounds = append(rounds, r)
		if only == (state.ID{}) && e.nothingDue(t) {
			// All that may be left is an index.
			r.facts = &plan.Facts{IndexDue: e.tree.KernelsDue()}
		} else {
			r.facts = e.facts(ctx, nil, []plan.Target{t}, func(id state.ID, r plan.Result) bool {
				return latest[id] && (!r.Installed || r.Lost) || r.Built
			})
		}
		r.auto = plan.Autoinstall(t, only, r.facts, plan.Options{NoRefresh: e.NoDepmod})
		if r.err = e.begin(ctx, r); r.err == nil && !r.auto.Idle() {
			due = append(due, r)
		}
	}
	if len(due) > 0 {
		e.performRounds(ctx, due)
	}
	return rounds
}

// begin tells why a kernel can't be served at all.
func (e *Engine) begin(ctx context.Context, r *round) error {
	if r.auto.Idle() {
		return nil
	}
	if ctx.Err() != nil {
		return fail(Interrupted, context.Cause(ctx))
	}
	if err := e.headersDue(ctx, r.auto, r.target); err != nil {
		return err
	}
	for _, w := range r.auto.Unmet {
		e.recordRefused(r.target.Key(w.ID), e.missingDepends(r.target.Key(w.ID), w.Depends))
	}
	for _, w := range r.auto.Deferred {
		e.record(Result{Action: plan.Build.String(), Key: r.target.Key(w.ID), Ending: Waits, Why: "not in the DKMS tree: " + strings.Join(w.Depends, " ")})
	}
	for _, b := range r.auto.Bad {
		e.recordRefused(r.target.Key(b.ID), confFailure(b.Err))
		if !e.hooked {
			continue
		}
		if err := e.keepFailure(r.target.Key(b.ID), confFailure(b.Err)); err != nil {
			return fail(NotWritable, err)
		}
	}
	return nil
}

// performRounds carries out the plans of several kernels as one. What is said of
// a kernel comes in one piece, in the order of the kernels.
func (e *Engine) performRounds(ctx context.Context, due []*round) {
	var plans []*plan.Plan
	f := &plan.Facts{Results: map[state.Key]plan.Result{}}
	for _, r := range due {
		plans = append(plans, &r.auto.Plan)
		for _, s := range r.auto.Steps {
			f.Results[s.Key] = r.facts.Results[s.Key]
		}
	}
	p, joined := plan.Join(plans)
	var parts []*part
	for i, r := range due {
		r.facts = nil
		parts = append(parts, &part{
			Part: joined[i],
			begin: func(_, errw io.Writer) {
				for _, b := range r.auto.Bad {
					e.Explain(errw, confFailure(b.Err))
				}
			},
			end: func(outcomes []error, out, _ io.Writer) {
				if r.err = interrupted(ctx, outcomes); r.err == nil {
					r.done, r.err = true, e.summary(r.auto, r.target, outcomes, out)
				}
			},
		})
	}
	outcomes, err := e.perform(ctx, p, f, false, parts...)
	if e.DryRun && err == nil {
		for i, r := range due {
			r.err = foreseen(r, outcomes[parts[i].From:parts[i].To])
		}
	}
	if err != nil {
		for _, r := range due {
			if !r.done {
				r.err = err
			}
		}
	}
}

// foreseen is the failure that an autoinstall would end with, as far as a dry run shows
// it.
func foreseen(r *round, outcomes []error) error {
	f := failf(AutoinstallFailed, "not every module could be installed for kernel %s", r.target.Kernel)
	for _, b := range r.auto.Bad {
		f.hint("%s: %v", b.ID, confFailure(b.Err))
	}
	for _, w := range r.auto.Unmet {
		f.hint("%s needs other modules first: %s", w.ID, strings.Join(w.Depends, " "))
	}
	for _, err := range outcomes {
		var refused *Failure
		if errors.As(err, &refused) && !refused.Soft() {
			f.hint("%v", refused)
		}
	}
	if len(f.Hint) == 0 {
		return nil
	}
	return f
}

// headersDue fails when something must be built and the kernel has no headers:
// one message, not one per module.
func (e *Engine) headersDue(ctx context.Context, a *plan.Auto, t plan.Target) error {
	var f *Failure
	for _, s := range a.Steps {
		if s.Kind == plan.Refuse && s.Reason == plan.NoHeaders {
			if f == nil {
				f = e.noHeaders(ctx, t)
			}
			e.recordRefused(s.Key, f)
		}
	}
	if f == nil {
		return nil
	}
	return f
}

// summary tells what became of each module.
func (e *Engine) summary(a *plan.Auto, t plan.Target, outcomes []error, out io.Writer) error {
	var ok, skipped, failed []string
	for _, id := range a.Installed {
		ok = append(ok, id.Module)
	}
	for _, b := range a.Bad {
		failed = append(failed, fmt.Sprintf("%s(%d)", b.ID.Module, e.Code(confFailure(b.Err))))
	}
	waiting, lost := slices.Clone(a.Unmet), map[string]bool{}
	for _, d := range a.Due {
		var f *Failure
		missing := slices.DeleteFunc(slices.Clone(d.Depends), func(m string) bool { return !lost[m] })
		switch err := outcomes[d.Step-1]; {
		case err == nil:
			ok = append(ok, d.ID.Module)
		case errors.As(err, &f) && f.Soft():
			skipped = append(skipped, d.ID.Module)
		case len(missing) > 0:
			waiting = append(waiting, plan.Waiting{ID: d.ID, Depends: missing})
			lost[d.ID.Module] = true
		case errors.As(err, &f):
			failed = append(failed, fmt.Sprintf("%s(%d)", d.ID.Module, e.Code(f)))
			lost[d.ID.Module] = true
		}
	}
	tell(out, t, "succeeded for", ok)
	tell(out, t, "was skipped for", skipped)
	tell(out, t, "failed for", failed)
	for _, w := range waiting {
		fmt.Fprintf(out, "%s autoinstall failed due to missing dependencies: %s.\n", w.ID, strings.Join(w.Depends, " "))
	}
	var deferred []string
	for _, w := range a.Deferred {
		fmt.Fprintf(out, "%s autoinstall deferred: BUILD_DEPENDS not registered with DKMS: %s.\n", w.ID, strings.Join(w.Depends, " "))
		deferred = append(deferred, w.ID.String())
	}
	if len(deferred) > 0 {
		fmt.Fprintf(out, "Deferred on %s until what they depend on is added: %s.\n", t.Kernel, strings.Join(deferred, " "))
	}
	if len(failed)+len(waiting) > 0 {
		return failf(AutoinstallFailed, "not every module could be installed for kernel %s", t.Kernel).hint("What failed, and why, is told above.")
	}
	return indexFailure(&a.Plan, outcomes)
}

func tell(out io.Writer, t plan.Target, what string, modules []string) {
	if len(modules) > 0 {
		fmt.Fprintf(out, "Autoinstall on %s %s module(s) %s.\n", t.Kernel, what, strings.Join(modules, " "))
	}
}

// indexFailure returns the failure of a step that belongs to no module. Of a
// joined plan there may be fewer outcomes, see plan.Join.
func indexFailure(p *plan.Plan, outcomes []error) error {
	for i, s := range p.Steps[:len(outcomes)] {
		var cancelled *plan.Cancelled
		if err := outcomes[i]; s.Kind == plan.Refresh && err != nil && !errors.As(err, &cancelled) {
			return err
		}
	}
	return nil
}

// Match installs for a kernel every module that is installed for template, or
// only those called name.
func (e *Engine) Match(ctx context.Context, template string, t plan.Target, name string) error {
	if err := e.RequireRoot(); err != nil {
		return err
	}
	if template == "" {
		return failf(NoTemplate, "the kernel to be matched is not given").hint("Say: dkms match --templatekernel <kernel> -k <kernel> [<module>]")
	}
	if template == t.Kernel {
		return failf(SameKernel, "kernel %s can't be matched with itself", t.Kernel)
	}
	if name != "" && len(e.tree.Modules(name, "")) == 0 {
		return failf(UnknownModule, "there is no module %s in the DKMS tree", name)
	}
	var ids []state.ID
	for _, id := range e.tree.Modules(name, "") {
		if e.tree.Installed(state.Key{ID: id, Kernel: template, Arch: t.Arch}) {
			ids = append(ids, id)
		}
	}
	fmt.Fprintf(e.Out, "\nMatching modules in kernel: %s (%s)\nto the configuration of kernel: %s (%s)\n", t.Kernel, t.Arch, template, t.Arch)
	if len(ids) == 0 {
		fmt.Fprint(e.Out, "\nThere is nothing to be done for this match.\n")
		return nil
	}
	return e.match(ctx, ids, t)
}

func (e *Engine) match(ctx context.Context, ids []state.ID, t plan.Target) error {
	if !e.kernel(t).HasHeaders() && !e.fetching() {
		return e.noHeaders(ctx, t)
	}
	unlock, err := e.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	f := e.facts(ctx, ids, []plan.Target{t}, func(id state.ID, r plan.Result) bool { return slices.Contains(ids, id) || r.Built })
	outcomes, err := e.perform(ctx, plan.Match(ids, t, f, plan.Options{Force: e.Force, NoRefresh: e.NoDepmod}), f, false)
	if err != nil {
		return err
	}
	return verdict(outcomes)
}

// kernelModules are the modules with a result for a kernel.
func (e *Engine) kernelModules(t plan.Target, keep func(state.ID) bool) []state.ID {
	var ids []state.ID
	for _, id := range e.tree.Modules("", "") {
		if e.tree.Built(t.Key(id)) && keep(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// KernelPostinst is what a kernel package's hook calls once the kernel is
// there: autoinstall.
func (e *Engine) KernelPostinst(ctx context.Context, t plan.Target) error {
	e.kernelHook = true
	return e.Autoinstall(ctx, []plan.Target{t}, state.ID{})
}

// KernelPrerm is what a kernel package's hook calls before a kernel goes: all
// results for it go, whatever AUTOINSTALL says.
func (e *Engine) KernelPrerm(ctx context.Context, t plan.Target) error {
	return e.clear(ctx, t, true, func(state.ID) bool { return true })
}

// KernelPreinst is what a kernel package's hook calls before a kernel is
// replaced: the results that autoinstall will make again go.
func (e *Engine) KernelPreinst(ctx context.Context, t plan.Target) error {
	return e.clear(ctx, t, false, func(id state.ID) bool {
		m, err := e.load(ctx, id, t, conf.Auto, e.Err)
		return err == nil && m.Autoinstall
	})
}

func (e *Engine) clear(ctx context.Context, t plan.Target, blank bool, keep func(state.ID) bool) error {
	e.kernelHook = true
	if err := e.RequireRoot(); err != nil {
		return err
	}
	if _, err := os.Stat(e.tree.Dir); err != nil {
		return nil
	}
	unlock, err := e.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	ids := e.kernelModules(t, keep)
	f := e.facts(ctx, nil, []plan.Target{t}, func(id state.ID, _ plan.Result) bool { return slices.Contains(ids, id) })
	p := plan.Clear(ids, t, blank, f, plan.Options{NoRefresh: e.NoDepmod})
	outcomes, err := e.perform(ctx, p, f, true)
	if err != nil {
		return err
	}
	if e.DryRun {
		return nil
	}
	pruneEmpty(e.Paths.KernelTree(t.Kernel))
	var failed []string
	for i, err := range outcomes {
		var f *Failure
		// A stale index of a kernel that goes is no reason to keep it.
		if errors.As(err, &f) && p.Steps[i].Kind != plan.Refresh {
			failed = append(failed, fmt.Sprintf("%s(%d)", p.Steps[i].Key.ID, e.Code(f)))
		}
	}
	if len(failed) > 0 {
		return failf(RemoveFailed, "these modules could not be removed for kernel %s (%s): %s", t.Kernel, t.Arch, strings.Join(slices.Compact(failed), " "))
	}
	return nil
}

// pruneEmpty removes the empty directories below a kernel's tree, and the tree
// if nothing else is in it.
func pruneEmpty(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if entry.IsDir() {
			pruneEmpty(filepath.Join(dir, entry.Name()))
		}
	}
	os.Remove(dir) // fails unless empty
}
