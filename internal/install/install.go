// SPDX-License-Identifier: Apache-2.0

// Package install puts the objects of a result into a kernel's own tree and
// takes them out again (reference 5.8 to 5.15).
//
// What a module replaces is kept below the DKMS tree and comes back when the
// module goes. All files, the kept originals and the link that marks the
// active version are switched in one state.Change: a kernel's tree holds the
// old set or the new one.
package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"dkms-go/internal/conf"
	"dkms-go/internal/hook"
	"dkms-go/internal/host"
	"dkms-go/internal/ko"
	"dkms-go/internal/state"
	"dkms-go/internal/untrusted"
	"dkms-go/internal/verify"
)

// Job is one module to be installed for, or removed from, one kernel.
type Job struct {
	Key   state.Key
	Tree  state.Tree
	Paths host.Paths
	Conf  *conf.Module
	Facts conf.Facts
	// Dir returns the directory below the kernel's tree for an object whose
	// conf names location: the distribution's habit goes before the conf.
	Dir func(location string) string
	// Suffix is the compression suffix of the kernel's own objects.
	Suffix string
	// Force skips all checks, ForceVersion that of versions. Replace is set
	// when the same module version is placed again.
	Force, ForceVersion, Replace bool
	// Verify is the kernel that the objects are held against; without one they
	// are not.
	Verify verify.Target
	// NoIndex says that the caller won't bring the module index up to date;
	// otherwise it is marked as due in the same change.
	NoIndex bool
	// Symlink places links to the result instead of copies.
	Symlink bool
	// Weak is told of changed objects.
	Weak *Weak
	Env  []string
	Out  io.Writer
	Err  io.Writer
}

// Problem is why an install was refused.
type Problem int

// The problems.
const (
	NoKernelTree Problem = iota
	ObjectMissing
	NotLoadable
	PreInstallFailed
	NothingToPlace
	PlacingFailed
)

// Failure is an install that was refused; nothing has changed.
type Failure struct {
	Problem Problem
	Err     error
}

func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// object is one object on its way into the kernel's tree.
type object struct {
	conf.Object
	from string // in the result
	dest string // in the kernel's tree
}

// Install places the objects of a result. Before: there is a result. After
// success: the objects are in the kernel's tree, the active link names this
// version, originals are kept. The module index is not touched.
func (j Job) Install(ctx context.Context) error {
	tree := j.Paths.KernelTree(j.Key.Kernel)
	if _, err := os.Stat(tree); err != nil {
		return &Failure{NoKernelTree, fmt.Errorf("kernel %s has no directory %s to install into", j.Key.Kernel, tree)}
	}
	objects, err := j.objects()
	if err != nil {
		return &Failure{ObjectMissing, err}
	}
	if err := j.loadable(objects); err != nil {
		return &Failure{NotLoadable, err}
	}
	if err := j.script(ctx, "pre_install", j.Conf.PreInstall); err != nil && !j.Force {
		return &Failure{PreInstallFailed, fmt.Errorf("the pre_install script of %s failed: %w", j.Key.ID, err)}
	}
	placed, err := j.place(objects)
	if err != nil {
		return err
	}
	if !j.Conf.NoWeakModules {
		j.Weak.placed(placed)
	}
	if err := j.script(ctx, "post_install", j.Conf.PostInstall); err != nil {
		fmt.Fprintf(j.Err, "Warning: the post_install script of %s failed: %v\n", j.Key.ID, err)
	}
	return nil
}

// markIndex marks the kernel's module index as due.
func (j Job) markIndex(c *state.Change) error {
	if j.NoIndex {
		return nil
	}
	return c.StageFile(j.Tree.IndexDue(j.Key.Kernel), nil, 0o644)
}

