// SPDX-License-Identifier: Apache-2.0

package state

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/ko"
	"dkms-go/internal/untrusted"
)

// Kind says what sort of an inconsistency one is.
type Kind string

// The kinds that Check finds. docs/fsck.md describes each.
const (
	Unfinished  Kind = "unfinished" // left by a dkms that was killed
	SourceGone  Kind = "source"     // a module without its source
	LinkWrong   Kind = "link"       // a link kernel-* that names no result
	ResultWrong Kind = "result"     // a result without its objects
	RecordWrong Kind = "record"     // a build.json that can't be read
	OriginalOff Kind = "original"   // an original without its note's object, or of nobody
	Foreign     Kind = "foreign"    // a file that dkms doesn't know
	WrongOwner  Kind = "owner"      // owner or mode
	StaleLock   Kind = "lock"       // a lock that nobody holds

	// JournalWrong is the list of a change that makes no sense: nobody can write.
	JournalWrong Kind = "journal"
	Unread       Kind = "unread" // what the caller may not read
)

// Inconsistency is a thing below the tree that no finished change leaves.
type Inconsistency struct {
	Kind Kind
	// Path is where it is, What a half sentence that says what is wrong with it.
	Path, What string
	// Key is the result that it is about, as far as it is about one.
	Key Key
	// Below are further paths with the same fault, below Path.
	Below []string
}

func (i Inconsistency) String() string { return i.Path + ": " + i.What }

