// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/host"
	"dkms-go/internal/vercmp"
)

// FromTree returns the kernel that a build tree or headers directory is of:
// its release is read from include/generated/utsrelease.h, which the vermagic
// of objects is made from, or else from include/config/kernel.release (kernel
// source, Makefile; Debian's headers have the upstream version in the latter),
// and its arch from its configuration; Arch is empty where that doesn't tell.
func FromTree(p host.Paths, dir string) (Kernel, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Kernel{}, fmt.Errorf("resolving the kernel tree %q: %w", dir, err)
	}
	release, err := treeRelease(dir)
	if err != nil {
		return Kernel{}, err
	}
	k := Find(p, release, "", Options{SourceDir: dir})
	if c, err := k.Config(); err == nil {
		k.Arch = c.arch()
	}
	return k, nil
}

func treeRelease(dir string) (string, error) {
	path := filepath.Join(dir, "include", "generated", "utsrelease.h")
	release := ""
	if isFile(path) {
		release = define(path, "UTS_RELEASE")
	} else {
		path = filepath.Join(dir, "include", "config", "kernel.release")
		text, err := readText(path)
		if err != nil {
			return "", fmt.Errorf("reading the release of the kernel tree %q: %w", dir, err)
		}
		release = strings.TrimSpace(text)
	}
	if !validRelease(release) {
		return "", fmt.Errorf("reading the release of the kernel tree %q: %s holds %q, which isn't a kernel release", dir, path, release)
	}
	return release, nil
}

// arch returns the name that uname -m has for the configuration's architecture
// (kernel source, UTS_MACHINE in arch/*/Makefile), or "".
func (c Config) arch() string {
	machines := []struct{ symbol, machine string }{
		{"CONFIG_X86_64", "x86_64"},
		{"CONFIG_X86_32", "i686"},
		{"CONFIG_ARM64", "aarch64"},
		{"CONFIG_ARM", "armv7l"},
		{"CONFIG_S390", "s390x"},
		{"CONFIG_LOONGARCH", "loongarch64"},
	}
	for _, m := range machines {
		if c[m.symbol] == "y" {
			return m.machine
		}
	}
	switch {
	case c["CONFIG_PPC64"] == "y" && c["CONFIG_CPU_LITTLE_ENDIAN"] == "y":
		return "ppc64le"
	case c["CONFIG_PPC64"] == "y":
		return "ppc64"
	case c["CONFIG_RISCV"] == "y" && c["CONFIG_64BIT"] == "y":
		return "riscv64"
	default:
		return ""
	}
}

// Installed returns the releases that have a tree with headers or with objects
// of their own, in natural order. An install tree that can't be read has none.
func Installed(p host.Paths) []string {
	entries, err := os.ReadDir(p.InstallTree)
	if err != nil {
		return nil
	}
	var releases []string
	for _, e := range entries {
		if isKernelTree(p.KernelTree(e.Name())) {
			releases = append(releases, e.Name())
		}
	}
	slices.SortFunc(releases, vercmp.Natural)
	return releases
}

func isKernelTree(dir string) bool {
	signs := []string{"build", "kernel", "modules.dep", "modules.order", "modules.builtin"}
	return isDir(dir) && slices.ContainsFunc(signs, func(name string) bool { return exists(filepath.Join(dir, name)) })
}