// objects lists what is to be placed; every object that applies to the kernel
// must be in the result, whatever its compression.
func (j Job) objects() ([]object, error) {
	var list []object
	for i, o := range j.Conf.Objects {
		if !j.Conf.ObjectApplies(i, j.Facts).OK {
			continue
		}
		from, ok := Find(j.Tree.Objects(j.Key), o.Dest)
		if !ok {
			return nil, fmt.Errorf("object %s is missing in %s: dkms fsck --repair tells whether it can be had again, dkms build %s -k %s --force builds it", o.Dest, j.Tree.Objects(j.Key), j.Key.ID, j.Key.Kernel)
		}
		dir := filepath.Join(j.Paths.KernelTree(j.Key.Kernel), j.Dir(o.DestDir))
		list = append(list, object{o, from, filepath.Join(dir, filepath.Base(from))})
	}
	return list, nil
}

// loadable checks that the kernel would load the objects.
func (j Job) loadable(objects []object) error {
	if j.Verify.Kernel == nil || j.Force {
		return nil
	}
	var files []verify.File
	for _, o := range objects {
		data, err := untrusted.ReadLinked(o.from, ko.MaxSize)
		if err != nil {
			return fmt.Errorf("reading an object: %w", err)
		}
		files = append(files, verify.File{Name: filepath.Base(o.dest), Path: o.dest, Data: data})
	}
	if err := verify.Refusal(verify.Objects(files, j.Verify)); err != nil {
		return fmt.Errorf("kernel %s would not load %s: %w", j.Key.Kernel, j.Key.ID, err)
	}
	return nil
}

// Find returns the object called name in dir, compressed or not.
func Find(dir, name string) (path string, ok bool) {
	for _, suffix := range []ko.Compression{ko.None, ko.Zstd, ko.XZ, ko.Gzip} {
		path := filepath.Join(dir, name+".ko"+string(suffix))
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() {
			return path, true
		}
	}
	return "", false
}

// place checks each object against what the kernel has and switches the set.
func (j Job) place(objects []object) (placed []string, err error) {
	there := j.present(objects)
	accepted, err := j.choose(objects, there)
	if err != nil {
		return nil, err
	}
	c, err := j.Tree.Begin()
	if err != nil {
		return nil, err
	}
	defer c.Abort()
	if err := j.dropOld(c, accepted); err != nil {
		return nil, &Failure{PlacingFailed, err}
	}
	for _, o := range accepted {
		if err := j.stage(c, o, there[o.Dest]); err != nil {
			return nil, &Failure{PlacingFailed, err}
		}
		placed = append(placed, o.dest)
	}
	c.Link(filepath.Join(j.Key.Version, j.Key.Kernel, j.Key.Arch), j.Tree.ActiveLink(j.Key))
	j.Tree.ForgetOutcome(c, j.Key)
	if err := errors.Join(j.listPlaced(c, accepted), j.markIndex(c)); err != nil {
		return nil, &Failure{PlacingFailed, err}
	}
	if err := c.Commit(); err != nil {
		return nil, &Failure{PlacingFailed, err}
	}
	return placed, nil
}

// choose returns the objects that may be placed and shows why others may not;
// if none may, that is the error.
func (j Job) choose(objects []object, there map[string][]string) (accepted []object, err error) {
	var refused []error
	for _, o := range objects {
		if err := j.acceptable(o, there[o.Dest]); err != nil {
			refused = append(refused, err)
			continue
		}
		accepted = append(accepted, o)
	}
	if len(refused) > 0 && len(accepted) == 0 {
		return nil, &Failure{NothingToPlace, fmt.Errorf("%s can't be installed for kernel %s: %w", j.Key.ID, j.Key.Kernel, errors.Join(refused...))}
	}
	for _, err := range refused {
		fmt.Fprintf(j.Err, "Warning: not installing an object of %s: %v\n", j.Key.ID, err)
	}
	return accepted, nil
}

