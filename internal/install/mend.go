// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/conf"
	"dkms-go/internal/state"
	"dkms-go/internal/untrusted"
)

// Mended says how a result was made whole.
type Mended int

// What became of a result: all its objects are in it and installed; nothing could
// be kept of it, and the kernel has its own objects again; or some objects are
// gone, and nothing was changed, since others may be in use.
const (
	Whole Mended = iota
	Given
	Partly
)

// Mend makes the result of the job's key, its active link and the kernel's tree
// agree, and loses no object that its kernel would load. Each object is taken from
// where it is as it was built, else from the kernel's tree, which has what runs,
// else from the result. What takes its place goes to the directory lost of
// state.Tree.LostFound. An object without result becomes one.
func (j Job) Mend(objects []state.ObjectEntry, lost string) (Mended, error) {
	sources := make([]string, len(objects))
	missing := 0
	for i, o := range objects {
		if sources[i] = j.best(o); sources[i] == "" {
			missing++
		}
	}
	switch {
	case missing == len(objects):
		return Given, j.change(func(c *state.Change) error { return j.giveUp(c, objects, lost) })
	case missing > 0:
		return Partly, nil
	}
	return Whole, j.change(func(c *state.Change) error { return j.restock(c, objects, sources, lost) })
}

func (j Job) change(fill func(*state.Change) error) error {
	c, err := j.Tree.Begin()
	if err != nil {
		return err
	}
	defer c.Abort()
	if err := errors.Join(fill(c), j.markIndex(c)); err != nil {
		return err
	}
	return c.Commit()
}

// best returns where an object is to be taken from, "" if nowhere.
func (j Job) best(o state.ObjectEntry) string {
	from, built := Find(j.Tree.Objects(j.Key), o.Name)
	to, there := j.placeOf(o)
	if !built {
		from = ""
	}
	if !there {
		to = ""
	}
	wanted := o.SHA256
	for _, p := range j.placed(j.Key) {
		if wanted == "" && p.name() == o.Name {
			wanted = p.SHA256
		}
	}
	order := []string{from, to}
	if wanted != "" {
		for _, path := range order {
			if path != "" && digest(path) == wanted {
				return path
			}
		}
		order = []string{to, from} // neither is as it was built: the one that runs
	}
	for _, path := range order {
		if path != "" && loadable(path, j.Key.Kernel) {
			return path
		}
	}
	return ""
}

// restock makes a change put each object to both of its places.
func (j Job) restock(c *state.Change, objects []state.ObjectEntry, sources []string, lost string) error {
	var placed []object
	foreign := false
	for i, o := range objects {
		to, _ := j.placeOf(o)
		in := filepath.Join(j.Tree.Objects(j.Key), filepath.Base(sources[i]))
		foreign = foreign || o.SHA256 != "" && digest(sources[i]) != o.SHA256
		if old, ok := Find(j.Tree.Objects(j.Key), o.Name); ok && old != sources[i] && !same(old, sources[i]) {
			if err := c.Aside(j.Tree, old, lost); err != nil {
				return err
			}
		}
		to = filepath.Join(filepath.Dir(to), filepath.Base(in))
		if !same(sources[i], in) {
			if err := c.StageCopy(sources[i], in); err != nil {
				return err
			}
		}
		if err := errors.Join(j.supply(c, sources[i], to, lost), j.moveTwins(c, o.Name, to, lost)); err != nil {
			return err
		}
		placed = append(placed, object{Object: conf.Object{Dest: o.Name}, from: sources[i], dest: to})
	}
	if record := filepath.Join(j.Tree.Result(j.Key), state.RecordFile); foreign && isThere(record) {
		if err := c.Aside(j.Tree, record, lost); err != nil { // it tells of other objects
			return err
		}
	}
	c.Link(filepath.Join(j.Key.Version, j.Key.Kernel, j.Key.Arch), j.Tree.ActiveLink(j.Key))
	return j.listPlaced(c, placed)
}

// supply makes a change put a copy of an object to its place in the kernel's tree,
// unless it is there. What is there and differs goes to lost.
func (j Job) supply(c *state.Change, from, dest, lost string) error {
	if from == dest || equal(from, dest) {
		return nil
	}
	if isThere(dest) {
		if err := c.Aside(j.Tree, dest, lost); err != nil {
			return err
		}
	}
	return c.StageCopy(from, dest)
}

