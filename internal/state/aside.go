// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"dkms-go/internal/copytree"
	"dkms-go/internal/durable"
	"dkms-go/internal/untrusted"
)

// lostFound is the name of the directory of what fsck has moved aside.
const lostFound = ".lost+found"

// LostFound returns the directory for what is moved aside at a time: below it
// each thing has the whole path that it had.
func (t Tree) LostFound(now time.Time) string {
	return filepath.Join(t.Dir, lostFound, now.UTC().Format("20060102T150405Z"))
}

// Aside makes Commit move a file or directory to a directory of LostFound, under
// the whole path that it had. What is outside of the tree may be on another file
// system: it is copied, and must be a file or a symbolic link.
func (c *Change) Aside(t Tree, path, lost string) error {
	dest := free(filepath.Join(lost, path))
	if within(path, t.Dir) {
		c.ops = append(c.ops, op{opAside, dest, path})
		return nil
	}
	fi, err := os.Lstat(path)
	switch {
	case err != nil:
		return fmt.Errorf("moving %s aside: %w", path, err)
	case fi.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(path)
		if err != nil {
			return fmt.Errorf("moving %s aside: %w", path, err)
		}
		c.Link(to, dest)
	case !fi.Mode().IsRegular():
		return fmt.Errorf("moving %s aside: it is not a file", path)
	default:
		if err := c.StageCopy(path, dest); err != nil {
			return err
		}
	}
	c.Remove(path)
	return nil
}

// free returns a path beside dest at which nothing is.
func free(dest string) string {
	at := dest
	for n := 2; ; n++ {
		if _, err := os.Lstat(at); err != nil {
			return at
		}
		at = fmt.Sprintf("%s.%d", dest, n)
	}
}

// aside renames path to dest. Some file systems don't rename directories that a
// layer below has (overlayfs, EXDEV): it is copied, and where dest is there
// already, that was done before. What can't be moved, such as a mount point or what
// is marked as immutable, stays.
func aside(path, dest string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
		return err
	}
	err := unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, dest, unix.RENAME_NOREPLACE)
	switch err {
	case unix.EXDEV:
		if copyAside(path, dest) == nil {
			_ = untrusted.RemoveAll(path)
		}
	case unix.EEXIST:
		_ = untrusted.RemoveAll(path)
	case unix.ENOSYS, unix.EINVAL:
		if _, err := os.Lstat(dest); errors.Is(err, fs.ErrNotExist) {
			_ = os.Rename(path, dest)
		}
	}
	return nil
}

// copyAside puts a copy of the directory path to dest, whole or not at all.
func copyAside(path, dest string) error {
	tmp := stagedName(dest)
	err := os.RemoveAll(tmp)
	if err == nil {
		err = copytree.Copy(path, tmp)
	}
	if err == nil {
		err = os.Rename(tmp, dest)
	}
	if err != nil {
		os.RemoveAll(tmp)
		return err
	}
	return durable.Sync(filepath.Dir(dest))
}

// Own makes Commit give path an owner and a group, and take away that others may
// write to it. Directories come before what is in them, so that nobody can put
// something else there meanwhile.
func (c *Change) Own(path string, o Owner) {
	c.ops = append(c.ops, op{opOwn, fmt.Sprintf("%d:%d", o.UID, o.GID), path})
}

// own changes owner and rights of what path names itself. A file of whose names
// one may be elsewhere (hard links) keeps its rights: they are those of the other
// name as well.
func own(path, owner string) {
	var o Owner
	if _, err := fmt.Sscanf(owner, "%d:%d", &o.UID, &o.GID); err != nil {
		return
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == unix.ELOOP {
		_ = unix.Lchown(path, o.UID, o.GID)
		return
	}
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		return
	}
	if int(st.Uid) != o.UID || int(st.Gid) != o.GID {
		_ = unix.Fchown(fd, o.UID, o.GID)
	}
	_ = unix.Fchmod(fd, properMode(path, st.Mode))
}

// properMode is the mode that a file of the tree should have, of the one that it
// has: others don't write to it, its owner can read it, and the key is secret.
func properMode(path string, mode uint32) uint32 {
	perm := mode&0o7777&^0o022 | 0o400
	switch {
	case mode&unix.S_IFMT == unix.S_IFDIR:
		perm |= 0o700
	case filepath.Base(path) == "mok.key":
		perm &^= 0o077
	}
	return perm
}

// Owner is to whom files belong.
type Owner struct{ UID, GID int }

// OwnerOf returns to whom a file belongs.
func OwnerOf(path string) (Owner, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Owner{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return Owner{int(st.Uid), int(st.Gid)}, nil
}

// misowned tells what is wrong with owner and rights of a file, "" for nothing.
// A group may write if it is the owner's own.
func misowned(path string, o Owner) string {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return ""
	}
	link := st.Mode&unix.S_IFMT == unix.S_IFLNK
	proper := properMode(path, st.Mode)
	switch {
	case int(st.Uid) != o.UID:
		return fmt.Sprintf("it belongs to user %d and not to %d", st.Uid, o.UID)
	case link:
		return ""
	case st.Mode&0o002 != 0, st.Mode&0o020 != 0 && int(st.Gid) != o.GID:
		return fmt.Sprintf("others than its owner may write to it (mode %04o)", st.Mode&0o7777)
	case filepath.Base(path) == "mok.key" && st.Mode&0o077 != 0:
		return fmt.Sprintf("others than its owner may read the secret key (mode %04o)", st.Mode&0o7777)
	case proper&^st.Mode&0o700 != 0:
		return fmt.Sprintf("its owner may not read it (mode %04o)", st.Mode&0o7777)
	}
	return ""
}
