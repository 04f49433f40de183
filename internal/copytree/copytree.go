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

	"dkms-go/internal/untrusted"
)

// Copy copies the directory from to the directory to, which is made if it is
// missing; files that are there already are replaced, others stay. Data is
// shared between the copies where the file system can (copy_file_range(2)).
// Device nodes, sockets and fifos are an error: nothing to build from. So is a
// copy into itself. If from is a symbolic link, what it leads to is copied.
func Copy(from, to string) error {
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		return fmt.Errorf("copying a directory: %w", err)
	}
	err = outside(from, to)
	if err == nil {
		err = os.MkdirAll(to, 0o755)
	}
	if err != nil {
		return fmt.Errorf("copying %s: %w", from, err)
	}
	dest, err := os.OpenRoot(to)
	if err != nil {
		return fmt.Errorf("copying %s: %w", from, err)
	}
	defer dest.Close()
	return Into(dest, from)
}

// Into is Copy to an open directory. Symbolic links that are there lead nowhere
// out of it. It must not be inside of the directory from.
func Into(dest *os.Root, from string) error {
	if err := into(dest, from); err != nil {
		return fmt.Errorf("copying %s: %w", from, err)
	}
	return nil
}

func into(dest *os.Root, from string) error {
	source, err := untrusted.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	return pair{source, dest, from}.all()
}

// pair is a directory and its copy, both open: whoever may write to one of them
// meanwhile can't have a copy read or write elsewhere.
type pair struct {
	from *untrusted.Dir
	to   *os.Root
	path string // of from, to tell
}

// all copies what is in the directory, then its attributes.
func (p pair) all() error {
	entries, err := fs.ReadDir(p.from.Root().FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		switch e.Type() {
		case fs.ModeDir:
			err = p.dir(name)
		case fs.ModeSymlink:
			err = p.link(name)
		case 0:
			err = p.file(name)
		default:
			err = fmt.Errorf("%s is neither a file, a directory nor a symbolic link", filepath.Join(p.path, name))
		}
		if err != nil {
			return err
		}
	}
	return p.attributes()
}

func (p pair) dir(name string) error {
	if err := p.to.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	from, err := p.from.Sub(name)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := p.to.OpenRoot(name)
	if err != nil {
		return err
	}
	defer to.Close()
	return pair{from, to, filepath.Join(p.path, name)}.all()
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

func (p pair) link(path string) error {
	target, err := p.from.Root().Readlink(path)
	if err != nil {
		return err
	}
	if err := p.to.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return p.to.Symlink(target, path)
}

// maxFile bounds one file, in bytes: a file with holes can claim any size.
const maxFile = 4 << 30

func (p pair) file(path string) error {
	in, fi, err := p.from.Plain(path)
	if err != nil {
		return err
	}
	defer in.Close()
	if fi.Size() > maxFile {
		return fmt.Errorf("%q has %d bytes, more than %d", path, fi.Size(), int64(maxFile))
	}
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	out, err := p.to.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrExist) {
		if err := p.to.Remove(path); err != nil {
			return err
		}
		out, err = p.to.OpenFile(path, flags, 0o600)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && err == nil && unix.Geteuid() == 0 {
		err = out.Chown(int(st.Uid), int(st.Gid))
	}
	return errors.Join(err, out.Chmod(fi.Mode()), out.Close(), p.to.Chtimes(path, time.Time{}, fi.ModTime()))
}

// attributes gives the copy the directory's owner, mode and time.
func (p pair) attributes() error {
	fi, err := p.from.Root().Stat(".")
	if err != nil {
		return err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && unix.Geteuid() == 0 {
		if err := p.to.Lchown(".", int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	return errors.Join(p.to.Chmod(".", fi.Mode()), p.to.Chtimes(".", time.Time{}, fi.ModTime()))
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
// way that has up to 64 MiB; see may be called in any order of files.
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
			what, err = digestOf(path, see)
			what = "file " + what
		}
		rel, _ := filepath.Rel(root, path)
		entries[rel] = what
		return err
	})
	return entries, err
}

// maxShown bounds the content that is shown to a caller, in bytes.
const maxShown = 64 << 20

// digestOf returns the SHA-256 of a file, and shows what it holds to see.
func digestOf(path string, see func(text []byte)) (string, error) {
	f, fi, err := untrusted.OpenFile(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if fi.Size() > maxFile {
		return "", fmt.Errorf("%s has %d bytes, more than %d", path, fi.Size(), int64(maxFile))
	}
	h := sha256.New()
	if fi.Size() > maxShown || see == nil {
		_, err = io.Copy(h, io.LimitReader(f, maxFile))
		return string(h.Sum(nil)), err
	}
	text := make([]byte, fi.Size())
	n, err := io.ReadFull(f, text)
	if err == io.ErrUnexpectedEOF {
		err = nil
	}
	if err == nil {
		h.Write(text[:n])
		see(text[:n])
	}
	return string(h.Sum(nil)), err
}
