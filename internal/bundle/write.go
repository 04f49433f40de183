// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"dkms-go/internal/durable"
)

// member is one entry to be written. Only its metadata is held in memory.
type member struct {
	name  string // "./..." without a trailing slash
	path  string // file to read; "" if data is the content
	data  string
	mode  fs.FileMode // type and permissions
	mtime time.Time   // zero: the newest of all others
	link  string      // target, for a symlink
}

// Write writes an archive of c to path, compressed as the suffix of path says
// (see [FormatOf]), in the layout of dkms(8) "mktarball". Mode, modification
// time (whole seconds) and symlinks of the files are kept, every entry is owned
// by root, setuid, setgid and sticky bits are left out. Equal input gives equal
// bytes.
//
// The archive is written aside in the directory of path, synced and renamed, so
// path holds the old file or all of the new one; on an error nothing is left
// behind. The directory of path must exist; a path that is something else than a
// regular file is refused.
func Write(path string, c Contents) error {
	format, err := FormatOf(path)
	if err != nil {
		return err
	}
	if err := checkContents(c); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	members, err := gather(c)
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	err = replaceFile(path, func(w io.Writer) error { return writeTar(w, format, members) })
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return nil
}

// checkContents refuses contents from which no loadable archive can be made.
func checkContents(c Contents) error {
	for _, s := range []string{c.Module, c.Version} {
		if reason := badName(s); reason != "" {
			return fmt.Errorf("module %q version %q: %s", c.Module, c.Version, reason)
		}
	}
	switch {
	case c.Kind < Full || c.Kind > BinariesOnly:
		return fmt.Errorf("kind %s can not be written", c.Kind)
	case c.Kind != BinariesOnly && c.SourceDir == "":
		return errors.New("no source directory")
	case c.Kind == BinariesOnly && c.SourceDir == "" && c.ConfFile == "":
		return errors.New("no dkms.conf")
	}
	seen := make(map[string]bool)
	for _, r := range c.Results {
		for _, s := range []string{r.Kernel, r.Arch} {
			if reason := badName(s); reason != "" {
				return fmt.Errorf("kernel %q arch %q: %s", r.Kernel, r.Arch, reason)
			}
		}
		key := r.Kernel + "/" + r.Arch
		if seen[key] {
			return fmt.Errorf("kernel %q arch %q is named twice", r.Kernel, r.Arch)
		}
		seen[key] = true
	}
	return nil
}

// gather lists all entries in the order they are written: by name, parents
// before children.
func gather(c Contents) ([]member, error) {
	out := []member{{name: ".", mode: fs.ModeDir | 0o700}}
	if c.Kind == BinariesOnly {
		conf, err := binariesConf(c)
		if err != nil {
			return nil, err
		}
		dir := "./" + binariesOnly
		out = append(out,
			member{name: dir, mode: fs.ModeDir | 0o755},
			member{name: dir + "/PACKAGE_NAME", data: c.Module + "\n", mode: 0o644},
			member{name: dir + "/PACKAGE_VERSION", data: c.Version + "\n", mode: 0o644},
			conf)
	}
	out = append(out, member{name: "./" + mainTree, mode: fs.ModeDir | 0o755})
	out, err := gatherResults(out, c)
	if err != nil {
		return nil, err
	}
	if c.Kind != BinariesOnly {
		if out, err = gatherTree(out, "./"+sourceTree, c.SourceDir); err != nil {
			return nil, err
		}
	}
	newest := time.Unix(0, 0)
	for _, m := range out {
		if m.mtime.After(newest) {
			newest = m.mtime
		}
	}
	for i := range out {
		if out[i].mtime.IsZero() {
			out[i].mtime = newest
		}
	}
	return out, nil
}

