// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/host"
	"dkms-go/test/lab"
)

const release = "6.1.0-50-amd64"

// root is a scratch machine.
type root struct {
	*testing.T
	host.Paths
}

func newRoot(t *testing.T) root {
	dir := t.TempDir()
	return root{t, host.Paths{InstallTree: filepath.Join(dir, "modules"), Boot: filepath.Join(dir, "boot")}}
}

// write makes a file, given by its path below the kernel's tree.
func (r root) write(name, text string) string {
	r.Helper()
	return writeFile(r.T, filepath.Join(r.KernelTree(release), name), text)
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func (r root) find() Kernel { return Find(r.Paths, release, "x86_64", Options{}) }

func TestFindDefaults(t *testing.T) {
	r := newRoot(t)
	k := r.find()
	build := filepath.Join(r.InstallTree, release, "build")
	want := Kernel{Release: release, Arch: "x86_64", Tree: filepath.Dir(build), SourceDir: build, ConfigFile: filepath.Join(build, ".config")}
	k.config = nil
	if k != want {
		t.Errorf("Find = %+v, want %+v", k, want)
	}
	if k.Exists() || k.HasHeaders() {
		t.Error("a kernel that isn't there exists")
	}
	if _, err := k.Config(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Config: %v", err)
	}
	if hash, ok := k.SigHash(); ok || hash != "" {
		t.Errorf("SigHash = %q, %v", hash, ok)
	}
	if id := k.Identity(r.Paths); id != (Identity{}) {
		t.Errorf("Identity = %+v", id)
	}
}

func TestFindOnDisk(t *testing.T) {
	r := newRoot(t)
	auto := r.write("build/include/config/auto.conf", "CONFIG_MODULE_SIG_HASH=\"sha512\"\n")
	r.write("build/.config", "CONFIG_MODULE_SIG_HASH=\"sha1\"\n")
	r.write("build/.kernelvariables", "CC = gcc-12\n")
	k := r.find()
	if k.ConfigFile != auto || !k.Exists() || !k.HasHeaders() || !k.KernelVariables {
		t.Errorf("Find = %+v", k)
	}
	if hash, ok := k.SigHash(); !ok || hash != "sha512" {
		t.Errorf("SigHash = %q, %v", hash, ok)
	}
}

func TestFindOptions(t *testing.T) {
	r := newRoot(t)
	dir := t.TempDir()
	writeFile(t, dir+"/include/config/auto.conf", "")
	if k := Find(r.Paths, release, "", Options{SourceDir: dir}); k.SourceDir != dir || k.ConfigFile != dir+"/include/config/auto.conf" {
		t.Errorf("with a source directory: %+v", k)
	}
	if k := Find(r.Paths, release, "", Options{ConfigFile: "c"}); k.ConfigFile != "c" {
		t.Errorf("with a configuration: %+v", k)
	}
}

func TestLinkedHeaders(t *testing.T) {
	r := newRoot(t)
	headers := t.TempDir()
	writeFile(t, headers+"/include/config/auto.conf", "CONFIG_X=m\n")
	r.write("modules.order", "")
	if err := os.Symlink(headers, filepath.Join(r.KernelTree(release), "build")); err != nil {
		t.Fatal(err)
	}
	k := r.find()
	c, err := k.Config()
	if err != nil || !k.HasHeaders() || !c.Enabled("CONFIG_X") {
		t.Errorf("%+v: %v, %v", k, c, err)
	}
}

func TestSuffix(t *testing.T) {
	for name, tt := range map[string]struct {
		files []string
		want  string
	}{
		"nothing":              {nil, ""},
		"plain":                {[]string{"kernel/a.ko"}, ""},
		"gz":                   {[]string{"kernel/a.ko", "kernel/d/b.ko.gz"}, ".gz"},
		"last counts":          {[]string{"kernel/a.ko.gz", "kernel/z.ko.xz"}, ".xz"},
		"zst":                  {[]string{"kernel/a.ko.zst", "kernel/z.ko.xz"}, ".zst"},
		"stray, plain kernel":  {[]string{"kernel/a.ko", "updates/dkms/x.ko.xz"}, ""},
		"stray, xz kernel":     {[]string{"kernel/a.ko.xz", "extra/x.ko.zst"}, ".xz"},
		"no kernel directory":  {[]string{"updates/x.ko.xz"}, ".xz"},
		"empty kernel":         {[]string{"kernel/README", "extra/x.ko.gz"}, ".gz"},
		"not an object":        {[]string{"kernel/a.ko.bz2", "kernel/b.xz", "kernel/c.ko.xz.old"}, ""},
		"only outside, no zst": {[]string{"extra/a.ko", "updates/b.ko.gz"}, ".gz"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoot(t)
			for _, f := range tt.files {
				r.write(f, "")
			}
			if got := r.find().Suffix(); got != tt.want {
				t.Errorf("Suffix = %q, want %q", got, tt.want)
			}
		})
	}
}

