// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"context"
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dkms-go/internal/ko"
	"dkms-go/internal/run"
)

// identity tells whether a file is the one it was: any way of changing it
// changes the time of the change (ctime), at least. The device isn't in it: btrfs
// and overlayfs give it another number with each mount.
type identity struct {
	ino, size    uint64
	mtime, ctime int64 // ns
}

func identify(st *unix.Stat_t) identity {
	return identity{st.Ino, uint64(st.Size), st.Mtim.Nano(), st.Ctim.Nano()}
}

// tool is the depmod that is installed.
type tool struct {
	path    string
	id      identity
	version int    // of kmod
	zlib    bool   // it reads .ko.gz
	xz      bool   // .ko.xz
	zstd    bool   // .ko.zst
	reason  string // why it isn't one that is known here
}

// compared reports whether the depmod of a kmod release was compared with this
// package: those of Debian 12 and 13.
func compared(kmod int) bool { return kmod == 30 || kmod == 34 }

// findTool learns which depmod would run. It asks the program only if it isn't
// the known one.
func findTool(ctx context.Context, env []string, known tool) (tool, error) {
	path, err := run.LookPath("depmod", env)
	if err != nil {
		return tool{}, unsure("there is no depmod")
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return tool{}, unsure("depmod: %v", err)
	}
	if known.path != path || known.id != identify(&st) {
		known = tool{path: path, id: identify(&st)}
		out, err := run.Cmd{Argv: []string{path, "--version"}, Env: env}.Output(ctx)
		if err != nil {
			return tool{}, unsure("depmod --version: %v", err)
		}
		known.parseVersion(string(out))
		if known.reason == "" && !dependsOnGlibc(path) {
			known.reason = "depmod isn't linked with glibc, whose sort is stable"
		}
	}
	if known.reason != "" {
		return tool{}, unsure("%s", known.reason)
	}
	return known, nil
}

// parseVersion reads the output of depmod --version: "kmod version 30", then a
// line of features, each with a sign.
func (t *tool) parseVersion(text string) {
	first, rest, _ := strings.Cut(text, "\n")
	number, ok := strings.CutPrefix(first, "kmod version ")
	major, _, _ := strings.Cut(number, ".")
	v, err := strconv.Atoi(major)
	features := strings.Fields(rest)
	if !ok || err != nil || len(features) == 0 {
		t.reason = strconv.Quote(first) + " isn't a version of kmod"
		return
	}
	if !compared(v) {
		t.reason = "kmod " + number + " isn't one that was compared"
		return
	}
	t.version = v
	t.zlib, t.xz, t.zstd = slices.Contains(features, "+ZLIB"), slices.Contains(features, "+XZ"), slices.Contains(features, "+ZSTD")
}

// reads reports whether that depmod looks at objects with that compression.
func (t *tool) reads(c ko.Compression) bool {
	switch c {
	case ko.Gzip:
		return t.zlib
	case ko.XZ:
		return t.xz
	case ko.Zstd:
		return t.zstd
	}
	return c == ko.None
}

// dependsOnGlibc looks at the libraries of a program. The order of modules that
// modules.order doesn't have depends on qsort(3): with glibc equal ones stay in
// their order.
func dependsOnGlibc(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	f, err := os.Open(real)
	if err != nil {
		return false
	}
	defer f.Close()
	object, err := elf.NewFile(f)
	if err != nil {
		return false
	}
	libraries, err := object.ImportedLibraries()
	return err == nil && slices.ContainsFunc(libraries, func(l string) bool { return strings.HasPrefix(l, "libc.so.6") })
}
