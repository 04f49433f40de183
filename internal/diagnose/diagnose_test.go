// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"strings"
	"testing"

	"dkms-go/internal/headers"
)

// head is what precedes the output of the failed command in each test: a script
// whose probes fail, as they are meant to.
const head = `DKMS (3.4.3) make.log for m/1 for kernel 6.1.0-9-amd64 (x86_64)
Sat Nov 21 03:56:56 UTC 2026

Running the pre_build script
# command: cd /build/ && configure
probe.c:1:1: error: unknown type name 'a'
probe: command not found
# exit code: 0
# elapsed time: 00:00:01
----------------------------------------------------------------

Building module(s)
# command: make KERNELRELEASE=k error: x
`

const foot = `
# exit code: 2
# elapsed time: 00:00:01
----------------------------------------------------------------

# failed: make: compiling m/1 failed: exit status 2
`

var kbuild = strings.NewReplacer("KDIR", "/usr/src/linux-headers-6.1.0-9-amd64", "BUILD", "/var/lib/dkms/m/1/build")

// TestForms has what compilers and other programs say that the logs of
// test/diagnosis don't have: want is the line, the last one if it is empty.
func TestForms(t *testing.T) {
	for _, tc := range []struct {
		class     Class
		log, want string
	}{
		{Unknown, "", "compiling m/1 failed: exit status 2"},
		{Unknown, "Skipping BTF generation for m.ko due to unavailability of vmlinux\nm.c:1:1: warning: unused", "compiling m/1 failed: exit status 2"},
		{Unknown, "using System.map\nSystem.map is not usable\n", "System.map is not usable"},
		// Clang.
		{API, "m.c:3:5: error: call to undeclared function 'strlcpy'; ISO C99 and later do not support implicit function declarations [-Wimplicit-function-declaration]", ""},
		{API, "m.c:3:5: error: implicit declaration of function 'strlcpy' is invalid in C99 [-Werror,-Wimplicit-function-declaration]", ""},
		{API, "m.c:3:5: error: no member named 'xmit' in 'struct uart_state'", ""},
		{API, "m.c:3:5: error: use of undeclared identifier 'NETIF_F_LLTX'", ""},
		{Code, "m.c:3:5: error: use of undeclared identifier 'ret'", ""},
		{API, "m.c:2:10: fatal error: 'asm/unaligned.h' file not found", ""},
		{API, "m.c:8:13: error: incompatible function pointer types initializing 'void (*)(struct platform_device *)' with an expression of type 'int (struct platform_device *)' [-Werror,-Wincompatible-function-pointer-types]\n1 error generated.", "m.c:8:13: error: incompatible function pointer types initializing 'void (*)(struct platform_device *)' with an expression of type 'int (struct platform_device *)' [-Werror,-Wincompatible-function-pointer-types]"},
		{API, "m.c:8:13: error: too many arguments to function call, expected single argument 'name', have 2 arguments\n  8 | class_create(THIS_MODULE, name);\nKDIR/include/linux/device/class.h:228:29: note: 'class_create' declared here", "m.c:8:13: error: too many arguments to function call, expected single argument 'name', have 2 arguments"},
		{Compiler, "clang: error: unknown argument: '-fconserve-stack'\nmake: *** [m.o] Error 1", "clang: error: unknown argument: '-fconserve-stack'"},
		{Compiler, "clang: error: unsupported argument 'kernel' to option '-mcmodel='", ""},
		// GCC and what it calls.
		{Compiler, "gcc: error: unrecognized command-line option '-mharden-sls=all'", ""},
		{Compiler, "cc1: error: code model kernel does not support PIC mode", ""},
		{Compiler, "gcc: fatal error: cannot execute 'cc1': execvp: No such file or directory\ncompilation terminated.", "gcc: fatal error: cannot execute 'cc1': execvp: No such file or directory"},
		{Compiler, "m.c:1:1: internal compiler error: Segmentation fault", ""},
		{Memory, "gcc: internal compiler error: Killed (program cc1)", ""},
		{Memory, "x86_64-linux-gnu-gcc-12: fatal error: Killed signal terminated program cc1\ncompilation terminated.\nmake[1]: *** [m.o] Error 1", "x86_64-linux-gnu-gcc-12: fatal error: Killed signal terminated program cc1"},
		{Memory, "cc1: out of memory allocating 65536 bytes after a total of 1 bytes", ""},
		{Disk, "/tmp/ccX.s: Assembler messages:\n/tmp/ccX.s: Fatal error: can't write 12 bytes to section .text of m.o: 'No space left on device'", ""},
		{Disk, "ld: final link failed: No space left on device", ""},
		{Memory, "make[1]: *** [Makefile:3: gen] Killed\nmake: *** [Makefile:9: all] Error 2", "make[1]: *** [Makefile:3: gen] Killed"},
		{API, "m.c:9:3: error: ‘struct bio’ has no member named ‘bi_disk’", ""},
		{API, "\x1b[01m\x1b[Km.c:9:3:\x1b[m\x1b[K \x1b[01;31m\x1b[Kerror: \x1b[m\x1b[K'PDE_DATA' undeclared (first use in this function)", "m.c:9:3: error: 'PDE_DATA' undeclared (first use in this function)"},
		{API, "m.c:5:6: error: conflicting types for 'kvmalloc'\nKDIR/include/linux/mm.h:7:1: note: previous declaration of 'kvmalloc' was here", "m.c:5:6: error: conflicting types for 'kvmalloc'"},
		{Code, "m.c:5:6: error: redefinition of 'f'\nm.c:1:6: note: previous definition of 'f' was here", "m.c:5:6: error: redefinition of 'f'"},
		{Headers, "In file included from m.c:1:\nKDIR/include/linux/kconfig.h:5:10: fatal error: generated/autoconf.h: No such file or directory\ncompilation terminated.", "KDIR/include/linux/kconfig.h:5:10: fatal error: generated/autoconf.h: No such file or directory"},
		{API, "m.c:1:10: fatal error: stdarg.h: No such file or directory", ""},
		{Compiler, "scripts/sign-file.c:25:10: fatal error: openssl/opensslv.h: No such file or directory", ""},
		{Code, "<command-line>: fatal error: kernel-config.h: No such file or directory", ""},
		{Code, "m.c:1:10: error: #error \"warning: set M_BOARD\"", ""},
		{Excluded, "m.c:1:2: error: #error Linux kernel versions after 6.5 are not supported", ""},
		// make, modpost, shells.
		{Headers, "make: Entering directory 'KDIR'\nmake[1]: *** No rule to make target 'scripts/mod/modpost.c', needed by 'scripts/mod/modpost'.  Stop.", "make[1]: *** No rule to make target 'scripts/mod/modpost.c', needed by 'scripts/mod/modpost'.  Stop."},
		{Headers, "make: Entering directory 'KDIR'\nmake: *** No rule to make target 'modules'.  Stop.\nmake: Leaving directory 'KDIR'", "make: *** No rule to make target 'modules'.  Stop."},
		{Code, "make[2]: *** No rule to make target 'BUILD/x.c', needed by 'BUILD/x.o'.  Stop.", ""},
		{Headers, "  ERROR: Kernel configuration is invalid.\n         include/generated/autoconf.h or include/config/auto.conf are missing.", "  ERROR: Kernel configuration is invalid."},
		{Headers, "WARNING: Symbol version dump \"KDIR/Module.symvers\" is missing.\n         Modules may not have dependencies or modversions.\nERROR: modpost: \"init_net\" [BUILD/m.ko] undefined!", "ERROR: modpost: \"init_net\" [BUILD/m.ko] undefined!"},
		{Dependency, "ERROR: \"spl_panic\" [BUILD/m.ko] undefined!", ""},
		{API, "FATAL: modpost: GPL-incompatible module m.ko uses GPL-only symbol 'rcu_read_unlock_strict'", ""},
		{Compiler, "make[1]: gcc-13: Command not found", ""},
		{Compiler, "/bin/bash: line 1: bc: command not found\nmake: *** [all] Error 127", "/bin/bash: line 1: bc: command not found"},
		{Headers, "/bin/sh: 1: scripts/basic/fixdep: not found", ""},
		{Headers, "/bin/sh: 1: scripts/basic/fixdep: Exec format error", ""},
		{Headers, "scripts/mod/modpost: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by scripts/mod/modpost)", ""},
		{Compiler, "./tools/objtool/objtool: error while loading shared libraries: libelf.so.1: cannot open shared object file: No such file or directory", ""},
		{Network, "fatal: unable to access 'https://github.com/x/y.git/': Could not resolve host: github.com", ""},
		{Network, "curl: (6) Could not resolve host: example.org", ""},
		{Config, "configure: error: *** This kernel is built without CONFIG_ZLIB_INFLATE, which is needed", ""},
		{Headers, "configure: error: *** Please make sure the kernel devel package for your distribution is installed", ""},
		{API, "configure: error:\n\t*** None of the expected \"iops->get_link()\" interfaces were detected.\n\t*** This may be because your kernel version is newer than what is supported.", "*** None of the expected \"iops->get_link()\" interfaces were detected."},
		{Excluded, "Makefile:7: *** This driver requires Linux 6.5 or newer.  Stop.", ""},
		{Code, "Makefile:7: *** missing separator.  Stop.", ""},
		{Code, "./prepare.sh: line 3: syntax error: unexpected end of file", ""},
		// What comes first, or says it best, of several.
		{API, "make[1]: *** [Makefile:1: m.o] Error 1\nm.c:830:48: error: no member named 'a' in 'struct b'\nm.c:9:1: error: later\ncc1: all warnings being treated as errors", "m.c:830:48: error: no member named 'a' in 'struct b'"},
		{Code, "/bin/sh: 1: pkg-config: not found\nm.c:4:2: error: expected ';' before 'return'\nm.c:9:1: error: later", "m.c:4:2: error: expected ';' before 'return'"},
		{Disk, "m.c:4:2: error: expected ';' before 'return'\ncat: write error: No space left on device", ""},
		{Code, "conftest.c:2:3: error: 'x' undeclared\nm.c:4:2: error: expected ';' before 'return'", ""},
	} {
		log := kbuild.Replace(head + tc.log + foot)
		want := tc.want
		if want == "" {
			want = tc.log[strings.LastIndexByte(tc.log, '\n')+1:]
		}
		d := Read([]byte(log), Facts{Module: "m/1", Kernel: "6.1.0-9-amd64", BuildDir: kbuild.Replace("BUILD"), HeaderDirs: []string{kbuild.Replace("KDIR")}})
		if d.Class != tc.class || d.Error != kbuild.Replace(want) {
			t.Errorf("%s: class %s, want %s\n\t%q, want\n\t%q", tc.log, d.Class, tc.class, d.Error, want)
		}
		if d.What == "" || len(d.Next) == 0 {
			t.Errorf("%s: nothing is said of it: %+v", tc.log, d)
		}
	}
}

