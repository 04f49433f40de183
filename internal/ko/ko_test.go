// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// moduleSource has the sections a kernel object has, without kernel headers.
const moduleSource = `
typedef unsigned long ulong;
#define MODINFO(n, s) static const char n[] __attribute__((section(".modinfo"), used, aligned(1))) = s
MODINFO(i_lic, "license=GPL v2");
MODINFO(i_desc, "description=a small object");
MODINFO(i_ver, "version=1.2.3 rc");
MODINFO(i_parm1, "parm=debug:level (int)");
MODINFO(i_parm2, "parmtype=debug:int");
MODINFO(i_src, "srcversion=0123456789ABCDEF0123456");
MODINFO(i_dep, "depends=mii,usbcore");
MODINFO(i_name, "name=small");
MODINFO(i_magic, "vermagic=6.1.0-50-amd64 SMP preempt mod_unload modversions ");
struct modversion_info { ulong crc; char name[64 - sizeof(ulong)]; };
static const struct modversion_info vers[] __attribute__((section("__versions"), used)) = {
	{ 0x12345678, "module_layout" }, { 0x9abcdef0, "printk" },
};
struct module { int state; void *list[2]; char name[64 - sizeof(ulong)]; int (*init)(void); };
extern int printk(const char *, ...);
extern int optional(void) __attribute__((weak));
static int counter;
int exported = 3;
int common_variable;
static __attribute__((noinline)) int helper(int x) { counter += x; return printk("%d", counter) + exported; }
int (*table[])(int) = { helper };
static __attribute__((section(".init.text"), used)) int start(void)
{
	static int once;
	if (optional)
		optional();
	return helper(++once);
}
int init_module(void) __attribute__((alias("start")));
struct module __this_module __attribute__((section(".gnu.linkonce.this_module"))) = { .name = "small", .init = init_module };
static const char ks_name[] __attribute__((section("__ksymtab_strings"), used)) = "exported";
static const char ks_space[] __asm__("__kstrtabns_exported") __attribute__((section("__ksymtab_strings"), used)) = "SPACE";
static void *const ks __asm__("__ksymtab_exported") __attribute__((section("__ksymtab_gpl"), used)) = &exported;
__asm__(".pushsection __kcrctab_gpl,\"a\"\n__crc_exported: .long 0xcafe1234\n.popsection");
__asm__(".pushsection .BTF,\"\"\n.ascii \"btf data\"\n.popsection");
__asm__(".pushsection .text.grouped,\"axG\",%progbits,grouped,comdat\n.weak grouped\ngrouped: .long 0\n.long printk - .\n.popsection");
__asm__(".pushsection .debug_macro,\"G\",%progbits,wm4.x,comdat\n.long 1\n.popsection");
__asm__(".pushsection .note.Linux,\"a\",%note\n.long 6,4,0x101\n.asciz \"Linux\"\n.balign 4\n.long 7\n.popsection");
__asm__(".pushsection __patchable_function_entries,\"awo\",%progbits,.text\n.long 0,0\n.popsection");
`

const secondSource = `
extern int exported;
static int counter = 7;
static const char text[] = "text";
int second(int x) { counter++; return x ? counter + exported : text[counter]; }
`

// run runs a tool and fails the test if it fails.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// compile builds source with gcc and returns the object's path.
func compile(t testing.TB, source string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	c, out := filepath.Join(dir, "small.c"), filepath.Join(dir, "small.ko")
	writeFile(t, c, []byte(source))
	args := append([]string{"-fno-pic", "-c", c, "-o", out}, flags...)
	run(t, "gcc", args...)
	return out
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
