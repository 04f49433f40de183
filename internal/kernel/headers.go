// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// headerParts are what a build of a module reads in a kernel's build directory
// and in its source: kbuild's makefiles and programs, the headers, and the types
// that BTF builds upon.
func headerParts() []string {
	return []string{
		"Makefile", "Kbuild", ".kernelvariables", "vmlinux", "scripts", "include",
		"arch/*/include", "arch/*/Makefile*", "arch/*/scripts", "arch/*/module.lds", "tools/objtool", "tools/bpf/resolve_btfids",
	}
}

// HeadersStamp returns a digest of the names, sizes and modification times of
// the files of the kernel that a build of a module reads. No content is read: it
// tells one moment of a machine from another, not one machine from another. The
// files of include/config, which only mark what the configuration says, are left
// out.
func (k Kernel) HeadersStamp() string {
	w := stamper{sum: sha256.New()}
	for _, dir := range []string{k.SourceDir, filepath.Join(k.Tree, "source")} {
		dir = resolved(dir)
		w.skip = filepath.Join(dir, "include", "config")
		w.line(dir, 0, 0)
		for _, part := range headerParts() {
			found, _ := filepath.Glob(filepath.Join(dir, part))
			for _, path := range found {
				w.path(resolved(path))
			}
		}
	}
	w.sum.Write(w.text)
	return hex.EncodeToString(w.sum.Sum(nil))
}

func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// stamper digests a line for each file. There are 20,000 of them in a kernel's
// headers: a path is looked up once per directory. What can't be read is as if it
// weren't there.
type stamper struct {
	skip string
	sum  hash.Hash
	text []byte // not in sum yet
}

func (w *stamper) line(name string, size, mtime int64) {
	w.text = append(w.text, name...)
	for _, n := range []int64{size, mtime} {
		w.text = binary.LittleEndian.AppendUint64(append(w.text, 0), uint64(n))
	}
	if len(w.text) > 1<<15 {
		w.sum.Write(w.text)
		w.text = w.text[:0]
	}
}

// path stamps a file, or all files below a directory.
func (w *stamper) path(path string) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		w.line(path, st.Size, st.Mtim.Nano())
		return
	}
	w.directory(path)
}

func (w *stamper) directory(path string) {
	if path == w.skip {
		return
	}
	dir, err := os.Open(path)
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	slices.Sort(names)
	w.line(path, int64(len(names)), 0)
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			continue
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			w.directory(filepath.Join(path, name))
			continue
		}
		w.line(name, st.Size, st.Mtim.Nano())
	}
}
