// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"dkms-go/internal/ko"
	"dkms-go/internal/untrusted"
	"dkms-go/internal/vercmp"
)

func newReader(s string) io.Reader { return strings.NewReader(s) }

// present finds, in one walk, the objects of the kernel's tree that have the
// names of those to be placed.
func (j Job) present(objects []object) map[string][]string {
	found := map[string][]string{}
	for _, o := range objects {
		found[o.Dest] = nil
	}
	filepath.WalkDir(j.Paths.KernelTree(j.Key.Kernel), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		name, _, ok := ko.SplitName(d.Name())
		if _, wanted := found[name]; ok && wanted {
			found[name] = append(found[name], path)
		}
		return nil
	})
	return found
}

// acceptable tells whether an object may be installed beside or instead of
// what the kernel has under its name: it must be newer, or of the same version
// and other source (reference 5.9).
func (j Job) acceptable(o object, there []string) error {
	if err := j.obsolete(); err != nil {
		return err
	}
	if j.Force || j.ForceVersion || j.Replace || len(there) == 0 {
		return nil
	}
	ours, err := version(o.from)
	if err != nil {
		return err
	}
	theirs, err := version(there[0])
	if err != nil {
		return err
	}
	switch {
	case ours.version != theirs.version && vercmp.Less(ours.version, theirs.version):
		return fmt.Errorf("version %q of %s is not newer than %q, which kernel %s has at %s", ours.version, o.Dest, theirs.version, j.Key.Kernel, there[0])
	case ours != theirs:
		return nil
	case ours == identity{} && !same(o.from, there[0]):
		return nil
	case ours.version == "":
		return fmt.Errorf("the same object without a version is already there: %s", there[0])
	}
	return fmt.Errorf("version %s of %s is already there: %s", ours.version, o.Dest, there[0])
}

// obsolete applies OBSOLETE_BY at install time, to results that were built
// elsewhere.
func (j Job) obsolete() error {
	by := j.Conf.ObsoleteBy
	if by == "" || j.Force || !vercmp.Less(by, j.Key.Kernel) {
		return nil
	}
	return fmt.Errorf("%s says that kernels from %s on have its objects themselves (OBSOLETE_BY)", j.Key.ID, by)
}

// identity is what two objects are compared by.
type identity struct{ version, source string }

func version(path string) (identity, error) {
	data, err := ko.Read(path)
	if err != nil {
		return identity{}, fmt.Errorf("reading %s: %w", path, err)
	}
	info, err := ko.ParseInfo(data)
	if err != nil {
		return identity{}, fmt.Errorf("reading %s: %w", path, err)
	}
	fields := append(strings.Fields(info.Version()), "", "")
	id := identity{fields[0], info.SrcVersion()}
	if id.source == "" {
		id.source = fields[1] // an old way to put a checksum behind the version
	}
	return id, nil
}

// Same reports whether the two objects can be read and have the same bytes.
func Same(a, b string) bool { return same(a, b) }

func same(a, b string) bool {
	x, err := untrusted.ReadLinked(a, ko.MaxSize)
	if err != nil {
		return false
	}
	y, err := untrusted.ReadLinked(b, ko.MaxSize)
	return err == nil && bytes.Equal(x, y)
}

// Located returns where an object of the active result is in the kernel's
// tree: in the distribution's directory or in the conf's, with the version of
// the object in the result. It is "" if there is none.
func (j Job) Located(name, location string) string {
	from, ok := Find(j.Tree.Objects(j.Key), name)
	if !ok {
		return ""
	}
	ours, unknown := version(from)
	tree := j.Paths.KernelTree(j.Key.Kernel)
	for _, dir := range []string{j.Dir(location), location} {
		path, ok := Find(filepath.Join(tree, dir), name)
		if !ok {
			continue
		}
		if same(from, path) {
			return path
		}
		if theirs, err := version(path); err == nil && unknown == nil && theirs.version == ours.version {
			return path
		}
	}
	return ""
}