// Check looks for what doesn't agree in the tree: changes under way, prepared
// files that nobody will use, active links without a result, results without
// their objects, kept originals without the note of their place, files that have
// no place in it, or another owner than the tree. It reads every
// object that a record names and changes nothing. The caller holds the lock:
// a writer at work looks like one that was killed.
func (t Tree) Check() []Inconsistency {
	o, err := OwnerOf(t.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return t.CheckFor(o)
}

// CheckFor is Check for a tree that must belong to an owner.
func (t Tree) CheckFor(o Owner) []Inconsistency {
	c := checker{closed: t.Unreadable("")}
	if _, err := os.Lstat(t.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	c.leftovers(t)
	c.layout(t)
	c.owners(t, o)
	for _, id := range t.Modules("", "") {
		if !Within(t.Version(id), c.closed) {
			c.source(t, id)
			c.results(t, id)
		}
	}
	for _, m := range subdirs(t.Dir, "*") {
		if !Within(t.Module(m), c.closed) {
			c.activeLinks(t, m)
			c.originals(t, m)
		}
	}
	return c.found
}

// cause is an error without the path that it names, which stands before it already.
func cause(err error) error {
	var of *fs.PathError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

type checker struct {
	found []Inconsistency
	// closed are the directories of modules that can't be looked into: nothing is
	// missing there for all one knows. leftovers tells of them.
	closed []string
}

func (c *checker) add(kind Kind, k Key, path, what string, args ...any) {
	c.found = append(c.found, Inconsistency{Kind: kind, Key: k, Path: path, What: fmt.Sprintf(what, args...)})
}

// leftovers finds what writers make for themselves.
func (c *checker) leftovers(t Tree) {
	_ = filepath.WalkDir(t.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			c.add(Unread, Key{}, path, "it can't be read: %v", cause(err))
			return nil
		}
		name := d.Name()
		switch {
		case d.IsDir() && t.foreign(path):
		case path == filepath.Join(t.Dir, lockName): // see LockLeft
			return nil
		case path == filepath.Join(t.Dir, journalDir):
			c.journal(t)
		case special(d), t.instead(path, d):
			c.add(Foreign, Key{}, path, "dkms has no %s there", kind(d))
		case strings.HasPrefix(name, ".") && strings.HasSuffix(name, stagedSuffix):
			c.add(Unfinished, Key{}, path, "prepared for a change that did not happen")
		case d.IsDir() && strings.HasPrefix(name, ownBuildPrefix):
			c.add(Unfinished, Key{}, path, "the build directory of a killed dkms")
		default:
			return nil
		}
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
}

// journal looks at the changes under way.
func (c *checker) journal(t Tree) {
	damaged := map[string]bool{}
	for _, d := range t.damagedJournal() {
		damaged[d.Path] = true
		c.add(JournalWrong, Key{}, d.Path, "it makes no sense: %v", d.Err)
	}
	for _, e := range entries(filepath.Join(t.Dir, journalDir)) {
		if path := filepath.Join(t.Dir, journalDir, e.Name()); !damaged[path] {
			c.add(Unfinished, Key{}, path, "a change that was interrupted")
		}
	}
}

// source looks for the source of a module: its link leads nowhere, or is missing
// where the source is there, or where results are.
func (c *checker) source(t Tree, id ID) {
	switch t.Condition(id) {
	case Broken:
		c.add(SourceGone, Key{ID: id}, t.SourceLink(id), "no source is there")
	case Hidden:
		if len(t.Results(id, "", "")) > 0 {
			c.add(SourceGone, Key{ID: id}, t.SourceLink(id), "the link is missing, and no source is in %s", t.Source(id))
		}
	}
}

// results looks at the results of a module for all kernels.
func (c *checker) results(t Tree, id ID) {
	kernels, arches, _ := t.Layout(id)
	for _, kernel := range kernels {
		for _, arch := range arches[kernel] {
			k := Key{id, kernel, arch}
			if Within(t.Result(k), c.closed) {
				continue
			}
			if t.Stale(k) {
				c.add(ResultWrong, k, t.Result(k), "a result without objects")
				continue
			}
			c.record(t, k)
		}
	}
}

// record holds a result's objects against its record; upstream's have none.
func (c *checker) record(t Tree, k Key) {
	path := filepath.Join(t.Result(k), RecordFile)
	r, err := t.Record(k)
	var bad *BadRecord
	switch {
	case errors.As(err, &bad) && isSpecial(path): // leftovers has told of it
	case errors.As(err, &bad):
		c.add(RecordWrong, k, path, "it is damaged: %v", bad.Err)
	case errors.Is(err, fs.ErrPermission):
		c.add(Unread, k, path, "it can't be read: %v", cause(err))
	}
	for _, o := range r.Objects {
		file := filepath.Join(t.Objects(k), filepath.Base(o.File))
		data, err := untrusted.ReadLinked(file, ko.MaxSize)
		if errors.Is(err, fs.ErrPermission) {
			c.add(Unread, k, file, "it can't be read: %v", cause(err))
		} else if err != nil {
			c.add(ResultWrong, k, t.Objects(k), "it lacks the object %s", o.File)
		} else if sum := sha256.Sum256(data); o.SHA256 != "" && hex.EncodeToString(sum[:]) != o.SHA256 {
			c.add(ResultWrong, k, file, "it isn't as it was built")
		}
	}
}

// activeLinks looks at the links kernel-* of a module.
func (c *checker) activeLinks(t Tree, module string) {
	links, _ := os.ReadDir(t.Module(module))
	for _, l := range links {
		path := filepath.Join(t.Module(module), l.Name())
		if l.Type()&fs.ModeSymlink == 0 || !noVersion(l.Name()) {
			continue
		}
		k, sane := linkKey(module, l.Name())
		version, ok := t.Active(k)
		if ok {
			k.Version = version
		}
		switch {
		case !sane:
			c.add(Foreign, Key{}, path, "no link of dkms")
		case ok && (Within(t.Version(k.ID), c.closed) || Within(t.Objects(k), c.closed)):
		case !isDir(filepath.Join(path, "module")):
			c.add(LinkWrong, k, path, "it names a result that isn't there")
		case !ok:
			c.add(LinkWrong, k, path, "it names the result of another kernel")
		}
	}
}

// linkKey returns what the name of a link kernel-<k>-<a> says; no name of an
// architecture has a dash.
func linkKey(module, name string) (k Key, ok bool) {
	release := strings.TrimPrefix(name, "kernel-")
	dash := strings.LastIndexByte(release, '-')
	if dash < 0 {
		return Key{}, false
	}
	k = Key{ID{module, ""}, release[:dash], release[dash+1:]}
	return k, CheckName("kernel release", k.Kernel) == nil && CheckName("architecture", k.Arch) == nil
}

// ActiveKeys lists what the active links of all modules name, whether it is there or
// not.
func (t Tree) ActiveKeys() []Key {
	var keys []Key
	for _, module := range subdirs(t.Dir, "*") {
		for _, l := range entries(t.Module(module)) {
			if l.Type()&fs.ModeSymlink == 0 || !noVersion(l.Name()) {
				continue
			}
			k, sane := linkKey(module, l.Name())
			if version, ok := t.Active(k); ok && sane {
				k.Version = version
				keys = append(keys, k)
			}
		}
	}
	return keys
}

// originals looks at the objects of any kernel that were kept, and at their notes.
// Old programs kept some without a note.
func (c *checker) originals(t Tree, module string) {
	top := t.OriginalsOf(module)
	for _, kernel := range subdirs(top, "*") {
		for _, arch := range subdirs(filepath.Join(top, kernel), "*") {
			k := Key{ID{module, ""}, kernel, arch}
			if CheckName("kernel release", kernel) != nil || CheckName("architecture", arch) != nil {
				continue
			}
			version, active := t.Active(k)
			if active {
				k.Version = version
			}
			if !active && hasFiles(t.Originals(k)) {
				c.add(OriginalOff, k, t.Originals(k), "originals are kept, and no version of the module is installed for the kernel")
				continue
			}
			c.notes(t.Originals(k), k)
		}
	}
}

func (c *checker) notes(dir string, k Key) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if object, note := strings.CutSuffix(path, ".origin"); note {
			if _, err := os.Lstat(object); errors.Is(err, fs.ErrNotExist) {
				c.add(OriginalOff, k, path, "the original that it is about is gone")
			}
		}
		return nil
	})
}

// hasFiles reports whether anything but directories is below dir.
func hasFiles(dir string) bool {
	found := false
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found
}

// Looks reports whether the tree's directory may be one of dkms: it isn't there yet, or
// empty, or has something that only dkms makes. The error is that it is no directory,
// or can't be read.
func (t Tree) Looks() (bool, error) {
	list, err := os.ReadDir(t.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for _, e := range list {
		if ours(e.Name()) || strings.HasPrefix(e.Name(), "mok.") || slices.Contains(treeFiles(), e.Name()) && e.Name() != "lost+found" {
			return true, nil
		}
	}
	for _, made := range []string{"*/*/source", "*/kernel-*-*", "*/*/*/*/module", "*/" + originals} {
		if found, _ := filepath.Glob(filepath.Join(t.Dir, made)); len(found) > 0 {
			return true, nil
		}
	}
	return len(list) == 0, nil
}
