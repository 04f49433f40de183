// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/state"
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
	var gone []string
	for _, o := range j.Conf.Objects {
		path := j.Located(o.Dest, o.DestDir)
		if path == "" {
			fmt.Fprintf(j.Out, "Module %s.ko%s was not found within %s/\n", o.Dest, j.Suffix, j.Paths.KernelTree(j.Key.Kernel))
		} else {
			fmt.Fprintf(j.Out, "Deleting %s\n", path)
			j.drop(c, path, o.Dest)
			gone = append(gone, path)
		}
		if err := j.restore(c, o.Dest, o.DestDir); err != nil {
			return err
		}
	}
	for _, path := range gone {
		c.Prune(filepath.Dir(path), j.Paths.KernelTree(j.Key.Kernel))
	}
	c.Remove(j.Tree.ActiveLink(j.Key))
	if err := j.markIndex(c); err != nil {
		return err
	}
	j.tellWeak(ctx, "Removing linked weak modules...", gone)
	if err := c.Commit(); err != nil {
		return err
	}
	if err := j.removed(ctx); err != nil {
		return err
	}
	return j.forgetOriginals()
}

// removed runs POST_REMOVE, whose failure changes nothing.
func (j Job) removed(ctx context.Context) error {
	if err := j.script(ctx, "post_remove", j.Conf.PostRemove); err != nil {
		fmt.Fprintf(j.Err, "Warning: the post_remove script of %s failed: %v\n", j.Key.ID, err)
	}
	return nil
}

// drop removes an object in whatever compression it lies there.
func (j Job) drop(c *state.Change, path, name string) {
	hits, _ := filepath.Glob(filepath.Join(filepath.Dir(path), globSafe(name)+".ko*"))
	for _, hit := range hits {
		c.Remove(hit)
	}
}

func globSafe(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// restore puts kept originals of an object back to where they came from.
func (j Job) restore(c *state.Change, name, location string) error {
	dir := j.Tree.Originals(j.Key)
	tree := j.Paths.KernelTree(j.Key.Kernel)
	origins, _ := filepath.Glob(filepath.Join(dir, globSafe(name)+".*.origin"))
	restored := map[string]bool{}
	for _, origin := range origins {
		kept := strings.TrimSuffix(origin, ".origin")
		text, err := os.ReadFile(origin)
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
		restored[kept] = true
	}
	if kept, ok := Find(dir, name); ok && !restored[kept] && len(origins) == 0 {
		return j.putBack(c, kept, filepath.Join(tree, location, filepath.Base(kept)))
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
