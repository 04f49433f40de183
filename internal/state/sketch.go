// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dkms-go/internal/copytree"
)

// Sketch makes, in the empty directory dest, a tree with the same modules and with
// their results for some kernels, as far as those are installed: what is built or
// installed in it leaves t as it is. Sources are links to where they are; those that
// are in t itself are copied. What an earlier call left in dest is replaced.
func (t Tree) Sketch(dest string, kernels []string) error {
	var err error
	glance := Glance{Tree: t}
	glance.At(func() {
		if err = os.RemoveAll(dest); err == nil {
			err = os.Mkdir(dest, 0o755)
		}
		for _, id := range t.Modules("", "") {
			if err == nil {
				err = t.sketch(Tree{Dir: dest, Sources: t.Sources}, id, kernels)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("sketching %s: %w", t.Dir, err)
	}
	return nil
}

func (t Tree) sketch(to Tree, id ID, kernels []string) error {
	if t.Condition(id) == Hidden {
		return nil
	}
	if err := os.MkdirAll(to.Version(id), 0o755); err != nil {
		return err
	}
	if err := t.sketchSource(to, id); err != nil {
		return err
	}
	for _, kernel := range kernels {
		for _, k := range t.Results(id, kernel, "") {
			if k.Kernel != kernel || !t.Installed(k) {
				continue
			}
			if err := copytree.Copy(t.Result(k), to.Result(k)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := to.Mark(k); err != nil {
				return err
			}
		}
	}
	return nil
}

// sketchSource makes the source of a module what it is in t. What is below t is
// copied to the same place in the sketch, which may stand where t is.
func (t Tree) sketchSource(to Tree, id ID) error {
	target, err := os.Readlink(t.SourceLink(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil { // an archive without source has left a directory
		return t.sketchBelow(to, t.SourceLink(id))
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(t.Version(id), target)
	}
	if err := os.Symlink(target, to.SourceLink(id)); err != nil {
		return err
	}
	return t.sketchBelow(to, target)
}

// sketchBelow copies a directory if it is in t.
func (t Tree) sketchBelow(to Tree, dir string) error {
	rel, err := filepath.Rel(t.Dir, dir)
	if err != nil || !within(dir, t.Dir) {
		return nil
	}
	if err = copytree.Copy(dir, filepath.Join(to.Dir, rel)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Enlist adds a module to a tree that nobody else uses; its source is the directory
// source, to which a link leads.
func (t Tree) Enlist(id ID, source string) error {
	if err := os.MkdirAll(t.Build(id), 0o755); err != nil {
		return fmt.Errorf("adding %s: %w", id, err)
	}
	if err := os.Symlink(source, t.SourceLink(id)); err != nil {
		return fmt.Errorf("adding %s: %w", id, err)
	}
	return nil
}

// Mark makes a result the active one of its kernel in a tree that nobody else uses;
// nothing is placed in the kernel's own tree.
func (t Tree) Mark(k Key) error {
	link := t.ActiveLink(k)
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("marking %s: %w", k, err)
	}
	if err := os.Symlink(filepath.Join(k.Version, k.Kernel, k.Arch), link); err != nil {
		return fmt.Errorf("marking %s: %w", k, err)
	}
	return nil
}