// gatherResults appends dkms_main_tree/<kernel>/<arch> of every result.
func gatherResults(out []member, c Contents) ([]member, error) {
	if c.Kind == SourceOnly {
		return out, nil
	}
	results := slices.Clone(c.Results)
	slices.SortFunc(results, func(a, b Result) int {
		return strings.Compare(a.Kernel+"\x00"+a.Arch, b.Kernel+"\x00"+b.Arch)
	})
	last := ""
	for _, r := range results {
		dir := "./" + mainTree + "/" + r.Kernel
		if r.Kernel != last {
			out = append(out, member{name: dir, mode: fs.ModeDir | 0o755})
			last = r.Kernel
		}
		var err error
		if out, err = gatherTree(out, dir+"/"+r.Arch, r.Dir); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// binariesConf is the dkms.conf of dkms_binaries_only, whatever its own name is.
func binariesConf(c Contents) (member, error) {
	path := c.ConfFile
	if path == "" {
		path = filepath.Join(c.SourceDir, confName)
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return member{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return member{}, err
	}
	if !info.Mode().IsRegular() {
		return member{}, fmt.Errorf("%q is not a regular file", path)
	}
	return newMember("./"+binariesOnly+"/"+confName, path, info)
}

// gatherTree appends dir and all below it under the given name. dir itself may
// be a symlink; symlinks below are entries of their own.
func gatherTree(out []member, name, dir string) ([]member, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(real); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%q is not a directory", dir)
	}
	err = filepath.WalkDir(real, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		m, err := newMember(name+strings.TrimPrefix(path, real), path, info)
		out = append(out, m)
		return err
	})
	return out, err
}

// newMember describes the file at path, which may be a directory, a regular
// file or a symlink.
func newMember(name, path string, info fs.FileInfo) (member, error) {
	m := member{
		name:  name,
		path:  path,
		mode:  info.Mode() & (fs.ModeType | fs.ModePerm),
		mtime: info.ModTime().Truncate(time.Second),
	}
	switch m.mode.Type() {
	case 0, fs.ModeDir:
		return m, nil
	case fs.ModeSymlink:
		var err error
		m.link, err = os.Readlink(path)
		return m, err
	}
	return m, fmt.Errorf("%q is neither a regular file, a directory nor a symlink", path)
}

// writeTar writes the members as a compressed tar archive to w.
func writeTar(w io.Writer, format Format, members []member) error {
	zw, err := compressor(w, format)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(zw)
	for _, m := range members {
		if err := writeMember(tw, m); err != nil {
			zw.Close() // stops the compressor; its own error tells nothing new
			return err
		}
	}
	if err := tw.Close(); err != nil {
		zw.Close()
		return err
	}
	return zw.Close()
}

// writeMember writes one entry, streaming the content of a file.
func writeMember(tw *tar.Writer, m member) error {
	h := &tar.Header{
		Format: tar.FormatGNU, // what upstream's `tar -c` writes
		Name:   m.name,
		Mode:   int64(m.mode.Perm()),
		Uname:  "root", Gname: "root",
		ModTime: m.mtime,
	}
	switch {
	case m.mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, m.name+"/"
		return tw.WriteHeader(h)
	case m.mode.Type() == fs.ModeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, m.link
		return tw.WriteHeader(h)
	}
	h.Typeflag = tar.TypeReg
	if m.path == "" {
		h.Size = int64(len(m.data))
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.WriteString(tw, m.data)
		return err
	}
	return copyFile(tw, h, m.path)
}

// copyFile writes the header and the content of the regular file at path. A
// file that changes size meanwhile is an error.
func copyFile(tw *tar.Writer, h *tar.Header, path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%q is no longer a regular file", path)
	}
	h.Size = info.Size()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyN(tw, f, h.Size)
	if err == io.EOF {
		return fmt.Errorf("%q shrank from %d to %d bytes while it was read", path, h.Size, n)
	}
	return err
}

// replaceFile writes path aside with fill, syncs it and renames it into place.
func replaceFile(path string, fill func(io.Writer) error) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return errors.New("it exists and is not a regular file")
	}
	dir := filepath.Dir(path)
	aside := filepath.Join(dir, fmt.Sprintf(".dkms-tarball-%016x", rand.Uint64()))
	f, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	bw := bufio.NewWriterSize(f, 256<<10)
	err = fill(bw)
	if err == nil {
		err = bw.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(aside, path)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(aside))
	}
	return durable.Sync(dir)
}

// removeIfThere removes path; one that is gone is no error.
func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
