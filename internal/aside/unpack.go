// SPDX-License-Identifier: Apache-2.0

package aside

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dkms-go/internal/run"
)

// unpacker unpacks the packages of one place. What it has written it knows, and the
// directory that it last wrote to it holds open: there are 13,000 files in a kernel's
// headers, most beside each other.
type unpacker struct {
	root *os.Root
	left limits
	seen map[string]bool
	path string   // of dir
	dir  *os.Root // nil for none
}

// limits bound what packages may have, all together.
type limits struct {
	entries int
	bytes   int64
}

func newUnpacker(dir string, left limits) (*unpacker, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &unpacker{root: root, left: left, seen: map[string]bool{}}, nil
}

func (u *unpacker) close() {
	if u.dir != nil {
		u.dir.Close()
	}
	u.root.Close()
}

// beside returns the directory of a name, which is made if it is missing, and the
// name in it.
func (u *unpacker) beside(name string) (dir *os.Root, base string, err error) {
	parent, base := path.Dir(name), path.Base(name)
	if u.dir != nil && u.path == parent {
		return u.dir, base, nil
	}
	if err := u.root.MkdirAll(parent, 0o755); err != nil {
		return nil, "", err
	}
	if dir, err = u.root.OpenRoot(parent); err != nil {
		return nil, "", err
	}
	if u.dir != nil {
		u.dir.Close()
	}
	u.dir, u.path = dir, parent
	return dir, base, nil
}

// ErrTooBig says that packages have more than headers of kernels have.
var ErrTooBig = errors.New("it has more files, or larger ones, than headers of kernels")

// Unpack unpacks packages into the place: what belongs into a directory of kernels
// (Modules), below usr/src (Source), and below usr/lib what begins with "linux-"
// (Library). All else in them is passed over, nothing of them is executed, and
// nothing is written outside of the place, whatever names and links they have.
// Owners are not applied, and setuid bits are dropped. All packages together may have
// 400,000 entries and 4 GiB.
func (p *Place) Unpack(ctx context.Context, env []string, list []Package) error {
	for _, name := range []string{Modules, Source, Library} {
		if err := os.MkdirAll(p.Path(name), 0o755); err != nil {
			return fmt.Errorf("unpacking packages: %w", err)
		}
	}
	u, err := newUnpacker(p.Dir, limits{entries: 400_000, bytes: 4 << 30})
	if err != nil {
		return fmt.Errorf("unpacking packages: %w", err)
	}
	defer u.close()
	for _, pkg := range list {
		if err := u.file(ctx, env, pkg.File); err != nil {
			return fmt.Errorf("unpacking %q: %w", pkg.File, err)
		}
	}
	return nil
}

// file has dpkg-deb(1) write the files of a package as a tar archive.
func (u *unpacker) file(ctx context.Context, env []string, file string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	ended := make(chan error, 1)
	go func() {
		err := run.Cmd{Argv: []string{"dpkg-deb", "--fsys-tarfile", file}, Env: env, Stdout: w}.Run(ctx)
		w.Close()
		ended <- err
	}()
	in := bufio.NewReaderSize(r, 1<<18)
	if err = u.unpack(in); err == nil {
		_, err = io.Copy(io.Discard, in) // what pads the archive
	}
	if err != nil {
		cancel()
		r.Close()
	}
	if failed := <-ended; failed != nil && (err == nil || errors.Is(err, io.ErrUnexpectedEOF)) {
		return failed
	}
	return err
}

// unpack writes the entries of a tar archive that are wanted.
func (u *unpacker) unpack(r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the archive: %w", err)
		}
		if u.left.entries--; u.left.entries < 0 {
			return ErrTooBig
		}
		if name := placeOf(h.Name); name != "" {
			if err := u.entry(name, h, t); err != nil {
				return fmt.Errorf("the entry %q: %w", h.Name, err)
			}
		}
	}
}

// placeOf returns where in a place an entry goes, "" for nowhere.
func placeOf(name string) string {
	name = strings.TrimPrefix(path.Clean(name), "/")
	if !filepath.IsLocal(name) {
		return ""
	}
	for _, from := range []struct{ dir, to, begins string }{
		{"lib/modules/", Modules, ""}, {"usr/lib/modules/", Modules, ""}, {"usr/src/", Source, ""}, {"usr/lib/", Library, "linux-"},
	} {
		if rest, ok := strings.CutPrefix(name, from.dir); ok {
			if !strings.HasPrefix(rest, from.begins) {
				return ""
			}
			return path.Join(from.to, rest)
		}
	}
	return ""
}

func (u *unpacker) entry(name string, h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeDir {
		return u.root.MkdirAll(name, 0o755)
	}
	dir, base, err := u.beside(name)
	if err != nil {
		return err
	}
	if u.seen[name] {
		if err := dir.Remove(base); err != nil {
			return err
		}
	}
	u.seen[name] = true
	switch h.Typeflag {
	case tar.TypeReg:
		return u.write(dir, base, h, r)
	case tar.TypeSymlink:
		if err := dir.Symlink(h.Linkname, base); err != nil {
			return err
		}
		return linkTime(dir, base, h.ModTime)
	case tar.TypeLink:
		old := placeOf(h.Linkname)
		if old == "" {
			return fmt.Errorf("it is a link to %q", h.Linkname)
		}
		return u.root.Link(old, name)
	}
	return errors.New("it is neither a file nor a directory nor a link")
}

func (u *unpacker) write(dir *os.Root, base string, h *tar.Header, r io.Reader) error {
	if h.Size > u.left.bytes {
		return ErrTooBig
	}
	u.left.bytes -= h.Size
	f, err := dir.OpenFile(base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Chmod(fs.FileMode(h.Mode)&0o755 | 0o444)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if !settable(h.ModTime) {
		return nil
	}
	return dir.Chtimes(base, h.ModTime, h.ModTime)
}

// settable reports whether file systems can hold a time.
func settable(t time.Time) bool { return !t.Before(time.Unix(0, 0)) && t.Year() < 2262 }

// linkTime sets the time of a symbolic link, as dpkg does: it is among what tells
// whether a kernel's headers are still the same.
func linkTime(in *os.Root, base string, t time.Time) error {
	if !settable(t) {
		return nil
	}
	dir, err := in.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	ts := unix.NsecToTimespec(t.UnixNano())
	return unix.UtimesNanoAt(int(dir.Fd()), base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}
