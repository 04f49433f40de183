// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"dkms-go/internal/doctor"
	"dkms-go/internal/kernel"
	"dkms-go/internal/run"
)

// toolchain is what the target kernel wants to be built with.
type toolchain struct {
	env   []string
	clang bool
	llvm  bool
}

func (e *Engine) toolchain(ctx context.Context, k kernel.Kernel) (toolchain, error) {
	var c toolchain
	if _, err := run.LookPath("make", e.baseEnv()); err != nil {
		return c, failf(MakeFailed, "make is not installed").hint("Install it with: %s", e.distro.InstallCommand("make"))
	}
	if k.KernelVariables {
		line := fmt.Sprintf("unset MAKEFLAGS MFLAGS MAKELEVEL; printf 'show-%%%%:\\n\\t@echo $($*)\\ninclude %%s\\n' %s | make -f - show-CC", k.Variables())
		out, err := run.Cmd{Shell: line, Env: e.baseEnv()}.Output(ctx)
		if err != nil {
			return c, fmt.Errorf("reading the compiler of kernel %s: %w", k.Release, err)
		}
		c.env = append(c.env, "CC="+strings.TrimSpace(string(out)))
	}
	t := k.Toolchain(func(name string) (string, error) { return run.LookPath(name, e.Environ) })
	c.env = append(c.env, t.Environ()...)
	c.llvm, c.clang = t.LLVM, t.CC == "clang"
	more, err := e.buildEnvironment(ctx)
	c.env = append(c.env, more...)
	return c, err
}

// compilerMissing fails when no compiler for the kernel is installed, before
// anything is compiled.
func (e *Engine) compilerMissing(k kernel.Kernel, c toolchain) error {
	cc := e.absentFor(k, c)
	if cc == "" {
		return nil
	}
	f := failf(MakeFailed, "the compiler for kernel %s is not installed: %s", k.Release, cc)
	if pkg := e.distro.CompilerPackage(strings.TrimPrefix(cc, anyCompiler)); pkg != "" {
		f.hint("Install it with: %s", e.distro.InstallCommand(pkg))
	}
	return f
}

// anyCompiler is what a compiler is called that nothing names.
const anyCompiler = "a C compiler"

// absentFor names the compiler of a kernel if it is not installed, or anyCompiler;
// else it is "".
func (e *Engine) absentFor(k kernel.Kernel, c toolchain) string {
	path := append(e.baseEnv(), c.env...)
	has := func(name string) bool {
		_, err := run.LookPath(name, path)
		return err == nil
	}
	cc, _, _ := strings.Cut(lastValue(c.env, "CC"), " ")
	if cc != "" && has(cc) || cc == "" && (has("gcc") || has("cc") || has("clang")) {
		return ""
	}
	if cc != "" {
		return cc
	}
	if config, err := k.Config(); err == nil {
		if text, _, _ := strings.Cut(config.Text("CONFIG_CC_VERSION_TEXT"), " "); text != "" {
			return text
		}
	}
	return anyCompiler
}

// tools returns what a build for a kernel needs of commands and this machine lacks,
// and the major versions of the compiler that the kernel was built with and that
// there is, with its name.
func (e *Engine) tools(ctx context.Context, k kernel.Kernel, patches bool) (lacking []doctor.Tool, built, found int, cc string) {
	env := e.baseEnv()
	lack := func(name, pkg string) {
		t := doctor.Tool{Name: name, Package: pkg}
		if path, err := run.LookPath(name, e.systemPath(nil)); err == nil {
			t.Dir = filepath.Dir(path)
		}
		lacking = append(lacking, t)
	}
	need := func(names ...string) {
		for _, name := range names {
			if _, err := run.LookPath(name, env); err != nil {
				lack(name, e.distro.CommandPackage(name))
			}
		}
	}
	need("make", "depmod")
	if patches {
		need("patch")
	}
	config, _ := k.Config()
	c := toolchain{}
	if !slices.ContainsFunc(lacking, func(t doctor.Tool) bool { return t.Name == "make" }) || !k.KernelVariables {
		c, _ = e.toolchain(ctx, k)
	}
	if cc := e.absentFor(k, c); cc != "" {
		lack(cc, e.distro.CompilerPackage(strings.TrimPrefix(cc, anyCompiler)))
	}
	switch {
	case config["CONFIG_LD_IS_LLD"] == "y":
		if _, err := run.LookPath("ld.lld", env); err != nil {
			lack("ld.lld", e.distro.CommandPackage("lld"))
		}
	default:
		need("ld")
	}
	if config["CONFIG_DEBUG_INFO_BTF_MODULES"] == "y" && readable(filepath.Join(k.SourceDir, "vmlinux")) {
		need("pahole")
	}
	built, found, cc = e.compilerVersions(config, c)
	return lacking, built, found, cc
}

// systemPath adds to an environment a PATH that has the directories of programs for
// root too.
func (e *Engine) systemPath(environ []string) []string {
	dirs := append([]string{lastValue(environ, "PATH")}, e.Paths.SystemCommands...)
	return append(environ[:len(environ):len(environ)], "PATH="+strings.TrimPrefix(strings.Join(dirs, ":"), ":"))
}

// compilerVersions compares the compiler of a kernel (CONFIG_GCC_VERSION,
// CONFIG_CLANG_VERSION: two digits each for minor and patch level) with the one
// that builds would run.
func (e *Engine) compilerVersions(config kernel.Config, c toolchain) (built, found int, cc string) {
	symbol, name := "CONFIG_GCC_VERSION", "gcc"
	if config["CONFIG_CC_IS_CLANG"] == "y" {
		symbol, name = "CONFIG_CLANG_VERSION", "clang"
	}
	if words := strings.Fields(lastValue(c.env, "CC")); len(words) > 0 {
		name = words[0]
	}
	n, err := strconv.Atoi(config[symbol])
	p := e.program(name, e.Environ)
	if err != nil || n < 10000 || p == nil {
		return 0, 0, name
	}
	if m := versionNumber().FindAllStringSubmatch(e.banner(p.Path), -1); len(m) > 0 {
		found, _ = strconv.Atoi(m[len(m)-1][1])
	}
	return n / 10000, found, name
}

// versionNumber matches the version in a compiler's banner.
var versionNumber = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\b([0-9]+)\.[0-9]+\.[0-9]+`)
})
