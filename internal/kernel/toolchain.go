// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"debug/elf"
	"io"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Toolchain says which tools a kernel was built with, as far as this machine
// has them; what is empty is left to make.
type Toolchain struct {
	CC, LD string
	// LLVM is true if the kernel's makefiles need LLVM=1.
	LLVM bool
}

// Environ returns the variables that tell a module's makefile of the tools.
func (t Toolchain) Environ() []string {
	var env []string
	if t.CC != "" {
		env = append(env, "CC="+t.CC, "KERNEL_CC="+t.CC)
	}
	if t.LD != "" {
		env = append(env, "LD="+t.LD, "KERNEL_LD="+t.LD)
	}
	return env
}

// Toolchain chooses the tools for compiling a module (dkms(8)): the compiler
// that the configuration names, clang and ld.lld where the kernel was built
// with them, each only if lookPath finds it.
func (k Kernel) Toolchain(lookPath func(name string) (string, error)) Toolchain {
	c, err := k.Config()
	if err != nil {
		c = Config{}
	}
	var t Toolchain
	if cc := c.compiler(); found(cc, lookPath) {
		t.CC = cc
	}
	if c["CONFIG_CC_IS_CLANG"] == "y" && found("clang", lookPath) {
		t.CC = "clang"
	}
	if c["CONFIG_LD_IS_LLD"] == "y" && found("ld.lld", lookPath) {
		t.LD = "ld.lld"
	}
	t.LLVM = k.llvm(c)
	return t
}

// compiler returns the first word of CONFIG_CC_VERSION_TEXT, whose value is
// quoted in some kernels and not in others. A value of one word is no version
// text.
func (c Config) compiler() string {
	text := strings.TrimLeft(c["CONFIG_CC_VERSION_TEXT"], `"`)
	end := strings.IndexAny(text, `" `)
	if end < 0 || text[end] == '"' {
		return ""
	}
	return text[:end]
}

func found(name string, lookPath func(string) (string, error)) bool {
	if name == "" {
		return false
	}
	path, err := lookPath(name)
	return err == nil && (!strings.Contains(name, "/") || unix.Access(path, unix.X_OK) == nil)
}

// llvm asks the kernel's own image if there is one, else its configuration.
func (k Kernel) llvm(c Config) bool {
	image := filepath.Join(k.SourceDir, "vmlinux")
	if exists(image) {
		return clangMade(image)
	}
	return c["CONFIG_CC_IS_CLANG"] == "y"
}

// clangMade reports whether the compilers that an ELF file's .comment section
// lists (ELF specification, "Special Sections") are clang.
func clangMade(path string) bool {
	const maxComment = 1 << 20
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	comment := f.Section(".comment")
	if comment == nil {
		return false
	}
	text, err := io.ReadAll(io.LimitReader(comment.Open(), maxComment))
	return err == nil && bytes.Contains(text, []byte("clang"))
}