// The sources that build links to may hold objects; they don't count.
func TestSuffixLinks(t *testing.T) {
	r := newRoot(t)
	elsewhere := t.TempDir()
	writeFile(t, elsewhere+"/x.ko.zst", "")
	tree := t.TempDir()
	writeFile(t, tree+"/extra/a.ko.gz", "")
	for link, to := range map[string]string{tree + "/build": elsewhere, r.KernelTree(release): tree} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(to, link)); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.find().Suffix(); got != ".gz" {
		t.Errorf("Suffix = %q", got)
	}
}

// path finds the named programs.
func path(names ...string) func(string) (string, error) {
	return func(name string) (string, error) {
		if slices.Contains(names, name) {
			return name, nil
		}
		return "", exec.ErrNotFound
	}
}

func TestToolchain(t *testing.T) {
	for name, tt := range map[string]struct {
		config string
		have   []string
		want   string
	}{
		"quoted":          {`CONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14) 12.2.0"`, []string{"gcc-12"}, "CC=gcc-12 KERNEL_CC=gcc-12"},
		"not quoted":      {`CONFIG_CC_VERSION_TEXT=x86_64-linux-gnu-gcc-12 (Ubuntu) 12`, []string{"x86_64-linux-gnu-gcc-12"}, "CC=x86_64-linux-gnu-gcc-12 KERNEL_CC=x86_64-linux-gnu-gcc-12"},
		"not here":        {`CONFIG_CC_VERSION_TEXT="gcc-12 (Debian) 12"`, []string{"gcc"}, ""},
		"one word":        {`CONFIG_CC_VERSION_TEXT="gcc"`, []string{"gcc"}, ""},
		"blank in front":  {`CONFIG_CC_VERSION_TEXT=" gcc 12"`, []string{"", "gcc"}, ""},
		"empty":           {`CONFIG_CC_VERSION_TEXT=""`, []string{""}, ""},
		"clang":           {"CONFIG_CC_VERSION_TEXT=\"Debian clang version 19\"\nCONFIG_CC_IS_CLANG=y\nCONFIG_LD_IS_LLD=y", []string{"clang", "ld.lld"}, "CC=clang KERNEL_CC=clang LD=ld.lld KERNEL_LD=ld.lld LLVM"},
		"clang not here":  {"CONFIG_CC_IS_CLANG=y\nCONFIG_LD_IS_LLD=y", nil, "LLVM"},
		"absolute, gone":  {`CONFIG_CC_VERSION_TEXT="/no/such/gcc (x) 12"`, []string{"/no/such/gcc"}, ""},
		"absolute, there": {`CONFIG_CC_VERSION_TEXT="/bin/sh (x) 12"`, []string{"/bin/sh"}, "CC=/bin/sh KERNEL_CC=/bin/sh"},
		"not clang":       {"# CONFIG_CC_IS_CLANG is not set\nCONFIG_CC_IS_GCC=y", []string{"clang"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoot(t)
			r.write("build/.config", tt.config+"\n")
			tools := r.find().Toolchain(path(tt.have...))
			got := tools.Environ()
			if tools.LLVM {
				got = append(got, "LLVM")
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("Toolchain = %q, want %q", got, tt.want)
			}
		})
	}
}

// compile makes an ELF file whose .comment section is text.
func compile(t *testing.T, out, text string) {
	t.Helper()
	gcc := exec.Command("gcc", "-x", "assembler", "-c", "-o", out, "-")
	gcc.Stdin = strings.NewReader("\t.section .comment,\"MS\",@progbits,1\n\t.asciz \"" + text + "\"\n")
	if said, err := gcc.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
}

