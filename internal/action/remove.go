// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"dkms-go/internal/conf"
	"dkms-go/internal/install"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
	"dkms-go/internal/vercmp"
)

// Back takes a module back for the targets: Uninstall out of the kernels'
// trees, Unbuild also its results, Remove the module itself once no result is
// left. all stands for every kernel the module is built for.
func (e *Engine) Back(ctx context.Context, id state.ID, targets []plan.Target, all bool, d plan.Depth) error {
	unlock, err := e.lockFor(ctx, func() error { return e.requireBack(id, d) })
	if err != nil {
		return err
	}
	defer unlock()
	if err := e.requireBack(id, d); err != nil { // it may have gone meanwhile
		return err
	}
	if d == plan.ToNothing && e.RPMSafeUpgrade && e.heldByRPM(id) {
		fmt.Fprintf(e.Err, "Warning: %s stays: it was added in this rpm transaction (--rpm_safe_upgrade)\n", id)
		return nil
	}
	if all {
		targets = e.allTargets(id)
	}
	replacing := d == plan.ToNothing && all && !e.DryRun && (e.retires || e.replacing())
	if replacing && len(targets) > 0 {
		return e.retire(id)
	}
	f := e.facts(ctx, []state.ID{id}, targets, func(other state.ID, _ plan.Result) bool { return other == id })
	p := plan.Back(id, targets, d, f, plan.Options{NoRefresh: e.NoDepmod})
	outcomes, err := e.perform(ctx, p, f, false)
	if err == nil {
		err = verdict(outcomes)
	}
	if err != nil {
		return err
	}
	if d == plan.ToNothing && all && !e.DryRun && !replacing {
		if err := e.removeRetired(ctx, id.Module); err != nil {
			return err
		}
	}
	return e.afterwards(ctx, targets)
}

// requireBack fails unless a module can be taken back.
func (e *Engine) requireBack(id state.ID, d plan.Depth) error {
	verb := [...]string{"uninstall", "unbuild", "remove"}[d]
	if err := requireID(id, verb); err != nil {
		return err
	}
	if err := e.requireSound(id); err != nil {
		return err
	}
	if err := e.requireAdded(id); err != nil {
		return err
	}
	if d == plan.ToBuilt {
		return e.RequireRoot()
	}
	return nil
}

// removeRetired removes the versions of a module that stayed only for a
// successor, which is gone as well by now.
func (e *Engine) removeRetired(ctx context.Context, name string) error {
	ids := e.tree.Modules(name, "")
	if slices.ContainsFunc(ids, func(id state.ID) bool { return !e.tree.Retired(id) }) {
		return nil
	}
	for _, id := range ids {
		targets := e.allTargets(id)
		f := e.facts(ctx, []state.ID{id}, targets, func(other state.ID, _ plan.Result) bool { return other == id })
		outcomes, err := e.perform(ctx, plan.Back(id, targets, plan.ToNothing, f, plan.Options{NoRefresh: e.NoDepmod}), f, false)
		if err == nil {
			err = verdict(outcomes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// allTargets are the kernels a module is built for; those where it is built
// but not installed come first, as upstream sorts them.
func (e *Engine) allTargets(id state.ID) []plan.Target {
	var built, installed []plan.Target
	for _, k := range e.tree.Results(id, "", "") {
		t := plan.Target{Kernel: k.Kernel, Arch: k.Arch}
		if e.tree.Installed(k) {
			installed = append(installed, t)
		} else {
			built = append(built, t)
		}
	}
	byRelease := func(a, b plan.Target) int { return vercmp.Natural(a.Kernel+"/"+a.Arch, b.Kernel+"/"+b.Arch) }
	return append(sorted(built, byRelease), sorted(installed, byRelease)...)
}

func (w *performance) uninstallStep(ctx context.Context, s plan.Step, t plan.Target, out, errw io.Writer) error {
	m, err := w.load(ctx, s.Key.ID, t, conf.Auto, errw)
	if err != nil && len(install.ReadPlaced(w.tree, w.Paths.KernelTree(t.Kernel), s.Key)) > 0 {
		fmt.Fprintf(errw, "Warning: %v; taking out what was installed without its conf\n", err)
		m, err = &conf.Module{}, nil
	}
	if err != nil {
		return confFailure(err)
	}
	job := w.installJob(s.Key, t, m, out, errw)
	w.commits.Lock()
	defer w.commits.Unlock()
	if err := job.Uninstall(ctx); err != nil {
		return err
	}
	w.touched(t, m, false)
	w.forgetABI(t)
	return nil
}

// unbuildStep deletes a result.
func (w *performance) unbuildStep(key state.Key) error {
	return w.change(func(c *state.Change) error {
		c.Remove(w.tree.Result(key))
		c.Prune(w.tree.Version(key.ID)+"/"+key.Kernel, w.tree.Version(key.ID))
		return nil
	})
}

// forgetStep deletes a module from the tree unless a kernel has a result of it.
// The source in the source tree stays.
func (w *performance) forgetStep(id state.ID, out io.Writer) error {
	if w.resultsLeft(id) {
		return nil
	}
	fmt.Fprintf(out, "Deleting module %s completely from the DKMS tree.\n", id)
	return w.change(func(c *state.Change) error {
		w.forget(c, id)
		return nil
	})
}

func (w *performance) resultsLeft(id state.ID) bool {
	entries, err := os.ReadDir(w.tree.Version(id))
	if err != nil {
		return false
	}
	for _, entry := range entries {
		switch entry.Name() {
		case "build", "tarball", "driver_disk", "rpm", "deb", "source":
			continue
		}
		kernel := entry.Name()
		if !entry.IsDir() || strings.HasPrefix(kernel, ".") {
			continue
		}
		if len(w.tree.Results(id, kernel, "")) > 0 {
			return true
		}
	}
	return false
}

// change commits one change of state.
func (e *Engine) change(fill func(*state.Change) error) error {
	e.commits.Lock()
	defer e.commits.Unlock()
	c, err := e.tree.Begin()
	if err != nil {
		return err
	}
	defer c.Abort()
	if err := fill(c); err != nil {
		return err
	}
	return c.Commit()
}
