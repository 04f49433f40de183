// SPDX-License-Identifier: Apache-2.0

package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dkms-go/internal/host"
)

// newRoot puts the file system together that the command sees, and makes it the
// root of this process: that of the machine, read-only, with some places covered.
func (o *order) newRoot() error {
	if err := detach(); err != nil {
		return err
	}
	if err := bind(Bind{Source: "/", Target: o.Root}); err != nil {
		return err
	}
	const closed = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	if err := setAttr(o.Root, closed, 0); err != nil {
		return fmt.Errorf("making the root directory read-only: %w", err)
	}
	places := host.ConfinedPlaces()
	if err := o.devices(places); err != nil {
		return err
	}
	if err := o.scratch(places.Scratch); err != nil {
		return err
	}
	for _, dir := range places.Hidden {
		if err := o.cover(dir, "mode=0755,size=64k"); err != nil {
			return err
		}
	}
	if err := o.expose(places); err != nil {
		return err
	}
	if err := o.proc(); err != nil {
		return err
	}
	if err := unix.Chroot(o.Root); err != nil {
		return fmt.Errorf("changing the root directory: %w", err)
	}
	return os.Chdir("/")
}

// at returns where a place of the machine is below the new root; "" if it isn't
// there. A link must not lead out of it.
func (o *order) at(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	return filepath.Join(o.Root, real)
}

// cover mounts an empty file system over a directory, if that is there.
func (o *order) cover(dir, options string) error {
	at := o.at(dir)
	if fi, err := os.Stat(at); err != nil || !fi.IsDir() {
		return nil
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("covering %s: %w", dir, err)
	}
	return nil
}

// scratch makes the directories for temporary files, which are one.
func (o *order) scratch(dirs []string) error {
	options := "mode=1777"
	if o.Limits.Scratch > 0 {
		options += fmt.Sprintf(",size=%d", o.Limits.Scratch)
	}
	if err := o.cover(dirs[0], options); err != nil {
		return err
	}
	for _, dir := range dirs[1:] {
		fi, err := os.Lstat(filepath.Join(o.Root, dir))
		if at := o.at(dir); err == nil && fi.IsDir() && at != "" {
			if err := bind(Bind{Source: o.at(dirs[0]), Target: at}); err != nil {
				return err
			}
		}
	}
	return nil
}

// devices makes a directory with the devices that a program may expect.
func (o *order) devices(p host.Confined) error {
	at := filepath.Join(o.Root, p.Dev)
	if err := o.cover(p.Dev, "mode=0755,size=64k"); err != nil {
		return err
	}
	for _, name := range p.Devices {
		node := filepath.Join(at, name)
		if err := os.WriteFile(node, nil, 0o444); err != nil {
			return fmt.Errorf("making the device directory: %w", err)
		}
		err := bind(Bind{Source: filepath.Join(p.Dev, name), Target: node})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for name, target := range p.Links {
		if err := os.Symlink(target, filepath.Join(at, name)); err != nil {
			return fmt.Errorf("making the device directory: %w", err)
		}
	}
	for _, dir := range p.Scratch {
		if rel, ok := strings.CutPrefix(dir, p.Dev+"/"); ok {
			if err := os.Mkdir(filepath.Join(at, rel), 0o755); err != nil {
				return fmt.Errorf("making the device directory: %w", err)
			}
		}
	}
	return nil
}

// expose makes the readable and the writable directories what they are. Where one
// is below what is covered, or below a directory that is closed to the command's
// user, an empty directory takes the place of that, and the one that is wanted is
// bound into it.
func (o *order) expose(p host.Confined) error {
	covered := slices.Concat(p.Scratch, p.Hidden)
	for _, dir := range slices.Concat(o.Readable, o.Writable) {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			continue // the command tells, if it needs it
		}
		below, ok := o.closed(real, covered)
		if ok && !slices.Contains(covered, below) {
			if err := o.cover(below, "mode=0755"); err != nil {
				return err
			}
			covered = append(covered, below)
		}
		if !ok && !o.writes(dir) {
			continue
		}
		at := filepath.Join(o.Root, real)
		if err := os.MkdirAll(at, 0o755); err != nil {
			return fmt.Errorf("showing %s: %w", dir, err)
		}
		if err := bind(Bind{Source: real, Target: at}); err != nil {
			return err
		}
		set, clear := uint64(unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV), uint64(0)
		if o.writes(dir) {
			clear = unix.MOUNT_ATTR_RDONLY
		} else {
			set |= unix.MOUNT_ATTR_RDONLY
		}
		if err := setAttr(at, set, clear); err != nil {
			return fmt.Errorf("showing %s: %w", dir, err)
		}
	}
	return nil
}

func (o *order) writes(dir string) bool { return slices.Contains(o.Writable, dir) }

// closed returns the topmost directory above dir that is covered, or that the
// command's user may not go through.
func (o *order) closed(dir string, covered []string) (above string, ok bool) {
	for i := 1; i < len(dir); i++ {
		if dir[i] != '/' {
			continue
		}
		above := dir[:i]
		var st unix.Stat_t
		if slices.Contains(covered, above) {
			return above, true
		}
		if os.Geteuid() == 0 && unix.Stat(above, &st) == nil && st.Mode&0o001 == 0 {
			return above, true
		}
	}
	return "", false
}

// proc shows the processes of the namespace, and the kernel that the command is
// told of.
func (o *order) proc() error {
	at := filepath.Join(o.Root, host.Default().Proc)
	if err := unix.Mount("proc", at, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting the proc file system: %w", err)
	}
	if o.Uname != nil {
		o.Uname.coverFiles(at)
	}
	return nil
}

// setAttr changes the attributes of all mounts from path on (mount_setattr(2),
// Linux 5.12).
func setAttr(path string, set, clear uint64) error {
	return unix.MountSetattr(unix.AT_FDCWD, path, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: set, Attr_clr: clear})
}
