// SPDX-License-Identifier: Apache-2.0

package altroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The tables below say where a merged root takes what from. Names are relative
// to a root; "lib" stands for wherever that leads to.

// libDirs are the directories at the top that a merged-usr root has as links
// into usr (file-hierarchy(7)).
func libDirs() []string {
	return []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"}
}

// toolDirs are where the tools of this machine come first: programs and the
// libraries, headers and links that belong to them. In the rest of usr and
// etc the root's files come first.
func toolDirs() []string {
	return []string{
		"usr/bin", "usr/sbin", "usr/lib", "usr/lib32", "usr/lib64", "usr/libx32",
		"usr/libexec", "usr/include", "etc/alternatives",
	}
}

// toolFiles are the same for single files: where the dynamic linker looks.
func toolFiles() []string { return []string{"etc/ld.so.cache", "etc/ld.so.conf"} }

// writable are the root's own directories in a tree that is read-only
// otherwise.
func writable() []string { return []string{"usr/src", "lib/modules", "etc/dkms"} }

// ownDirs and ownFiles describe the machine, and are the root's own or empty:
// those of this machine must not show through.
func ownDirs() []string {
	return []string{
		"usr/share/dkms", "lib/modprobe.d", "lib/depmod.d",
		"etc/modprobe.d", "etc/depmod.d", "etc/modules-load.d", "etc/kernel",
	}
}

func ownFiles() []string { return []string{"usr/lib/os-release"} }

// modules returns the name of the kernels' directory below root: lib/modules
// for a root whose lib is a directory, usr/lib/modules for any other.
func modules(root string) string { return libName(root, "lib/modules") }

// libName returns name with its leading "lib" led to where root has it; where
// there is no lib the name is that of a merged-usr root.
func libName(root, name string) string {
	if !strings.HasPrefix(name, "lib/") {
		return name
	}
	if info, err := os.Lstat(filepath.Join(root, "lib")); err == nil && info.IsDir() {
		return name
	}
	return "usr/" + name
}

// merge puts a root together at stage:
//
//   - usr and etc are read-only merges of both, the root's files first, except
//     that programs and what belongs to them come from this machine first;
//   - usr/src, lib/modules and etc/dkms are the root's, writable; no settings
//     for dkms or modules are taken from this machine;
//   - bin, lib and so on are links, or merges, as on this machine;
//   - tmp is the root's, so that archives written there stay; proc, dev and
//     sys are left to the caller;
//   - everything else at the top is the root's, writable.
func merge(dir, stage string) error {
	if err := tmpfs(stage, "mode=0755"); err != nil {
		return err
	}
	m := merger{dir: dir, stage: stage, empty: filepath.Join(stage, ".dkms-empty")}
	for _, step := range []func() error{m.makeEmpty, m.topDirs, m.rest, m.mergeTrees, m.bindOwn, m.seal} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// merger is the work of merge.
type merger struct {
	dir   string // the root directory asked for
	stage string // the new root
	empty string // a tree of empty directories, the last layer of merges
}

// none is the directory, in the empty tree, that stands for a missing one.
const none = "none"

// makeEmpty makes the tree that gives every later mount its mount point.
func (m merger) makeEmpty() error {
	names := []string{none}
	for _, name := range slices.Concat(toolDirs(), writable(), ownDirs()) {
		names = append(names, name)
		if strings.HasPrefix(name, "lib/") {
			names = append(names, "usr/"+name)
		}
	}
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(m.empty, name), 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"proc", "dev", "sys", "tmp", "usr", "etc"} {
		if err := os.Mkdir(filepath.Join(m.stage, name), 0o755); err != nil {
			return err
		}
	}
	return bind(filepath.Join(m.dir, "tmp"), filepath.Join(m.stage, "tmp"))
}

