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
// Where modules.dep (modules.dep(5)) lists them, no directory is read.
func (k Kernel) Suffix() string {
	if suffix, found := k.indexedSuffix(); found {
		return suffix
	}
	if suffix, found := suffixBelow(filepath.Join(k.Tree, "kernel")); found {
		return suffix
	}
	suffix, _ := suffixBelow(k.Tree)
	return suffix
}

// indexedSuffix takes the kernel's own objects from modules.dep. An index in
// which the object that decides isn't one that is there is out of date, and
// doesn't count.
func (k Kernel) indexedSuffix() (suffix string, found bool) {
	text, err := readText(filepath.Join(k.Tree, "modules.dep"))
	if err != nil {
		return "", false
	}
	best, witness := -1, ""
	for line := range strings.Lines(text) {
		path, _, listed := strings.Cut(line, ":")
		if !listed || !strings.HasPrefix(path, "kernel/") {
			continue
		}
		if rank := suffixRank(path); rank > best {
			best, witness = rank, path
		}
	}
	if best < 0 || !isFile(filepath.Join(k.Tree, witness)) {
		return "", false
	}
	return suffixes()[best], true
}

// suffixes are in the order in which they count.
func suffixes() []string { return []string{"", ".gz", ".xz", ".zst"} }

// suffixRank is the place of an object's suffix among these, -1 for what is no
// object.
func suffixRank(name string) int {
	i := strings.LastIndex(name, ".ko")
	if i < 0 {
		return -1
	}
	return slices.Index(suffixes(), name[i+len(".ko"):])
}

// suffixBelow walks dir, without following links below it, and reports whether
// there was any object.
func suffixBelow(dir string) (suffix string, found bool) {
	best := -1
	// A walk of "dir/." starts behind a link.
	_ = filepath.WalkDir(dir+"/.", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // what can't be read doesn't tell anything
		}
		best = max(best, suffixRank(d.Name()))
		if best == len(suffixes())-1 {
			return fs.SkipAll
		}
		return nil
	})
	if best < 0 {
		return "", false
	}
	return suffixes()[best], true
}
