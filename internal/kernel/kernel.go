// SPDX-License-Identifier: Apache-2.0

// Package kernel reads the facts of one kernel that modules are built for:
// where its headers and its configuration are, which tools it was built with,
// how its objects are compressed, and what tells this build of it from another
// of the same release.
package kernel

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"dkms-go/internal/host"
)

// Kernel is one kernel that modules are built for. The places it names need
// not exist.
type Kernel struct {
	Release, Arch string
	// Tree is the directory that objects are installed below.
	Tree string
	// SourceDir is the source or headers directory (kernel_source_dir).
	SourceDir string
	// ConfigFile is the kernel's configuration, auto.conf or .config.
	ConfigFile string
	// KernelVariables is true if SourceDir has a makefile named
	// .kernelvariables, which then names the compiler.
	KernelVariables bool

	// config reads ConfigFile once, of a kernel from Find; else it is nil.
	config *onceConfig
}

// onceConfig keeps kernels comparable, which functions aren't.
type onceConfig struct{ read func() (Config, error) }

// Options are choices of the command line; what is empty gets its default.
type Options struct {
	SourceDir  string // --kernelsourcedir
	ConfigFile string // --config
}

// Find returns the kernel of that release and arch. By default its sources
// are below its tree, in build, and its configuration is auto.conf if that
// exists, else .config (dkms(8)).
func Find(p host.Paths, release, arch string, o Options) Kernel {
	k := Kernel{Release: release, Arch: arch, Tree: p.KernelTree(release), SourceDir: o.SourceDir, ConfigFile: o.ConfigFile}
	if k.SourceDir == "" {
		k.SourceDir = filepath.Join(k.Tree, "build")
	}
	if k.ConfigFile == "" {
		k.ConfigFile = configFile(k.SourceDir)
	}
	k.KernelVariables = isFile(k.Variables())
	k.config = &onceConfig{sync.OnceValues(func() (Config, error) { return ReadConfig(k.ConfigFile) })}
	return k
}

func configFile(sourceDir string) string {
	auto := filepath.Join(sourceDir, "include", "config", "auto.conf")
	if exists(auto) {
		return auto
	}
	return filepath.Join(sourceDir, ".config")
}

// Variables returns the path that KernelVariables is about.
func (k Kernel) Variables() string { return filepath.Join(k.SourceDir, ".kernelvariables") }

// Exists reports whether the kernel has a tree to install objects below.
func (k Kernel) Exists() bool { return isDir(k.Tree) }

// HasHeaders reports whether modules can be compiled for the kernel.
func (k Kernel) HasHeaders() bool { return exists(filepath.Join(k.SourceDir, "include")) }

// HasImage reports whether the kernel itself is there, and not only its
// headers: its image or what comes with its own objects. modules.dep proves
// nothing, since depmod(8) makes it for any directory.
func (k Kernel) HasImage(p host.Paths) bool {
	signs := append(p.Images(k.Release), filepath.Join(k.Tree, "modules.order"), filepath.Join(k.Tree, "modules.builtin"), filepath.Join(k.Tree, "kernel"))
	return slices.ContainsFunc(signs, exists)
}

// Config returns the kernel's configuration, as it was at the first call for a
// kernel that Find returned; don't change it. The error wraps fs.ErrNotExist
// if it has none.
func (k Kernel) Config() (Config, error) {
	if k.config == nil {
		return ReadConfig(k.ConfigFile)
	}
	return k.config.read()
}

// SigHash returns the digest that the kernel's objects are signed with
// (CONFIG_MODULE_SIG_HASH); false says that it doesn't know signatures, or
// that there is no configuration to tell.
func (k Kernel) SigHash() (string, bool) {
	c, err := k.Config()
	if err != nil {
		return "", false
	}
	return c.SigHash()
}

// Running returns the release and the machine of the running kernel, as
// uname(2) tells them.
func Running(_ host.Paths) (release, machine string, err error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", "", fmt.Errorf("asking for the running kernel: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]), nil
}

// validRelease reports whether s can be a release: the name of one directory
// and no longer than utsname (uname(2)) holds.
func validRelease(s string) bool {
	const utsLen = 64
	printable := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) < 0
	return s != "" && len(s) <= utsLen && printable && s != "." && s != ".."
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
