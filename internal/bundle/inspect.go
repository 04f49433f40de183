// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// inspect says what the unpacked archive is.
func (u *unpacker) inspect(into string) (*Archive, error) {
	a := &Archive{Dir: into}
	find := u.inspectGeneric
	if u.kinds[mainTree] == kindDir {
		find = u.inspectBundle
	}
	if err := find(a); err != nil {
		return nil, err
	}
	return a, u.finishDirs()
}

// inspectBundle looks for the parts of mktarball's layout. As upstream has it,
// the dkms.conf of the source goes before that of dkms_binaries_only.
func (u *unpacker) inspectBundle(a *Archive) error {
	for name, kind := range u.kinds {
		parts := strings.Split(name, "/")
		if parts[0] == mainTree && len(parts) == 3 && kind == kindDir {
			a.Results = append(a.Results, Result{parts[1], parts[2], filepath.Join(a.Dir, name)})
		}
	}
	slices.SortFunc(a.Results, func(x, y Result) int { return strings.Compare(x.Dir, y.Dir) })
	switch {
	case u.hasConf(sourceTree):
		a.SourceDir = filepath.Join(a.Dir, sourceTree)
		a.ConfFile = filepath.Join(a.SourceDir, confName)
		a.Kind = Full
		if len(a.Results) == 0 {
			a.Kind = SourceOnly
		}
	case u.hasConf(binariesOnly):
		a.ConfFile = filepath.Join(a.Dir, binariesOnly, confName)
		a.Kind = BinariesOnly
	default:
		return ErrNoValidConf
	}
	return nil
}

// inspectGeneric finds the source in an archive of another layout: the directory
// of the dkms.conf with the fewest directories above it, of several the first by
// name.
func (u *unpacker) inspectGeneric(a *Archive) error {
	var dirs []string
	for name := range u.kinds {
		if path.Base(name) == confName {
			dirs = append(dirs, path.Dir(name))
		}
	}
	slices.SortFunc(dirs, func(x, y string) int {
		if d := depthOf(x) - depthOf(y); d != 0 {
			return d
		}
		return strings.Compare(x, y)
	})
	for _, dir := range dirs {
		if !u.hasConf(dir) {
			continue
		}
		a.Kind = Generic
		a.SourceDir = filepath.Join(a.Dir, dir)
		a.ConfFile = filepath.Join(a.SourceDir, confName)
		if err := u.dropLinks(a, dir); err != nil {
			return err
		}
		if !u.hasConf(dir) { // it led through one of them
			return ErrNoConf
		}
		return nil
	}
	return ErrNoConf
}

// depthOf counts the directories in the name of a directory; "." has none.
func depthOf(dir string) int {
	if dir == "." {
		return 0
	}
	return strings.Count(dir, "/") + 1
}

// hasConf reports whether dir has a dkms.conf that is a file, or a symlink to
// one that is still a file when only dir is kept.
func (u *unpacker) hasConf(dir string) bool {
	name := path.Join(dir, confName)
	switch u.kinds[name] {
	case kindFile:
		return true
	case kindLink:
		if badTarget(u.links[name], 0) != "" {
			return false
		}
		info, err := u.root.Stat(name)
		return err == nil && info.Mode().IsRegular()
	}
	return false
}

// dropLinks removes the symlinks below dir that point outside of it. They would
// point to anything once the caller moves dir elsewhere.
func (u *unpacker) dropLinks(a *Archive, dir string) error {
	depth := depthOf(dir)
	if depth == 0 {
		return nil
	}
	for name, target := range u.links {
		if !strings.HasPrefix(name, dir+"/") || badTarget(target, strings.Count(name, "/")-depth) == "" {
			continue
		}
		if err := u.root.Remove(name); err != nil {
			return err
		}
		a.Dropped = append(a.Dropped, name)
	}
	slices.Sort(a.Dropped)
	return nil
}
