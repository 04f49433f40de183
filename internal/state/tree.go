// SPDX-License-Identifier: Apache-2.0

// Package state reads and writes the DKMS tree (/var/lib/dkms).
//
// There is no database: directories and symbolic links are the state, in
// upstream's layout, so that both programs can work on one tree.
//
//	<tree>/<m>/<v>/source                       -> the module's source
//	<tree>/<m>/<v>/build/                       work directory of a build
//	<tree>/<m>/<v>/<k>/<a>/{module,log}/        a result
//	<tree>/<m>/kernel-<k>-<a>                   -> <v>/<k>/<a>: the active result
//	<tree>/<m>/original_module/<k>/<a>/<file>   the distribution's object, kept
//	                                            with <file>.origin (its path)
//
// Everything else below the tree that starts with a dot is ours and ignored
// by upstream. This package is the only writer below the tree; the files of a
// kernel's own tree are switched in the same Change, so that both always
// agree.
package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// ID names a module: the DKMS unit.
type ID struct{ Module, Version string }

func (id ID) String() string { return id.Module + "/" + id.Version }

// CheckName reports why s can't be the name or the version of a module: both
// become directory names and parts of commands.
func CheckName(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("the %s is empty", what)
	case s == "." || s == "..", strings.HasPrefix(s, "-"), strings.HasPrefix(s, "."):
		return fmt.Errorf("%q is no valid %s: it starts with %q", s, what, s[:1])
	case strings.ContainsAny(s, "/ *?[]{}()<>|&;\\$`\"'"), strings.ContainsFunc(s, unicode.IsControl), strings.ContainsFunc(s, unicode.IsSpace):
		return fmt.Errorf("%q is no valid %s: it has a character that has no place in a file name", s, what)
	case len(s) > 200:
		return fmt.Errorf("the %s is longer than 200 bytes", what)
	}
	return nil
}

// Check reports why id can't name a module.
func (id ID) Check() error {
	if err := CheckName("module name", id.Module); err != nil {
		return err
	}
	return CheckName("module version", id.Version)
}

// Key names a result: one module built for one kernel.
type Key struct {
	ID
	Kernel, Arch string
}

func (k Key) String() string {
	return fmt.Sprintf("%s, %s, %s", k.ID, k.Kernel, k.Arch)
}

// Condition is what the tree says of a module, results aside.
type Condition int

// The conditions of a module. Hidden is a directory that is neither added nor
// broken: upstream doesn't list it (reference 4.2).
const (
	Absent Condition = iota
	Hidden
	Added
	Broken
)

// Tree is one DKMS tree together with the source tree that its links lead to.
type Tree struct{ Dir, Sources string }

// Module returns the directory that holds all versions of a module.
func (t Tree) Module(name string) string { return filepath.Join(t.Dir, name) }

// Version returns the directory of one module version.
func (t Tree) Version(id ID) string { return filepath.Join(t.Dir, id.Module, id.Version) }

// SourceLink returns the path of the link to the module's source.
func (t Tree) SourceLink(id ID) string { return filepath.Join(t.Version(id), "source") }

// Source returns the directory that the source link leads to when the module
// is added by upstream's rule.
func (t Tree) Source(id ID) string {
	return filepath.Join(t.Sources, id.Module+"-"+id.Version)
}

// Build returns the directory in which confs expect the module to be built.
func (t Tree) Build(id ID) string { return filepath.Join(t.Version(id), "build") }

// Result returns the directory of the result named by k.
func (t Tree) Result(k Key) string { return filepath.Join(t.Version(k.ID), k.Kernel, k.Arch) }

// Objects returns the directory of the objects of the result named by k.
func (t Tree) Objects(k Key) string { return filepath.Join(t.Result(k), "module") }

// keptLogs is the name of the directory of all kept logs.
const keptLogs = ".log"

// ownBuildPrefix begins the names of the directories of builds under way.
const ownBuildPrefix = ".build-"

// OwnBuild returns the directory that is there while a build for k is: the build
// directory of one of several at once, else empty.
func (t Tree) OwnBuild(k Key) string {
	return filepath.Join(t.Version(k.ID), ownBuildPrefix+k.Kernel+"-"+k.Arch)
}

// KeptLogs returns the directory of the kept logs of a module.
func (t Tree) KeptLogs(id ID) string { return filepath.Join(t.Dir, keptLogs, id.Module, id.Version) }

// KeptLog returns where the log of the last build for k is kept, whatever
// became of that build.
func (t Tree) KeptLog(k Key) string {
	return filepath.Join(t.KeptLogs(k.ID), k.Kernel, k.Arch, "make.log")
}

