// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/conf"
	"dkms-go/internal/install"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
	"dkms-go/internal/untrusted"
)

// wanted chooses the confs that a plan needs.
type wanted func(id state.ID, r plan.Result) bool

// facts gathers what a plan is made from: the modules of the tree and ids, the
// targets, and how each stands to each. Confs are read where want says so.
func (e *Engine) facts(ctx context.Context, ids []state.ID, targets []plan.Target, want wanted) *plan.Facts {
	e.forgetStamps()
	f := &plan.Facts{Kernels: map[plan.Target]plan.Kernel{}, Results: map[state.Key]plan.Result{}, IndexDue: e.tree.KernelsDue(), Fetches: e.fetching()}
	known := map[state.ID]bool{}
	for _, id := range append(e.tree.Modules("", ""), ids...) {
		if !known[id] {
			known[id] = true
			f.Modules = append(f.Modules, plan.Module{ID: id, Condition: e.tree.Condition(id), Bare: e.bare(id), Retired: e.tree.Retired(id)})
		}
	}
	for _, t := range targets {
		f.Kernels[t] = plan.Kernel{Headers: e.kernel(t).HasHeaders()}
		for _, m := range f.Modules {
			key := t.Key(m.ID)
			r := e.result(key, t, m.Condition)
			if m.Condition != state.Broken && want(m.ID, r) {
				e.read(ctx, key, t, &r)
			}
			f.Results[key] = r
		}
	}
	return f
}

// result is how a module stands to a kernel, without what its conf says.
func (e *Engine) result(key state.Key, t plan.Target, c state.Condition) plan.Result {
	if c == state.Added && e.sound(key, true) && !(e.deep && e.otherSource(key)) {
		return plan.Result{Built: true, Installed: true}
	}
	r := plan.Result{Built: e.tree.Built(key), Installed: e.tree.Installed(key)}
	if r.Built && c == state.Added {
		r.Stale = e.stale(key, t)
	}
	if r.Installed && !e.trial.marked(key) {
		placed := install.ReadPlaced(e.tree, e.Paths.KernelTree(t.Kernel), key)
		r.Lost = install.Lost(placed) || install.Damaged(placed, e.tree.Objects(key))
	}
	if r.Installed && !r.Lost && len(r.Stale) == 0 && c == state.Added {
		e.rememberSound(key)
	}
	return r
}

// settled reports whether a module is installed for a kernel and needs no work.
func (e *Engine) settled(id state.ID, t plan.Target) bool {
	r := e.result(t.Key(id), t, e.tree.Condition(id))
	return r.Installed && !r.Lost && len(r.Stale) == 0
}

// nothingDue reports whether an autoinstall has no module to install for a kernel,
// by what is there: no conf need be evaluated to see it.
func (e *Engine) nothingDue(t plan.Target) bool {
	e.forgetStamps()
	return !slices.ContainsFunc(e.latest(), func(id state.ID) bool { return !e.settled(id, t) })
}

// read adds the conf, and what follows from it, to a result.
func (e *Engine) read(ctx context.Context, key state.Key, t plan.Target, r *plan.Result) {
	r.Conf, r.Err = e.load(ctx, key.ID, t, conf.Auto, e.Err)
	r.Err = strict(r.Conf, r.Err)
	if o, ok := e.tree.Outcome(key); e.remember && ok && o.State == state.OutcomeFailed {
		r.Remembered = o.Inputs != "" && o.Inputs == e.inputs(key, t, r.Conf)
	}
	if r.Err != nil {
		return
	}
	r.Applies = r.Conf.Applies(e.kernelFacts(t))
	if r.Built {
		r.Recorded = e.recorded(key, r.Conf.BuildDepends)
	}
}

// strict is conf.Module.Strict for what reading a conf has given, after the check that
// the name and the version that it has can be those of a module, also where others
// were given for it: they become parts of paths and of commands.
func strict(m *conf.Module, err error) error {
	if m == nil {
		return err
	}
	for _, named := range [][2]string{{"PACKAGE_NAME", m.Name}, {"PACKAGE_VERSION", m.Version}} {
		if bad := state.CheckName(named[0], named[1]); bad != nil && named[1] != "" {
			return &conf.Invalid{File: m.File, Problems: []string{bad.Error()}}
		}
	}
	if err == nil {
		err = m.Strict()
	}
	return err
}

// maxVersion bounds what is read of a file with a version, in bytes.
const maxVersion = 4 << 10

// recorded reads the versions of the dependencies that a result was built with.
func (e *Engine) recorded(key state.Key, depends []string) map[string]string {
	versions := map[string]string{}
	for _, d := range depends {
		text, err := untrusted.ReadFile(filepath.Join(e.tree.Result(key), ".dep_"+d), maxVersion)
		if err == nil {
			versions[d] = strings.TrimSpace(string(text))
		}
	}
	return versions
}

// bare reports whether a module's source has a dkms.conf and nothing to build
// from.
func (e *Engine) bare(id state.ID) bool {
	if e.tree.OnlyPrebuilt(id) {
		return true
	}
	dir := e.tree.SourceLink(id)
	if e.tree.Condition(id) == state.Absent {
		dir = e.tree.Source(id)
	}
	entries, err := os.ReadDir(dir)
	visible := 0
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), ".") {
			visible++
		}
	}
	return err == nil && visible < 2
}

// remarks shows what is worth saying of a conf when it is taken into use. CLEAN
// is in nearly every conf and harmless: it isn't worth a line.
func remarks(w io.Writer, m *conf.Module) {
	for _, d := range m.Deprecated {
		if d == "CLEAN" {
			continue
		}
		note := ""
		if d == "OBSOLETE_BY" {
			note = ": use BUILD_EXCLUSIVE_KERNEL_MAX"
		}
		fmt.Fprintf(w, "Deprecated feature: %s (%s)%s\n", d, m.File, note)
	}
	for _, u := range m.Unknown {
		fmt.Fprintf(w, "Warning: %s:%d: %s is not a directive of dkms.conf, did you mean %s?\n", m.File, u.Line, u.Name, u.Suggestion)
	}
	for _, s := range m.Warnings {
		fmt.Fprintf(w, "dkms.conf: Warning! %s\n", s)
	}
}
