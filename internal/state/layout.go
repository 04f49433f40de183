// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dkms-go/internal/ko"
)

// layout finds what has no place in the tree, level by level as docs/on-disk.md
// has it; upstream's names are known too.
func (c *checker) layout(t Tree) {
	for _, e := range entries(t.Dir) {
		path := filepath.Join(t.Dir, e.Name())
		switch {
		case ours(e.Name()), strings.HasPrefix(e.Name(), "mok."), slices.Contains(treeFiles(), e.Name()):
		case directory(path, e) && !strings.HasPrefix(e.Name(), ".") && isModule(path):
			c.layoutModule(t, path)
		default:
			c.alien(path, e)
		}
	}
}

// treeFiles are the names beside modules that upstream and file systems make.
func treeFiles() []string {
	return []string{"post_transaction.log", "dkms_dbversion", "lost+found"}
}

// ours tells the names with a dot that this program has at the top of the tree.
func ours(name string) bool {
	return strings.HasPrefix(name, lockName) ||
		slices.Contains([]string{journalDir, keptLogs, outcomes, keptSources, prebuilts, ".index-due", lostFound}, name)
}

// isModule reports whether a directory of the tree has anything that dkms makes for
// a module. One that is empty may have been for one.
func isModule(dir string) bool {
	list := entries(dir)
	return len(list) == 0 || slices.ContainsFunc(list, func(e fs.DirEntry) bool {
		return e.Name() == originals || noVersion(e.Name()) || directory(filepath.Join(dir, e.Name()), e) && isVersion(filepath.Join(dir, e.Name()))
	})
}

// isVersion is isModule for the directory of a version.
func isVersion(dir string) bool {
	list := entries(dir)
	return len(list) == 0 || slices.ContainsFunc(list, func(e fs.DirEntry) bool {
		return versionPart(e.Name()) || directory(filepath.Join(dir, e.Name()), e) && holdsResults(filepath.Join(dir, e.Name()))
	})
}

// versionPart tells the names beside kernels in the directory of a version.
func versionPart(name string) bool {
	return slices.Contains([]string{"source", "build", "tarball", "driver_disk", "rpm", "deb"}, name) || strings.HasPrefix(name, ownBuildPrefix)
}

func (c *checker) layoutModule(t Tree, dir string) {
	for _, e := range entries(dir) {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.Name() == originals:
		case noVersion(e.Name()) && e.Type()&fs.ModeSymlink != 0:
		case !noVersion(e.Name()) && directory(path, e) && !strings.HasPrefix(e.Name(), ".") && isVersion(path):
			c.layoutVersion(t, path)
		default:
			c.alien(path, e)
		}
	}
}

func (c *checker) layoutVersion(t Tree, dir string) {
	for _, e := range entries(dir) {
		path := filepath.Join(dir, e.Name())
		switch {
		case versionPart(e.Name()):
		case directory(path, e) && (looksLikeRelease(e.Name()) || holdsResults(path)):
			c.layoutKernel(path)
		default:
			c.alien(path, e)
		}
	}
}

// holdsResults reports whether a directory is that of a kernel, whatever its name.
func holdsResults(dir string) bool {
	hits := subdirs(dir, "*")
	return slices.ContainsFunc(hits, func(arch string) bool { return isDir(filepath.Join(dir, arch, "module")) })
}

func (c *checker) layoutKernel(dir string) {
	for _, e := range entries(dir) {
		path := filepath.Join(dir, e.Name())
		if !directory(path, e) || strings.HasPrefix(e.Name(), ".") {
			c.alien(path, e)
			continue
		}
		c.layoutResult(path)
	}
}

func (c *checker) layoutResult(dir string) {
	for _, e := range entries(dir) {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.Name() == "module" && directory(path, e):
			c.layoutObjects(path)
		case e.Name() == "log" && directory(path, e), e.Name() == RecordFile:
		case e.Type().IsRegular() && (e.Name() == ".installed" || strings.HasPrefix(e.Name(), ".dep_")):
		default:
			c.alien(path, e)
		}
	}
}

func (c *checker) layoutObjects(dir string) {
	for _, e := range entries(dir) {
		_, _, object := ko.SplitName(e.Name())
		if !object && e.Name() != "Module.symvers" || e.IsDir() {
			c.alien(filepath.Join(dir, e.Name()), e)
		}
	}
}