// TestAnswer has kernels and the module's source correct what the log alone says.
func TestAnswer(t *testing.T) {
	config := func(o string) (string, bool) { return map[string]string{"CONFIG_A": "y"}[o], true }
	with := func(release, declaration string, guards ...string) headers.Kernel {
		return headers.Kernel{Release: release, Found: headers.Example(release, declaration, guards), Config: config}
	}
	without := func(release string) headers.Kernel { return headers.Kernel{Release: release, Config: config} }
	implicit := "m.c:3:5: error: implicit declaration of function 'gone'"
	symbol := `ERROR: modpost: "gone" [m.ko] undefined!`
	for name, tc := range map[string]struct {
		log     string
		own     headers.Found
		kernels []headers.Kernel
		class   Class
		has     int
	}{
		"another kernel has it":      {implicit, headers.Found{}, []headers.Kernel{without("6.1.0-9-amd64"), with("5.10", "void gone(int);")}, API, 1},
		"none has it":                {implicit, headers.Found{}, []headers.Kernel{without("6.1.0-9-amd64")}, API, 0},
		"the module has it":          {implicit, headers.Example("", "void gone(int);", nil), []headers.Kernel{without("6.1.0-9-amd64")}, Code, 0},
		"an option leaves it out":    {implicit, headers.Found{}, []headers.Kernel{with("6.1.0-9-amd64", "void gone(int);", "defined(CONFIG_B)")}, Config, 0},
		"an option is set":           {implicit, headers.Found{}, []headers.Kernel{with("6.1.0-9-amd64", "void gone(int);", "defined(CONFIG_A)")}, API, 1},
		"another flavour has it":     {implicit, headers.Found{}, []headers.Kernel{without("6.1.0-9-amd64"), with("6.1.0-9-rt-amd64", "void gone(int);")}, Config, 1},
		"no kernel exports it":       {symbol, headers.Found{}, []headers.Kernel{without("6.1.0-9-amd64")}, Dependency, 0},
		"another kernel exports it":  {symbol, headers.Found{}, []headers.Kernel{without("6.1.0-9-amd64"), with("5.10", "EXPORT_SYMBOL")}, API, 1},
		"another flavour exports it": {symbol, headers.Found{}, []headers.Kernel{without("6.1.0-9-amd64"), with("6.1.0-9-rt-amd64", "EXPORT_SYMBOL")}, Config, 1},
	} {
		d := Read([]byte(head+tc.log+foot), Facts{Module: "m/1", Kernel: "6.1.0-9-amd64", Config: config})
		if _, ok := d.Question(); !ok {
			t.Errorf("%s: nothing is asked", name)
			continue
		}
		d.Answer(tc.own, tc.kernels)
		if d.Class != tc.class || len(d.Has) != tc.has {
			t.Errorf("%s: class %s, want %s; kernels %q: %s", name, d.Class, tc.class, d.Has, d.What)
		}
	}
}