// ActiveLink returns the path of the link that marks which version of a module
// is installed for a kernel.
func (t Tree) ActiveLink(k Key) string {
	return filepath.Join(t.Module(k.Module), "kernel-"+k.Kernel+"-"+k.Arch)
}

// IndexDue returns the path of the mark that a kernel's objects were changed and
// its module index was not brought up to date yet. The mark is set in the same
// change, so that a process killed in between leaves it.
func (t Tree) IndexDue(kernel string) string { return filepath.Join(t.Dir, ".index-due", kernel) }

// KernelsDue returns the kernels whose module index is due.
func (t Tree) KernelsDue() []string {
	entries, err := os.ReadDir(filepath.Dir(t.IndexDue("any")))
	if err != nil {
		return nil
	}
	var kernels []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			kernels = append(kernels, e.Name())
		}
	}
	return kernels
}

// IndexDone removes the mark that a kernel's module index is due.
func (t Tree) IndexDone(kernel string) error {
	mark := t.IndexDue(kernel)
	if err := os.Remove(mark); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("noting that the module index is up to date: %w", err)
	}
	os.Remove(filepath.Dir(mark)) // unless other kernels are due
	return nil
}

// PlacedList returns the path of the list of objects that were installed from a
// result. It lies with the result, so that it goes with it whoever removes that;
// it counts only while the result is the active one.
func (t Tree) PlacedList(k Key) string { return filepath.Join(t.Result(k), ".installed") }

// Originals returns the directory that keeps the objects a module replaced.
func (t Tree) Originals(k Key) string {
	return filepath.Join(t.Module(k.Module), originals, k.Kernel, k.Arch)
}

// OriginalsOf returns the directory that keeps the objects that any version of a
// module replaced for any kernel.
func (t Tree) OriginalsOf(module string) string { return filepath.Join(t.Module(module), originals) }

// originals is the name of the directory of all kept originals of a module.
const originals = "original_module"

func isDir(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

func isLink(path string) bool {
	fi, err := os.Lstat(path)
	return err == nil && fi.Mode()&os.ModeSymlink != 0
}

// Condition tells what the tree says of a module. A module is broken when its
// source link leads nowhere, or is missing while the source is there. One whose
// directory the caller may not look into is Hidden.
func (t Tree) Condition(id ID) Condition {
	if !isDir(t.Version(id)) {
		return Absent
	}
	src := t.SourceLink(id)
	if _, err := os.Lstat(src); errors.Is(err, fs.ErrPermission) {
		return Hidden
	}
	switch link := isLink(src); {
	case link && isDir(src):
		return Added
	case link, isDir(t.Source(id)):
		return Broken
	}
	return Hidden
}

// Built reports whether there is a result for k.
func (t Tree) Built(k Key) bool { return isDir(t.Objects(k)) }

// Stale reports whether a directory stands where the result for k would go
// without being one: what an interrupted build of an old version left behind.
func (t Tree) Stale(k Key) bool { return isDir(t.Result(k)) && !t.Built(k) }

// Installed reports whether the result for k is the active one.
func (t Tree) Installed(k Key) bool {
	v, ok := t.Active(k)
	return ok && v == k.Version && t.Built(k)
}

// Active returns the version of the module that the active link for the
// kernel of k names. The link may dangle.
func (t Tree) Active(k Key) (version string, ok bool) {
	to, err := os.Readlink(t.ActiveLink(k))
	if err != nil {
		return "", false
	}
	if filepath.IsAbs(to) {
		to = strings.TrimPrefix(to, t.Module(k.Module)+"/")
	}
	version, rest, found := strings.Cut(filepath.Clean(to), "/")
	return version, found && rest == k.Kernel+"/"+k.Arch
}

// Modules returns the known modules whose name and version match the two shell
// patterns, sorted bytewise; an empty pattern matches all. A directory that
// can't be a module (original_module, the links) is left out.
func (t Tree) Modules(name, version string) []ID {
	var ids []ID
	for _, m := range subdirs(t.Dir, orAny(name)) {
		for _, v := range subdirsBut(filepath.Join(t.Dir, m), orAny(version), noVersion) {
			ids = append(ids, ID{m, v})
		}
	}
	return ids
}

// Plain reports whether no symbolic link takes part in the answer of Modules without
// patterns, so that only a change of the tree's directory and those of the modules
// can change it.
func (t Tree) Plain() bool {
	linked := func(dir string, unwanted func(string) bool) bool {
		entries, err := os.ReadDir(dir)
		return err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool {
			return e.Type()&os.ModeSymlink != 0 && !strings.HasPrefix(e.Name(), ".") && !unwanted(e.Name())
		})
	}
	if linked(t.Dir, func(string) bool { return false }) {
		return false
	}
	return !slices.ContainsFunc(subdirs(t.Dir, "*"), func(m string) bool { return linked(t.Module(m), noVersion) })
}