// alien notes what dkms doesn't know, unless it is told of as a leftover.
func (c *checker) alien(path string, e fs.DirEntry) {
	if strings.HasPrefix(e.Name(), ".") && strings.HasSuffix(e.Name(), stagedSuffix) || special(e) {
		return
	}
	what := "no file of dkms"
	if e.IsDir() {
		what = "no directory of dkms"
	}
	c.add(Foreign, Key{}, path, "%s", what)
}

// special tells pipes, sockets and devices: who opens one may wait for ever.
func special(e fs.DirEntry) bool {
	return e.Type()&(fs.ModeNamedPipe|fs.ModeSocket|fs.ModeDevice|fs.ModeIrregular) != 0
}

func isSpecial(path string) bool {
	fi, err := os.Lstat(path)
	return err == nil && special(fs.FileInfoToDirEntry(fi))
}

// kind names what is no file.
func kind(d fs.DirEntry) string {
	switch {
	case d.IsDir():
		return "directory"
	case d.Type()&fs.ModeNamedPipe != 0:
		return "named pipe"
	case d.Type()&fs.ModeSocket != 0:
		return "socket"
	}
	return "device"
}

// instead reports whether a directory stands where dkms has a file: a log, or an
// outcome.
func (t Tree) instead(path string, d fs.DirEntry) bool {
	return d.IsDir() && (d.Name() == "make.log" || within(path, filepath.Join(t.Dir, outcomes)) && filepath.Ext(path) == ".json")
}

func entries(dir string) []fs.DirEntry {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil // leftovers has told of it
	}
	return list
}

// directory reports whether an entry is a directory or a link to one, as Modules
// takes it.
func directory(path string, e fs.DirEntry) bool {
	return e.IsDir() || e.Type()&fs.ModeSymlink != 0 && isDir(path)
}

// owners finds what doesn't belong to the owner of the tree, or may be written by
// others: what is installed as root must be root's. What is below a directory with
// such a fault is told of with it. Build directories, sources and what was moved
// aside are not looked into.
func (c *checker) owners(t Tree, o Owner) {
	var open []*Inconsistency // directories above the one that is looked at
	var found []*Inconsistency
	_ = filepath.WalkDir(t.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		for len(open) > 0 && !within(path, open[len(open)-1].Path) {
			open = open[:len(open)-1]
		}
		skip := d.IsDir() && t.foreign(path)
		if what := misowned(path, o); what != "" && !ownBuild(t, path) && !skip {
			if len(open) > 0 {
				open[len(open)-1].Below = append(open[len(open)-1].Below, path)
			} else {
				i := &Inconsistency{Kind: WrongOwner, Path: path, What: what}
				found = append(found, i)
				if d.IsDir() {
					open = append(open, i)
				}
			}
		}
		if skip || ownBuild(t, path) && d.IsDir() || d.Name() == "lost+found" && filepath.Dir(path) == t.Dir {
			return fs.SkipDir
		}
		return nil
	})
	for _, i := range found {
		c.found = append(c.found, *i)
	}
}

// ownBuild reports whether path is the directory of a build under way, which
// belongs to the user that it runs as.
func ownBuild(t Tree, path string) bool {
	rel, err := filepath.Rel(t.Dir, path)
	return err == nil && strings.Count(rel, "/") == 2 && strings.HasPrefix(filepath.Base(path), ownBuildPrefix)
}

// LockLeft reports on a lock file that nobody holds: what a killed writer, or
// something else, has left. It counts while no writer is at work.
func (t Tree) LockLeft() []Inconsistency {
	path := filepath.Join(t.Dir, lockName)
	fi, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	if !fi.Mode().IsRegular() {
		return []Inconsistency{{Kind: StaleLock, Path: path, What: "the lock is no file, and keeps every dkms out"}}
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return []Inconsistency{{Kind: Unread, Path: path, What: "it can't be read: " + err.Error()}}
		}
		return nil
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil || !names(path, f) {
		return nil
	}
	return []Inconsistency{{Kind: StaleLock, Path: path, What: "a lock that no process holds"}}
}