// stage prepares one object, and keeps the one it takes the place of.
func (j Job) stage(c *state.Change, o object, there []string) error {
	if _, active := j.Tree.Active(j.Key); active {
		dropTwins(c, o)
	} else if err := j.keepOriginal(c, o, there); err != nil {
		return err
	}
	fmt.Fprintf(j.Out, "Installing %s\n", o.dest)
	if j.Symlink {
		c.Link(o.from, o.dest)
		return nil
	}
	return c.StageCopy(o.from, o.dest)
}

// dropTwins removes the same object in another compression, as an earlier build
// has left it: depmod(8) would have the choice.
func dropTwins(c *state.Change, o object) {
	for _, suffix := range []ko.Compression{ko.None, ko.Zstd, ko.XZ, ko.Gzip} {
		twin := filepath.Join(filepath.Dir(o.dest), o.Dest+".ko"+string(suffix))
		if _, err := os.Lstat(twin); err == nil && twin != o.dest {
			c.Remove(twin)
		}
	}
}

// keepOriginal moves the object that the kernel has under the same name, the
// first of those that upstream looks at, to the DKMS tree.
func (j Job) keepOriginal(c *state.Change, o object, there []string) error {
	tree := j.Paths.KernelTree(j.Key.Kernel)
	for _, dir := range []string{filepath.Join(tree, "extra"), filepath.Join(tree, "updates"), filepath.Dir(o.dest)} {
		if path, ok := Find(dir, o.Dest); ok {
			there = append([]string{path}, there...)
			break
		}
	}
	if len(there) == 0 {
		return nil
	}
	original := there[0]
	fmt.Fprintf(j.Out, "Found pre-existing %s, archiving for uninstallation\n", original)
	kept := filepath.Join(j.Tree.Originals(j.Key), filepath.Base(original))
	if err := c.StageCopy(original, kept); err != nil {
		return err
	}
	if err := c.StageFile(kept+".origin", []byte(original+"\n"), 0o644); err != nil {
		return err
	}
	if original != o.dest {
		c.Remove(original)
	}
	return nil
}

// dropOld removes the objects of the version that was active until now and
// that the new one doesn't put back, if nobody has changed them.
func (j Job) dropOld(c *state.Change, fresh []object) error {
	old := j.Key
	var active bool
	if old.Version, active = j.Tree.Active(j.Key); !active {
		return nil
	}
	keep := map[string]bool{}
	dirs := map[string]bool{}
	for _, o := range fresh {
		keep[o.dest] = true
		dirs[filepath.Dir(o.dest)] = true
	}
	if old.Version != j.Key.Version {
		c.Remove(j.Tree.PlacedList(old))
	}
	for _, p := range j.placed(old) {
		if !keep[p.Path] && p.intact() {
			c.Remove(p.Path)
		}
	}
	entries, err := os.ReadDir(j.Tree.Objects(old))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the active result: %w", err)
	}
	for _, e := range entries {
		for dir := range dirs {
			path := filepath.Join(dir, e.Name())
			if !keep[path] && same(path, filepath.Join(j.Tree.Objects(old), e.Name())) {
				c.Remove(path)
			}
		}
	}
	return nil
}

// script runs one of the install hooks; without one there is nothing to do.
func (j Job) script(ctx context.Context, name, directive string) error {
	return Script(ctx, hook.Script{Name: name, Directive: directive, Module: j.Key.Module, Root: j.Tree.SourceLink(j.Key.ID)}, j.Paths, j.Env, j.Out, j.Err)
}

// Script runs a hook whose output is shown, announcing it as upstream does. A
// script that isn't executable is a warning.
func Script(ctx context.Context, s hook.Script, p host.Paths, env []string, out, errw io.Writer) error {
	if s.Directive == "" {
		return nil
	}
	if _, _, ok := s.Command(p); !ok {
		fmt.Fprintf(errw, "\nWarning: the %s script %q of %s is not executable, going on without it\n", s.Name, s.Directive, s.Module)
		return nil
	}
	fmt.Fprintf(out, "Running the %s script:\n", s.Name)
	return s.Run(ctx, p, env, out, errw)
}