// Results returns the results of a module whose kernel and arch match the two
// shell patterns, sorted bytewise. Without a kernel pattern only directories
// that look like a kernel release (digits, then a dot) are taken, as upstream
// does.
func (t Tree) Results(id ID, kernel, arch string) []Key {
	var keys []Key
	for _, k := range subdirs(t.Version(id), orAny(kernel)) {
		if kernel == "" && !looksLikeRelease(k) {
			continue
		}
		for _, a := range subdirs(filepath.Join(t.Version(id), k), orAny(arch)) {
			if key := (Key{id, k, a}); t.Built(key) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// Layout lists the kernels below a module and the arches below each kernel that
// Results without patterns looks into. plain says that no symbolic link takes part,
// so that only a change of these directories can change the answer.
func (t Tree) Layout(id ID) (kernels []string, arches map[string][]string, plain bool) {
	plain = true
	arches = map[string][]string{}
	links := func(dir string) bool {
		entries, err := os.ReadDir(dir)
		return err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool {
			return e.Type()&os.ModeSymlink != 0 && (dir != t.Version(id) || looksLikeRelease(e.Name()))
		})
	}
	for _, k := range subdirs(t.Version(id), "*") {
		if looksLikeRelease(k) {
			kernels = append(kernels, k)
			arches[k] = subdirs(filepath.Join(t.Version(id), k), "*")
			plain = plain && !links(filepath.Join(t.Version(id), k))
		}
	}
	return kernels, arches, plain && !links(t.Version(id))
}

func orAny(pattern string) string {
	if pattern == "" {
		return "*"
	}
	return pattern
}

// subdirs lists the directories (or links to one) of dir that match a shell
// pattern; names with a leading dot only when the pattern has one.
func subdirs(dir, pattern string) []string {
	return subdirsBut(dir, pattern, func(string) bool { return false })
}

// noVersion tells what is beside the versions of a module.
func noVersion(name string) bool {
	return name == originals || strings.HasPrefix(name, "kernel-") && strings.Count(name, "-") > 1
}

// subdirsBut is subdirs without those that a name tells are not wanted.
func subdirsBut(dir, pattern string, unwanted func(name string) bool) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") != strings.HasPrefix(pattern, ".") || unwanted(name) {
			continue
		}
		if ok, err := filepath.Match(strings.ReplaceAll(pattern, "[!", "[^"), name); pattern != "*" && (err != nil || !ok) && name != pattern {
			continue
		}
		if e.IsDir() || isDir(filepath.Join(dir, name)) {
			names = append(names, name)
		}
	}
	return names
}

func looksLikeRelease(name string) bool {
	digits := len(name) - len(strings.TrimLeft(name, "0123456789"))
	return digits > 0 && strings.HasPrefix(name[digits:], ".")
}

// Writable reports whether the caller may write to the tree; a tree that
// doesn't exist yet is made if its parent allows.
func (t Tree) Writable() error {
	if err := os.MkdirAll(t.Dir, 0o755); err != nil {
		return fmt.Errorf("making the DKMS tree: %w", err)
	}
	if err := unix.Access(t.Dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("writing to the DKMS tree: %w", &fs.PathError{Op: "write to", Path: t.Dir, Err: err})
	}
	return nil
}

// Prune removes a directory below the tree and its parents while they are
// empty. It stops below the tree itself.
func (t Tree) Prune(dir string) error {
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != dir {
			prune(path, dir)
		}
		return nil
	})
	prune(dir, t.Dir)
	return nil
}

// LoggedKeys returns what logs are kept of, and the results, whose module, version
// and kernel match shell patterns, sorted by key; an empty pattern matches all.
func (t Tree) LoggedKeys(id ID, kernel string) []Key {
	var list []Key
	dir := filepath.Join(t.Dir, keptLogs)
	for _, m := range subdirs(dir, orAny(id.Module)) {
		for _, v := range subdirs(filepath.Join(dir, m), orAny(id.Version)) {
			for _, k := range subdirs(filepath.Join(dir, m, v), orAny(kernel)) {
				for _, a := range subdirs(filepath.Join(dir, m, v, k), "*") {
					list = append(list, Key{ID{m, v}, k, a})
				}
			}
		}
	}
	for _, m := range t.Modules(id.Module, id.Version) {
		for _, k := range t.Results(m, kernel, "") {
			if !slices.Contains(list, k) {
				list = append(list, k)
			}
		}
	}
	return list
}
