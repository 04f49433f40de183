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
	"dkms-go/internal/ko"
	"dkms-go/internal/pack"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
)

// PreparePackages makes a place in which a module is built for kernels to be packed.
// The caller closes it. As far as the machine allows it the place's tree stands over
// the real one, so that objects have no name of the place in them.
func (e *Engine) PreparePackages(ctx context.Context, c KernelChoice) (*Aside, error) {
	a, err := e.aside(ctx, c)
	if err != nil {
		return nil, err
	}
	own := a.place.Path(aside.Tree)
	if err := os.MkdirAll(own, 0o755); err != nil {
		return nil, errors.Join(fail(NotWritable, err), a.Close())
	}
	if fi, err := os.Stat(e.tree.Dir); err == nil && fi.IsDir() && run.CanPrivate() {
		a.layers = append(a.layers, aside.Layer{Name: aside.Tree, Over: e.tree.Dir, Alone: true})
	}
	return a, nil
}

// ObjectPackages builds a module for the kernels of a and packs the objects: a package
// for each kernel and format. The objects are those of an ordinary build, verified for
// the kernel and not signed. Nothing is packed unless all builds go well.
func (e *Engine) ObjectPackages(ctx context.Context, a *Aside, o PackageOptions) ([]Packed, error) {
	p, err := e.packing(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := e.precheck(p, a.Targets); err != nil || e.DryRun {
		return e.planned(p, a.Targets), err
	}
	t, err := e.buildAside(ctx, a, p)
	if err != nil {
		return nil, err
	}
	var all []Packed
	for _, target := range a.Targets {
		list, err := t.objectPackages(ctx, p, target)
		if err == nil {
			var done []Packed
			done, err = e.writePackages(p, target.Kernel, list)
			all = append(all, done...)
		}
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// precheck finds, before anything is built, what would keep the packages from being
// made.
func (e *Engine) precheck(p *packing, targets []plan.Target) error {
	for _, t := range targets {
		if !e.kernel(t).HasHeaders() {
			return failf(NoHeaders, "the headers of kernel %s are not installed", t.Kernel)
		}
		for _, f := range p.Formats {
			one, err := pack.Objects(f, t.Key(p.id), p.version(), nil, p.module.Initramfs)
			if err != nil {
				return fail(BadPackage, err)
			}
			e.describe(p, one)
			if err := packageFailure(one.Check()); err != nil {
				return err
			}
		}
	}
	return e.outputDir(p.Output)
}

// planned are the packages that would be made.
func (e *Engine) planned(p *packing, targets []plan.Target) []Packed {
	var list []Packed
	for _, t := range targets {
		for _, f := range p.Formats {
			if one, err := pack.Objects(f, t.Key(p.id), p.version(), nil, false); err == nil {
				list = append(list, Packed{Format: f, Path: filepath.Join(p.Output, one.File()), Name: one.Name, Version: one.Version, Arch: one.Arch, Kernel: t.Kernel})
			}
		}
	}
	return list
}

// objectPackages returns the packages of what was built for a kernel.
func (e *Engine) objectPackages(ctx context.Context, p *packing, t plan.Target) ([]*pack.Package, error) {
	m, err := e.load(ctx, p.id, t, conf.Auto, e.Err)
	if err != nil {
		return nil, confFailure(err)
	}
	dir := e.tree.Objects(t.Key(p.id))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fail(ObjectMissing, err)
	}
	var files []pack.File
	for _, entry := range entries {
		if _, _, object := ko.SplitName(entry.Name()); !object {
			continue // Module.symvers
		}
		body, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, fail(ObjectMissing, err)
		}
		files = append(files, pack.File{Name: entry.Name(), Body: body})
	}
	slices.SortFunc(files, func(a, b pack.File) int { return strings.Compare(a.Name, b.Name) })
	var list []*pack.Package
	for _, f := range p.Formats {
		one, err := pack.Objects(f, t.Key(p.id), p.version(), files, m.Initramfs)
		if err != nil {
			return nil, fail(BadPackage, err)
		}
		list = append(list, one)
	}
	return list, nil
}

// buildAside builds a module in a place, as for an installation. The engine that it
// returns has the results. The error is that of the first build that failed.
func (e *Engine) buildAside(ctx context.Context, a *Aside, p *packing) (*Engine, error) {
	s := e.Settings
	if own := a.place.Path(aside.Tree); !sameFile(own, s.Paths.DKMSTree) { // without mounts
		s.Paths.DKMSTree = own
	}
	s.Paths.SourceTree = a.place.Path(aside.Sources)
	s.Framework.ResultCache = 0
	if err := os.MkdirAll(s.Paths.SourceTree, 0o755); err != nil {
		return nil, fail(NotWritable, err)
	}
	t, err := e.trying(s, false)
	if err != nil {
		return nil, err
	}
	if err := t.bring(p.id, p.source); err != nil {
		return nil, fail(NotWritable, fmt.Errorf("copying the source of %s: %w", p.id, err))
	}
	unlock, err := t.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	ids := []state.ID{p.id}
	tried, err := t.try(ctx, a.Targets, ids, ids)
	if err != nil {
		return nil, err
	}
	for _, one := range tried {
		if f := one.Failure; f != nil {
			f.Said = false
			return nil, f
		}
	}
	return t, nil
}
