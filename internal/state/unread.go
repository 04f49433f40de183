// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Unreadable lists the directories of modules, versions and results that the caller
// may not look into: what is in them can't be told, nor that something is missing
// there. A name limits it to one module. To root all can be read.
func (t Tree) Unreadable(module string) []string {
	var list []string
	if closed(t.Dir) {
		return []string{t.Dir}
	}
	for _, m := range entries(t.Dir) {
		if m.IsDir() && !strings.HasPrefix(m.Name(), ".") && (module == "" || m.Name() == module) {
			list = append(list, closedBelow(t.Module(m.Name()), resultDepth)...)
		}
	}
	return list
}

// resultDepth is how deep below a module's directory its objects are:
// <version>/<kernel>/<arch>/module.
const resultDepth = 4

// closedBelow lists what is closed of a directory and those below it, as deep as said.
func closedBelow(dir string, depth int) []string {
	if closed(dir) {
		return []string{dir}
	}
	var list []string
	for _, e := range entries(dir) {
		if depth > 0 && e.IsDir() && e.Name() != "build" && !strings.HasPrefix(e.Name(), ".") {
			list = append(list, closedBelow(filepath.Join(dir, e.Name()), depth-1)...)
		}
	}
	return list
}

// closed reports whether the caller may not list a directory, or not look up what is
// in it.
func closed(dir string) bool {
	if _, err := os.ReadDir(dir); errors.Is(err, fs.ErrPermission) {
		return true
	}
	_, err := os.Lstat(filepath.Join(dir, "."))
	return errors.Is(err, fs.ErrPermission)
}

// Within reports whether nothing can be told of a path, since it is in one of the
// directories that Unreadable lists.
func Within(path string, unreadable []string) bool {
	for _, dir := range unreadable {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	return false
}
