// SPDX-License-Identifier: Apache-2.0

package run

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// detach makes all mounts of the calling thread's namespace private, so that
// none made later shows elsewhere. The thread shares neither root nor working
// directory with others (CLONE_FS).
//
// In a chroot the root directory needn't be a mount point, and only mount
// points can be changed (mount(2), EINVAL): then the namespace's own root is
// looked up, changed, and the thread brought back.
func detach() error {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if errors.Is(err, unix.EINVAL) {
		err = detachOutside()
	}
	if err != nil {
		return fmt.Errorf("detaching the private mount namespace: %w", err)
	}
	return nil
}

func detachOutside() (err error) {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	cwd, err := unix.Open(".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(cwd)
	below, err := anyDirectory()
	if err != nil {
		return err
	}
	// With its root further down, ".." leads the thread out of the chroot
	// (chroot(2)).
	if err := unix.Chroot(below); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, unix.Fchdir(root), unix.Chroot("."), unix.Fchdir(cwd))
	}()
	if err := unix.Fchdir(root); err != nil {
		return err
	}
	if err := climb(); err != nil {
		return err
	}
	return unix.Mount("", ".", "", unix.MS_REC|unix.MS_PRIVATE, "")
}

// climb changes to the topmost directory.
func climb() error {
	var here, up unix.Stat_t
	for {
		if err := unix.Stat(".", &here); err != nil {
			return err
		}
		if err := unix.Stat("..", &up); err != nil {
			return err
		}
		if here.Dev == up.Dev && here.Ino == up.Ino {
			return nil
		}
		if err := unix.Chdir(".."); err != nil {
			return err
		}
	}
}

// anyDirectory returns a directory directly below the root.
func anyDirectory() (string, error) {
	entries, err := os.ReadDir("/")
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.IsDir() {
			return "/" + e.Name(), nil
		}
	}
	return "", unix.ENOENT
}