// topDirs makes bin, lib and so on as this machine has them.
func (m merger) topDirs() error {
	for _, name := range libDirs() {
		target, err := os.Readlink("/" + name)
		place := filepath.Join(m.stage, name)
		switch {
		case err == nil:
			if err := os.Symlink(target, place); err != nil {
				return err
			}
		case errors.Is(err, fs.ErrNotExist):
		default:
			if err := os.Mkdir(place, 0o755); err != nil {
				return err
			}
			if err := m.overlay(place, "/"+name, filepath.Join(m.dir, name), filepath.Join(m.empty, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// rest takes everything of the root that has no other source.
func (m merger) rest() error {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		place := filepath.Join(m.stage, entry.Name())
		if _, err := os.Lstat(place); err == nil || slices.Contains(libDirs(), entry.Name()) {
			continue
		}
		if err := take(filepath.Join(m.dir, entry.Name()), place, entry.Type()); err != nil {
			return err
		}
	}
	return nil
}

// take puts a link like source, or source itself, at place. Sockets, pipes and
// devices are passed over.
func take(source, place string, kind fs.FileMode) error {
	var err error
	switch {
	case kind.IsDir():
		err = os.Mkdir(place, 0o755)
	case kind.IsRegular():
		err = os.WriteFile(place, nil, 0o644)
	case kind == fs.ModeSymlink:
		target, err := os.Readlink(source)
		if err != nil {
			return err
		}
		return os.Symlink(target, place)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	return bind(source, place)
}

// mergeTrees merges usr and etc, and then the parts where this machine comes
// first.
func (m merger) mergeTrees() error {
	for _, name := range []string{"usr", "etc"} {
		own, err := resolve(m.dir, name)
		if err != nil {
			return err
		}
		place := filepath.Join(m.stage, name)
		if err := m.overlay(place, own, "/"+name, filepath.Join(m.empty, name)); err != nil {
			return err
		}
	}
	if err := m.mergeTools(); err != nil {
		return err
	}
	for _, name := range toolFiles() {
		if err := m.bindFile("/"+name, name); err != nil {
			return err
		}
	}
	return nil
}

// mergeTools makes the merges of toolDirs. Where machines differ in what is a
// link (sbin to bin, lib64 to lib) several of them are one place in the new
// root, which then has the files of all.
func (m merger) mergeTools() error {
	var places []string
	layers := map[string][]string{}
	for _, name := range toolDirs() {
		place, err := resolve(m.stage, name)
		if err != nil {
			return err
		}
		if _, ok := layers[place]; !ok {
			places = append(places, place)
		}
		for _, root := range []string{"/", m.dir, m.empty} {
			layer, err := resolve(root, name)
			if err != nil {
				return err
			}
			layers[place] = append(layers[place], layer)
		}
	}
	for _, place := range places {
		if err := m.overlay(place, layers[place]...); err != nil {
			return err
		}
	}
	return nil
}

// overlay mounts at place the merge of those layers that exist, the first one
// on top, read-only since it has no upper layer (kernel documentation,
// filesystems/overlayfs.rst, "Multiple lower layers").
func (m merger) overlay(place string, layers ...string) error {
	var used []string
	for _, layer := range layers {
		info, err := os.Stat(layer)
		if err == nil && info.IsDir() && !slices.Contains(used, layer) {
			used = append(used, layer)
		}
	}
	if len(used) == 1 {
		if err := bind(used[0], place); err != nil {
			return err
		}
		return readOnly(place)
	}
	for i, layer := range used {
		used[i] = escape(layer)
	}
	options := "lowerdir=" + strings.Join(used, ":")
	if err := unix.Mount("overlay", place, "overlay", unix.MS_RDONLY|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("merging %s: %w", strings.Join(layers, " and "), err)
	}
	return nil
}

// escape returns a path as the overlay file system reads it in lowerdir.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`).Replace(path)
}

// bindOwn puts the root's own directories and files over the merges.
func (m merger) bindOwn() error {
	for _, name := range slices.Concat(writable(), ownDirs()) {
		if err := m.bindDir(name); err != nil {
			return err
		}
	}
	for _, name := range ownFiles() {
		source, err := resolve(m.dir, name)
		if err != nil {
			return err
		}
		if err := m.bindFile(source, name); err != nil {
			return err
		}
	}
	return nil
}

// bindDir puts the root's directory of that name over the merge, or an empty
// read-only one.
func (m merger) bindDir(name string) error {
	target, err := resolve(m.stage, libName(m.stage, name))
	if err != nil {
		return err
	}
	source, err := resolve(m.dir, libName(m.dir, name))
	if err != nil {
		return err
	}
	if info, err := os.Stat(source); err == nil && info.IsDir() {
		return bind(source, target)
	}
	if err := bind(filepath.Join(m.empty, none), target); err != nil {
		return err
	}
	return readOnly(target)
}

// bindFile puts a file over that at name in the new root, if both exist.
func (m merger) bindFile(source, name string) error {
	target, err := resolve(m.stage, name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(target); err != nil {
		return nil
	}
	if _, err := os.Stat(source); err != nil {
		return nil
	}
	return bind(source, target)
}

// seal makes the top of the new root read-only, mounts in it stay as they are:
// what was written there would be lost.
func (m merger) seal() error { return readOnly(m.stage) }

// readOnly makes the mount at place read-only.
func readOnly(place string) error {
	err := unix.Mount("", place, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	if err != nil {
		return fmt.Errorf("making %s read-only: %w", place, err)
	}
	return nil
}

// tmpfs mounts an empty file system in memory.
func tmpfs(target, options string) error {
	if err := unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mounting an empty file system at %s: %w", target, err)
	}
	return nil
}