func TestEvaluate(t *testing.T) {
	config := func(o string) (string, bool) {
		v, ok := map[string]string{"CONFIG_Y": "y", "CONFIG_M": "m"}[o]
		return v, ok
	}
	for condition, want := range map[string][2]bool{
		"defined(CONFIG_Y)": {true, true}, "!defined(CONFIG_Y)": {false, true}, "!(defined(CONFIG_N))": {true, true},
		"IS_ENABLED(CONFIG_M)": {true, true}, "defined(CONFIG_N) || IS_ENABLED(CONFIG_M)": {true, true},
		"defined(CONFIG_Y) && defined(CONFIG_N)": {false, true}, "CONFIG_HZ > 100": {false, false},
		"defined(CONFIG_Y) && defined(CONFIG_N) || defined(CONFIG_M)": {false, false}, "__KERNEL__": {false, false},
	} {
		if holds, known := evaluate(condition, config); holds != want[0] || known != want[1] {
			t.Errorf("%s: %v, %v", condition, holds, known)
		}
	}
}

// FuzzRead: whatever is named is one whole line of the log as it can be shown, and
// nothing that is said is without a cause and a step.
func FuzzRead(f *testing.F) {
	f.Add(head + "m.c:1:1: error: x\r\n" + foot)
	f.Add("# command: a\nmake: *** x\n")
	f.Add(head + "patching file a\nHunk #1 FAILED at 3.\n# exit code: 1\n# failed: patch: no\n")
	f.Add(head + "ERROR: modpost: \"a\" [b.ko] undefined!\n\x1b[1mx.c:1: Error: y\n" + foot)
	f.Add("# failed: missing object: made no a.ko (nor any other object)\n")
	f.Fuzz(func(t *testing.T, log string) {
		d := Read([]byte(log), Facts{Module: "m/1", Kernel: "k", Makefiles: log, Confined: true, Config: func(string) (string, bool) { return "", false }})
		if strings.ContainsAny(d.Error, "\n\x1b") || d.What == "" || len(d.Next) == 0 || d.Class == "" {
			t.Errorf("%+v of %q", d, log)
		}
		if d.LogLine > 0 {
			lines := strings.Split(log, "\n")
			if d.LogLine > len(lines) || !strings.Contains(Printable(lines[d.LogLine-1]), strings.TrimSuffix(d.Error, "...")) {
				t.Errorf("line %d isn't %q in %q", d.LogLine, d.Error, log)
			}
		}
		if q, ok := d.Question(); ok {
			d.Answer(headers.Found{}, headers.Search(t.Context(), q, nil))
		}
	})
}