func TestLLVMFromImage(t *testing.T) {
	for text, want := range map[string]bool{"GCC: (Debian 12.2.0-14) 12.2.0": false, "Ubuntu clang version 19.1.1": true} {
		r := newRoot(t)
		r.write("build/.config", "CONFIG_CC_IS_CLANG=y\n")
		compile(t, filepath.Join(r.KernelTree(release), "build", "vmlinux"), text)
		if got := r.find().Toolchain(path()).LLVM; got != want {
			t.Errorf("%s: LLVM = %v", text, got)
		}
	}
	r := newRoot(t)
	r.write("build/.config", "CONFIG_CC_IS_CLANG=y\n")
	r.write("build/vmlinux", "not ELF, though it says clang")
	if r.find().Toolchain(path()).LLVM {
		t.Error("LLVM for an image that isn't one")
	}
}

func TestIdentity(t *testing.T) {
	r := newRoot(t)
	sum := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }
	config := "CONFIG_CC_VERSION_TEXT=\"gcc-12 (Debian 12.2.0-14) 12.2.0\"\n"
	r.write("build/.config", config)
	r.write("build/Module.symvers", "symvers")
	r.write("build/certs/signing_key.x509", "cert")
	r.write("build/include/generated/compile.h", "#define UTS_MACHINE\t\t\"x86_64\"\n#define UTS_VERSION\t\"#1 SMP Debian 6.1\"\n")
	want := Identity{
		UTSVersion: "#1 SMP Debian 6.1", Compiler: "gcc-12 (Debian 12.2.0-14) 12.2.0",
		ModuleSymvers: sum("symvers"), Config: sum(config), SigningCert: sum("cert"),
	}
	if got := r.find().Identity(r.Paths); got != want {
		t.Errorf("Identity = %+v, want %+v", got, want)
	}
	writeFile(t, r.SystemMap(release), "map")
	r.write("build/include/generated/utsversion.h", "#define UTS_VERSION \"#2 SMP newer\"\n")
	want.SystemMap, want.UTSVersion = sum("map"), "#2 SMP newer"
	if got := r.find().Identity(r.Paths); got != want {
		t.Errorf("Identity = %+v, want %+v", got, want)
	}
	r.write("build/include/generated/compile.h", "#define LINUX_COMPILER \"gcc-12 (Debian 12.2.0-14) 12.2.0\"\n")
	if version, compiler := r.find().Banner(); version != "#2 SMP newer" || compiler != "gcc-12 (Debian 12.2.0-14) 12.2.0" {
		t.Errorf("Banner = %q, %q", version, compiler)
	}
}

func TestFromTree(t *testing.T) {
	p := host.Paths{InstallTree: "/m"}
	for name, tt := range map[string]struct {
		files         map[string]string
		release, arch string
	}{
		"built":     {map[string]string{"include/config/kernel.release": "6.12.0-rc1+\n", ".config": "CONFIG_64BIT=y\nCONFIG_X86_64=y\n"}, "6.12.0-rc1+", "x86_64"},
		"headers":   {map[string]string{"include/generated/utsrelease.h": "#define UTS_RELEASE \"6.1.0-50-arm64\"\n", "include/config/auto.conf": "CONFIG_ARM64=y\n"}, "6.1.0-50-arm64", "aarch64"},
		"debian":    {map[string]string{"include/config/kernel.release": "6.1.192\n", "include/generated/utsrelease.h": "#define UTS_RELEASE \"6.1.0-56-amd64\"\n"}, "6.1.0-56-amd64", ""},
		"no config": {map[string]string{"include/config/kernel.release": "1"}, "1", ""},
		"ppc64le":   {map[string]string{"include/config/kernel.release": "1", ".config": "CONFIG_PPC64=y\nCONFIG_CPU_LITTLE_ENDIAN=y\n"}, "1", "ppc64le"},
		"riscv64":   {map[string]string{"include/config/kernel.release": "1", ".config": "CONFIG_RISCV=y\nCONFIG_64BIT=y\n"}, "1", "riscv64"},
	} {
		dir := t.TempDir()
		for f, text := range tt.files {
			writeFile(t, filepath.Join(dir, f), text)
		}
		k, err := FromTree(p, dir)
		if err != nil || k.Release != tt.release || k.Arch != tt.arch || k.SourceDir != dir || k.Tree != "/m/"+tt.release {
			t.Errorf("%s: FromTree = %+v, %v", name, k, err)
		}
	}
}

