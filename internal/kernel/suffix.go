// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// Suffix returns how the kernel's objects are compressed: ".gz", ".xz", ".zst"
// or "" for not at all, also if there are no objects to tell by. Of several,
// the last of these counts.
//
// The objects that came with the kernel decide, those in its kernel directory.
// Only if there are none, the rest of the tree is looked at; an object that
// somebody put elsewhere thus doesn't change what is done with all others.
func (k Kernel) Suffix() string {
	if suffix, found := suffixBelow(filepath.Join(k.Tree, "kernel")); found {
		return suffix
	}
	suffix, _ := suffixBelow(k.Tree)
	return suffix
}

// suffixBelow walks dir, without following links below it, and reports whether
// there was any object.
func suffixBelow(dir string) (suffix string, found bool) {
	order := []string{"", ".gz", ".xz", ".zst"}
	best := -1
	// A walk of "dir/." starts behind a link.
	_ = filepath.WalkDir(dir+"/.", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // what can't be read doesn't tell anything
		}
		_, ext, ok := cutLast(d.Name(), ".ko")
		if !ok {
			return nil
		}
		best = max(best, slices.Index(order, ext))
		if best == len(order)-1 {
			return fs.SkipAll
		}
		return nil
	})
	if best < 0 {
		return "", false
	}
	return order[best], true
}

// cutLast is strings.Cut at the last place that sep is found.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
