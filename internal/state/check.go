// SPDX-License-Identifier: Apache-2.0

package state

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Inconsistency is a thing below the tree that no finished change leaves.
type Inconsistency struct {
	// Path is where it is, What a half sentence that says what is wrong with it.
	Path, What string
}

func (i Inconsistency) String() string { return i.Path + ": " + i.What }

// Check looks for what doesn't agree in the tree: changes under way, prepared
// files that nobody will use, active links without a result, results without
// their objects, kept originals without the note of their place. It reads every
// object that a record names and changes nothing. The caller holds the lock:
// a writer at work looks like one that was killed.
func (t Tree) Check() []Inconsistency {
	var c checker
	c.leftovers(t)
	for _, id := range t.Modules("", "") {
		if t.Condition(id) == Broken {
			c.add(t.SourceLink(id), "no source is there")
		}
		c.results(t, id)
	}
	modules := subdirs(t.Dir, "*")
	for _, m := range modules {
		c.activeLinks(t, m)
		c.originals(t.OriginalsOf(m))
	}
	return c.found
}

type checker struct{ found []Inconsistency }

func (c *checker) add(path, what string, args ...any) {
	c.found = append(c.found, Inconsistency{path, fmt.Sprintf(what, args...)})
}

// leftovers finds what writers make for themselves.
func (c *checker) leftovers(t Tree) {
	_ = filepath.WalkDir(t.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			c.add(path, "it can't be read: %v", err)
			return nil
		}
		name := d.Name()
		switch {
		case d.IsDir() && t.foreign(path):
		case strings.HasPrefix(name, ".") && strings.HasSuffix(name, stagedSuffix):
			c.add(path, "prepared for a change that did not happen")
		case filepath.Dir(path) == filepath.Join(t.Dir, journalDir):
			c.add(path, "a change that was interrupted")
		case d.IsDir() && strings.HasPrefix(name, ownBuildPrefix):
			c.add(path, "the build directory of a killed dkms")
		default:
			return nil
		}
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
}

// results looks at the results of a module for all kernels.
func (c *checker) results(t Tree, id ID) {
	kernels, arches, _ := t.Layout(id)
	for _, kernel := range kernels {
		for _, arch := range arches[kernel] {
			k := Key{id, kernel, arch}
			if t.Stale(k) {
				c.add(t.Result(k), "a result without objects")
				continue
			}
			text, err := os.ReadFile(filepath.Join(t.Result(k), RecordFile))
			var r Record
			if err != nil || json.Unmarshal(text, &r) != nil || r.Format != RecordFormat {
				continue // upstream's have none
			}
			for _, o := range r.Objects {
				data, err := os.ReadFile(filepath.Join(t.Objects(k), filepath.Base(o.File)))
				if err != nil {
					c.add(t.Objects(k), "it lacks the object %s", o.File)
				} else if sum := sha256.Sum256(data); o.SHA256 != "" && hex.EncodeToString(sum[:]) != o.SHA256 {
					c.add(filepath.Join(t.Objects(k), o.File), "it isn't as it was built")
				}
			}
		}
	}
}

// activeLinks looks at the links kernel-* of a module.
func (c *checker) activeLinks(t Tree, module string) {
	links, _ := os.ReadDir(t.Module(module))
	for _, l := range links {
		path := filepath.Join(t.Module(module), l.Name())
		if l.Type()&fs.ModeSymlink != 0 && noVersion(l.Name()) && !isDir(filepath.Join(path, "module")) {
			c.add(path, "it names a result that isn't there")
		}
	}
}

// originals looks at the notes of the objects that were kept for any kernel. Old
// programs kept some without a note.
func (c *checker) originals(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if object, note := strings.CutSuffix(path, ".origin"); note {
			if _, err := os.Lstat(object); err != nil {
				c.add(path, "the original that it is about is gone")
			}
		}
		return nil
	})
}
