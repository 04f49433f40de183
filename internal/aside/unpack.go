// SPDX-License-Identifier: Apache-2.0

package aside

import (
	"archive/tar"
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

// limits bound what packages may have, all together.
type limits struct {
	entries int
	bytes   int64
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
	left := limits{entries: 400_000, bytes: 4 << 30}
	for _, name := range []string{Modules, Source, Library} {
		if err := os.MkdirAll(p.Path(name), 0o755); err != nil {
			return fmt.Errorf("unpacking packages: %w", err)
		}
	}
	root, err := os.OpenRoot(p.Dir)
	if err != nil {
		return fmt.Errorf("unpacking packages: %w", err)
	}
	defer root.Close()
	for _, pkg := range list {
		if err := unpackFile(ctx, env, root, pkg.File, &left); err != nil {
			return fmt.Errorf("unpacking %q: %w", pkg.File, err)
		}
	}
	return nil
}

// unpackFile has dpkg-deb(1) write the files of a package as a tar archive.
func unpackFile(ctx context.Context, env []string, root *os.Root, file string, left *limits) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run.Cmd{Argv: []string{"dpkg-deb", "--fsys-tarfile", file}, Env: env, Stdout: w}.Run(ctx)
		w.CloseWithError(err)
		ended <- err
	}()
	err := unpack(root, r, left)
	if err == nil {
		_, err = io.Copy(io.Discard, r) // what pads the archive
	}
	if err != nil {
		cancel()
	}
	r.CloseWithError(err)
	if failed := <-ended; err == nil {
		err = failed
	}
	return err
}

// unpack writes the entries of a tar archive that are wanted.
func unpack(root *os.Root, r io.Reader, left *limits) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the archive: %w", err)
		}
		if left.entries--; left.entries < 0 {
			return ErrTooBig
		}
		if name := placeOf(h.Name); name != "" {
			if err := entry(root, name, h, t, left); err != nil {
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

func entry(root *os.Root, name string, h *tar.Header, r io.Reader, left *limits) error {
	if h.Typeflag == tar.TypeDir {
		return root.MkdirAll(name, 0o755)
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return file(root, name, h, r, left)
	case tar.TypeSymlink:
		if err := root.Symlink(h.Linkname, name); err != nil {
			return err
		}
		return linkTime(root, name, h.ModTime)
	case tar.TypeLink:
		old := placeOf(h.Linkname)
		if old == "" {
			return fmt.Errorf("it is a link to %q", h.Linkname)
		}
		return root.Link(old, name)
	}
	return errors.New("it is neither a file nor a directory nor a link")
}

func file(root *os.Root, name string, h *tar.Header, r io.Reader, left *limits) error {
	if h.Size > left.bytes {
		return ErrTooBig
	}
	left.bytes -= h.Size
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
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
	return root.Chtimes(name, h.ModTime, h.ModTime)
}

// settable reports whether file systems can hold a time.
func settable(t time.Time) bool { return !t.Before(time.Unix(0, 0)) && t.Year() < 2262 }

// linkTime sets the time of a symbolic link, as dpkg does: it is among what tells
// whether a kernel's headers are still the same.
func linkTime(root *os.Root, name string, t time.Time) error {
	if !settable(t) {
		return nil
	}
	dir, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	ts := unix.NsecToTimespec(t.UnixNano())
	return unix.UtimesNanoAt(int(dir.Fd()), path.Base(name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}
