// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/aside"
	"dkms-go/internal/conf"
	"dkms-go/internal/copytree"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
)

// PreparePreflight makes a place in which modules of the tree are tried for kernels.
// The caller closes it. As far as the machine allows it the place's tree then stands
// over the real one, so that what is built has the names that it would really have,
// and serves the installation from the result cache.
func (e *Engine) PreparePreflight(ctx context.Context, c KernelChoice) (*Aside, error) {
	a, err := e.aside(ctx, c)
	if err != nil {
		return nil, err
	}
	var releases []string
	for _, t := range a.Targets {
		releases = append(releases, t.Kernel)
	}
	if err := e.tree.Sketch(a.place.Path(aside.Tree), releases); err != nil {
		return nil, errors.Join(fail(NotWritable, err), a.Close())
	}
	if fi, err := os.Stat(e.tree.Dir); err == nil && fi.IsDir() && run.CanPrivate() {
		a.layers = append(a.layers, aside.Layer{Name: aside.Tree, Over: e.tree.Dir, Alone: true})
	}
	return a, nil
}

// Preflight tells what a hook would make of the modules of the tree for the kernels
// of a: only names some of them, of which one without version stands for its newest.
// Nothing of the machine is changed but the result cache. The failure is that of any
// module.
func (e *Engine) Preflight(ctx context.Context, a *Aside, only []state.ID, quiet bool) ([]Tried, error) {
	s := e.Settings
	if own := a.place.Path(aside.Tree); !sameFile(own, s.Paths.DKMSTree) { // without mounts
		s.Paths.DKMSTree = own
		s.Framework.ResultCache = 0 // objects may hold the path
	}
	t, err := e.trying(s, quiet)
	if err != nil {
		return nil, err
	}
	ids, named, err := t.chosen(ctx, a.Targets, only)
	if err != nil {
		return nil, err
	}
	unlock, err := t.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	list, err := t.try(ctx, a.Targets, ids, named)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, t := range a.Targets {
		names = append(names, t.Kernel)
	}
	return list, failures(list, "kernel "+strings.Join(names, " "))
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// chosen returns the modules to try: the newest of each, or those named, and what
// they need of others. Broken ones are among them, to be told of.
func (e *Engine) chosen(ctx context.Context, targets []plan.Target, only []state.ID) (ids, named []state.ID, err error) {
	latest := e.latest()
	if len(only) == 0 {
		for _, id := range e.tree.Modules("", "") {
			if e.tree.Condition(id) == state.Broken || slices.Contains(latest, id) {
				ids = append(ids, id)
			}
		}
		return ids, nil, nil
	}
	for _, id := range only {
		i := slices.IndexFunc(latest, func(l state.ID) bool { return l.Module == id.Module })
		switch {
		case id.Version == "" && i >= 0:
			id = latest[i]
		case id.Version == "":
			return nil, nil, failf(NotAdded, "there is no module %s in the DKMS tree", id.Module).hint("`dkms status` lists the modules that are.")
		default:
			if err := errors.Join(e.requireSound(id), e.requireAdded(id)); err != nil {
				return nil, nil, err
			}
		}
		named = append(named, id)
	}
	ids = slices.Clone(named)
	for i := 0; i < len(ids); i++ {
		for _, d := range e.needs(ctx, ids[i], targets) {
			j := slices.IndexFunc(latest, func(l state.ID) bool { return l.Module == d })
			if j >= 0 && !slices.ContainsFunc(ids, func(id state.ID) bool { return id.Module == d }) {
				ids = append(ids, latest[j])
			}
		}
	}
	return ids, named, nil
}

// needs are the BUILD_DEPENDS of a module for any of the kernels.
func (e *Engine) needs(ctx context.Context, id state.ID, targets []plan.Target) []string {
	var list []string
	for _, t := range targets {
		if m, err := e.load(ctx, id, t, conf.Auto, e.Err); err == nil {
			list = append(list, m.BuildDepends...)
		}
	}
	return list
}

// PrepareMatrix makes a place in which modules from directories are tried for
// kernels. The caller closes it.
func (e *Engine) PrepareMatrix(ctx context.Context, c KernelChoice) (*Aside, error) {
	return e.aside(ctx, c)
}

// Matrix builds the modules whose sources are in dirs for the kernels of a, in trees
// of their own: nothing is added, and nothing of the machine is changed. The list has the
// kernels of one module side by side. The failure is that of any build.
func (e *Engine) Matrix(ctx context.Context, a *Aside, dirs []string, quiet bool) ([]Tried, error) {
	s := e.Settings
	s.Paths.DKMSTree, s.Paths.SourceTree = a.place.Path(aside.Tree), a.place.Path(aside.Sources)
	for _, dir := range []string{s.Paths.DKMSTree, s.Paths.SourceTree} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fail(NotWritable, err)
		}
	}
	s.Framework.ResultCache = 0 // objects may hold the paths
	t, err := e.trying(s, quiet)
	if err != nil {
		return nil, err
	}
	ids, err := t.enlist(ctx, a, dirs)
	if err != nil {
		return nil, err
	}
	unlock, err := t.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var all []Tried
	rounds := versionRounds(ids)
	for _, ids := range rounds {
		list, err := t.try(ctx, a.Targets, ids, ids, beside(rounds[0], ids)...)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	slices.SortStableFunc(all, func(x, y Tried) int { return slices.Index(ids, x.Key.ID) - slices.Index(ids, y.Key.ID) })
	return all, failures(all, "matrix")
}

// versionRounds groups modules so that no group has two versions of one.
func versionRounds(ids []state.ID) [][]state.ID {
	var rounds [][]state.ID
	for _, id := range ids {
		i := 0
		for i < len(rounds) && slices.ContainsFunc(rounds[i], func(other state.ID) bool { return other.Module == id.Module }) {
			i++
		}
		if i == len(rounds) {
			rounds = append(rounds, nil)
		}
		rounds[i] = append(rounds[i], id)
	}
	return rounds
}

// beside returns the modules of which ids have no version.
func beside(all, ids []state.ID) []state.ID {
	return slices.DeleteFunc(slices.Clone(all), func(id state.ID) bool {
		return slices.ContainsFunc(ids, func(other state.ID) bool { return other.Module == id.Module })
	})
}

// enlist copies the sources in dirs, and adds the modules to the private tree.
func (e *Engine) enlist(ctx context.Context, a *Aside, dirs []string) ([]state.ID, error) {
	var ids []state.ID
	for _, dir := range dirs {
		id, err := e.identify(ctx, filepath.Join(dir, "dkms.conf"), a.Targets[0])
		if err != nil {
			return nil, err
		}
		if slices.Contains(ids, id) {
			return nil, failf(AlreadyAdded, "%s is there twice: %s has it too", id, dir)
		}
		if err := e.bring(id, dir); err != nil {
			return nil, fail(NotWritable, fmt.Errorf("copying the source of %s: %w", id, err))
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// bring makes a module of the private tree of a directory.
func (e *Engine) bring(id state.ID, dir string) error {
	if err := copytree.Copy(dir, e.tree.Source(id)); err != nil {
		return err
	}
	return e.tree.Enlist(id, e.tree.Source(id))
}
