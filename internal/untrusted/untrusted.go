// SPDX-License-Identifier: Apache-2.0

// Package untrusted reads and removes what others have put into a directory: a
// module's source, and what the commands of its build have left.
//
// Names that lead elsewhere are the danger: the reader is root and who made the
// names is not. Nothing here opens what is outside of the directory, waits for
// the other end of a pipe, asks a device, or reads more than it was told to.
package untrusted

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrOutside is the error of a name that leads out of its directory.
var ErrOutside = errors.New("leads out of the directory")

// Dir is a directory that others may write to, or have written to.
type Dir struct {
	root *os.Root
	path string
	uid  uint32
	// shared says that others than its owner may write to it.
	shared bool
}

// Open opens the directory at path; it may be a symbolic link to one.
func Open(path string) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("opening a directory: %w", err)
	}
	return newDir(root, path), nil
}

func newDir(root *os.Root, path string) *Dir {
	d := &Dir{root: root, path: path, shared: true}
	if fi, err := root.Stat("."); err == nil {
		d.uid, d.shared = owner(fi), fi.Mode()&0o022 != 0
	}
	return d
}

// Sub opens a directory in the directory.
func (d *Dir) Sub(name string) (*Dir, error) {
	root, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return newDir(root, filepath.Join(d.path, name)), nil
}

// Root gives access to the directory without the checks that Dir makes of files.
func (d *Dir) Root() *os.Root { return d.root }

// Close closes the directory. Files opened in it stay open.
func (d *Dir) Close() error { return d.root.Close() }

// File opens the regular file that name, a path below the directory, leads to.
// Symbolic links are followed inside of the directory, also those that name it
// by its whole path. A second name (a hard link) of a file that only others may
// read is refused like a name outside, and so is one of root's in a directory that
// others may write to: a link needs no right to read (proc_sys_fs(5),
// protected_hardlinks).
func (d *Dir) File(name string) (*os.File, fs.FileInfo, error) {
	name, err := d.resolve(name)
	if err != nil {
		return nil, nil, err
	}
	return d.Plain(name)
}

// Plain is File for a name that should be no symbolic link; one with a whole path
// is refused.
func (d *Dir) Plain(name string) (*os.File, fs.FileInfo, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil {
		err = d.fit(name, fi)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

// fit tells what is wrong with an opened file.
func (d *Dir) fit(name string, fi fs.FileInfo) error {
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%q is not a file but a %s", name, kind(fi.Mode()))
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if ok && st.Nlink > 1 && fi.Mode()&0o004 == 0 && (st.Uid != d.uid || st.Uid == 0 && d.shared) {
		return fmt.Errorf("%q %w: it is another name of a file of somebody else", name, ErrOutside)
	}
	return nil
}

// resolve returns the name of what name leads to. os.Root, which has the last
// word, takes no link with a whole path.
func (d *Dir) resolve(name string) (string, error) {
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("%q %w", name, ErrOutside)
	}
	if _, err := d.root.Stat(name); err == nil || errors.Is(err, fs.ErrNotExist) {
		return name, nil
	}
	here, err := filepath.EvalSymlinks(d.path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(filepath.Join(here, name))
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(here, real)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("%q %w, to %q", name, ErrOutside, real)
	}
	return rel, nil
}

// Read returns the content of a file of at most limit bytes.
func (d *Dir) Read(name string, limit int64) ([]byte, error) {
	f, fi, err := d.File(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, fi, name, limit)
}

// Exists reports why name leads to no file that File would open.
func (d *Dir) Exists(name string) error {
	f, _, err := d.File(name)
	if err != nil {
		return err
	}
	return f.Close()
}

// ReadFile returns the content of the regular file at path, of at most limit
// bytes. A symbolic link at its end is not followed.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, fi, err := OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, fi, path, limit)
}

// ReadLinked is ReadFile for a path that may be a symbolic link.
func ReadLinked(path string, limit int64) ([]byte, error) {
	f, fi, err := open(path, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, fi, path, limit)
}

// OpenFile opens the regular file at path. A symbolic link at its end is not
// followed.
func OpenFile(path string) (*os.File, fs.FileInfo, error) { return open(path, syscall.O_NOFOLLOW) }

func open(path string, flags int) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY|flags, 0)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%q is not a file but a %s", path, kind(fi.Mode()))
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

func readAll(f *os.File, fi fs.FileInfo, name string, limit int64) ([]byte, error) {
	if fi.Size() > limit {
		return nil, fmt.Errorf("%q has %d bytes, more than %d", name, fi.Size(), limit)
	}
	data := make([]byte, fi.Size()) // grows no further: who wrote it has ended
	n, err := io.ReadFull(f, data)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, fmt.Errorf("reading %q: %w", name, err)
	}
	return data[:n], nil
}

func owner(fi fs.FileInfo) uint32 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return uint32(unix.Geteuid())
}

// kind names what isn't a regular file.
func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeDevice != 0:
		return "device"
	}
	return "special file"
}
