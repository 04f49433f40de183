// SPDX-License-Identifier: Apache-2.0

// Package aside gives dkms a private place on the disk, and runs it where what is in
// that place stands over the machine's own directories: headers of kernels that are
// not installed, and a DKMS tree in which nothing is lost when it goes.
//
// A place is a directory that goes with its owner. That of a killed owner goes when
// the next one is made: an owner holds a lock (flock(2)) on a file in it.
package aside

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dkms-go/internal/run"
	"dkms-go/internal/untrusted"
)

// activeVar is set in the environment of a process that Exec has started, to the
// directory of its place.
const activeVar = "DKMS_ASIDE_ACTIVE"

// prefix begins the names of places, lockName is the file in each that is locked.
const (
	prefix   = "dkms-aside-"
	lockName = "lock"
)

// What may be in a place: the tree that takes the place of the DKMS tree, the
// sources of modules that nobody has added, packages that were downloaded, and what
// packages have, by where it belongs.
const (
	Tree      = "tree"
	Sources   = "sources"
	Downloads = "packages"
	Modules   = "modules"
	Source    = "src"
	Library   = "lib"
)

// Place is a private directory.
type Place struct {
	Dir  string
	lock *os.File
}

// Make makes a place in the first of dirs that can be written to, and removes those
// that killed owners have left in any of them. A directory of dirs is made if it is missing.
// Others may read what is in a place: builds run as other users.
func Make(dirs []string) (*Place, error) {
	var all error
	var made *Place
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		_ = os.MkdirAll(dir, 0o755) // MkdirTemp tells
		sweep(dir)
		if made != nil {
			continue
		}
		p, err := makeIn(dir)
		for errors.Is(err, errSwept) {
			p, err = makeIn(dir)
		}
		if err == nil {
			made = p
			continue
		}
		all = errors.Join(all, err)
	}
	if made == nil {
		return nil, fmt.Errorf("making a private directory: %w", all)
	}
	return made, nil
}

func makeIn(dir string) (*Place, error) {
	path, err := os.MkdirTemp(dir, prefix)
	if err != nil {
		return nil, err
	}
	p, err := Open(path)
	if err == nil {
		err = os.Chmod(path, 0o755)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	return p, nil
}

// errSwept says that a place was taken for that of a killed owner before its lock was
// held.
var errSwept = errors.New("it was swept away")

// Open returns the place at a directory, and shares its lock.
func Open(dir string) (*Place, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening a private directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", f.Name(), err), f.Close())
	}
	held, err := f.Stat()
	named, nerr := os.Lstat(f.Name())
	if err != nil || nerr != nil || !os.SameFile(held, named) {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", f.Name(), errSwept), f.Close())
	}
	return &Place{dir, f}, nil
}

// sweep removes the places of this user that nobody holds any more.
func sweep(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, prefix+"*"))
	for _, path := range left {
		fi, err := os.Lstat(path)
		if err != nil || !fi.IsDir() || !own(fi) {
			continue
		}
		if done, gone := abandoned(path); gone {
			_ = untrusted.RemoveAll(path) // the next one tries again
			done()
		}
	}
}

func own(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// abandoned reports whether nobody holds a place, and keeps others from taking it
// until done is called. One without the file is being made, unless it is old.
func abandoned(path string) (done func(), gone bool) {
	f, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		fi, err := os.Lstat(path)
		return func() {}, err == nil && time.Since(fi.ModTime()) > time.Minute
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		f.Close()
		return nil, false
	}
	return func() { f.Close() }, true
}

// Path returns the path of something in the place.
func (p *Place) Path(elem ...string) string {
	return filepath.Join(append([]string{p.Dir}, elem...)...)
}

// Leave lets go of a place that another process will remove.
func (p *Place) Leave() error { return p.lock.Close() }

// Remove removes the place.
func (p *Place) Remove() error {
	err := untrusted.RemoveAll(p.Dir)
	return errors.Join(err, p.lock.Close())
}

// Active returns the directory of the place that this process works in, if it was
// started by Exec, and the environment without the mark of that.
func Active(environ []string) (dir string, rest []string, ok bool) {
	rest = slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		value, found := strings.CutPrefix(kv, activeVar+"=")
		if found {
			dir, ok = value, true
		}
		return found
	})
	return dir, rest, ok
}

// Layer is a directory of a place that stands over one of the machine.
type Layer struct {
	// Name is that of the directory in the place, Over the machine's.
	Name, Over string
	// Alone hides all that is in the machine's directory; otherwise what is in
	// either is seen, the place's first, and can't be written to.
	Alone bool
}

// Exec runs the program of this process with argv (argv[0] included) where the
// layers stand over the machine's directories, and returns its exit code. Only that
// process and what it starts see them. It needs the right to mount (run.CanPrivate);
// with an error the program wasn't run, except when ctx ended.
func (p *Place) Exec(ctx context.Context, layers []Layer, argv, environ []string, stdio run.Stdio) (code int, err error) {
	cmd := run.Cmd{Argv: argv, Env: append(slices.Clone(environ), activeVar+"="+p.Dir)}
	return run.Again(ctx, cmd, stdio, func() error { return p.cover(layers) })
}

// under is the end of the name, in a place, at which a directory of the machine is
// seen that something is laid over.
const under = ".under"

// cover mounts the layers. One may be below another, and file systems may be stacked
// two deep only: so each is made of what was there before any was mounted. Without an
// upper layer a merge is read-only (kernel documentation, filesystems/overlayfs.rst,
// "Multiple lower layers").
func (p *Place) cover(layers []Layer) error {
	for _, l := range layers {
		if l.Alone {
			continue
		}
		if _, err := os.Stat(l.Over); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.MkdirAll(p.Path(l.Name+under), 0o755); err != nil {
			return fmt.Errorf("preparing %s: %w", l.Over, err)
		}
		if err := bind(l.Over, p.Path(l.Name+under)); err != nil {
			return err
		}
	}
	for _, l := range layers {
		err := p.lay(l)
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *Place) lay(l Layer) error {
	from, below := p.Path(l.Name), p.Path(l.Name+under)
	if _, err := os.Stat(below); l.Alone || err != nil {
		return bind(from, l.Over)
	}
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)
	options := "lowerdir=" + escape.Replace(from) + ":" + escape.Replace(below)
	if err := unix.Mount("overlay", l.Over, "overlay", unix.MS_RDONLY|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("laying %s over %s: %w", from, l.Over, err)
	}
	return nil
}

func bind(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding %s to %s: %w", from, to, err)
	}
	return nil
}