func TestFromTreeErrors(t *testing.T) {
	for name, text := range map[string]string{
		"path": "../../etc\n", "empty": "\n", "two lines": "6.1\n6.2\n", "parent": "..", "long": strings.Repeat("6", 65), "control": "6\x1b[31m",
	} {
		dir := t.TempDir()
		writeFile(t, dir+"/include/config/kernel.release", text)
		if k, err := FromTree(host.Paths{}, dir); err == nil || !strings.Contains(err.Error(), "kernel.release") {
			t.Errorf("%s: FromTree = %+v, %v", name, k, err)
		}
	}
	if _, err := FromTree(host.Paths{}, t.TempDir()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "kernel.release") {
		t.Errorf("an empty tree: %v", err)
	}
}

func TestInstalled(t *testing.T) {
	r := newRoot(t)
	if got := Installed(r.Paths); got != nil {
		t.Errorf("Installed = %q", got)
	}
	for _, f := range []string{"6.12.1/build/x", "6.1.0-50/kernel/a.ko", "6.1.0-9/modules.dep", "empty/README", "5.10/updates/x.ko"} {
		writeFile(t, filepath.Join(r.InstallTree, f), "")
	}
	writeFile(t, filepath.Join(r.InstallTree, "file"), "")
	if got, want := Installed(r.Paths), []string{"6.1.0-9", "6.1.0-50", "6.12.1"}; !slices.Equal(got, want) {
		t.Errorf("Installed = %q, want %q", got, want)
	}
}

func TestRunningLikeUname(t *testing.T) {
	out, err := exec.Command("uname", "-rm").Output()
	if err != nil {
		t.Fatal(err)
	}
	release, machine, err := Running(host.Paths{})
	if err != nil || release+" "+machine != strings.TrimSpace(string(out)) {
		t.Errorf("Running = %q, %q, %v; uname has %q", release, machine, err, out)
	}
}

// TestHeadersStamp changes one thing after another of a build directory whose
// scripts are a link.
func TestHeadersStamp(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	put("build/include/linux/a.h", "1")
	put("build/include/config/X", "")
	put("build/other", "1")
	put("kbuild/Makefile.build", "1")
	put("source/arch/x86/include/b.h", "1")
	if err := os.Symlink(root+"/kbuild", root+"/build/scripts"); err != nil {
		t.Fatal(err)
	}
	k := Kernel{Tree: root, SourceDir: root + "/build"}
	was := k.HeadersStamp()
	for _, c := range []struct {
		file  string
		other bool
	}{
		{"build/include/linux/a.h", true}, {"build/include/linux/new.h", true}, {"kbuild/Makefile.build", true}, {"source/arch/x86/include/b.h", true},
		{"build/include/config/X", false}, {"build/other", false},
	} {
		put(c.file, "changed")
		now := k.HeadersStamp()
		if (now != was) != c.other {
			t.Errorf("after a change of %s another stamp: %v", c.file, now != was)
		}
		was = now
	}
}

// BenchmarkHeadersStamp stamps the headers of a real kernel.
func BenchmarkHeadersStamp(b *testing.B) {
	older, _ := lab.Kernels(b)
	common := strings.TrimSuffix(older, "-amd64") + "-common"
	k := Kernel{Tree: b.TempDir(), SourceDir: lab.Path(b, "root", "usr/src/linux-headers-"+older)}
	if err := os.Symlink(lab.Path(b, "root", "usr/src/linux-headers-"+common), k.Tree+"/source"); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if len(k.HeadersStamp()) != 64 {
			b.Fatal("no stamp")
		}
	}
}

// TestSuffixByIndex: what modules.dep lists counts only while it is there.
func TestSuffixByIndex(t *testing.T) {
	r := newRoot(t)
	r.write("kernel/a.ko.xz", "")
	r.write("modules.dep", "kernel/a.ko.xz: kernel/b.ko\nkernel/b.ko:\nextra/c.ko.zst:\n")
	if got := r.find().Suffix(); got != ".xz" {
		t.Errorf("by the index: %q", got)
	}
	r.write("modules.dep", "kernel/a.ko.gz:\nkernel/a.ko:\n")
	if got := r.find().Suffix(); got != ".xz" {
		t.Errorf("by an index that is out of date: %q", got)
	}
}
