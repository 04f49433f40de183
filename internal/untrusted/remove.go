// SPDX-License-Identifier: Apache-2.0

package untrusted

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// deepest is how many directories RemoveAll goes down at once. os.RemoveAll has
// one file open for each, and fails where there are more than a process may
// have open (RLIMIT_NOFILE).
const deepest = 200

// RemoveAll removes path and what is below it, however deep. Symbolic links are
// removed, not followed.
func RemoveAll(path string) error {
	err := os.RemoveAll(path)
	if !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE) && !errors.Is(err, unix.ENAMETOOLONG) {
		return err
	}
	top, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(top)
	f := flattener{top: top}
	if f.due, err = entries(top); err != nil {
		return err
	}
	for len(f.due) > 0 {
		name := f.due[0]
		f.due = f.due[1:]
		err := f.enter(top, name, 1)
		if err == nil {
			err = os.RemoveAll(filepath.Join(path, name))
		}
		if err != nil {
			return fmt.Errorf("removing the deep directory %s: %w", path, err)
		}
	}
	return os.RemoveAll(path)
}

// flattener moves directories that are too deep up to the top.
type flattener struct {
	top   int
	due   []string // directories at the top that may be too deep
	names int
}

// enter flattens a directory which is depth below the top.
func (f *flattener) enter(parent int, name string, depth int) error {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil // something was lifted into its place, and removed with it
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	below, err := entries(fd)
	for _, name := range below {
		if err != nil {
			break
		}
		if depth < deepest {
			err = f.enter(fd, name, depth+1)
		} else {
			err = f.lift(fd, name)
		}
	}
	return err
}

// lift moves a directory to the top, under a name that is free there.
func (f *flattener) lift(fd int, name string) error {
	for {
		f.names++
		at := fmt.Sprintf(".deep-%d", f.names)
		switch err := unix.Renameat(fd, name, f.top, at); err {
		case nil:
			f.due = append(f.due, at)
			return nil
		case unix.EEXIST, unix.ENOTEMPTY, unix.ENOTDIR:
		default:
			return err
		}
	}
}

// entries returns the names of the directories in an open directory.
func entries(fd int) ([]string, error) {
	again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(again), filepath.Base("."))
	defer f.Close()
	list, err := f.ReadDir(-1)
	var names []string
	for _, e := range list {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}
