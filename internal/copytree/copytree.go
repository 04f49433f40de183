// SPDX-License-Identifier: Apache-2.0

// Package copytree copies directory trees as `cp -a` does: modes, times and
// symbolic links are kept, ownership when the caller may.
package copytree

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Copy copies the directory from to the directory to, which is made if it is
// missing; files that are there already are replaced, others stay. Data is
// shared between the copies where the file system can (copy_file_range(2)).
// Device nodes, sockets and fifos are an error: nothing to build from. So is a
// copy into itself. If from is a symbolic link, what it leads to is copied.
func Copy(from, to string) error {
	var dirs []string
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		return fmt.Errorf("copying a directory: %w", err)
	}
	if err := outside(from, to); err != nil {
		return fmt.Errorf("copying %s: %w", from, err)
	}
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		dest := filepath.Join(to, rel)
		switch d.Type() {
		case fs.ModeDir:
			dirs = append(dirs, rel)
			return os.MkdirAll(dest, 0o755)
		case fs.ModeSymlink:
			return copyLink(path, dest)
		case 0:
			return copyFile(path, dest)
		}
		return fmt.Errorf("%s is neither a file, a directory nor a symbolic link", path)
	})
	if err != nil {
		return fmt.Errorf("copying %s: %w", from, err)
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := copyAttributes(filepath.Join(from, dirs[i]), filepath.Join(to, dirs[i])); err != nil {
			return fmt.Errorf("copying %s: %w", from, err)
		}
	}
	return nil
}

// outside fails if to is, or would be made, in the directory from: the copy
// would never end.
func outside(from, to string) error {
	for dir := filepath.Clean(to); ; dir = filepath.Dir(dir) {
		real, err := filepath.EvalSymlinks(dir)
		if errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
			continue
		}
		if err != nil {
			return err
		}
		for ; ; real = filepath.Dir(real) {
			if real == from {
				return fmt.Errorf("%s is inside of it", to)
			}
			if real == filepath.Dir(real) {
				return nil
			}
		}
	}
}

func copyLink(from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(target, to)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	out, err := os.OpenFile(to, flags, 0o600)
	if errors.Is(err, fs.ErrExist) {
		if err := os.Remove(to); err != nil {
			return err
		}
		out, err = os.OpenFile(to, flags, 0o600)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && err == nil && unix.Geteuid() == 0 {
		err = out.Chown(int(st.Uid), int(st.Gid))
	}
	return errors.Join(err, out.Chmod(fi.Mode()), out.Close(), os.Chtimes(to, time.Time{}, fi.ModTime()))
}

func copyAttributes(from, to string) error {
	fi, err := os.Stat(from)
	if err != nil {
		return err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && unix.Geteuid() == 0 {
		if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	return errors.Join(os.Chmod(to, fi.Mode()), os.Chtimes(to, time.Time{}, fi.ModTime()))
}

// Equal reports whether two directory trees hold the same files, links and
// directories with the same content. An unreadable tree equals nothing.
func Equal(a, b string) bool {
	x, err := list(a, nil)
	if err != nil {
		return false
	}
	y, err := list(b, nil)
	return err == nil && maps.Equal(x, y)
}

// Digest returns the SHA-256, in hexadecimal, of what a directory tree holds:
// the paths, kinds and contents of its files and links. Modes and times, which
// unpacking may change, don't count. If dir is a symbolic link, what it leads to
// is taken.
func Digest(dir string) (string, error) { return Survey(dir, nil) }

// Survey is Digest that shows, if see isn't nil, the content of each file on the
// way; see may be called in any order of files.
func Survey(dir string, see func(text []byte)) (string, error) {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", fmt.Errorf("reading a directory: %w", err)
	}
	entries, err := list(root, see)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", root, err)
	}
	h := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(entries)) {
		fmt.Fprintf(h, "%q %q\n", path, entries[path])
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// list returns what a tree holds: for each path its kind and content. Each file's
// content is shown to see, if there is one.
func list(root string, see func(text []byte)) (map[string]string, error) {
	entries := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		var what string
		switch d.Type() {
		case fs.ModeDir:
			what = "directory"
		case fs.ModeSymlink:
			what, err = os.Readlink(path)
			what = "link " + what
		default:
			var text []byte
			text, err = os.ReadFile(path)
			sum := sha256.Sum256(text)
			what = "file " + string(sum[:])
			if see != nil {
				see(text)
			}
		}
		rel, _ := filepath.Rel(root, path)
		entries[rel] = what
		return err
	})
	return entries, err
}
