// SPDX-License-Identifier: Apache-2.0

// Package altroot makes dkms work on another root directory, such as the
// image of a machine that is being built.
//
// The process runs itself again with that directory as its root, so that
// nothing else in dkms has to know of it. All paths in the arguments are
// looked up inside the root, relative ones from its top.
//
// A root that has a shell and make is used as it is. For one that lacks them
// the new root is put together from the tools of this machine and everything
// else of the directory, see merge.
package altroot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dkms-go/internal/host"
	"dkms-go/internal/run"
)

// ActiveVar is set in the environment of a process that works inside a root,
// to the directory that is its root.
const ActiveVar = "DKMS_ROOT_ACTIVE"

// Active returns the directory that is the root of this process, if it was
// started by Exec.
func Active(environ []string) (dir string, ok bool) {
	for _, variable := range environ {
		if value, found := strings.CutPrefix(variable, ActiveVar+"="); found {
			return value, true
		}
	}
	return "", false
}

// Exec runs the program of this process with argv (argv[0] included) where
// the directory dir is the root, and returns its exit code: 128 plus the
// number of the signal that ended it, as a shell would.
//
// Only the inner process and what it starts see the new root. In dir the
// directories that dkms writes to, and the places for kernel file systems,
// are created if they are missing; nothing else in it changes. TMPDIR isn't
// handed on, it names a place of the outer root.
//
// Must be called as root and not from inside another root. With an error the
// program wasn't run, except when ctx ended.
func Exec(ctx context.Context, dir string, argv, environ []string, stdio run.Stdio) (code int, err error) {
	root, err := check(dir, environ)
	if err != nil {
		return 0, err
	}
	if err := createDirs(root); err != nil {
		return 0, err
	}
	stage, err := os.MkdirTemp("", "dkms-root-")
	if err != nil {
		return 0, fmt.Errorf("preparing root %s: %w", root, err)
	}
	// The mounts on it exist in the private namespace only: for us it is
	// an empty directory. Remove, never RemoveAll.
	defer os.Remove(stage)

	cmd := run.Cmd{Argv: argv, Dir: "/", Env: innerEnv(environ, root)}
	return run.Again(ctx, cmd, stdio, func() error {
		if err := enter(root, stage); err != nil {
			return fmt.Errorf("entering root %s: %w", root, err)
		}
		return nil
	})
}

// check returns dir without symbolic links, if it can be made a root.
func check(dir string, environ []string) (string, error) {
	if active, ok := Active(environ); ok {
		return "", fmt.Errorf("entering root %s: already inside root %s", dir, active)
	}
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("entering root %s: only root may change the root directory", dir)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("entering root %q: %w", dir, err)
	}
	root, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", fmt.Errorf("entering root: %w", err)
	}
	info, err := os.Stat(root)
	if err != nil {
		return "", fmt.Errorf("entering root: %w", err)
	}
	if !info.IsDir() {
		return "", fmt.Errorf("entering root %s: %w", root, unix.ENOTDIR)
	}
	if root == "/" {
		return "", fmt.Errorf("entering root %s: it is the root already", dir)
	}
	return root, nil
}

// innerEnv returns the environment of the inner process.
func innerEnv(environ []string, root string) []string {
	inner := slices.DeleteFunc(slices.Clone(environ), func(variable string) bool {
		return strings.HasPrefix(variable, "TMPDIR=")
	})
	return append(inner, ActiveVar+"="+root)
}

// createDirs makes the directories below root that dkms writes to.
func createDirs(root string) error {
	paths := host.Default()
	for _, name := range []string{paths.DKMSTree, paths.SourceTree, modules(root), "proc", "dev", "sys", "tmp"} {
		path, err := resolve(root, name)
		if err != nil {
			return fmt.Errorf("preparing root %s: %w", root, err)
		}
		mode := os.FileMode(0o755)
		if name == "tmp" {
			mode = 0o777 | os.ModeSticky
		}
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("preparing root %s: %w", root, err)
		}
		if err := os.Chmod(path, mode); err != nil {
			return fmt.Errorf("preparing root %s: %w", root, err)
		}
	}
	return nil
}

// hasTools tells whether a build can run with what root itself contains.
func hasTools(root string) bool {
	return isFile(root, "bin/sh") && (isFile(root, "usr/bin/make") || isFile(root, "bin/make"))
}

// isFile tells whether name below root is a file.
func isFile(root, name string) bool {
	path, err := resolve(root, name)
	if err != nil {
		return false
	}
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

// enter makes dir the root of the calling thread, which has a mount namespace
// of its own. stage is an empty directory for the mounts.
func enter(dir, stage string) error {
	var err error
	if hasTools(dir) {
		// A root must be a mount point (pivot_root(2)), and mount points
		// in the new one need one as well.
		err = bind(dir, stage)
	} else {
		err = merge(dir, stage)
	}
	if err != nil {
		return err
	}
	if err := kernelDirs(stage); err != nil {
		return err
	}
	return pivot(stage)
}

// kernelDirs puts the kernel's file systems of this machine into root.
func kernelDirs(root string) error {
	for _, name := range []string{"proc", "dev", "sys"} {
		target, err := resolve(root, name)
		if err != nil {
			return err
		}
		if err := bind("/"+name, target); err != nil {
			return err
		}
	}
	return nil
}

// pivot makes root, a mount point, the root of the calling thread and lets go
// of the old one. Where the old root can't be exchanged (an initial RAM file
// system, a plain chroot) the thread's root directory is changed instead.
func pivot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return &os.PathError{Op: "chdir", Path: root, Err: err}
	}
	if unix.PivotRoot(".", ".") == nil {
		// The old root now lies over the new one (pivot_root(2), NOTES).
		if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
			return fmt.Errorf("leaving the old root: %w", err)
		}
	} else if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("changing the root directory: %w", err)
	}
	return unix.Chdir("/")
}

// bind makes source, with what is mounted below it, appear at target.
func bind(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("binding %s to %s: %w", source, target, err)
	}
	return nil
}
