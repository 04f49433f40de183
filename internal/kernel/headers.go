// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
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
	h := sha256.New()
	for _, dir := range []string{k.SourceDir, filepath.Join(k.Tree, "source")} {
		dir = resolved(dir)
		fmt.Fprintf(h, "%q\n", dir)
		for _, part := range headerParts() {
			found, _ := filepath.Glob(filepath.Join(dir, part))
			for _, path := range found {
				stampFiles(h, resolved(path), filepath.Join(dir, "include", "config"))
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// stampFiles writes a line for each file below path that isn't below skip. What
// can't be read is as if it weren't there.
func stampFiles(w io.Writer, path, skip string) {
	filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil
		case path == skip:
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		if fi, err := d.Info(); err == nil {
			fmt.Fprintf(w, "%q %d %d\n", path, fi.Size(), fi.ModTime().UnixNano())
		}
		return nil
	})
}
