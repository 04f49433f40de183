// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dkms-go/internal/ko"
)

const (
	// maxDepth bounds the directories below each other: more is a loop of
	// symbolic links.
	maxDepth = 32
	// maxPath bounds a path in bytes, with room below PATH_MAX.
	maxPath = 2000
	// maxObjects is what depmod counts to, less one.
	maxObjects = 65534
)

// object is one file that the index will have.
type object struct {
	dir  string // the tree that depmod walked through
	rel  string // relative to dir
	base int    // where the file's name begins in rel
	name string // of the module
	id   identity
	out  string // as the index has it: rel, or the whole path of an external one
}

func (o *object) path() string { return o.dir + "/" + o.rel }

// walked is what there is in the trees.
type walked struct {
	objects   []object
	leftovers []string // index files that a killed run wrote and didn't rename
}

// walker goes through the trees in the order of their directories, on which it
// depends which of two objects of equal rank counts.
type walker struct {
	walked
	tree   string
	cfg    *config
	tool   tool
	dir    string
	byName map[string]int // module name -> place in objects
}

// walk finds all objects in a kernel's tree and the external directories. Of
// those with one name the one that depmod.d(5) puts first is taken.
func walk(tree string, cfg *config, t tool) (walked, error) {
	w := &walker{tree: tree, cfg: cfg, tool: t, byName: map[string]int{}}
	for _, dir := range append([]string{tree}, cfg.externals...) {
		w.dir = dir
		f, err := os.Open(dir)
		if err != nil && dir != tree && os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return walked{}, unsure("%v", err)
		}
		err = w.directory(f, "", 0)
		f.Close()
		if err != nil {
			return walked{}, err
		}
	}
	w.objects = slices.DeleteFunc(w.objects, func(o object) bool { return o.name == "" })
	if len(w.objects) > maxObjects {
		return walked{}, unsure("%d objects", len(w.objects))
	}
	return w.walked, nil
}

func (w *walker) directory(f *os.File, prefix string, depth int) error {
	if depth > maxDepth || len(prefix) > maxPath {
		return unsure("the directories below %s don't end", w.dir)
	}
	entries, err := f.ReadDir(-1) // in the directory's own order
	if err != nil {
		return unsure("%v", err)
	}
	for _, e := range entries {
		name := e.Name()
		if name == "build" || name == "source" || slices.Contains(w.cfg.excludes, name) {
			continue
		}
		mode := e.Type()
		if mode != 0 && !mode.IsDir() {
			mode = follow(f, name)
		}
		switch {
		case mode.IsDir():
			err = w.subdirectory(f, prefix, name, depth)
		case mode.IsRegular():
			err = w.file(f, prefix, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// follow returns the type of what a symbolic link leads to. depmod passes over
// links that lead nowhere.
func follow(dir *os.File, name string) fs.FileMode {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, 0); err != nil {
		return fs.ModeIrregular
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 0
	case unix.S_IFDIR:
		return fs.ModeDir
	}
	return fs.ModeIrregular
}

func (w *walker) subdirectory(parent *os.File, prefix, name string, depth int) error {
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return unsure("%s/%s%s can't be read", w.dir, prefix, name)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return w.directory(f, prefix+name+"/", depth+1)
}

func (w *walker) file(dir *os.File, prefix, name string) error {
	_, c, ok := ko.SplitName(name)
	if !ok || !w.tool.reads(c) {
		if prefix == "" && w.dir == w.tree && isAside(name) {
			w.leftovers = append(w.leftovers, name)
		}
		return nil
	}
	o := object{dir: w.dir, rel: prefix + name, base: len(prefix), name: nameOf(name)}
	o.out = o.rel
	if w.dir != w.tree {
		o.out = o.path()
		if rel, ok := strings.CutPrefix(o.out, w.tree+"/"); ok {
			o.dir, o.rel, o.out = w.tree, rel, rel
			o.base = len(rel) - len(name)
		}
	}
	if o.name == "" || !ascii(o.out) || len(o.out) > maxPath || strings.ContainsAny(o.out, "\n") {
		return unsure("the name of %q", o.path())
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, 0); err != nil {
		return unsure("%s: %v", o.path(), err)
	}
	o.id = identify(&st)
	if at, ok := w.byName[o.name]; ok {
		if w.prefersOld(&w.objects[at], &o) {
			return nil
		}
		w.objects[at].name = "" // removed at the end
	}
	w.byName[o.name] = len(w.objects)
	w.objects = append(w.objects, o)
	return nil
}

// ranked is a path as depmod compares it: up to the end of the module's name,
// whole and relative to the kernel's tree. The latter is "" when the path
// doesn't begin as the tree's does.
func (w *walker) ranked(o *object) (whole, rel string) {
	whole = o.path()
	whole = whole[:len(whole)-len(path.Base(whole))+len(o.name)]
	if strings.HasPrefix(whole, w.tree) && len(whole) > len(w.tree) {
		rel = whole[len(w.tree)+1:]
	}
	return whole, rel
}

// prefersOld reports whether the one of two objects that was found first
// counts. An override decides; else the place in the search lists, the later
// the better. depmod looks at the new object first, and at the old one only if
// the new one isn't below the same entry: so below one directory the last one
// found wins.
func (w *walker) prefersOld(old, new *object) bool {
	newWhole, newRel := w.ranked(new)
	oldWhole, oldRel := w.ranked(old)
	for _, o := range w.cfg.overrides {
		switch o {
		case newRel:
			return false
		case oldRel:
			return true
		}
	}
	builtin, oldRank, newRank := -1, -1, -1
	rank := 0
	for _, s := range w.cfg.searches {
		switch {
		case s.kind == searchBuiltin:
			builtin = rank
		case s.kind == searchExternal:
			for _, dir := range w.cfg.externals {
				if below(newWhole, dir) {
					newRank = rank
				}
				if below(oldWhole, dir) {
					oldRank = rank
				}
				rank++
			}
		case below(newRel, s.dir):
			newRank = rank
		case below(oldRel, s.dir):
			oldRank = rank
		}
		rank++
	}
	if newRank < 0 {
		newRank = builtin
	}
	if oldRank < 0 {
		oldRank = builtin
	}
	return newRank <= oldRank
}

func below(path, dir string) bool {
	return len(path) > len(dir) && path[len(dir)] == '/' && strings.HasPrefix(path, dir)
}
