// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/state"
	"dkms-go/internal/untrusted"
)

// Uninstall takes the objects of a result out of the kernel's tree and puts
// back what they had replaced. After success the module is built, not
// installed. The module index is not touched.
func (j Job) Uninstall(ctx context.Context) error {
	fmt.Fprintf(j.Out, "Module %s for kernel %s (%s):\n", j.Key.ID, j.Key.Kernel, j.Key.Arch)
	if v, active := j.Tree.Active(j.Key); !active || v != j.Key.Version {
		fmt.Fprintln(j.Out, "This module version was INACTIVE for this kernel.")
		return j.removed(ctx)
	}
	fmt.Fprintln(j.Out, "Before uninstall, this module version was ACTIVE on this kernel.")
	c, err := j.Tree.Begin()
	if err != nil {
		return err
	}
	defer c.Abort()
	gone, err := j.takeOut(c)
	if err != nil {
		return err
	}
	for _, path := range gone {
		c.Prune(filepath.Dir(path), j.Paths.KernelTree(j.Key.Kernel))
	}
	c.Remove(j.Tree.ActiveLink(j.Key))
	c.Remove(j.Tree.PlacedList(j.Key))
	c.Prune(j.Tree.Originals(j.Key), j.Tree.Dir)
	if err := j.markIndex(c); err != nil {
		return err
	}
	if err := c.Commit(); err != nil {
		return err
	}
	if !j.Conf.NoWeakModules {
		j.Weak.takenOut(gone)
	}
	if err := j.removed(ctx); err != nil {
		return err
	}
	return j.forgetOriginals()
}

// takeOut removes what was installed and restores what it had replaced: the
// objects of the conf, and those that the install listed, in case the conf names
// others by now.
func (j Job) takeOut(c *state.Change) (gone []string, err error) {
	done := map[string]bool{}
	listed := map[string]Placed{}
	for _, p := range j.placed(j.Key) {
		listed[p.name()] = p
	}
	for _, o := range j.Conf.Objects {
		path := j.Located(o.Dest, o.DestDir)
		if p, ok := listed[o.Dest]; ok && path == "" && p.intact() {
			path = p.Path
		}
		delete(listed, o.Dest)
		if path == "" {
			fmt.Fprintf(j.Out, "Module %s.ko%s was not found within %s/\n", o.Dest, j.Suffix, j.Paths.KernelTree(j.Key.Kernel))
		} else {
			gone = append(gone, j.drop(c, path, o.Dest))
		}
		if err := j.restore(c, globSafe(o.Dest), done); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		if p := listed[name]; p.intact() {
			gone = append(gone, j.drop(c, p.Path, name))
		}
	}
	if err := j.restore(c, "*", done); err != nil {
		return nil, err
	}
	return gone, j.restoreUnmarked(c, done)
}

// removed runs POST_REMOVE, whose failure changes nothing.
func (j Job) removed(ctx context.Context) error {
	if err := j.script(ctx, "post_remove", j.Conf.PostRemove); err != nil {
		fmt.Fprintf(j.Err, "Warning: the post_remove script of %s failed: %v\n", j.Key.ID, err)
	}
	return nil
}

// drop removes an object in whatever compression it lies there, and returns its
// path.
func (j Job) drop(c *state.Change, path, name string) string {
	fmt.Fprintf(j.Out, "Deleting %s\n", path)
	hits, _ := filepath.Glob(filepath.Join(filepath.Dir(path), globSafe(name)+".ko*"))
	for _, hit := range hits {
		c.Remove(hit)
	}
	return path
}

func globSafe(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// restore puts kept originals back to where they came from: those of objects
// whose name matches a pattern and that are not done yet.
func (j Job) restore(c *state.Change, pattern string, done map[string]bool) error {
	dir := j.Tree.Originals(j.Key)
	tree := j.Paths.KernelTree(j.Key.Kernel)
	origins, _ := filepath.Glob(filepath.Join(dir, pattern+".*.origin"))
	for _, origin := range origins {
		if done[origin] {
			continue
		}
		done[origin] = true
		kept := strings.TrimSuffix(origin, ".origin")
		text, err := untrusted.ReadFile(origin, maxNote)
		if err != nil {
			return fmt.Errorf("reading where an original came from: %w", err)
		}
		to, _, _ := strings.Cut(string(text), "\n")
		if !strings.HasPrefix(filepath.Clean(to), tree+"/") || to != filepath.Clean(to) {
			fmt.Fprintf(j.Err, "Warning: %s names a place outside %s, leaving %s where it is\n", origin, tree, kept)
			continue
		}
		if err := j.putBack(c, kept, to); err != nil {
			return err
		}
		c.Remove(origin)
	}
	return nil
}

// restoreUnmarked puts back originals that an old program kept without noting
// where they came from: to where the conf says.
func (j Job) restoreUnmarked(c *state.Change, done map[string]bool) error {
	for _, o := range j.Conf.Objects {
		kept, ok := Find(j.Tree.Originals(j.Key), o.Dest)
		if !ok || done[kept+".origin"] {
			continue
		}
		to := filepath.Join(j.Paths.KernelTree(j.Key.Kernel), o.DestDir, filepath.Base(kept))
		if err := j.putBack(c, kept, to); err != nil {
			return err
		}
	}
	return nil
}

func (j Job) putBack(c *state.Change, kept, to string) error {
	if _, err := os.Stat(kept); err != nil {
		return nil // the record of an object that is gone
	}
	fmt.Fprintf(j.Out, "Restoring archived original module %s\n", to)
	if err := c.StageCopy(kept, to); err != nil {
		return err
	}
	c.Remove(kept)
	return nil
}

// forgetOriginals removes what is left of the kept originals once nothing of
// the module is installed for the kernel.
func (j Job) forgetOriginals() error {
	dir := j.Tree.Originals(j.Key)
	left := 0
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left++
		}
		return nil
	})
	if left > 0 {
		fmt.Fprintf(j.Err, "Warning: %s still holds %d file(s) that belong nowhere in %s; they stay\n", dir, left, j.Paths.KernelTree(j.Key.Kernel))
		return nil
	}
	return j.Tree.Prune(dir)
}