// moveTwins moves the same object in another compression aside.
func (j Job) moveTwins(c *state.Change, name, dest, lost string) error {
	for _, suffix := range []string{"", ".zst", ".xz", ".gz"} {
		twin := filepath.Join(filepath.Dir(dest), name+".ko"+suffix)
		if twin != dest && isThere(twin) {
			if err := c.Aside(j.Tree, twin, lost); err != nil {
				return err
			}
		}
	}
	return nil
}

// giveUp makes a change take away a result of which no object is left, and put the
// kernel's own objects back.
func (j Job) giveUp(c *state.Change, objects []state.ObjectEntry, lost string) error {
	for _, o := range objects {
		if to, there := j.placeOf(o); there {
			if err := c.Aside(j.Tree, to, lost); err != nil {
				return err
			}
			c.Prune(filepath.Dir(to), j.Paths.KernelTree(j.Key.Kernel))
		}
	}
	if isThere(j.Tree.Result(j.Key)) {
		if err := c.Aside(j.Tree, j.Tree.Result(j.Key), lost); err != nil {
			return err
		}
		c.Prune(filepath.Dir(j.Tree.Result(j.Key)), j.Tree.Version(j.Key.ID))
	}
	if v, ok := j.Tree.Active(j.Key); ok && v == j.Key.Version || !ok {
		j.Tree.DropLink(c, j.Key)
		return j.giveBack(c, lost)
	}
	return nil
}

// GiveBack puts the originals that are kept for the kernel back to their places,
// where nothing is by now; the others, and those of which no note tells the place,
// go to the directory lost.
func (j Job) GiveBack(lost string) error {
	return j.change(func(c *state.Change) error { return j.giveBack(c, lost) })
}

func (j Job) giveBack(c *state.Change, lost string) error {
	dir := j.Tree.Originals(j.Key)
	if !isThere(dir) {
		return nil
	}
	tree := j.Paths.KernelTree(j.Key.Kernel)
	notes, _ := filepath.Glob(filepath.Join(globSafe(dir), "*.origin"))
	for _, note := range notes {
		kept := strings.TrimSuffix(note, ".origin")
		text, _ := untrusted.ReadFile(note, maxNote)
		to, _, _ := strings.Cut(string(text), "\n")
		ours := to == filepath.Clean(to) && strings.HasPrefix(to, tree+"/") && isThere(tree)
		if ours && isThere(kept) && !isThere(to) {
			if err := c.StageCopy(kept, to); err != nil {
				return err
			}
		}
	}
	if err := c.Aside(j.Tree, dir, lost); err != nil {
		return err
	}
	c.Prune(filepath.Dir(dir), j.Tree.Dir)
	return nil
}

// LeaveKernel finishes the removal of a kernel that is gone: what is left of the
// module in its tree goes, with the result; originals go to the directory lost.
func (j Job) LeaveKernel(objects []state.ObjectEntry, lost string) error {
	return j.change(func(c *state.Change) error {
		tree := j.Paths.KernelTree(j.Key.Kernel)
		for _, o := range objects {
			to, there := j.placeOf(o)
			if !there {
				continue
			}
			c.Remove(to)
			c.Prune(filepath.Dir(to), filepath.Dir(tree))
		}
		c.Remove(j.Tree.Result(j.Key))
		c.Prune(filepath.Dir(j.Tree.Result(j.Key)), j.Tree.Version(j.Key.ID))
		j.Tree.DropLink(c, j.Key)
		if originals := j.Tree.Originals(j.Key); isThere(originals) {
			if err := c.Aside(j.Tree, originals, lost); err != nil {
				return err
			}
			c.Prune(filepath.Dir(originals), j.Tree.Dir)
		}
		return nil
	})
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Explained returns where the objects of a result are installed.
func (j Job) Explained(objects []state.ObjectEntry) []string {
	var paths []string
	for _, o := range objects {
		if to, there := j.placeOf(o); there {
			paths = append(paths, to)
		}
	}
	for _, p := range j.placed(j.Key) {
		paths = append(paths, p.Path)
	}
	return paths
}

// Partial reports whether Mend would have to leave a result Partly, Lost whether it
// would be Given up.
func (j Job) Partial(objects []state.ObjectEntry) bool {
	n := j.found(objects)
	return n > 0 && n < len(objects)
}

// Lost reports whether no object of a result is left.
func (j Job) Lost(objects []state.ObjectEntry) bool { return j.found(objects) == 0 }

func (j Job) found(objects []state.ObjectEntry) (n int) {
	for _, o := range objects {
		if j.best(o) != "" {
			n++
		}
	}
	return n
}
